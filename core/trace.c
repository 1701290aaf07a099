/* SPDX-License-Identifier: Apache-2.0 */
/* The trace ring of core/trace.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime() */
#endif
#include "trace.h"

#include <errno.h>
#include <string.h>

#include "clock.h"

#define LOOKS 4u

#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Bytes a record takes: header, payload, padding. */
static inline uint64_t record_bytes(uint64_t captured)
{
    return (sizeof(struct ivc_trace_record) + captured + IVC_TRACE_UNIT - 1) &
           ~(uint64_t)(IVC_TRACE_UNIT - 1);
}

static inline uint64_t most_captured(uint64_t size)
{
    return size / IVC_TRACE_SHARE - sizeof(struct ivc_trace_record);
}

/* What marks a record that begins at `index`; never 0, which nothing has written. */
static inline uint32_t lap(uint64_t index, uint32_t order)
{
    uint32_t number = (uint32_t)(index >> order) + 1;
    return number != 0 ? number : 1;
}

static inline size_t unit(uint64_t index, uint64_t size)
{
    return (size_t)((index & (size - 1)) / IVC_TRACE_UNIT);
}

static size_t marks_size(uint32_t order)
{
    return ((size_t)1 << order) / IVC_TRACE_UNIT * sizeof(uint32_t);
}

static bool good(const struct ivc_trace_ctrl *line, size_t size, uint32_t *order)
{
    if (line == NULL || size < IVC_TRACE_PAGE || (uintptr_t)line % 64 != 0) {
        return false;
    }
    *order = line->order; /* loaded once: the other end may write here */
    return line->magic == IVC_TRACE_MAGIC && line->abi == IVC_TRACE_ABI &&
           *order >= IVC_TRACE_ORDER_MIN && *order <= IVC_TRACE_ORDER_MAX;
}

/* ---- clocks ------------------------------------------------------------------- */

/* Whoever is stopped between two clocks compares two times: the narrowest look counts. */
int64_t ivc_real_ahead(void)
{
    int64_t ahead = 0;
    uint64_t narrowest = UINT64_MAX;

    for (unsigned i = 0; i < LOOKS; i++) {
        uint64_t before = ivc_clock_ns();
        uint64_t real = ivc_time_of(CLOCK_REALTIME);
        uint64_t took = ivc_clock_ns() - before;

        if (took < narrowest) {
            narrowest = took;
            ahead = (int64_t)(real - (before + took / 2));
        }
    }
    return ahead;
}

/* ---- writing ------------------------------------------------------------------ */

int ivc_trace_attach(struct ivc_trace *trace, void *own, size_t own_size, const void *peer,
                     size_t peer_size, uint32_t snap)
{
    uint32_t order, other;

    if (!good(own, own_size, &order) || !good(peer, peer_size, &other) || other != order ||
        own_size < ivc_trace_region_size(order)) {
        return -EINVAL;
    }
    uint8_t *bytes = own;
    uint64_t size = UINT64_C(1) << order;
    *trace = (struct ivc_trace){
        .own = own,
        .peer = peer,
        .marks = (void *)(bytes + IVC_TRACE_PAGE),
        .data = bytes + IVC_TRACE_PAGE + marks_size(order),
        .size = size,
        .order = order,
        .snap = (uint32_t)min_u64(snap, most_captured(size)),
    };
    return 0;
}

uint32_t ivc_trace_most(const struct ivc_trace *trace)
{
    return (uint32_t)most_captured(trace->size);
}

/* The reader's line is touched only where the head seen last is not enough. A head that cannot be
 * leaves no room either. */
static bool has_room(struct ivc_trace *trace, uint64_t end)
{
    /* Acquire: pairs with the release below, of whichever thread has looked last. */
    uint64_t head = atomic_load_explicit(&trace->head, memory_order_acquire);

    if (end - head <= trace->size) {
        return true;
    }
    /* Acquire: pairs with the release in ivc_trace_publish. The reader is done with the bytes
     * before it, so they may be overwritten. */
    head = atomic_load_explicit(&trace->peer->index, memory_order_acquire);
    /* Release: whoever goes by this head may overwrite them, too. */
    atomic_store_explicit(&trace->head, head, memory_order_release);
    return end - head <= trace->size;
}

/* Room for a record; where it begins. False: there is none. */
static bool reserve(struct ivc_trace *trace, uint64_t bytes, uint64_t *at)
{
    *at = atomic_load_explicit(&trace->own->index, memory_order_relaxed);
    do {
        if (!has_room(trace, *at + bytes)) {
            return false;
        }
        /* Relaxed: it only gives out numbers. */
    } while (!atomic_compare_exchange_weak_explicit(&trace->own->index, at, *at + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void copy_in(const struct ivc_trace *trace, uint64_t index, const void *from, uint64_t bytes)
{
    uint64_t at = index & (trace->size - 1);
    uint64_t first = min_u64(bytes, trace->size - at);

    memcpy(trace->data + at, from, first);
    if (unlikely(first < bytes)) {
        memcpy(trace->data, (const uint8_t *)from + first, bytes - first);
    }
}

static void gather(const struct ivc_trace *trace, uint64_t at, const struct iovec *iov,
                   size_t iovcnt, uint64_t left)
{
    for (size_t i = 0; i < iovcnt && left > 0; i++) {
        uint64_t part = min_u64(iov[i].iov_len, left);

        if (part > 0) {
            copy_in(trace, at, iov[i].iov_base, part);
        }
        at += part;
        left -= part;
    }
}

bool ivc_trace_put(struct ivc_trace *trace, const struct ivc_trace_record *record,
                   const struct iovec *iov, size_t iovcnt)
{
    struct ivc_trace_record header = *record;
    uint64_t at;

    header.captured = (uint32_t)min_u64(header.length, trace->snap);
    if (unlikely(!reserve(trace, record_bytes(header.captured), &at))) {
        if (record->event != IVC_TRACE_TAKEN) {
            atomic_fetch_add_explicit(&trace->own->lost, 1, memory_order_relaxed);
        }
        return false;
    }
    copy_in(trace, at, &header, sizeof(header));
    gather(trace, at + sizeof(header), iov, iovcnt, header.captured);
    /* Release: the record is complete before its mark. Pairs with the acquire in ivc_trace_peek. */
    atomic_store_explicit(&trace->marks[unit(at, trace->size)], lap(at, trace->order),
                          memory_order_release);
    return true;
}

/* ---- reading ------------------------------------------------------------------ */

int ivc_trace_reader_attach(struct ivc_trace_reader *reader, void *own, size_t own_size,
                            const void *peer, size_t peer_size)
{
    uint32_t order, other;

    if (!good(own, own_size, &order) || !good(peer, peer_size, &other) || other != order ||
        peer_size < ivc_trace_region_size(order)) {
        return -EINVAL;
    }
    const uint8_t *bytes = peer;
    *reader = (struct ivc_trace_reader){
        .own = own,
        .peer = peer,
        .marks = (const void *)(bytes + IVC_TRACE_PAGE),
        .data = bytes + IVC_TRACE_PAGE + marks_size(order),
        .size = UINT64_C(1) << order,
        .order = order,
    };
    return 0;
}

static void copy_out(const struct ivc_trace_reader *reader, uint64_t index, void *to,
                     uint64_t bytes)
{
    uint64_t at = index & (reader->size - 1);
    uint64_t first = min_u64(bytes, reader->size - at);

    memcpy(to, reader->data + at, first);
    if (unlikely(first < bytes)) {
        memcpy((uint8_t *)to + first, reader->data, bytes - first);
    }
}

/* Copy the header at the head, each word loaded exactly once: the writer may change it at any
 * time. Relaxed is enough: the order comes from the acquire of the mark. */
static void snapshot(const struct ivc_trace_reader *reader, struct ivc_trace_record *record)
{
    for (size_t i = 0; i < sizeof(*record); i += sizeof(uint64_t)) {
        const void *from = reader->data + ((reader->head + i) & (reader->size - 1));
        const _Atomic uint64_t *shared = from;
        uint64_t word = atomic_load_explicit(shared, memory_order_relaxed);

        memcpy((uint8_t *)record + i, &word, sizeof(word));
    }
}

int ivc_trace_peek(struct ivc_trace_reader *reader, struct ivc_trace_record *record)
{
    size_t at = unit(reader->head, reader->size);

    if (unlikely(reader->poisoned)) {
        return -EPROTO;
    }
    /* Acquire: pairs with the release in ivc_trace_put. The record is complete. */
    if (atomic_load_explicit(&reader->marks[at], memory_order_acquire) !=
        lap(reader->head, reader->order)) {
        return 0;
    }
    snapshot(reader, record);
    if (unlikely(record->captured > record->length ||
                 record->captured > most_captured(reader->size))) {
        reader->poisoned = true;
        return -EPROTO;
    }
    return 1;
}

void ivc_trace_copy(const struct ivc_trace_reader *reader, void *to, size_t size)
{
    copy_out(reader, reader->head + sizeof(struct ivc_trace_record), to, size);
}

void ivc_trace_consume(struct ivc_trace_reader *reader, const struct ivc_trace_record *record)
{
    reader->head += record_bytes(record->captured);
}

void ivc_trace_publish(struct ivc_trace_reader *reader)
{
    /* Release: our reads of the records before the head are done. Pairs with the acquire in
     * has_room. */
    atomic_store_explicit(&reader->own->index, reader->head, memory_order_release);
}

uint64_t ivc_trace_lost(const struct ivc_trace_reader *reader)
{
    return atomic_load_explicit(&reader->peer->lost, memory_order_relaxed);
}
