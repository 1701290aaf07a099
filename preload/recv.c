/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "recv.h"

#include <string.h>

#include "control.h"
#include "epoll.h"
#include "flow.h"
#include "real.h"
#include "stream.h"
#include "stream_relayed.h"
#include "trace.h"
#include "wait.h"

/* ---- twins: datagrams that take both roads --------------------------------------- */

static void twins_free(struct twins *all, struct twin *t)
{
    t->length = UINT32_MAX;
    all->count--;
}

/* Are there any, once those too old are forgotten? */
static bool twins_left(struct twins *all, uint64_t now, uint64_t life)
{
    for (unsigned i = 0; all->count && i < TWIN_SLOTS; i++) {
        struct twin *t = &all->slot[i];
        if (t->length != UINT32_MAX && now > t->when && now - t->when >= life)
            twins_free(all, t);
    }
    return all->count != 0;
}

static void twins_put(struct twins *all, struct twin twin)
{
    struct twin *t = &all->slot[all->next++ % TWIN_SLOTS];
    if (t->length == UINT32_MAX)
        all->count++;
    *t = twin;
}

/* The oldest that is equal; it is forgotten. NULL: none. */
static const struct twin *twins_take(struct twins *all, uint64_t hash, size_t length)
{
    for (unsigned i = 0; i < TWIN_SLOTS; i++) {
        struct twin *t = &all->slot[(all->next + i) % TWIN_SLOTS];
        if (t->length != length || t->hash != hash)
            continue;
        twins_free(all, t);
        return t;
    }
    return NULL;
}

static void record_pieces(const struct rx_flow *f, const struct ivc_record *r, const uint8_t **a,
                          size_t *alen, const uint8_t **b, size_t *blen)
{
    uint64_t at = (f->ring.head + sizeof(*r)) & (f->ring.size - 1);
    size_t first = (size_t)(f->ring.size - at);
    *a = f->ring.data + at;
    *alen = r->length < first ? r->length : first;
    *b = f->ring.data;
    *blen = r->length - *alen;
}

static uint64_t record_hash(const struct rx_flow *f, const struct ivc_record *r)
{
    const uint8_t *a, *b;
    size_t alen, blen;
    record_pieces(f, r, &a, &alen, &b, &blen);
    return ivc_hash(a, alen, b, blen);
}

static void expect_twin(struct rx_flow *f, const struct ivc_record *r, uint64_t now)
{
    twins_put(&f->owed,
              (struct twin){.hash = record_hash(f, r), .when = now, .length = r->length});
}

/* The stashed datagram: delivered already, from the ring? A twin is late only while the kernel
 * has nothing: before, it lies in the queue of an application that takes its time. */
static bool take_owed(const struct sock *s, struct rx_flow *f, const struct stash *d, uint64_t now)
{
    uint64_t unread = now - s->kernel_empty;
    uint64_t at = unread < TWIN_UNREAD_NS ? s->kernel_empty : now - TWIN_UNREAD_NS;
    return twins_left(&f->owed, at, TWIN_LIFE_NS) &&
           twins_take(&f->owed, ivc_hash(d->data, d->length, NULL, 0), d->length) != NULL;
}

/*
 * Early: what the kernel brought while a relay was late with the ring's copy. A sender waits for a
 * relay only so long before the kernel carries what a group gets both ways; what a single receiver
 * gets stays on the ring alone then. From the kernel all look alike: those whose copy is in the
 * ring, and those that went by the kernel alone. Both roads keep their order, so the record of kseq
 * n has its copy where n of the kernel's alone have been before, and nowhere else.
 */
static void remember_early(struct rx_flow *f, const struct stash *d)
{
    if (f->relay && ip_is_multicast(f->dst.ip))
        twins_put(&f->early, (struct twin){.hash = ivc_hash(d->data, d->length, NULL, 0),
                                           .place = f->kseq,
                                           .length = (uint32_t)d->length});
}

static void forget_early(struct rx_flow *f)
{
    for (unsigned i = 0; i < TWIN_SLOTS; i++)
        f->early.slot[i].length = UINT32_MAX;
    f->early.count = 0;
}

/* Slots from the oldest on. */
static struct twin *early_at(struct rx_flow *f, unsigned i)
{
    return &f->early.slot[(f->early.next + i) % TWIN_SLOTS];
}

static bool same_as_record(const struct twin *t, const struct ivc_record *r, uint64_t hash)
{
    return t->length == r->length && t->hash == hash;
}

/* The record at the head: delivered already, from the kernel? Those before it have no copy in the
 * ring, and those behind it have been counted with one too many. */
static bool take_early(struct rx_flow *f, const struct ivc_record *r)
{
    struct twin *found = NULL;
    if (__builtin_expect(f->early.count == 0 || (int32_t)(f->kseq - r->kseq) <= 0, 1) ||
        !(r->flags & IVC_RECORD_TWIN))
        return false;
    const uint64_t hash = record_hash(f, r);
    for (unsigned i = 0; i < TWIN_SLOTS && !found; i++) {
        struct twin *t = early_at(f, i);
        if (t->place == r->kseq && same_as_record(t, r, hash))
            found = t;
    }
    for (unsigned i = 0; i < TWIN_SLOTS && found; i++) {
        struct twin *t = early_at(f, i);
        if (t->length == UINT32_MAX)
            continue;
        if ((int32_t)(t->place - r->kseq) <= 0)
            twins_free(&f->early, t);
        else
            t->place--;
    }
    f->kseq -= found != NULL;
    return found != NULL;
}

/*
 * The first record, its copy did not come after it: nothing has been counted yet. If the copy has
 * come before, count from there. With SAME it may be any of several, and is told for none.
 */
static void place_early(struct rx_flow *f, const struct ivc_record *r)
{
    const uint64_t hash = record_hash(f, r);
    unsigned i = 0;
    while (i < TWIN_SLOTS && !same_as_record(early_at(f, i), r, hash))
        i++;
    if (i == TWIN_SLOTS || (r->flags & IVC_RECORD_SAME)) {
        forget_early(f);
        return;
    }
    for (unsigned j = 0; j < TWIN_SLOTS; j++) {
        struct twin *t = early_at(f, j);
        if (j < i && t->length != UINT32_MAX)
            twins_free(&f->early, t);
        else if (t->length != UINT32_MAX)
            t->place = f->kseq++;
    }
}

/* ---- what comes next ----------------------------------------------------------- */

/* A sender that did not know of a fork may add to a ring whose bell the child has not. */
#define FORKED_LOOK_NS (10 * IVC_NS_PER_MS)

enum source { FROM_NOWHERE, FROM_RING, FROM_STASH };

struct pick {
    enum source source;
    struct rx_flow *flow;
    struct ivc_record record;
};

enum head { HEAD_NONE, HEAD_READY, HEAD_HELD };

/* The record waits for datagrams the kernel still owes. It is given up when the
 * kernel was found empty later than the patience after the first look. */
static bool hold_expired(struct sock *s, struct rx_flow *f)
{
    if (f->hold_since == 0) {
        f->hold_since = ivc_pace();
        return false;
    }
    return s->kernel_empty > f->hold_since && s->kernel_empty - f->hold_since >= ivc_host->kernel_late_ns;
}

static void pass_fence(struct rx_flow *f, const struct ivc_record *r)
{
    f->synced = true;
    f->fenced = f->fenced || (r->flags & IVC_RECORD_FENCE);
    f->kseq = r->kseq;
    f->hold_since = 0;
}

/* ivc_rx_peek(), but for what came after the group was left. */
static int peek(struct rx_flow *f, struct ivc_record *r)
{
    bool over = __builtin_expect(f->ends, 0) && (int64_t)(f->ring.head - f->end_at) >= 0;
    return over ? 0 : ivc_rx_peek(&f->ring, r);
}

static enum head judge_head(struct sock *s, struct rx_flow *f, struct ivc_record *r)
{
    if (!f->attached)
        return HEAD_NONE;
    int got = peek(f, r);
    if (__builtin_expect(got == 0, 0) &&
        (f->closing || ivc_rx_peer_state(&f->ring) == IVC_REGION_CLOSED)) {
        /* State read first, then the tail once more: what came before the end is still ours. */
        got = peek(f, r);
        if (got == 0 && !twins_left(&f->owed, ivc_pace(), TWIN_LIFE_NS))
            flow_drop_rx(s, f, IVC_REASON_PEER_GONE);
    }
    if (__builtin_expect(got <= 0, 0)) {
        if (got < 0)
            flow_drop_rx(s, f, IVC_REASON_POISONED);
        return HEAD_NONE;
    }
    if (__builtin_expect(f->settle_until != 0, 0)) {
        if (ivc_pace() < f->settle_until)
            return HEAD_HELD;
        f->settle_until = 0;
    }
    /* What came before the fence was a relay's, in the sender's name: it said nothing of roads. */
    if (__builtin_expect((r->flags & IVC_RECORD_FENCE) && !f->fenced, 0))
        f->synced = false;
    if (__builtin_expect(f->synced && (int32_t)(r->kseq - f->kseq) <= 0, 1)) {
        f->hold_since = 0; /* what it waited for has come: the next wait is a new one */
        return HEAD_READY;
    }
    bool waits = f->synced || (r->flags & IVC_RECORD_FENCE);
    if (waits) {
        s->rx_held = true;
        if (!hold_expired(s, f))
            return HEAD_HELD;
        count(&s->stats->fence_timeouts, 1);
    }
    bool first = !f->synced;
    pass_fence(f, r);
    if (f->early.count && first)
        place_early(f, r);
    else if (f->early.count)
        forget_early(f); /* some were lost: nothing tells which */
    return HEAD_READY;
}

static enum head look_at_head(struct sock *s, struct rx_flow *f, struct ivc_record *r)
{
    enum head head;
    while ((head = judge_head(s, f, r)) == HEAD_READY && take_early(f, r)) {
        ivc_rx_consume(&f->ring, r);
        count(&s->stats->rx_twins, 1);
    }
    return head;
}

static bool wrong_peer(const struct sock *s, const struct rx_flow *f)
{
    return s->peer.ip != 0 && !endpoint_equal(s->peer, f->src);
}

static bool of_flow(const struct stash *d, const struct rx_flow *f)
{
    return endpoint_equal(d->src_ep, f->src) &&
           (d->dst_ep.ip == 0 || endpoint_equal(d->dst_ep, f->dst));
}

/* Round robin over the rings; `others` leaves out the stashed datagram's source. */
static bool pick_ring(struct sock *s, struct pick *pick, bool others)
{
    struct rx_flow *start = s->rx_turn ? s->rx_turn : s->rx_flows;
    struct rx_flow *f = start, *next;
    for (bool wrapped = false; f;) {
        next = f->next;
        if (!(others && of_flow(&s->stash, f)) &&
            look_at_head(s, f, &pick->record) == HEAD_READY) {
            if (!wrong_peer(s, f)) {
                pick->source = FROM_RING;
                pick->flow = f;
                s->rx_turn = next;
                return true;
            }
            ivc_rx_consume(&f->ring, &pick->record);
            count(&s->stats->rx_refused, 1);
            continue;
        }
        f = next;
        if (!f && !wrapped && start != s->rx_flows) {
            f = s->rx_flows;
            wrapped = true;
        }
        if (wrapped && f == start)
            break;
    }
    return false;
}

static bool is_fence_twin(const struct rx_flow *f, const struct ivc_record *r, const struct stash *d)
{
    const uint8_t *a, *b;
    size_t alen, blen;
    if (r->length != d->length)
        return false;
    record_pieces(f, r, &a, &alen, &b, &blen);
    return memcmp(d->data, a, alen) == 0 && memcmp(d->data + alen, b, blen) == 0;
}

/* ---- the kernel's datagram ---------------------------------------------------------- */

/*
 * May the stashed datagram be delivered now? It may be a twin (then it is
 * dropped and the stash is empty afterwards), and records its sender published
 * before it come first (then *pick names one).
 */
static bool stash_deliverable(struct sock *s, struct pick *pick)
{
    const uint64_t now = ivc_pace();
    struct rx_flow *next;
    /* Twins go before rings: while one sits here the kernel's queue stands still, and a long
     * ring would push the others out of memory before they come. */
    for (struct rx_flow *f = s->rx_flows; f; f = f->next) {
        if (f->attached && of_flow(&s->stash, f) && take_owed(s, f, &s->stash, now)) {
            s->stash.full = false;
            count(&s->stats->rx_twins, 1);
            return false;
        }
    }
    /* Whatever a ring can give goes first, an older flow's rest before a newer one's fence. */
    for (struct rx_flow *f = s->rx_flows; f; f = next) {
        next = f->next;
        if (f->attached && of_flow(&s->stash, f) &&
            look_at_head(s, f, &pick->record) == HEAD_READY) {
            pick->source = FROM_RING;
            pick->flow = f;
            return false;
        }
    }
    for (struct rx_flow *f = s->rx_flows; f; f = next) {
        next = f->next;
        if (f->attached && of_flow(&s->stash, f) && !f->synced &&
            look_at_head(s, f, &pick->record) == HEAD_HELD &&
            is_fence_twin(f, &pick->record, &s->stash)) {
            if (pick->record.flags & IVC_RECORD_SAME)
                f->settle_until = now + FENCE_SETTLE_NS;
            pass_fence(f, &pick->record);
            forget_early(f); /* all went by the kernel alone, before it */
            ivc_rx_consume(&f->ring, &pick->record);
            /* Once, from here, and before anything the ring has behind it. */
            s->stash.counted = true;
            return true;
        }
    }
    for (struct rx_flow *f = s->rx_flows; f; f = f->next) {
        if (f->attached && !s->stash.counted && of_flow(&s->stash, f)) {
            remember_early(f, &s->stash);
            f->kseq += f->synced;
        }
    }
    s->stash.counted = true;
    return true;
}

/* Without system calls: what would the application get next? */
static bool rx_pick(struct sock *s, struct pick *pick)
{
    if (s->rx_peeked && look_at_head(s, s->rx_peeked, &pick->record) == HEAD_READY) {
        pick->source = FROM_RING;
        pick->flow = s->rx_peeked;
        return true;
    }
    /* One record between two datagrams of the kernel: neither road starves. */
    if (s->stash.full && s->rx_ring_turn && pick_ring(s, pick, true))
        return true;
    if (s->stash.full) {
        if (s->stash.counted || stash_deliverable(s, pick)) {
            pick->source = FROM_STASH;
            return true;
        }
        if (pick->source == FROM_RING)
            return true;
    }
    return s->rx_flows && pick_ring(s, pick, false);
}

static void stash_endpoints(struct sock *s)
{
    struct stash *d = &s->stash;
    d->src_ep = (struct endpoint){ntohl(d->src.sin_addr.s_addr), ntohs(d->src.sin_port)};
    d->dst_ep = (struct endpoint){s->local.ip, s->local.port};
    struct msghdr msg = {.msg_control = d->control, .msg_controllen = d->control_length};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            d->dst_ep.ip = ntohl(info.ipi_addr.s_addr);
            s->ifindex = (uint32_t)info.ipi_ifindex;
        }
    }
}

/* Take one datagram from the kernel into the stash: 1, 0 = nothing, -errno. */
static int rx_pull(struct sock *s, int fd)
{
    const uint64_t now = ivc_pace();
    struct stash *d = &s->stash;
    struct iovec iov = {.iov_base = d->data, .iov_len = IVC_DGRAM_MAX};
    struct msghdr msg = {
        .msg_name = &d->src,
        .msg_namelen = sizeof(d->src),
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = d->control,
        .msg_controllen = sizeof(d->control),
    };
    int saved = errno;
    ssize_t n = real(recvmsg)(fd, &msg, MSG_DONTWAIT);
    int error = n < 0 ? errno : 0;
    errno = saved;
    s->kernel_looked = now;
    if (error == EAGAIN || error == EINTR) {
        s->kernel_maybe = false;
        s->kernel_empty = now;
        return 0;
    }
    s->kernel_maybe = true;
    if (error)
        return -error;
    d->full = true;
    d->number++;
    d->counted = false;
    d->length = (size_t)n;
    d->msg_flags = msg.msg_flags;
    d->control_length = msg.msg_controllen;
    stash_endpoints(s);
    return 1;
}

/* When a search may ask the kernel. A set of a thousand idle sockets must not
 * cost a thousand system calls, so readiness asks only for what is owed. */
enum look { LOOK_OWED, LOOK_DUE, LOOK_NOW };

static bool kernel_due(const struct sock *s)
{
    return ivc_pace() - s->kernel_looked >= KERNEL_LOOK_NS;
}

/* The next record where nothing is to be weighed, as mostly: there is one ring, and it has none to
 * wait for. */
static bool pick_plain(struct sock *s, struct pick *pick)
{
    struct rx_flow *f = s->rx_flows;
    const struct ivc_record *r = &pick->record;
    if (!f || f->next || !f->attached || !f->synced || !f->fenced || f->settle_until || f->ends ||
        f->early.count || s->stash.full || s->rx_peeked || wrong_peer(s, f) ||
        ivc_rx_peek(&f->ring, &pick->record) <= 0 || (int32_t)(r->kseq - f->kseq) > 0)
        return false;
    f->hold_since = 0;
    pick->source = FROM_RING;
    pick->flow = f;
    return true;
}

/* Find what comes next. 1 = *pick, 0 = nothing, -errno = the kernel reports an
 * error. */
static int rx_find(struct sock *s, int fd, enum look when, struct pick *pick)
{
    pick->source = FROM_NOWHERE;
    if (s->kernel_error) {
        int error = s->kernel_error;
        s->kernel_error = 0;
        return -error;
    }
    if (!s->stash.data)
        return 0;
    s->rx_held = false;
    bool look = when == LOOK_NOW || (when == LOOK_DUE && (s->kernel_maybe || kernel_due(s)));
    if (!look && pick_plain(s, pick))
        return 1;
    for (bool first = true;; first = false) {
        if (look && !s->stash.full) {
            int got = rx_pull(s, fd);
            if (got < 0)
                return got;
            look = got > 0;
        }
        if (rx_pick(s, pick))
            return 1;
        /* A held record waits for the kernel's word, whoever asks. */
        if (first && when == LOOK_OWED && s->rx_held)
            look = kernel_due(s);
        if (!look || s->stash.full)
            return 0;
    }
}

/* ---- to the application ----------------------------------------------------------- */

static size_t copy_out(const struct msghdr *msg, const uint8_t *data, size_t length)
{
    size_t done = 0;
    for (size_t i = 0; i < msg->msg_iovlen && done < length; i++) {
        size_t n = msg->msg_iov[i].iov_len;
        if (n > length - done)
            n = length - done;
        if (n)
            memcpy(msg->msg_iov[i].iov_base, data + done, n);
        done += n;
    }
    return done;
}

static void put_name(struct msghdr *msg, const struct sockaddr_in *src)
{
    if (!msg->msg_name)
        return;
    size_t n = msg->msg_namelen < sizeof(*src) ? msg->msg_namelen : sizeof(*src);
    memcpy(msg->msg_name, src, n);
    msg->msg_namelen = sizeof(*src);
}

struct control_out {
    struct msghdr *msg;
    size_t used;
};

static void put_control(struct control_out *out, int level, int type, const void *data, size_t size)
{
    size_t need = CMSG_SPACE(size);
    if (out->msg->msg_controllen - out->used < need) {
        out->msg->msg_flags |= MSG_CTRUNC;
        return;
    }
    struct cmsghdr header = {.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    uint8_t *at = (uint8_t *)out->msg->msg_control + out->used;
    memset(at, 0, need);
    memcpy(at, &header, sizeof(header));
    memcpy(at + CMSG_LEN(0), data, size);
    out->used += need;
}

static void stash_control(struct sock *s, struct control_out *out)
{
    struct msghdr from = {.msg_control = s->stash.control,
                          .msg_controllen = s->stash.control_length};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&from); c; c = CMSG_NXTHDR(&from, c)) {
        bool pktinfo = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO;
        if (!pktinfo || s->pktinfo)
            put_control(out, c->cmsg_level, c->cmsg_type, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    }
}

static void ring_control(struct sock *s, const struct ivc_record *r, struct control_out *out)
{
    if (!s->pktinfo)
        return;
    struct in_pktinfo info = {.ipi_ifindex = (int)s->ifindex};
    info.ipi_addr.s_addr = htonl(r->dst_ip);
    info.ipi_spec_dst.s_addr = htonl(ip_is_multicast(r->dst_ip) ? s->pktinfo_ip : r->dst_ip);
    put_control(out, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}

static ssize_t finish(struct msghdr *msg, size_t length, size_t copied, int flags,
                      const struct control_out *out)
{
    msg->msg_controllen = out->used;
    if (copied < length)
        msg->msg_flags |= MSG_TRUNC;
    return (ssize_t)((flags & MSG_TRUNC) ? length : copied);
}

/* What the application was shown, or told the size of, is what it gets next. */
static void promise(struct sock *s, const struct pick *pick)
{
    if (pick->source == FROM_RING)
        s->rx_peeked = pick->flow;
    else
        s->rx_ring_turn = false;
}

static ssize_t deliver_stash(struct sock *s, const struct pick *pick, struct msghdr *msg, int flags)
{
    struct stash *d = &s->stash;
    struct control_out out = {.msg = msg};
    msg->msg_flags = 0;
    put_name(msg, &d->src);
    stash_control(s, &out);
    ssize_t n = finish(msg, d->length, copy_out(msg, d->data, d->length), flags, &out);
    if (flags & MSG_PEEK) {
        promise(s, pick);
        return n;
    }
    d->full = false;
    s->rx_ring_turn = true;
    count(&s->stats->rx_net_msgs, 1);
    count(&s->stats->rx_net_bytes, d->length);
    return n;
}

static ssize_t deliver_ring(struct sock *s, struct pick *pick, struct msghdr *msg, int flags)
{
    const struct ivc_record *r = &pick->record;
    struct rx_flow *f = pick->flow;
    struct control_out out = {.msg = msg};
    msg->msg_flags = 0;
    if (msg->msg_name) {
        struct sockaddr_in src = {.sin_family = AF_INET,
                                  .sin_port = htons(r->src_port),
                                  .sin_addr.s_addr = htonl(r->src_ip)};
        put_name(msg, &src);
    }
    if (msg->msg_controllen)
        ring_control(s, r, &out);
    ssize_t n = finish(msg, r->length, ivc_rx_copy(&f->ring, r, msg->msg_iov, msg->msg_iovlen),
                       flags, &out);
    if (flags & MSG_PEEK) {
        promise(s, pick);
        return n;
    }
    if (r->flags & IVC_RECORD_TWIN)
        expect_twin(f, r, ivc_pace());
    if (__builtin_expect(r->stamp != 0, 0))
        wait_learn_wake_cost(r->stamp);
    trace_taken(f, r);
    ivc_rx_consume(&f->ring, r);
    s->rx_peeked = NULL;
    s->rx_ring_turn = false;
    count(&s->stats->rx_ring_msgs, 1);
    count(&s->stats->rx_ring_bytes, r->length);
    return n;
}

/* Straight from the kernel: a socket without rings needs no detour. */
static ssize_t from_kernel(struct sock *s, int fd, struct msghdr *msg, int flags)
{
    int saved = errno;
    ssize_t n = real(recvmsg)(fd, msg, flags | MSG_DONTWAIT);
    if (n < 0) {
        n = -errno;
        errno = saved;
        return n;
    }
    if (s->pktinfo_own && !s->pktinfo)
        msg->msg_flags &= ~MSG_CTRUNC; /* it was our control message that found no room */
    if (!(flags & MSG_PEEK)) {
        count(&s->stats->rx_net_msgs, 1);
        count(&s->stats->rx_net_bytes, (uint64_t)n);
    }
    return n;
}

/* What has been taken from the kernel and not delivered, nobody else tells of. rx lock held. */
static void tell_of_rest(const struct sock *s)
{
    if (s->stash.full || s->kernel_error)
        reg_stir(s);
}

/* One attempt, never blocks. */
static ssize_t rx_try(struct sock *s, int fd, struct msghdr *msg, int flags, enum look when)
{
    bool plain = !s->rx_flows && !s->stash.full && !s->kernel_error;
    if (plain && !(s->pktinfo_own && msg->msg_controllen))
        return from_kernel(s, fd, msg, flags);
    struct pick pick;
    int got = rx_find(s, fd, when, &pick);
    if (got <= 0)
        return got < 0 ? got : -EAGAIN;
    return pick.source == FROM_RING ? deliver_ring(s, &pick, msg, flags)
                                    : deliver_stash(s, &pick, msg, flags);
}

ssize_t recv_native(int fd, struct msghdr *msg, int flags)
{
    int saved = errno;
    ssize_t n = real(recvmsg)(fd, msg, flags);
    if (n < 0) {
        n = -errno;
        errno = saved;
    }
    return n;
}

/* rx lock held */
static bool rings_ready(struct sock *s)
{
    bool ready = false;
    if (s->stream)
        return stream_hint(s);
    for (struct rx_flow *f = s->rx_flows; f && !ready; f = f->next)
        ready = f->attached && ivc_rx_ready(&f->ring);
    return ready;
}

/* rx lock held */
static void note_empty(struct sock *s, uint64_t when)
{
    s->kernel_looked = when;
    s->kernel_maybe = false;
}

/* The kernel is asked, too, before a call ends in nothing; but not by one that will sleep, which
 * finds out by that. rx lock held. */
static enum look when_to_look(struct sock *s, struct wait *wait, bool block)
{
    if (wait->kernel)
        return LOOK_NOW;
    if (wait->empty)
        note_empty(s, wait->empty);
    wait->empty = 0;
    return !block || s->kernel_maybe || rings_ready(s) ? LOOK_DUE : LOOK_OWED;
}

ssize_t recv_dgram(struct sock *s, int fd, struct msghdr *msg, int flags)
{
    if (flags & ~RECV_RING_FLAGS)
        return recv_native(fd, msg, flags);
    bool block = !(flags & MSG_DONTWAIT) && !s->nonblock;
    struct wait wait = {.s = s, .fd = fd, .mark = signals_mark()};
    const uint32_t id = s->id;
    bool waited = false;
    for (;;) {
        control_poll();
        if (!ivc_lock(&s->rx_lock))
            return recv_native(fd, msg, flags);
        if (!sock_is(s, fd) || s->id != id) {
            ivc_unlock(&s->rx_lock);
            /* Closed while we waited: the number may be another's by now. */
            return waited ? -EBADF : recv_native(fd, msg, flags);
        }
        ssize_t n = rx_try(s, fd, msg, flags, when_to_look(s, &wait, block));
        bool pass_on = n != -EAGAIN && wait.consumed && s->rx_flows != NULL;
        bool by_kernel = s->rx_ring_turn;
        tell_of_rest(s);
        wait.spin.looked = s->kernel_looked;
        ivc_unlock(&s->rx_lock);
        if (n >= 0 && wait.spin.until && by_kernel)
            wait_spin_miss(&wait.spin); /* it was the kernel that ended the spin */
        if (pass_on)
            wait_pass_on(s);
        if (n == -EAGAIN && !block)
            control_poll_unslept();
        if (n != -EAGAIN || !block)
            return n;
        if (atomic_load_explicit(&s->rd_shutdown, memory_order_relaxed))
            return recv_native(fd, msg, flags); /* returns 0 at once, as the kernel does */
        int error = wait_one(&wait);
        if (error)
            return error;
        waited = true;
    }
}

/* ---- readiness ----------------------------------------------------------------------- */

/* Nothing is there, and nothing to be found out; rx lock held. */
static bool idle(const struct sock *s)
{
    const struct rx_flow *f = s->rx_flows;
    return !s->stash.full && !s->kernel_error &&
           (!f || (!f->next && f->attached && !f->closing && ivc_rx_idle(&f->ring)));
}

/* rx lock held */
static bool readable(struct sock *s, bool kernel)
{
    struct pick pick;
    if (s->stream)
        return stream_readable(s, kernel);
    if (idle(s) && (!kernel || !s->rx_flows))
        return kernel;
    int got = rx_find(s, s->fd, kernel ? LOOK_NOW : LOOK_OWED, &pick);
    if (got < 0)
        s->kernel_error = -got;
    tell_of_rest(s);
    return got != 0 || (kernel && atomic_load(&s->rd_shutdown));
}

bool recv_readable(struct sock *s, bool kernel)
{
    if (!ivc_lock(&s->rx_lock))
        return kernel;
    bool is = readable(s, kernel);
    ivc_unlock(&s->rx_lock);
    return is;
}

bool recv_hint(struct sock *s)
{
    if (!ivc_trylock(&s->rx_lock))
        return false;
    bool hint = rings_ready(s);
    ivc_unlock(&s->rx_lock);
    return hint;
}

bool recv_unread(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return false;
    bool unread = s->stash.full || s->kernel_error || rings_ready(s);
    ivc_unlock(&s->rx_lock);
    return unread;
}

/* rx lock held */
static uint64_t arrivals(const struct sock *s)
{
    /* High up, so that it never makes up for what a ring's index gained. */
    uint64_t sum = s->stash.full ? s->stash.number << 48 : 0;
    for (struct rx_flow *f = s->rx_flows; f; f = f->next)
        if (f->attached)
            sum += atomic_load_explicit(&f->ring.peer->index, memory_order_acquire) + f->id;
    if (s->stream && relayed_end_due(s))
        sum += UINT64_C(1) << 47;
    return sum;
}

uint64_t recv_arrivals(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return 0;
    uint64_t sum = arrivals(s);
    ivc_unlock(&s->rx_lock);
    return sum;
}

bool recv_news(struct sock *s, uint64_t *seen)
{
    if (!ivc_lock(&s->rx_lock))
        return false;
    uint64_t sum = arrivals(s);
    bool news = sum != *seen && readable(s, false);
    if (news)
        *seen = sum;
    ivc_unlock(&s->rx_lock);
    return news;
}

bool recv_arm(struct sock *s, uint64_t *limit)
{
    bool quiet = true;
    if (!ivc_lock(&s->rx_lock))
        return true;
    if (s->stream) {
        quiet = stream_arm_in(s);
        if (s->unusable == IVC_REASON_FORKED && s->rx_flows && *limit > FORKED_LOOK_NS)
            *limit = FORKED_LOOK_NS;
        ivc_unlock(&s->rx_lock);
        return quiet;
    }
    for (struct rx_flow *f = s->rx_flows; f; f = f->next) {
        if (!f->attached)
            continue;
        if ((f->hold_since || f->settle_until) && *limit > FENCE_SETTLE_NS)
            *limit = FENCE_SETTLE_NS;
        if (!ivc_rx_arm(&f->ring) && !f->hold_since && !f->settle_until)
            quiet = false;
    }
    if (s->stash.full)
        quiet = false;
    ivc_unlock(&s->rx_lock);
    return quiet;
}

void recv_kernel_empty(struct sock *s, uint64_t when)
{
    if (s->stream || !ivc_lock(&s->rx_lock)) /* of a stream its sender tells what the kernel has */
        return;
    note_empty(s, when);
    ivc_unlock(&s->rx_lock);
}

/* rx lock held */
static bool flows_rest(struct sock *s)
{
    bool rest = true;
    for (struct rx_flow *f = s->rx_flows; f && rest; f = f->next)
        rest = !f->attached ||
               (!f->hold_since && !f->settle_until && !f->closing && ivc_rx_arm(&f->ring));
    return rest;
}

bool recv_rest(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return false;
    bool rest = s->stream ? stream_rest(s) : flows_rest(s);
    rest = rest && !s->stash.full && !s->kernel_error;
    ivc_unlock(&s->rx_lock);
    return rest;
}

long recv_next_size(struct sock *s)
{
    long size = -1;
    if ((!recv_has_rings(s) && !s->stash.full) || !ivc_lock(&s->rx_lock))
        return -1;
    struct pick pick;
    int got = rx_find(s, s->fd, LOOK_NOW, &pick);
    if (got < 0) {
        s->kernel_error = -got; /* for the next receive to report */
    } else if (got > 0) {
        promise(s, &pick);
        size = pick.source == FROM_RING ? (long)pick.record.length : (long)s->stash.length;
    }
    tell_of_rest(s);
    ivc_unlock(&s->rx_lock);
    return size;
}
