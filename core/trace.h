/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace ring: what a process sends, copied for whoever traces it.
 *
 * Any thread of one process writes, one reader reads, and nobody ever waits: what finds no room
 * is counted and not traced. As with the rings of flows, who writes a page owns it:
 *
 *   writer's region  control page (index: how far room is given out), marks, records
 *   reader's region  control page (index: how far it has read)
 *
 * A writer gets its room by one compare-and-swap, fills it in, and marks it. So a thread that a
 * signal stops in between, or that is late, holds up the reader and no other writer. The mark of
 * a record is the lap of the ring it was written in, in a word of its own for each unit: what
 * earlier laps left there, or payload, cannot be taken for one.
 *
 * Little-endian, addresses and ports are plain numbers. ivc/shm/layout.py declares the same bytes;
 * a test proves the two equal.
 */
#ifndef IVC_TRACE_H
#define IVC_TRACE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define IVC_TRACE_MAGIC UINT64_C(0x4543415254435649) /* "IVCTRACE" */
#define IVC_TRACE_ABI 1

#define IVC_TRACE_PAGE 4096u
#define IVC_TRACE_UNIT 32u
#define IVC_TRACE_ORDER_MIN 16u /* 64 KiB of records */
#define IVC_TRACE_ORDER_MAX 30u
#define IVC_TRACE_SHARE 8u /* a record takes at most one part in so many of a ring */

struct ivc_trace_ctrl {
    /* line 0: static */
    uint64_t magic; /*   0 */
    uint32_t abi;   /*   8 */
    uint32_t order; /*  12 log2 of the bytes of records */
    uint8_t reserved0[48];
    /* line 1: bytes, free-running */
    _Atomic uint64_t index; /*  64 */
    uint8_t pad1[56];
    /* line 2: writer: messages there was no room for */
    _Atomic uint64_t lost; /* 128 */
    uint8_t pad2[56];
};

static_assert(offsetof(struct ivc_trace_ctrl, order) == 12, "layout");
static_assert(offsetof(struct ivc_trace_ctrl, index) == 64, "layout");
static_assert(offsetof(struct ivc_trace_ctrl, lost) == 128, "layout");
static_assert(sizeof(struct ivc_trace_ctrl) == 192, "layout");

/* What has become of a message. */
enum ivc_trace_event {
    IVC_TRACE_SENT = 1,     /* by its sender: put on a ring that leads to its receiver, */
    IVC_TRACE_NETWORK = 2,  /* or given to the kernel's network */
    IVC_TRACE_PASSED = 3,   /* by the relay: passed on, */
    IVC_TRACE_DENIED = 4,   /* or not, as a rule says, */
    IVC_TRACE_AUDITED = 5,  /* passed on and counted, */
    IVC_TRACE_MIRRORED = 6, /* passed on and copied, */
    IVC_TRACE_ANSWER = 7,   /* made by the relay itself: the answer to a denied request, */
    IVC_TRACE_FULL = 8,     /* dropped: its receiver took nothing, */
    IVC_TRACE_DROPPED = 9,  /* or by a fault */
    IVC_TRACE_TAKEN = 10,   /* of no message: its receiver has taken record `number` of a flow */
};

/* A record: this, then the payload, padded to IVC_TRACE_UNIT. Both may wrap. */
struct ivc_trace_record {
    uint64_t time;     /*  0 ns of CLOCK_MONOTONIC, when it was sent, or passed on */
    uint32_t length;   /*  8 bytes of payload, */
    uint32_t captured; /* 12 and how many of them are here */
    uint32_t flow;     /* 16 the controller's number of the flow; 0: none */
    uint32_t src_ip;   /* 20 */
    uint32_t dst_ip;   /* 24 */
    uint16_t src_port; /* 28 */
    uint16_t dst_port; /* 30 */
    uint32_t position; /* 32 of a stream: bytes of the connection before it, modulo 2^32 */
    uint32_t lost;     /* 36 messages of its flow there was no room for since the last */
    uint8_t kind;      /* 40 enum ivc_record_kind */
    uint8_t event;     /* 41 enum ivc_trace_event */
    uint16_t faults;   /* 42 what faults have done to it: a bit for each enum ivc_fault_effect */
    uint32_t number;   /* 44 of the record in the ring that leads to the receiver */
};

static_assert(offsetof(struct ivc_trace_record, flow) == 16, "layout");
static_assert(offsetof(struct ivc_trace_record, position) == 32, "layout");
static_assert(offsetof(struct ivc_trace_record, faults) == 42, "layout");
static_assert(sizeof(struct ivc_trace_record) == 48, "layout");

/* ---- writing ------------------------------------------------------------------ */

/* The writers' end; private memory of their process. */
struct ivc_trace {
    struct ivc_trace_ctrl *own;
    const struct ivc_trace_ctrl *peer;
    _Atomic uint32_t *marks;
    uint8_t *data;
    uint64_t size;
    uint32_t order;
    uint32_t snap;         /* bytes of payload kept of a message */
    _Atomic uint64_t head; /* the reader's index as last seen */
};

/* What the real clock is ahead of the monotonic one now, in ns. */
int64_t ivc_real_ahead(void);

/* Bytes of a writer's region; the reader's is a page. */
static inline size_t ivc_trace_region_size(uint32_t order)
{
    return IVC_TRACE_PAGE + ((size_t)1 << order) / IVC_TRACE_UNIT * sizeof(uint32_t) +
           ((size_t)1 << order);
}

/* 0; -EINVAL: these are no regions of a trace ring. */
int ivc_trace_attach(struct ivc_trace *trace, void *own, size_t own_size, const void *peer,
                     size_t peer_size, uint32_t snap);

/* Bytes of a stream in one record at most: as many as a packet takes. */
#define IVC_TRACE_SEGMENT 65000u

/* Bytes of payload that fit into one record of this ring. */
uint32_t ivc_trace_most(const struct ivc_trace *trace);

/*
 * Copy a message: all but `captured` of the record is filled in, its `length` bytes are those of
 * the vector. False: there was no room, which is counted, if it is a message. Never waits, any
 * thread, also in a signal handler that has interrupted another call of it.
 */
bool ivc_trace_put(struct ivc_trace *trace, const struct ivc_trace_record *record,
                   const struct iovec *iov, size_t iovcnt);

/* ---- reading ------------------------------------------------------------------ */

/* The reader's end. The writer is not trusted: each word is loaded once and checked. */
struct ivc_trace_reader {
    struct ivc_trace_ctrl *own;
    const struct ivc_trace_ctrl *peer;
    const _Atomic uint32_t *marks;
    const uint8_t *data;
    uint64_t size;
    uint64_t head;
    uint32_t order;
    bool poisoned;
};

int ivc_trace_reader_attach(struct ivc_trace_reader *reader, void *own, size_t own_size,
                            const void *peer, size_t peer_size);

/* The next record, if it is complete. 1; 0: none; -EPROTO: the writer broke the rules. */
int ivc_trace_peek(struct ivc_trace_reader *reader, struct ivc_trace_record *record);

/* Copy the first `size` bytes of the payload just peeked, at most what was captured. */
void ivc_trace_copy(const struct ivc_trace_reader *reader, void *to, size_t size);

/* Step over the record just peeked. */
void ivc_trace_consume(struct ivc_trace_reader *reader, const struct ivc_trace_record *record);

/* Let the writers have the room of what was read. */
void ivc_trace_publish(struct ivc_trace_reader *reader);

/* Messages there was no room for, ever: the writer's claim. */
uint64_t ivc_trace_lost(const struct ivc_trace_reader *reader);

#endif
