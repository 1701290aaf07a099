/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "flow.h"

#include "control.h"
#include "epoll.h"
#include "real.h"
#include "send.h"
#include "stream.h"
#include "stream_relayed.h"

struct ivc_slab ivc_rx_slab = {.size = sizeof(struct rx_flow), .keep = sizeof(void *)};
struct ivc_slab ivc_tx_slab = {.size = sizeof(struct tx_flow), .keep = sizeof(void *)};
struct ivc_slab ivc_dest_slab = {.size = sizeof(struct dest), .keep = sizeof(void *)};

static uint32_t era(void)
{
    return atomic_load_explicit(&ivc_control_state.era, memory_order_relaxed);
}

static void tell(uint16_t type, uint32_t flow, uint32_t flags, uint32_t reason)
{
    struct ivc_msg msg = {.type = type, .flow = flow, .flags = flags, .reason = reason};
    (void)control_send(&msg, &ATTACHED_NOTHING);
}

static struct endpoint from_wire(struct ivc_endpoint ep)
{
    return (struct endpoint){.ip = ep.ip, .port = ep.port};
}

/* Whether a list has a first is asked without its lock, and then with it. */
#define first(list) __atomic_load_n(list, __ATOMIC_RELAXED)
#define put_first(list, record) __atomic_store_n(list, record, __ATOMIC_RELAXED)

/* ---- records ----------------------------------------------------------------- */

/* A server outlives its clients' ports: destinations without flows are let go,
 * the oldest first. */
#define DEST_MOST 256u

static void forget_oldest(struct sock *s)
{
    struct dest **oldest = NULL;
    for (struct dest **at = &s->dests; *at; at = &(*at)->next)
        if (!(*at)->flows)
            oldest = at;
    if (!oldest)
        return;
    struct dest *d = *oldest;
    put_first(oldest, d->next);
    if (s->dest_recent == d)
        s->dest_recent = NULL;
    s->dest_count--;
    ivc_slab_put(&ivc_dest_slab, d);
}

struct dest *flow_dest(struct sock *s, struct endpoint ep)
{
    for (struct dest *d = s->dests; d; d = d->next)
        if (endpoint_equal(d->ep, ep))
            return d;
    if (s->dest_count >= DEST_MOST)
        forget_oldest(s);
    struct dest *d = ivc_slab_get(&ivc_dest_slab);
    if (!d)
        return NULL;
    s->dest_count++;
    d->ep = ep;
    d->next = s->dests;
    put_first(&s->dests, d);
    return d;
}

void flow_drop_tx(struct dest *d, struct tx_flow *f, uint32_t reason)
{
    for (struct tx_flow **at = &d->flows; *at; at = &(*at)->next) {
        if (*at != f)
            continue;
        *at = f->next;
        break;
    }
    if (f->ring.own)
        ivc_tx_set_state(&f->ring, IVC_REGION_CLOSED);
    if (f->era == era())
        tell(IVC_MSG_DROPPED, f->id, IVC_ROLE_SENDER, reason);
    ivc_host->let_go(&f->end);
    d->complete = false;
    d->reason = reason;
    ivc_slab_put(&ivc_tx_slab, f);
}

bool flow_give_back(struct sock *s, struct tx_flow *f)
{
    if (!f->ring.own || !(f->lost || ivc_tx_peer_state(&f->ring) == IVC_REGION_FROZEN))
        return true;
    if (s->stream)
        return stream_give_back(s, f);
    send_unread(s, f);
    return true;
}

/* Leave a flow in order: what a relay has not passed on, or a receiver has left, goes ahead of all
 * that follows. */
void flow_end_tx(struct sock *s, struct dest *d, struct tx_flow *f, uint32_t reason)
{
    if (s->stream && !relayed_left(f, reason))
        return; /* whoever sends next looks again */
    if (!flow_give_back(s, f))
        return; /* whoever sends next goes on with it */
    if (f->relay && f->ring.own && !s->stream) {
        (void)send_settle(f);
        if (ivc_tx_peer_state(&f->ring) == IVC_REGION_CLOSED)
            send_unread(s, f);
    }
    flow_drop_tx(d, f, reason);
}

static void unlink_rx(struct sock *s, struct rx_flow *f)
{
    for (struct rx_flow **at = &s->rx_flows; *at; at = &(*at)->next) {
        if (*at != f)
            continue;
        put_first(at, f->next);
        break;
    }
    if (s->rx_turn == f)
        s->rx_turn = NULL;
    if (s->rx_peeked == f)
        s->rx_peeked = NULL;
}

static void leave_rx(struct rx_flow *f, uint32_t reason)
{
    if (f->era == era() && !f->let_go)
        tell(IVC_MSG_DROPPED, f->id, IVC_ROLE_RECEIVER, reason);
    ivc_host->let_go(&f->end);
    ivc_slab_put(&ivc_rx_slab, f);
}

void flow_freeze_rx(struct sock *s, struct rx_flow *f, uint32_t reason)
{
    if (s->stream)
        stream_freeze_family(s->stream, f);
    ivc_rx_freeze(&f->ring, s->stream ? s->stream->offset : 0);
    flow_forget_rx(s, f, reason);
}

void flow_forget_rx(struct sock *s, struct rx_flow *f, uint32_t reason)
{
    unlink_rx(s, f);
    if (s->stream)
        s->stream->offset = 0;
    leave_rx(f, reason);
}

void flow_drop_rx(struct sock *s, struct rx_flow *f, uint32_t reason)
{
    unlink_rx(s, f);
    if (f->ring.own)
        ivc_rx_set_state(&f->ring, reason == IVC_REASON_POISONED ? IVC_REGION_POISONED
                                                                 : IVC_REGION_CLOSED);
    leave_rx(f, reason);
}

void flow_want(struct sock *s, struct dest *d)
{
    struct ivc_msg msg = {
        .type = IVC_MSG_WANT,
        .socket = s->id,
        .local = {.ip = s->local.ip, .port = s->local.port},
        .peer = {.ip = d->ep.ip, .port = d->ep.port},
    };
    /* Not before BOUND: of a socket it does not know the controller wants to hear nothing, and
     * whoever announces it asks again. */
    d->planned = s->announced == era() && control_send(&msg, &ATTACHED_NOTHING);
    d->reason = d->planned ? IVC_REASON_PENDING : IVC_REASON_NO_CONTROLLER;
}

/* ---- finding by number ------------------------------------------------------- */

static struct tx_flow *find_tx(struct sock *s, uint32_t id, struct dest **dest)
{
    for (struct dest *d = s->dests; d; d = d->next) {
        for (struct tx_flow *f = d->flows; f; f = f->next) {
            if (f->id == id && f->era == era()) {
                *dest = d;
                return f;
            }
        }
    }
    return NULL;
}

static struct rx_flow *find_rx(struct sock *s, uint32_t id)
{
    for (struct rx_flow *f = s->rx_flows; f; f = f->next)
        if (f->id == id && f->era == era())
            return f;
    return NULL;
}

/* Calls `act` with the flow found and its socket's lock held. */
static bool with_tx(uint32_t id, void (*act)(struct sock *, struct dest *, struct tx_flow *, void *),
                    void *arg)
{
    bool found = false;
    if (!ivc_lock(&ivc_reg_lock))
        return false;
    for (struct sock *s = ivc_socks; s && !found; s = s->next) {
        if (!first(&s->dests) || !ivc_lock(&s->tx_lock))
            continue;
        struct dest *d = NULL;
        struct tx_flow *f = find_tx(s, id, &d);
        if (f) {
            found = true;
            act(s, d, f, arg);
        }
        ivc_unlock(&s->tx_lock);
    }
    ivc_unlock(&ivc_reg_lock);
    return found;
}

static bool with_rx(uint32_t id, void (*act)(struct sock *, struct rx_flow *, void *), void *arg)
{
    bool found = false;
    if (!ivc_lock(&ivc_reg_lock))
        return false;
    for (struct sock *s = ivc_socks; s && !found; s = s->next) {
        if (!first(&s->rx_flows) || !ivc_lock(&s->rx_lock))
            continue;
        struct rx_flow *f = find_rx(s, id);
        if (f) {
            found = true;
            act(s, f, arg);
        }
        ivc_unlock(&s->rx_lock);
        if (found)
            reg_wake(s);
    }
    ivc_unlock(&ivc_reg_lock);
    return found;
}

/* ---- messages ------------------------------------------------------------------ */

static bool order_fits(uint64_t order)
{
    return order >= IVC_ORDER_MIN && order <= IVC_ORDER_MAX;
}

static void mapped(uint32_t flow, uint32_t role, const struct attached *answer)
{
    struct ivc_msg msg = {.type = IVC_MSG_MAPPED, .flow = flow, .flags = role};
    (void)control_send(&msg, answer);
}

static void set_end(struct flow_end *end, uint32_t role, uint64_t order)
{
    size_t sender = ivc_sender_region_size((uint8_t)order);
    bool sends = role == IVC_ROLE_SENDER;
    *end = (struct flow_end){.role = role,
                             .order = (uint8_t)order,
                             .own_size = sends ? sender : IVC_RECEIVER_REGION_SIZE,
                             .peer_size = sends ? IVC_RECEIVER_REGION_SIZE : sender,
                             .bell.fd = -1};
}

static bool is_stream(const struct ivc_msg *msg)
{
    return (msg->flags & IVC_FLOW_STREAM) != 0;
}

/* tx lock held */
static bool attach_tx(struct sock *s, struct tx_flow *f, const struct mail *mail,
                      struct attached *answer, uint32_t *why)
{
    if (s->stream && (*why = stream_confirm(s, IVC_ROLE_SENDER)) != IVC_REASON_NONE)
        return false;
    *why = IVC_REASON_RESOURCES;
    if (!sock_matched(s) || ivc_host->map_own(&f->end, mail, answer) != 0)
        return false;
    struct dest *d = flow_dest(s, from_wire(mail->msg.peer));
    if (!d)
        return false;
    *why = IVC_REASON_NOT_CONFIRMED;
    if (s->stream && d->flows)
        return false; /* what an older one has left goes ahead */
    f->next = d->flows;
    d->flows = f;
    return true;
}

void flow_attach_tx(const struct mail *mail)
{
    const struct ivc_msg *msg = &mail->msg;
    struct sock *s = sock_by_id(msg->socket);
    struct tx_flow *f = s && order_fits(msg->arg) ? ivc_slab_get(&ivc_tx_slab) : NULL;
    struct attached answer = ATTACHED_NOTHING;
    uint32_t why = IVC_REASON_RESOURCES;
    bool ok = false;
    if (f) {
        f->id = msg->flow;
        f->era = era();
        f->relay = (msg->flags & IVC_FLOW_RELAY) != 0;
        f->ident = (struct ivc_ring_ident){.flow_id = msg->flow, .order = (uint8_t)msg->arg};
        set_end(&f->end, IVC_ROLE_SENDER, msg->arg);
        if (ivc_lock(&s->tx_lock)) {
            ok = is_stream(msg) == (s->stream != NULL) && attach_tx(s, f, mail, &answer, &why);
            ivc_unlock(&s->tx_lock);
        }
        if (!ok) {
            ivc_host->let_go(&f->end);
            ivc_slab_put(&ivc_tx_slab, f);
        }
    }
    if (ok)
        mapped(msg->flow, IVC_ROLE_SENDER, &answer);
    else
        tell(IVC_MSG_DROPPED, msg->flow, IVC_ROLE_SENDER, why);
}

/* rx lock held */
static bool attach_rx(struct sock *s, struct rx_flow *f, const struct mail *mail,
                      struct attached *answer, uint32_t *why)
{
    if (s->stream && (*why = stream_confirm(s, IVC_ROLE_RECEIVER)) != IVC_REASON_NONE)
        return false;
    *why = IVC_REASON_RESOURCES;
    if (!sock_matched(s) || (!s->stream && !sock_stash(s)))
        return false;
    f->end.bell.fd = s->bell.fd;
    if (ivc_host->map_own(&f->end, mail, answer) != 0)
        return false;
    f->next = s->rx_flows;
    put_first(&s->rx_flows, f);
    return true;
}

void flow_attach_rx(const struct mail *mail)
{
    const struct ivc_msg *msg = &mail->msg;
    struct sock *s = sock_by_id(msg->socket);
    struct rx_flow *f = s && order_fits(msg->arg) ? ivc_slab_get(&ivc_rx_slab) : NULL;
    struct attached answer = ATTACHED_NOTHING;
    uint32_t why = IVC_REASON_RESOURCES;
    bool ok = false;
    if (f) {
        f->id = msg->flow;
        f->era = era();
        f->relay = (msg->flags & IVC_FLOW_RELAY) != 0;
        f->src = from_wire(msg->peer);
        f->dst = from_wire(msg->local);
        f->ident = (struct ivc_ring_ident){.flow_id = msg->flow, .order = (uint8_t)msg->arg};
        set_end(&f->end, IVC_ROLE_RECEIVER, msg->arg);
        if (ivc_lock(&s->rx_lock)) {
            ok = is_stream(msg) == (s->stream != NULL) && attach_rx(s, f, mail, &answer, &why);
            ivc_unlock(&s->rx_lock);
        }
        if (!ok) {
            ivc_host->let_go(&f->end);
            ivc_slab_put(&ivc_rx_slab, f);
        }
    }
    if (ok)
        mapped(msg->flow, IVC_ROLE_RECEIVER, &answer);
    else
        tell(IVC_MSG_DROPPED, msg->flow, IVC_ROLE_RECEIVER, why);
}

static void peer_tx(struct sock *s, struct dest *d, struct tx_flow *f, void *arg)
{
    if (f->end.peer)
        return;
    if (ivc_host->map_peer(&f->end, arg) != 0 ||
        ivc_tx_attach(&f->ring, f->end.own, f->end.own_size, f->end.peer, f->end.peer_size,
                      &f->ident) != 0)
        flow_drop_tx(d, f, IVC_REASON_RESOURCES);
    else if (s->stream)
        ivc_tx_set_kernel(&f->ring, s->stream->ktx);
}

/* A thread already asleep in the kernel without our bell would never see the
 * ring: the flow waits until it has come back. */
static void acknowledge(struct sock *s, struct rx_flow *f)
{
    f->ack_pending = atomic_load(&s->native_waits) != 0 ||
                     (s->stream && !atomic_load(&s->stream->heard));
    if (!f->ack_pending)
        tell(IVC_MSG_ACK, f->id, IVC_ROLE_RECEIVER, 0);
}

static void peer_rx(struct sock *s, struct rx_flow *f, void *arg)
{
    if (f->attached)
        return;
    if (ivc_host->map_peer(&f->end, arg) != 0 ||
        ivc_rx_attach(&f->ring, f->end.own, f->end.own_size, f->end.peer, f->end.peer_size,
                      &f->ident) != 0) {
        flow_drop_rx(s, f, IVC_REASON_RESOURCES);
        return;
    }
    for (unsigned i = 0; i < TWIN_SLOTS; i++)
        f->owed.slot[i].length = f->early.slot[i].length = UINT32_MAX;
    if (s->stream) {
        f->ring.kind = IVC_RECORD_STREAM;
        stream_begin_family(s->stream, f);
    }
    f->attached = true;
    ivc_rx_set_state(&f->ring, IVC_REGION_OPEN);
    /* Threads asleep with our bell are woken by the first record only if the
     * ring is armed; our own next sleep would do it, theirs has begun. */
    (void)ivc_rx_arm(&f->ring);
    acknowledge(s, f);
}

void flow_peer(struct mail *mail)
{
    if (mail->msg.flags == IVC_ROLE_SENDER)
        (void)with_tx(mail->msg.flow, peer_tx, mail);
    else
        (void)with_rx(mail->msg.flow, peer_rx, mail);
}

static void activate(struct sock *s, struct dest *d, struct tx_flow *f, void *arg)
{
    (void)arg;
    if (f->ring.own) {
        atomic_store_explicit(&f->state, s->stream ? TX_RUN : TX_FENCE, memory_order_relaxed);
        d->unfit = 0;
    }
    if (s->stream && f->relay && f->ring.own)
        relayed_begin(s, f);
    if (s->stream)
        stream_update(s);
}

void flow_active(const struct ivc_msg *msg)
{
    (void)with_tx(msg->flow, activate, NULL);
}

static void close_tx(struct sock *s, struct dest *d, struct tx_flow *f, void *arg)
{
    uint32_t reason = *(const uint32_t *)arg;
    if (s->stream || send_settle(f))
        flow_end_tx(s, d, f, reason);
    else
        f->leaving = reason; /* what is sent meanwhile queues behind the rest, on the ring */
    if (s->stream)
        stream_update(s);
}

/* The sender has left. What it published is still delivered, however late somebody comes to
 * read it; of the sender's nothing is kept for that. */
static void end_rx(struct sock *s, struct rx_flow *f, uint32_t reason)
{
    if (!f->attached || ivc_host->keep_copy(&f->end) != 0) {
        flow_drop_rx(s, f, reason);
        return;
    }
    f->closing = true;
    reg_stir(s);
    if (f->era == era() && !f->let_go)
        tell(IVC_MSG_DROPPED, f->id, IVC_ROLE_RECEIVER, reason);
    f->let_go = true;
}

void flow_leave_rx(struct sock *s, struct rx_flow *f, uint32_t reason)
{
    if (f->attached) {
        f->end_at = atomic_load_explicit(&f->ring.peer->index, memory_order_acquire);
        f->ends = true;
        ivc_rx_set_state(&f->ring, IVC_REGION_CLOSED);
    }
    end_rx(s, f, reason);
}

static void close_rx(struct sock *s, struct rx_flow *f, void *arg)
{
    end_rx(s, f, *(const uint32_t *)arg);
}

void flow_close(const struct ivc_msg *msg)
{
    uint32_t reason = msg->reason;
    if (msg->flags == IVC_ROLE_SENDER)
        (void)with_tx(msg->flow, close_tx, &reason);
    else
        (void)with_rx(msg->flow, close_rx, &reason);
}

void flow_route(const struct ivc_msg *msg)
{
    struct sock *s = sock_by_id(msg->socket);
    if (!s || !ivc_lock(&s->tx_lock))
        return;
    for (struct dest *d = s->dests; d; d = d->next) {
        if (!endpoint_equal(d->ep, from_wire(msg->peer)))
            continue;
        d->complete = (msg->flags & IVC_ROUTE_COMPLETE) != 0;
        d->reason = msg->reason;
    }
    ivc_unlock(&s->tx_lock);
}

static void leave_late(struct sock *s)
{
    for (struct dest *d = s->dests; d; d = d->next) {
        struct tx_flow *next;
        for (struct tx_flow *f = d->flows; f; f = next) {
            next = f->next;
            if ((f->leaving || f->lost) && (s->stream || send_passed_on(f)))
                flow_end_tx(s, d, f, f->leaving ? f->leaving : IVC_REASON_NO_CONTROLLER);
        }
    }
    if (s->stream)
        stream_update(s);
}

void flows_retry(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next) {
        if (first(&s->dests) && ivc_lock(&s->tx_lock)) {
            leave_late(s);
            ivc_unlock(&s->tx_lock);
        }
        if (!first(&s->rx_flows) || !ivc_lock(&s->rx_lock))
            continue;
        for (struct rx_flow *f = s->rx_flows; f; f = f->next)
            if (f->ack_pending)
                acknowledge(s, f);
        ivc_unlock(&s->rx_lock);
    }
    ivc_unlock(&ivc_reg_lock);
}

/* ---- the controller dies and comes back ------------------------------------------ */

static void drop_all_tx(struct sock *s, bool relayed_only, uint32_t reason)
{
    for (struct dest *d = s->dests; d; d = d->next) {
        struct tx_flow *next;
        for (struct tx_flow *f = d->flows; f; f = next) {
            next = f->next;
            if (relayed_only && !f->relay && f->end.peer)
                continue;
            f->lost = s->stream && f->relay;
            if (!flow_give_back(s, f))
                continue; /* whoever sends next goes on with it */
            if (f->relay && f->ring.own && !s->stream)
                send_unread(s, f);
            flow_drop_tx(d, f, reason);
        }
        d->planned = false;
    }
    if (s->stream)
        stream_update(s);
}

void flows_controller_lost(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next) {
        if (first(&s->dests) && ivc_lock(&s->tx_lock)) {
            drop_all_tx(s, true, IVC_REASON_NO_CONTROLLER);
            ivc_unlock(&s->tx_lock);
        }
        if (first(&s->rx_flows) && ivc_lock(&s->rx_lock)) {
            struct rx_flow *next;
            for (struct rx_flow *f = s->rx_flows; f; f = next) {
                next = f->next;
                if (!f->attached)
                    flow_drop_rx(s, f, IVC_REASON_NO_CONTROLLER);
                else if (f->relay)
                    f->closing = true;
            }
            reg_stir(s);
            ivc_unlock(&s->rx_lock);
        }
    }
    ivc_unlock(&ivc_reg_lock);
}

void flows_renew(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next) {
        if (first(&s->dests) && ivc_lock(&s->tx_lock)) {
            drop_all_tx(s, false, IVC_REASON_REPLANNED);
            ivc_unlock(&s->tx_lock);
        }
    }
    ivc_unlock(&ivc_reg_lock);
}

/* The controller has closed all it knows of; what a controller before it had made goes here. */
void flows_quiesce(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next) {
        if (first(&s->dests) && ivc_lock(&s->tx_lock)) {
            drop_all_tx(s, false, IVC_REASON_QUIESCED);
            ivc_unlock(&s->tx_lock);
        }
        if (first(&s->rx_flows) && ivc_lock(&s->rx_lock)) {
            struct rx_flow *next;
            for (struct rx_flow *f = s->rx_flows; f; f = next) {
                next = f->next;
                end_rx(s, f, IVC_REASON_QUIESCED);
            }
            ivc_unlock(&s->rx_lock);
        }
    }
    ivc_unlock(&ivc_reg_lock);
}
