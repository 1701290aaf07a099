/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "stream_relayed.h"

#include <sys/syscall.h>

#include "control.h"
#include "real.h"

#define LEAVE_NS (200 * IVC_NS_PER_MS) /* more than a relay waits for room */
#define LEAVE_NAP_NS 50000

void relayed_begin(struct sock *s, struct tx_flow *f)
{
    const struct stream *st = s->stream;
    bool fresh = st->ktx == 0 && !st->ringed;
    ivc_tx_set_kernel(&f->ring, st->ktx | IVC_KERNEL_DONE | (fresh ? IVC_KERNEL_FRESH : 0));
    ivc_bell_ring(&f->end.bell); /* answers may wait for it */
}

bool relayed_runs(struct tx_flow *f)
{
    return f->relay && f->ring.own && !f->lost &&
           atomic_load_explicit(&f->state, memory_order_relaxed) == TX_RUN &&
           ivc_tx_peer_state(&f->ring) == IVC_REGION_OPEN;
}

static void say(struct tx_flow *f, uint32_t state, uint32_t reason)
{
    if (f->leaving)
        return;
    f->leaving = reason ? reason : IVC_REASON_PEER_GONE;
    ivc_tx_set_state(&f->ring, state);
    ivc_bell_ring(&f->end.bell);
}

void relayed_ask(struct tx_flow *f, uint32_t reason)
{
    say(f, IVC_REGION_LEAVING, reason);
}

bool relayed_waits(struct tx_flow *f, uint64_t end)
{
    const struct timespec nap = {.tv_nsec = LEAVE_NAP_NS};
    if (!relayed_runs(f) || !control_alive() || ivc_now() >= end)
        return false;
    (void)ivc_sys(SYS_nanosleep, &nap, NULL);
    return true;
}

bool relayed_left(struct tx_flow *f, uint32_t reason)
{
    if (!relayed_runs(f))
        return true;
    uint64_t end = f->leaving ? 0 : ivc_now() + LEAVE_NS; /* once is enough */
    relayed_ask(f, reason);
    while (relayed_waits(f, end))
        ;
    return !relayed_runs(f);
}

void relayed_finish(struct tx_flow *f, uint32_t reason)
{
    uint64_t end = ivc_now() + LEAVE_NS;
    say(f, IVC_REGION_CLOSED, reason);
    while (relayed_waits(f, end))
        ;
}

/* A connection taken back is one that is reset. */
void relayed_break(struct sock *s)
{
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    int saved = errno;
    if (real(connect)(s->fd, &nowhere, sizeof(nowhere)) != 0)
        (void)real(shutdown)(s->fd, SHUT_RDWR);
    errno = saved;
}

static bool may_bring(const struct rx_flow *f)
{
    if (!f->relay || !f->attached || f->closing)
        return false;
    uint32_t state = ivc_rx_peer_state(&f->ring);
    return state != IVC_REGION_CLOSED && state != IVC_REGION_POISONED;
}

bool relayed_holds_end(struct sock *s, const struct rx_flow *f)
{
    const struct timespec nap = {.tv_nsec = LEAVE_NAP_NS};
    if (!f || !may_bring(f))
        return false;
    atomic_store_explicit(&s->stream->end_held, true, memory_order_relaxed);
    (void)ivc_sys(SYS_nanosleep, &nap, NULL);
    return true;
}

bool relayed_end_due(const struct sock *s)
{
    if (!atomic_load_explicit(&s->stream->end_held, memory_order_relaxed))
        return false;
    for (const struct rx_flow *f = s->rx_flows; f; f = f->next)
        if (may_bring(f))
            return false;
    return true;
}

bool relayed_strands(const struct sock *s, struct rx_flow *f)
{
    return f->relay && f->attached && (s->stream->offset != 0 || ivc_rx_ready(&f->ring));
}
