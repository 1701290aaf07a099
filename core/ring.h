/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single-producer single-consumer ring over the two regions of a flow.
 *
 * Memory only: no system calls, no allocation, no locks; the caller serialises
 * the producer's calls among themselves, and the consumer's. Errors are
 * returned as -errno. The peer is never trusted: its indices are checked at
 * every read, a record header is copied once and only the copy is used.
 * After -EPROTO the end is poisoned for good and every call returns -EPROTO.
 */
#ifndef IVC_RING_H
#define IVC_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "layout.h"

/* What both ends must agree on; taken from the controller, not from the peer. */
struct ivc_ring_ident {
    uint32_t flow_id;
    uint32_t epoch; /* 0 = take it from our own region */
    uint8_t order;
};

struct ivc_tx {
    struct ivc_ctrl *own;        /* sender's region, ours */
    const struct ivc_ctrl *peer; /* receiver's region, read-only */
    uint8_t *data;
    uint64_t size;
    uint64_t tail;      /* next byte to write; not yet published */
    uint64_t published; /* what own->index says */
    uint64_t head;      /* last value read from the peer, validated */
    uint32_t seq;
    uint32_t epoch;
    bool poisoned;
};

struct ivc_rx {
    struct ivc_ctrl *own;        /* receiver's region, ours */
    const struct ivc_ctrl *peer; /* sender's region, read-only */
    const uint8_t *data;
    uint64_t size;
    uint64_t head;      /* next byte to read */
    uint64_t published; /* what own->index says */
    uint64_t tail;      /* last value read from the peer, validated */
    uint32_t seq;
    uint32_t epoch;
    uint64_t armed; /* what own->wake_at says; UINT64_MAX: not known */
    uint8_t kind; /* of all its records: enum ivc_record_kind; DGRAM after attach */
    bool poisoned;
};

/* Bytes a record takes in the ring: header, payload, padding. */
static inline uint64_t ivc_record_bytes(uint64_t length)
{
    return (sizeof(struct ivc_record) + length + IVC_RECORD_ALIGN - 1) &
           ~(uint64_t)(IVC_RECORD_ALIGN - 1);
}

/* Bytes of our own ring from an index on, as a vector; how many parts it has. */
static inline size_t ivc_tx_piece(const struct ivc_tx *tx, uint64_t at, uint64_t length,
                                  struct iovec out[2])
{
    at &= tx->size - 1;
    size_t first = (size_t)(length < tx->size - at ? length : tx->size - at);
    out[0] = (struct iovec){tx->data + at, first};
    out[1] = (struct iovec){tx->data, (size_t)length - first};
    return out[1].iov_len ? 2 : 1;
}

/* Bytes of a sender's region with 2^order bytes of records. */
static inline size_t ivc_sender_region_size(uint8_t order)
{
    return IVC_DATA_OFFSET + ((size_t)1 << order);
}

#define IVC_RECEIVER_REGION_SIZE ((size_t)IVC_PAGE)

/* Largest payload a ring takes: a record is at most half a ring. */
static inline size_t ivc_ring_max_payload(uint8_t order)
{
    return ((size_t)1 << (order - 1)) - sizeof(struct ivc_record);
}

/*
 * Attach to both regions. `own` and `peer` are the mapped regions, of the sizes
 * given. Returns 0; -EINVAL bad arguments or sizes; -EPROTO the peer's static
 * line does not fit; -EPROTONOSUPPORT other ABI major.
 */
int ivc_tx_attach(struct ivc_tx *tx, void *own, size_t own_size, const void *peer,
                  size_t peer_size, const struct ivc_ring_ident *ident);
int ivc_rx_attach(struct ivc_rx *rx, void *own, size_t own_size, const void *peer,
                  size_t peer_size, const struct ivc_ring_ident *ident);

/*
 * Write one record after those written before; not visible until published.
 * Takes addresses, kind, flags, kseq and stamp from `header`; fills length, seq
 * and epoch. Returns 0; -EMSGSIZE larger than half the ring; -ENOBUFS no room
 * now; -EPROTO the peer's head is impossible.
 */
int ivc_tx_write(struct ivc_tx *tx, const struct ivc_record *header, const struct iovec *iov,
                 size_t iovcnt, size_t length);

/*
 * The same without a copy: where the payload of the next record, of at most `most` bytes, is to
 * be put, in one or two pieces; then the record itself, of what was put there. The place is that
 * of a record with `most` bytes: returns 0, or as ivc_tx_write.
 */
int ivc_tx_place(struct ivc_tx *tx, size_t most, struct iovec place[2], size_t *pieces);
int ivc_tx_write_placed(struct ivc_tx *tx, const struct ivc_record *header, size_t length);

/* Bytes free for records, headers included; -EPROTO the peer's head is impossible. */
int64_t ivc_tx_free(struct ivc_tx *tx);

/*
 * Ask for our own bell when the peer has read so far that `bytes` are free. True:
 * they are already, no need to sleep.
 */
bool ivc_tx_arm(struct ivc_tx *tx, uint64_t bytes);

/* Publish what was written. True: the peer sleeps, ring its doorbell. */
bool ivc_tx_publish(struct ivc_tx *tx);

/* The peer has asked to be woken by the next record (a hint, may be stale). */
bool ivc_tx_peer_sleeps(const struct ivc_tx *tx);

/* enum ivc_region_state of the peer. */
uint32_t ivc_tx_peer_state(const struct ivc_tx *tx);
uint32_t ivc_rx_peer_state(const struct ivc_rx *rx);

/* A stream's bytes that went by the kernel: what the sender says it has given, and the receiver
 * that it has taken; hints. */
void ivc_tx_set_kernel(struct ivc_tx *tx, uint64_t bytes);
uint64_t ivc_rx_peer_kernel(const struct ivc_rx *rx);
void ivc_rx_set_kernel(struct ivc_rx *rx, uint64_t bytes);
uint64_t ivc_tx_peer_kernel(const struct ivc_tx *tx);

/* Something to read? One load of the peer's tail at most. */
bool ivc_rx_ready(struct ivc_rx *rx);

/* Empty when last looked at, and nothing new since: what most of many rings are at any time.
 * Relaxed: nothing is read on the strength of it. */
static inline bool ivc_rx_idle(const struct ivc_rx *rx)
{
    return rx->head == rx->tail && rx->published == rx->head && !rx->poisoned &&
           atomic_load_explicit(&rx->peer->index, memory_order_relaxed) == rx->tail;
}

/*
 * Copy the header at the head into *out, checked. Returns 1; 0 ring empty;
 * -EPROTO violation. Leaves the record where it is.
 */
int ivc_rx_peek(struct ivc_rx *rx, struct ivc_record *out);

/* Copy up to `room` bytes of the payload of the record just peeked into iov. */
size_t ivc_rx_copy(const struct ivc_rx *rx, const struct ivc_record *record,
                   const struct iovec *iov, size_t iovcnt);

/* The same, leaving out the first `from` bytes of it. */
size_t ivc_rx_copy_from(const struct ivc_rx *rx, const struct ivc_record *record, size_t from,
                        const struct iovec *iov, size_t iovcnt);

/* Step over the record just peeked. The head is published lazily. */
void ivc_rx_consume(struct ivc_rx *rx, const struct ivc_record *record);

/* Publish the exact head now. */
void ivc_rx_publish(struct ivc_rx *rx);

/*
 * Has the head, since it was `before`, passed the point its sender waits for
 * (ivc_tx_arm)? Then ring the sender's bell. Publishes the head.
 */
bool ivc_rx_sender_waits(struct ivc_rx *rx, uint64_t before);

/*
 * Ask for the doorbell at the next record behind those published so far, read
 * or not (an edge-triggered waiter sleeps before a ring it has not drained).
 * True: empty, safe to sleep; false: there is something, armed all the same.
 */
bool ivc_rx_arm(struct ivc_rx *rx);

/* Read no more: what is published and not read, less the first `offset` bytes of the record at the
 * head, is the sender's to deliver otherwise. */
void ivc_rx_freeze(struct ivc_rx *rx, uint32_t offset);

/* A relay's receiving end of a stream: its next turn will pass on what is before `next`, and has
 * passed on what is before `passed`; UINT64_MAX: who has half of it must not have the rest. */
void ivc_rx_will_pass(struct ivc_rx *rx, uint64_t next);
void ivc_rx_has_passed(struct ivc_rx *rx, uint64_t passed);

/* What such an end, frozen or dead, has not passed on begins here, as with ivc_tx_frozen_at. Returns
 * 1; 0 nobody knows; -EPROTO what it says is impossible. */
int ivc_tx_passed_at(struct ivc_tx *tx, uint64_t *head, uint64_t *offset);

/* What a frozen receiver has not read begins here, in a record of which `*offset` bytes are read.
 * Returns 1; 0 not frozen; -EPROTO the head is impossible. */
int ivc_tx_frozen_at(struct ivc_tx *tx, uint64_t *head, uint64_t *offset);

/* Set our own state word (close, poison); the peer sees it at its next look. */
void ivc_tx_set_state(struct ivc_tx *tx, uint32_t state);
void ivc_rx_set_state(struct ivc_rx *rx, uint32_t state);

#endif
