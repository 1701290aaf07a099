/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared-memory layout of a flow: one ring, two regions.
 *
 * A flow carries datagrams, or one way of a TCP connection, from one sending
 * socket to one receiving socket. Whoever writes a page owns it; the peer maps it read-only:
 *
 *   sender's region    control page (tail)  + 2^order bytes of records
 *   receiver's region  control page (head)
 *
 * Both control pages have the same shape (struct ivc_ctrl). The static line is
 * written before the peer can see it and is copied once at attach. Every word
 * that changes has a cache line of its own, so a spinning reader never shares
 * a line with an unrelated writer.
 *
 * All integers are little-endian; addresses and ports are plain numbers
 * (10.0.0.1 is 0x0a000001), not network byte order. No bit-fields.
 * ivc/shm/layout.py declares the same bytes with construct; a test proves the
 * two equal.
 */
#ifndef IVC_LAYOUT_H
#define IVC_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || !defined(__LP64__)
#error "IVC is for 64-bit little-endian processors: the bytes below are shared as they are"
#endif

#define IVC_RING_MAGIC UINT64_C(0x31474e4952435649) /* "IVCRING1" */
#define IVC_RING_ABI_MAJOR 1
#define IVC_RING_ABI_MINOR 0

#define IVC_PAGE 4096u
#define IVC_LINE 64u
#define IVC_RECORD_ALIGN 32u
#define IVC_ORDER_MIN 12u /* 4 KiB of records */
#define IVC_ORDER_MAX 26u /* 64 MiB */

enum ivc_role {
    IVC_ROLE_SENDER = 1,
    IVC_ROLE_RECEIVER = 2,
};

enum ivc_region_state {
    IVC_REGION_INIT = 0,     /* made by the controller, not yet in use      */
    IVC_REGION_OPEN = 1,     /* owner is using the flow                     */
    IVC_REGION_CLOSED = 2,   /* owner has left; what is published stays     */
    IVC_REGION_POISONED = 3, /* owner saw a violation by its peer           */
    IVC_REGION_FROZEN = 4,   /* receiver: reads no more; what is behind its head its
                                sender gives to the kernel, except the first wake_at
                                bytes of the record there                     */
    IVC_REGION_LEAVING = 5,  /* sender of a relayed STREAM: writes no more, and waits
                                for the relay to freeze; then it goes by the kernel  */
};

struct ivc_ctrl {
    /* line 0: static, copied once at attach */
    uint64_t magic;     /*   0 */
    uint16_t abi_major; /*   8 */
    uint16_t abi_minor; /*  10 */
    uint8_t role;       /*  12 enum ivc_role */
    uint8_t order;      /*  13 log2 of the bytes of records */
    uint16_t reserved0; /*  14 */
    uint32_t flow_id;   /*  16 */
    uint32_t epoch;     /*  20 random per flow; every record repeats it */
    uint32_t src_node;  /*  24 */
    uint32_t dst_node;  /*  28 */
    uint32_t src_ip;    /*  32 the only source a record may name */
    uint32_t dst_ip;    /*  36 */
    uint16_t src_port;  /*  40 */
    uint16_t dst_port;  /*  42 */
    uint8_t reserved1[20];
    /* line 1: sender: tail, receiver: head; bytes, free-running */
    _Atomic uint64_t index; /*  64 */
    /* a relay's receiving end of a STREAM: index of the first byte not passed on: of a record,
     * or of the payload of the one at the head; and what that is about to be. If the two differ
     * the rest must not go on by another road. */
    _Atomic uint64_t passed; /*  72 */
    _Atomic uint64_t next;   /*  80 */
    uint8_t pad1[40];
    /* line 2: "ring my doorbell when your index passes this" */
    _Atomic uint64_t wake_at; /* 128 */
    uint8_t pad2[56];
    /* line 3: enum ivc_region_state */
    _Atomic uint32_t state; /* 192 */
    uint32_t reserved2;     /* 196 */
    /* of a STREAM: bytes its sender has given to the kernel, as the next record's kseq, and on a
     * relayed one IVC_KERNEL_*; or its receiver has taken from there */
    _Atomic uint64_t kernel; /* 200 */
    uint8_t pad3[48];
};

static_assert(offsetof(struct ivc_ctrl, order) == 13, "layout");
static_assert(offsetof(struct ivc_ctrl, flow_id) == 16, "layout");
static_assert(offsetof(struct ivc_ctrl, src_ip) == 32, "layout");
static_assert(offsetof(struct ivc_ctrl, dst_port) == 42, "layout");
static_assert(offsetof(struct ivc_ctrl, index) == 64, "layout");
static_assert(offsetof(struct ivc_ctrl, passed) == 72, "layout");
static_assert(offsetof(struct ivc_ctrl, next) == 80, "layout");
static_assert(offsetof(struct ivc_ctrl, wake_at) == 128, "layout");
static_assert(offsetof(struct ivc_ctrl, state) == 192, "layout");
static_assert(offsetof(struct ivc_ctrl, kernel) == 200, "layout");
static_assert(sizeof(struct ivc_ctrl) == 256, "layout");

/* Beside the count in `kernel`, whose low 32 bits are all that is compared. */
#define IVC_KERNEL_DONE 0x8000000000000000  /* nothing goes to the kernel while the flow lasts */
#define IVC_KERNEL_FRESH 0x4000000000000000 /* nor has any byte been sent before it began */

enum ivc_record_kind {
    IVC_RECORD_DGRAM = 1,
    IVC_RECORD_STREAM = 2, /* bytes of a TCP connection; a flow has one kind only */
};

/*
 * Record flags. The kernel path and the ring are two roads to one socket;
 * these say how a record stands to the datagrams on the other road.
 */
#define IVC_RECORD_TWIN 0x01u  /* the same datagram also goes through the kernel  */
#define IVC_RECORD_FENCE 0x02u /* first of a flow: wait for its twin, then switch */
#define IVC_RECORD_SAME 0x04u  /* with FENCE: identical datagrams may be in flight */

/*
 * A record: 32-byte header, then the payload, padded to IVC_RECORD_ALIGN.
 * The header never wraps (ring size is a multiple of 32); the payload may.
 */
struct ivc_record {
    uint32_t length;   /*  0 payload bytes */
    uint8_t kind;      /*  4 enum ivc_record_kind */
    uint8_t flags;     /*  5 IVC_RECORD_* */
    uint16_t stamp;    /*  6 publish time in units of 1.024 us, 0 = not stamped */
    uint32_t src_ip;   /*  8 */
    uint32_t dst_ip;   /* 12 */
    uint16_t src_port; /* 16 */
    uint16_t dst_port; /* 18 */
    uint32_t seq;      /* 20 consecutive per flow, from 0 */
    uint32_t epoch;    /* 24 as in the static line */
    uint32_t kseq;     /* 28 datagrams this flow's sender gave to the kernel
                             alone before this record; the receiver delivers
                             them first. STREAM: bytes of the connection the sender
                             had given to the kernel before this record, modulo 2^32 */
};

static_assert(offsetof(struct ivc_record, src_ip) == 8, "layout");
static_assert(offsetof(struct ivc_record, seq) == 20, "layout");
static_assert(offsetof(struct ivc_record, kseq) == 28, "layout");
static_assert(sizeof(struct ivc_record) == IVC_RECORD_ALIGN, "layout");

#define IVC_DATA_OFFSET 4096u /* records start on the sender's second page */
static_assert(IVC_DATA_OFFSET == IVC_PAGE, "layout");

#endif
