/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracing (core/trace.h): while the controller wants it, what this process sends is copied to its
 * trace ring, by the thread that sends it. Off, it is one look at a word of a cache line every
 * send touches anyway.
 */
#ifndef IVC_PRELOAD_TRACE_H
#define IVC_PRELOAD_TRACE_H

#include "../core/trace.h"
#include "control.h"
#include "sock.h"
#include "util.h"

static inline bool trace_on(void)
{
    /* Relaxed: a send more or less. Whoever goes by it loads the pointer anew. */
    bool on = atomic_load_explicit(&ivc_control_state.trace, memory_order_relaxed) != NULL;
    return __builtin_expect(on, 0);
}

/* The record at `at` of a flow's ring, written and not yet published: so the trace has it before
 * anybody can answer it. `position` is a stream's before it. tx lock held. */
void trace_record(struct tx_flow *f, uint64_t at, uint32_t position);

static inline void trace_sent(struct tx_flow *f, uint64_t at, uint32_t position)
{
    if (trace_on())
        trace_record(f, at, position);
}

/* The application has taken a record. rx lock held. */
void trace_receipt(const struct rx_flow *f, uint32_t number);

static inline void trace_taken(const struct rx_flow *f, const struct ivc_record *r)
{
    if (trace_on())
        trace_receipt(f, r->seq);
}

/* For trace_network: when something is about to be sent; 0: nobody traces. */
static inline uint64_t trace_now(void)
{
    return trace_on() ? ivc_now() : 0;
}

/* The first `n` bytes of a message were given to the kernel's network, if somebody wants that,
 * too. `d` is where to, or NULL. tx lock held. */
void trace_network(struct sock *s, struct dest *d, struct endpoint to, const struct msghdr *msg,
                   size_t n, uint64_t when, uint32_t position);

/* TRACE has come. Control lock held. */
void trace_set(const struct mail *mail);

/* Nobody traces any more, or nobody we know of. Control lock held. The ring stays mapped while the
 * call that a handler of ours has interrupted may have seen it. */
void trace_stop(void);

/* Unmap what had to stay mapped then. False: it still has to. Control lock held. */
bool trace_end_late(void);

void trace_after_fork(void);

#endif
