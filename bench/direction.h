/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two regions of a ring and both its ends, in one program's own memory, and how the programs
 * that measure the bare ring send and receive on it: who finds it full or empty spins.
 */
#ifndef BENCH_DIRECTION_H
#define BENCH_DIRECTION_H

#include <errno.h>
#include <sys/mman.h>

#include "measure.h"
#include "ring.h"

#define ORDER 18u /* as bench/pingpong.py has rings made */
#define EPOCH 7u
#define LARGEST 65536u

/* The regions of one direction, and both ends. */
struct direction {
    void *sender, *receiver;
    struct ivc_tx tx;
    struct ivc_rx rx;
};

static inline void need(int result, const char *what)
{
    if (result < 0) {
        errno = -result;
        fail(what);
    }
}

static inline void *region(size_t size, uint8_t role)
{
    struct ivc_ctrl *ctrl = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (ctrl == MAP_FAILED)
        fail("mmap");
    ctrl->magic = IVC_RING_MAGIC;
    ctrl->abi_major = IVC_RING_ABI_MAJOR;
    ctrl->role = role;
    ctrl->order = ORDER;
    ctrl->flow_id = 1;
    ctrl->epoch = EPOCH;
    return ctrl;
}

static inline void direction_open(struct direction *d)
{
    struct ivc_ring_ident ident = {.flow_id = 1, .epoch = EPOCH, .order = ORDER};
    size_t size = ivc_sender_region_size(ORDER), page = IVC_RECEIVER_REGION_SIZE;

    d->sender = region(size, IVC_ROLE_SENDER);
    d->receiver = region(page, IVC_ROLE_RECEIVER);
    need(ivc_tx_attach(&d->tx, d->sender, size, d->receiver, page, &ident), "attach sender");
    need(ivc_rx_attach(&d->rx, d->receiver, page, d->sender, size, &ident), "attach receiver");
}

/* Behind what was written before; the receiver sees it when it is published. */
static inline void write_one(struct ivc_tx *tx, const void *data, size_t size)
{
    struct ivc_record record = {.kind = IVC_RECORD_DGRAM};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    int result;

    while ((result = ivc_tx_write(tx, &record, &part, 1, size)) == -ENOBUFS)
        (void)ivc_tx_publish(tx);
    need(result, "write");
}

static inline void put(struct ivc_tx *tx, const void *data, size_t size)
{
    write_one(tx, data, size);
    (void)ivc_tx_publish(tx); /* nobody sleeps */
}

static inline size_t get(struct ivc_rx *rx, void *data)
{
    struct ivc_record record;
    struct iovec part = {.iov_base = data, .iov_len = LARGEST};

    while (!ivc_rx_ready(rx))
        continue;
    need(ivc_rx_peek(rx, &record), "peek");
    (void)ivc_rx_copy(rx, &record, &part, 1);
    ivc_rx_consume(rx, &record);
    return record.length;
}

#endif
