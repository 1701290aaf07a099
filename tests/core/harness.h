/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the C tests share: a flow in plain memory. Regions are allocations of
 * exactly their size, so that the sanitizers see any step over an edge.
 */
#ifndef IVC_TEST_HARNESS_H
#define IVC_TEST_HARNESS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doorbell.h"
#include "ring.h"

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

struct flow {
    struct ivc_ring_ident ident;
    struct ivc_ctrl *sender; /* control page, then the records */
    struct ivc_ctrl *receiver;
    size_t sender_size;
    struct ivc_tx tx;
    struct ivc_rx rx;
};

static inline void flow_page(struct ivc_ctrl *page, const struct flow *flow, enum ivc_role role,
                             uint64_t start)
{
    page->magic = IVC_RING_MAGIC;
    page->abi_major = IVC_RING_ABI_MAJOR;
    page->abi_minor = IVC_RING_ABI_MINOR;
    page->role = (uint8_t)role;
    page->order = flow->ident.order;
    page->flow_id = flow->ident.flow_id;
    page->epoch = flow->ident.epoch;
    atomic_store(&page->index, start);
    atomic_store(&page->wake_at, start);
}

static inline struct ivc_ctrl *flow_region(size_t size)
{
    struct ivc_ctrl *region = aligned_alloc(IVC_PAGE, size);

    CHECK(region != NULL);
    memset(region, 0, size);
    return region;
}

/* Both regions as the controller makes them; indices begin at `start`. */
static inline void flow_make(struct flow *flow, uint8_t order, uint64_t start)
{
    flow->ident = (struct ivc_ring_ident){.flow_id = 7, .epoch = 0x5eed, .order = order};
    flow->sender_size = ivc_sender_region_size(order);
    flow->sender = flow_region(flow->sender_size);
    flow->receiver = flow_region(IVC_RECEIVER_REGION_SIZE);
    flow_page(flow->sender, flow, IVC_ROLE_SENDER, start);
    flow_page(flow->receiver, flow, IVC_ROLE_RECEIVER, start);
}

static inline int flow_attach_tx(struct flow *flow)
{
    return ivc_tx_attach(&flow->tx, flow->sender, flow->sender_size, flow->receiver,
                         IVC_RECEIVER_REGION_SIZE, &flow->ident);
}

static inline int flow_attach_rx(struct flow *flow)
{
    return ivc_rx_attach(&flow->rx, flow->receiver, IVC_RECEIVER_REGION_SIZE, flow->sender,
                         flow->sender_size, &flow->ident);
}

static inline void flow_open(struct flow *flow, uint8_t order, uint64_t start)
{
    flow_make(flow, order, start);
    CHECK(flow_attach_tx(flow) == 0);
    CHECK(flow_attach_rx(flow) == 0);
}

static inline void flow_free(struct flow *flow)
{
    free(flow->sender);
    free(flow->receiver);
}

static inline int flow_write(struct flow *flow, const void *payload, size_t length)
{
    struct ivc_record header = {.kind = IVC_RECORD_DGRAM};
    struct iovec iov = {(void *)(uintptr_t)payload, length};

    return ivc_tx_write(&flow->tx, &header, &iov, 1, length);
}

/* Read one record whole; its length, -EAGAIN when empty, or -errno. */
static inline long flow_read(struct flow *flow, void *payload, size_t room)
{
    struct ivc_record record;
    struct iovec iov = {payload, room};
    int rc = ivc_rx_peek(&flow->rx, &record);

    if (rc <= 0) {
        return rc == 0 ? -EAGAIN : rc;
    }
    CHECK(ivc_rx_copy(&flow->rx, &record, &iov, 1) ==
          (record.length < room ? record.length : room));
    ivc_rx_consume(&flow->rx, &record);
    return (long)record.length;
}

/* Deterministic pseudo-random numbers (xorshift). */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
