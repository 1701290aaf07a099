/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "send.h"

#include <string.h>

#include "control.h"
#include "flow.h"
#include "match.h"
#include "real.h"
#include "trace.h"

#define RING_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM)

/* A datagram equal to one that may still be on its way through the kernel
 * cannot be the fence: the receiver could not tell the twin from the other. */
#define FENCE_UNFIT_MOST 32u

/* How long the kernel's copy waits for a relay to pass on what came before it. */
#define RELAY_SETTLE_NS (200 * IVC_NS_PER_MS)
#define RELAY_NAP_NS 50000

/* One datagram on its way out. */
struct outgoing {
    struct sock *s;
    int fd;
    const struct msghdr *msg;
    int flags;
    size_t length;
    struct endpoint to;
    bool ring_able;  /* nothing about it needs the kernel */
    bool kernel;     /* goes through the kernel (too) */
    bool unicast_done;
    struct tx_flow *unicast; /* on whose ring it is, if it is unicast */
    bool everywhere; /* every receiver's ring has it: the kernel's copy is only the fences' twin */
    bool ask_controller; /* a relay's ring is full: is anybody there? */
    uint64_t hash;
    bool hashed;
};

static ssize_t kernel_send(const struct outgoing *o)
{
    int saved = errno;
    ssize_t n = real(sendmsg)(o->fd, o->msg, o->flags);
    if (n < 0) {
        n = -errno;
        errno = saved;
    }
    return n;
}

static bool destination(const struct sock *s, const struct msghdr *msg, struct endpoint *to)
{
    if (!msg->msg_name) {
        *to = s->peer;
        return to->ip != 0;
    }
    struct sockaddr_in in;
    if (msg->msg_namelen < sizeof(in))
        return false;
    memcpy(&in, msg->msg_name, sizeof(in));
    *to = (struct endpoint){.ip = ntohl(in.sin_addr.s_addr), .port = ntohs(in.sin_port)};
    return in.sin_family == AF_INET;
}

static uint64_t datagram_hash(struct outgoing *o)
{
    if (!o->hashed) {
        const struct iovec *iov = o->msg->msg_iov;
        size_t n = o->msg->msg_iovlen;
        if (n == 1)
            o->hash = ivc_hash(iov[0].iov_base, iov[0].iov_len, NULL, 0);
        else if (n == 2)
            o->hash = ivc_hash(iov[0].iov_base, iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
        else
            o->hash = 0; /* never equal by accident only: every such one is unfit */
        o->hashed = true;
    }
    return o->hash;
}

static void remember(struct dest *d, struct outgoing *o)
{
    struct sent_hash *slot = &d->history[d->history_next++ % HISTORY_SLOTS];
    slot->hash = datagram_hash(o);
    slot->when = ivc_now();
}

/* 0 = not this one; else the record flags of the fence. */
static uint8_t fence_flags(struct dest *d, struct outgoing *o)
{
    uint64_t hash = datagram_hash(o), now = ivc_now();
    for (unsigned i = 0; i < HISTORY_SLOTS; i++) {
        if (d->history[i].when == 0 || d->history[i].hash != hash ||
            now - d->history[i].when > ivc_host->kernel_late_ns)
            continue;
        if (++d->unfit < FENCE_UNFIT_MOST)
            return 0;
        return IVC_RECORD_FENCE | IVC_RECORD_SAME;
    }
    return IVC_RECORD_FENCE;
}

/* Its reader has left, or it was told to end and nothing of it is under way any more. */
static bool gone(struct tx_flow *f)
{
    return ivc_tx_peer_state(&f->ring) != IVC_REGION_OPEN || (f->leaving && send_passed_on(f));
}

static void leave(struct sock *s, struct dest *d, struct tx_flow *f)
{
    flow_end_tx(s, d, f, f->leaving ? f->leaving : IVC_REASON_PEER_GONE);
}

/* What an older flow still has under way would be overtaken by the first of a newer one. */
static bool waits_for_older(const struct dest *d)
{
    for (struct tx_flow *f = d->flows; f; f = f->next)
        if (f->leaving && !send_passed_on(f))
            return true;
    return false;
}

/* What is to become of the datagram on one flow. */
enum verdict { FLOW_SKIP, FLOW_RING, FLOW_FENCE, FLOW_GONE };

static enum verdict judge(struct dest *d, struct tx_flow *f, struct outgoing *o, uint8_t *flags)
{
    uint32_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
    if (state == TX_SETUP)
        return FLOW_SKIP;
    if (gone(f))
        return FLOW_GONE;
    if (!o->ring_able || o->length > ivc_ring_max_payload(f->ident.order))
        return FLOW_SKIP;
    if (state == TX_RUN)
        return FLOW_RING;
    if (waits_for_older(d))
        return FLOW_SKIP;
    *flags = fence_flags(d, o);
    return *flags ? FLOW_FENCE : FLOW_SKIP;
}

static uint16_t stamp_for(const struct tx_flow *f)
{
    if (!ivc_host->one_clock || !ivc_tx_peer_sleeps(&f->ring))
        return 0;
    uint16_t stamp = (uint16_t)(ivc_now() >> 10);
    return stamp ? stamp : 1;
}

static int write_record(struct tx_flow *f, const struct outgoing *o, uint8_t flags)
{
    struct ivc_record record = {
        .kind = IVC_RECORD_DGRAM,
        .flags = (uint8_t)(flags | (o->kernel ? IVC_RECORD_TWIN : 0)),
        .stamp = stamp_for(f),
        .src_ip = f->ring.own->src_ip,
        .src_port = f->ring.own->src_port,
        .dst_ip = o->to.ip,
        .dst_port = o->to.port,
        .kseq = f->kseq,
    };
    return ivc_tx_write(&f->ring, &record, o->msg->msg_iov, o->msg->msg_iovlen, o->length);
}

static void ring_out(struct tx_flow *f)
{
    if (ivc_tx_publish(&f->ring))
        ivc_bell_ring(&f->end.bell);
}

/* One flow of a destination. The kernel's copy, if any, is sent afterwards, so
 * that whoever receives it finds the record already published. */
static bool to_flow(struct dest *d, struct tx_flow *f, struct outgoing *o, uint8_t flags)
{
    struct ivc_stats_slot *stats = o->s->stats;
    uint64_t at = f->ring.tail;
    int result = write_record(f, o, flags);
    if (result == 0) {
        f->last = at;
        atomic_store_explicit(&f->state, TX_RUN, memory_order_relaxed);
        count(&stats->tx_ring_msgs, 1);
        count(&stats->tx_ring_bytes, o->length);
        trace_sent(f, at, 0);
        ring_out(f);
        o->unicast_done = true;
    } else if (result == -ENOBUFS && !(flags & IVC_RECORD_FENCE)) {
        o->ask_controller = f->relay;
        count(&stats->tx_full, 1);
        if (o->kernel)
            f->kseq++;
        o->unicast_done = true;
    } else if (result == -EPROTO) {
        flow_drop_tx(d, f, IVC_REASON_POISONED);
        o->kernel = true;
    }
    return result == 0;
}

static void to_flows_unicast(struct dest *d, struct outgoing *o)
{
    struct tx_flow *next;
    for (struct tx_flow *f = d->flows; f && !o->unicast_done; f = next) {
        next = f->next;
        uint8_t flags = 0;
        switch (judge(d, f, o, &flags)) {
        case FLOW_RING:
            o->kernel = false;
            (void)to_flow(d, f, o, 0);
            break;
        case FLOW_FENCE:
            o->kernel = true;
            o->everywhere = to_flow(d, f, o, flags);
            o->unicast = f;
            break;
        case FLOW_GONE:
            leave(o->s, d, f);
            break;
        case FLOW_SKIP:
            break;
        }
    }
    if (!o->unicast_done)
        o->kernel = true;
}

/* The kernel's copy is needed unless every member has the ring and none of
 * them is just being switched. */
static void decide_multicast(struct dest *d, struct outgoing *o)
{
    struct tx_flow *next;
    o->kernel = !d->complete || !o->ring_able;
    for (struct tx_flow *f = d->flows; f; f = next) {
        next = f->next;
        uint32_t state = atomic_load_explicit(&f->state, memory_order_relaxed);
        if (state != TX_SETUP && gone(f)) {
            leave(o->s, d, f);
            continue;
        }
        if (state != TX_RUN || o->length > ivc_ring_max_payload(f->ident.order))
            o->kernel = true;
    }
    if (!d->flows || !d->complete)
        o->kernel = true;
}

static void to_flows_multicast(struct dest *d, struct outgoing *o)
{
    decide_multicast(d, o);
    o->everywhere = d->complete;
    struct tx_flow *next;
    for (struct tx_flow *f = d->flows; f; f = next) {
        next = f->next;
        uint8_t flags = 0;
        enum verdict verdict = judge(d, f, o, &flags);
        bool written = false;
        if (verdict == FLOW_RING || verdict == FLOW_FENCE)
            written = to_flow(d, f, o, flags);
        else if (atomic_load_explicit(&f->state, memory_order_relaxed) == TX_RUN)
            f->kseq++; /* the kernel alone carries this one */
        o->everywhere = o->everywhere && written;
    }
}

/* Unicast that a running flow did not take: it follows by the kernel. */
static void count_kernel_only(struct dest *d)
{
    for (struct tx_flow *f = d->flows; f; f = f->next)
        if (atomic_load_explicit(&f->state, memory_order_relaxed) == TX_RUN)
            f->kseq++;
}

/* For the twin of a fence that stayed alone the receiver waits in vain, and what comes by the
 * kernel meanwhile would pass. */
static bool fence_passed(struct tx_flow *f)
{
    uint64_t now = ivc_now();
    if (f->alone_since == 0)
        f->alone_since = now;
    f->alone = now - f->alone_since < 2 * ivc_host->kernel_late_ns;
    return !f->alone;
}

bool send_passed_on(struct tx_flow *f)
{
    if (!f->relay || !f->ring.own || f->ring.poisoned)
        return true;
    /* acquire: pairs with the release of the relay, which passes on before it publishes */
    return atomic_load_explicit(&f->ring.peer->index, memory_order_acquire) == f->ring.published &&
           (!f->alone || fence_passed(f));
}

bool send_settle(struct tx_flow *f)
{
    const struct timespec nap = {.tv_nsec = RELAY_NAP_NS};
    uint64_t end = ivc_now() + RELAY_SETTLE_NS;
    while (!send_passed_on(f)) {
        if (ivc_tx_peer_state(&f->ring) != IVC_REGION_OPEN || !control_alive())
            return true;
        if (ivc_now() >= end)
            return false;
        (void)ivc_sys(SYS_nanosleep, &nap, NULL);
    }
    return true;
}

static bool settle_all(struct dest *d)
{
    bool settled = true;
    for (struct tx_flow *f = d->flows; f; f = f->next)
        settled = send_settle(f) && settled;
    return settled;
}

/* The record just written stays alone, and says so to `send_unread`. A relay that has just copied
 * it waits for the twin in vain, no more. */
static void untwin(struct tx_flow *f)
{
    uint8_t *record = f->ring.data + (f->last & (f->ring.size - 1));
    uint8_t *flags = &record[offsetof(struct ivc_record, flags)];
    f->alone = f->alone || (*flags & IVC_RECORD_FENCE);
    *flags &= (uint8_t)~IVC_RECORD_TWIN;
}

/* A fence's twin that does not wait for a relay overtakes it, and is delivered a second time. */
static ssize_t by_kernel(struct dest *d, struct outgoing *o, bool on_ring)
{
    if (!settle_all(d) && o->everywhere) {
        for (struct tx_flow *f = d->flows; f; f = f->next)
            if (!o->unicast || o->unicast == f)
                untwin(f);
        return (ssize_t)o->length;
    }
    uint64_t when = on_ring ? 0 : trace_now();
    ssize_t n = kernel_send(o);
    if (n >= 0) {
        count(&o->s->stats->tx_net_msgs, 1);
        count(&o->s->stats->tx_net_bytes, (uint64_t)n);
        if (d->planned)
            remember(d, o);
        if (when)
            trace_network(o->s, d, o->to, o->msg, (size_t)n, when, 0);
    }
    return on_ring ? (ssize_t)o->length : n;
}

static ssize_t to_destination(struct dest *d, struct outgoing *o)
{
    uint64_t before = atomic_load_explicit(&o->s->stats->tx_ring_msgs, memory_order_relaxed);
    if (!d->flows)
        return by_kernel(d, o, false);
    bool multicast = ip_is_multicast(o->to.ip);
    if (multicast)
        to_flows_multicast(d, o);
    else
        to_flows_unicast(d, o);
    if (!o->kernel)
        return (ssize_t)o->length;
    bool on_ring =
        atomic_load_explicit(&o->s->stats->tx_ring_msgs, memory_order_relaxed) != before;
    ssize_t n = by_kernel(d, o, on_ring);
    if (!multicast && !o->unicast_done && n >= 0)
        count_kernel_only(d);
    return n;
}

static struct dest *find_dest(struct sock *s, struct endpoint to)
{
    struct dest *d = s->dest_recent;
    if (d && endpoint_equal(d->ep, to))
        return d;
    for (d = s->dests; d && !endpoint_equal(d->ep, to); d = d->next)
        ;
    if (!d && (s->unusable || match_destination(to, s->node) != IVC_REASON_NONE))
        return NULL; /* no record for every stranger */
    if (!d)
        d = flow_dest(s, to);
    if (!d)
        return NULL;
    s->dest_recent = d;
    /* Whatever the reason is it has now: of what was never asked for nobody tells us when it is over. */
    if (!d->planned && !s->unusable)
        flow_want(s, d);
    return d;
}

static size_t total_length(const struct msghdr *msg)
{
    size_t n = 0;
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        n += msg->msg_iov[i].iov_len;
    return n;
}

ssize_t send_dgram(struct sock *s, int fd, const struct msghdr *msg, int flags)
{
    struct outgoing o = {.s = s, .fd = fd, .msg = msg, .flags = flags, .kernel = true};
    control_poll_unslept();
    if (!destination(s, msg, &o.to) || !ivc_lock(&s->tx_lock))
        return kernel_send(&o);
    struct dest *d = sock_is(s, fd) ? find_dest(s, o.to) : NULL;
    ssize_t n;
    if (d) {
        o.length = total_length(msg);
        o.ring_able = (flags & ~RING_FLAGS) == 0 && msg->msg_controllen == 0 &&
                      !s->unusable && !s->wr_shutdown && o.length <= 65507;
        n = to_destination(d, &o);
    } else {
        n = kernel_send(&o);
        if (n >= 0 && sock_is(s, fd)) {
            count(&s->stats->tx_net_msgs, 1);
            count(&s->stats->tx_net_bytes, (uint64_t)n);
        }
    }
    ivc_unlock(&s->tx_lock);
    if (o.ask_controller) {
        control_read();
        (void)ivc_sys(SYS_sched_yield); /* where processors are few, the relay may need this one */
    }
    return n;
}

void send_unread(struct sock *s, struct tx_flow *f)
{
    uint64_t head = atomic_load_explicit(&f->ring.peer->index, memory_order_acquire);
    uint64_t mask = f->ring.size - 1;
    if (f->ring.poisoned || f->ring.published - head > f->ring.size || head % IVC_RECORD_ALIGN)
        return;
    while (head < f->ring.published) {
        struct ivc_record r;
        memcpy(&r, f->ring.data + (head & mask), sizeof(r));
        /* It is our own memory, but the application may have written there, too. */
        if (r.length > ivc_ring_max_payload(f->ident.order))
            return;
        uint64_t at = (head + sizeof(r)) & mask;
        size_t first = r.length < f->ring.size - at ? r.length : (size_t)(f->ring.size - at);
        struct iovec iov[2] = {{f->ring.data + at, first}, {f->ring.data, r.length - first}};
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons(r.dst_port),
                                 .sin_addr.s_addr = htonl(r.dst_ip)};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        if (!s->peer.ip) {
            msg.msg_name = &to;
            msg.msg_namelen = sizeof(to);
        }
        struct outgoing o = {.s = s, .fd = s->fd, .msg = &msg, .flags = MSG_DONTWAIT | MSG_NOSIGNAL};
        if (!(r.flags & IVC_RECORD_TWIN))
            (void)kernel_send(&o);
        head += ivc_record_bytes(r.length);
    }
}
