/* SPDX-License-Identifier: Apache-2.0 */
/* Sending on a TCP connection: by ring or by kernel, chosen anew for every piece. */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "control.h"
#include "epoll.h"
#include "flow.h"
#include "real.h"
#include "recv.h"
#include "send.h"
#include "stream.h"
#include "stream_relayed.h"
#include "trace.h"
#include "wait.h"

#define RING_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM | MSG_MORE | MSG_EOR)

/* One call. */
struct outgoing {
    struct sock *s;
    int fd;
    const struct msghdr *msg;
    int flags;
    size_t total, done;
    bool file;         /* the bytes are not in msg but in a file: by ring only, and as far as they */
    int in;            /* are in memory */
    off64_t at;
    bool ring_able;
    bool block;
    bool on_ring;      /* what stands in the way is a full ring */
    uint64_t deadline; /* SO_SNDTIMEO; 0 = not yet worked out */
    struct signal_mark mark; /* handlers run before the call began */
};

/* ---- may it be the ring? ----------------------------------------------------------- */

static bool kernel_events(int fd, short events, short *got)
{
    struct pollfd look = {.fd = fd, .events = events};
    const struct timespec zero = {0};
    long n = ivc_sys(SYS_ppoll, &look, 1, &zero, NULL, 0);
    *got = look.revents;
    return n > 0;
}

/* tx lock held. A peer that is dead or has shut down only says so in the kernel, and only bytes
 * given to the kernel make it answer. That bytes went there past us, its counts tell. Whoever has
 * read on since the last look was alive then: it is asked less often. */
static bool whole(struct sock *s, struct tx_flow *f, uint64_t now)
{
    struct stream *st = s->stream;
    if (now - st->whole_looked < STREAM_WHOLE_NS)
        return true;
    st->whole_looked = now;
    (void)ivc_tx_free(&f->ring);
    bool reads = f->ring.head != st->whole_head;
    st->whole_head = f->ring.head;
    if (reads && now - st->whole_asked < STREAM_WHOLE_MOST_NS)
        return true;
    st->whole_asked = now;
    if (!stream_whole(s))
        st->kernel_only = true;
    return !st->kernel_only;
}

/* What of the ring is not for this connection: whoever made its buffer small wants to wait soon. */
static uint64_t spare(struct sock *s, const struct tx_flow *f)
{
    uint64_t most = atomic_load_explicit(&s->stream->most, memory_order_relaxed);
    return most && most < f->ring.size ? f->ring.size - most : 0;
}

static uint64_t quarter(struct sock *s, const struct tx_flow *f)
{
    return (f->ring.size - spare(s, f)) / 4;
}

/* There is room for as much as is worth waiting for. */
static bool roomy(struct sock *s, struct tx_flow *f)
{
    return ivc_tx_free(&f->ring) >= (int64_t)(spare(s, f) + quarter(s, f));
}

/* Since when is a full ring not read, nor the kernel's bytes before its records? */
static void note_unread(struct stream *st, const struct tx_flow *f, uint64_t now)
{
    uint64_t kernel = ivc_tx_peer_kernel(&f->ring);
    if (st->full_since && st->full_head == f->ring.head && st->full_kernel == kernel)
        return;
    st->full_since = now;
    st->full_head = f->ring.head;
    st->full_kernel = kernel;
}

/* Once there is room, that is news. */
static void filled(struct sock *s)
{
    atomic_fetch_add(&s->stream->fulls, 1);
    reg_stir(s);
}

/* tx lock held: the flow to send on now, with room for something; NULL: the kernel, or
 * (*full) neither. */
static struct tx_flow *ring_now(struct sock *s, bool *full)
{
    struct stream *st = s->stream;
    struct tx_flow *f = stream_tx(s);
    *full = false;
    if (!f || atomic_load_explicit(&f->state, memory_order_relaxed) != TX_RUN ||
        (st->kernel_only && !f->relay) || s->wr_shutdown)
        return NULL;
    if (f->lost || ivc_tx_peer_state(&f->ring) != IVC_REGION_OPEN) {
        flow_end_tx(s, s->dests, f, IVC_REASON_PEER_GONE);
        return NULL;
    }
    uint64_t now = ivc_now();
    if (st->kernel_only || f->leaving || !whole(s, f, now)) {
        *full = f->relay; /* the kernel's turn comes when it has let go */
        if (f->relay)
            relayed_ask(f, IVC_REASON_PEER_GONE);
        return NULL;
    }
    /* The receiver's line is touched only where the head seen last is not enough. */
    int64_t room = (int64_t)(f->ring.size - (f->ring.tail - f->ring.head));
    int64_t enough = (int64_t)(spare(s, f) + quarter(s, f));
    if (room < enough || f->ring.poisoned)
        room = ivc_tx_free(&f->ring);
    if (room < 0) {
        flow_drop_tx(s->dests, f, IVC_REASON_POISONED);
        return NULL;
    }
    if (room >= enough)
        st->full = st->bypass = false, st->full_since = 0;
    if (st->bypass)
        return NULL;
    if (!st->full && room > (int64_t)(spare(s, f) + sizeof(struct ivc_record)))
        return f;
    if (!st->full)
        filled(s);
    st->full = true;
    note_unread(st, f, now);
    if (now - st->full_since >= STREAM_STUCK_NS && !f->relay) {
        st->bypass = true;
        return NULL;
    }
    *full = true;
    return NULL;
}

/* ---- the two roads ------------------------------------------------------------------- */

#define PIECES 16
#define RECORD_SHARE 8u /* a record is at most one part in so many of a ring */

/* The next `most` bytes of the call as a vector of its own. Returns their number. */
static size_t slice(const struct outgoing *o, size_t most, struct iovec *out, size_t *count)
{
    size_t skip = o->done, n = 0;
    *count = 0;
    for (size_t i = 0; i < o->msg->msg_iovlen && n < most && *count < PIECES; i++) {
        struct iovec v = o->msg->msg_iov[i];
        if (skip >= v.iov_len) {
            skip -= v.iov_len;
            continue;
        }
        v.iov_base = (uint8_t *)v.iov_base + skip;
        v.iov_len -= skip;
        skip = 0;
        if (v.iov_len > most - n)
            v.iov_len = most - n;
        out[(*count)++] = v;
        n += v.iov_len;
    }
    return n;
}

static ssize_t kernel_write(struct sock *s, const struct msghdr *msg, int flags)
{
    int saved = errno;
    ssize_t n = real(sendmsg)(s->fd, msg, flags | MSG_DONTWAIT);
    if (n < 0) {
        n = -errno;
        errno = saved;
        return n;
    }
    s->stream->ktx += (uint64_t)n;
    struct tx_flow *f = stream_tx(s);
    if (f && f->ring.own)
        ivc_tx_set_kernel(&f->ring, s->stream->ktx);
    return n;
}

/* The records of our own memory that are left, in the order they were written. */
bool stream_give_back(struct sock *s, struct tx_flow *f)
{
    struct stream *st = s->stream;
    if (!st->giving) {
        int known = f->relay ? ivc_tx_passed_at(&f->ring, &st->give_at, &st->give_offset)
                             : ivc_tx_frozen_at(&f->ring, &st->give_at, &st->give_offset);
        if (known != 1 && f->relay)
            relayed_break(s);
        if (known != 1)
            return true;
        st->giving = true;
    }
    while (st->give_at < f->ring.published) {
        uint32_t length;
        struct iovec iov[2];
        memcpy(&length, f->ring.data + (st->give_at & (f->ring.size - 1)), sizeof(length));
        if (length > ivc_ring_max_payload(f->ident.order) || st->give_offset > length)
            break; /* the head was no record's */
        struct msghdr msg = {.msg_iov = iov};
        msg.msg_iovlen =
            ivc_tx_piece(&f->ring, st->give_at + sizeof(struct ivc_record) + st->give_offset,
                         length - st->give_offset, iov);
        ssize_t n = length == st->give_offset ? 0 : kernel_write(s, &msg, MSG_NOSIGNAL);
        if (n == -EAGAIN)
            return false;
        if (n < 0)
            break; /* the connection's end is the kernel's to tell */
        st->give_offset += (uint64_t)n;
        if (st->give_offset < length)
            continue;
        st->give_offset = 0;
        st->give_at += ivc_record_bytes(length);
    }
    st->giving = false;
    return true;
}

/* tx lock held */
static void give_rest(struct sock *s)
{
    struct tx_flow *f = stream_tx(s);
    if (f && f->ring.own && (f->lost || ivc_tx_peer_state(&f->ring) == IVC_REGION_FROZEN))
        flow_end_tx(s, s->dests, f, IVC_REASON_PEER_GONE);
}

/* tx lock held. May the kernel have bytes now? No: *relayed, if it is a relay that must let go. */
static bool settled(struct sock *s, bool *relayed)
{
    give_rest(s);
    struct tx_flow *f = stream_tx(s);
    *relayed = f && relayed_runs(f);
    if (*relayed)
        relayed_ask(f, IVC_REASON_PEER_GONE);
    return !*relayed && !s->stream->giving;
}

void stream_settle(struct sock *s)
{
    if (!ivc_lock(&s->tx_lock)) /* else: behind what a send has begun to put on the ring */
        return;
    give_rest(s);
    struct tx_flow *f = stream_tx(s);
    if (s->wr_shutdown && f && relayed_runs(f))
        relayed_finish(f, IVC_REASON_PEER_GONE);
    give_rest(s);
    ivc_unlock(&s->tx_lock);
}

static uint16_t stamp_for(const struct tx_flow *f)
{
    if (!ivc_host->one_clock || !ivc_tx_peer_sleeps(&f->ring))
        return 0;
    uint16_t stamp = (uint16_t)(ivc_now() >> 10);
    return stamp ? stamp : 1;
}

/* A record with the next `most` bytes of a file, read into its place. Returns its length. Not to
 * wait for a disk with the lock held, only what is in memory. */
static size_t put_file(const struct outgoing *o, struct tx_flow *f, size_t most,
                       const struct ivc_record *record)
{
    struct iovec place[2];
    size_t pieces;
    if (most > o->total - o->done)
        most = o->total - o->done;
    if (ivc_tx_place(&f->ring, most, place, &pieces) != 0)
        return 0;
    long n = ivc_sys(SYS_preadv2, o->in, place, pieces, o->at + (off64_t)o->done, 0, RWF_NOWAIT);
    return n > 0 && ivc_tx_write_placed(&f->ring, record, (size_t)n) == 0 ? (size_t)n : 0;
}

static size_t put_bytes(const struct outgoing *o, struct tx_flow *f, size_t most,
                        const struct ivc_record *record)
{
    struct iovec iov[PIECES];
    size_t pieces;
    size_t n = slice(o, most, iov, &pieces);
    return ivc_tx_write(&f->ring, record, iov, pieces, n) == 0 ? n : 0;
}

/* What the kernel holds back (TCP_CORK, MSG_MORE, Nagle) every record would wait for. Setting
 * TCP_NODELAY sends what is queued even if corked. */
static void push_kernel(struct sock *s)
{
    const int on = 1, off = 0;
    int held = 0, set = 1;
    socklen_t size = sizeof(set);
    s->stream->pushed = s->stream->ktx;
    if (ivc_sys(SYS_ioctl, s->fd, SIOCOUTQNSD, &held) != 0 || held == 0)
        return;
    (void)ivc_sys(SYS_getsockopt, s->fd, IPPROTO_TCP, TCP_NODELAY, &set, &size);
    (void)ivc_sys(SYS_setsockopt, s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!set)
        (void)ivc_sys(SYS_setsockopt, s->fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof(off));
}

static bool by_ring(struct outgoing *o, struct tx_flow *f)
{
    if (o->s->stream->pushed != o->s->stream->ktx)
        push_kernel(o->s);
    size_t size = (size_t)(f->ring.size - spare(o->s, f)), most = size / RECORD_SHARE;
    size_t room = size - (size_t)(f->ring.tail - f->ring.head) - sizeof(struct ivc_record);
    if (most > room)
        most = room;
    struct ivc_record record = {
        .kind = IVC_RECORD_STREAM,
        .stamp = stamp_for(f),
        .src_ip = f->ring.own->src_ip,
        .src_port = f->ring.own->src_port,
        .dst_ip = f->ring.own->dst_ip,
        .dst_port = f->ring.own->dst_port,
        .kseq = (uint32_t)o->s->stream->ktx,
    };
    uint64_t at = f->ring.tail, before = o->s->stream->position;
    size_t n = o->file ? put_file(o, f, most, &record) : put_bytes(o, f, most, &record);
    if (n == 0)
        return false;
    trace_sent(f, at, (uint32_t)before);
    if (ivc_tx_publish(&f->ring))
        ivc_bell_ring(&f->end.bell);
    o->done += n;
    o->s->stream->position = before + n;
    o->s->stream->ringed = true;
    count(&o->s->stats->tx_ring_msgs, 1);
    count(&o->s->stats->tx_ring_bytes, n);
    return true;
}

/* Never blocks: the lock is held. */
static ssize_t by_kernel(struct outgoing *o)
{
    struct iovec iov[PIECES];
    struct msghdr msg = *o->msg;
    size_t pieces;
    if (o->done || o->msg->msg_iovlen > PIECES) {
        (void)slice(o, SIZE_MAX, iov, &pieces);
        msg.msg_iov = iov;
        msg.msg_iovlen = pieces;
    }
    uint64_t when = trace_now();
    ssize_t n = kernel_write(o->s, &msg, o->flags);
    if (n < 0)
        return n;
    if (when)
        trace_network(o->s, o->s->dests, o->s->peer, &msg, (size_t)n, when,
                      (uint32_t)o->s->stream->position);
    o->s->stream->position += (uint64_t)n;
    o->done += (size_t)n;
    count(&o->s->stats->tx_net_msgs, 1);
    count(&o->s->stats->tx_net_bytes, (uint64_t)n);
    return n;
}

/* As much as goes without waiting; tx lock held. 0 = all; -EAGAIN; -errno. */
static ssize_t attempt(struct outgoing *o)
{
    while (o->done < o->total) {
        bool full = false;
        struct tx_flow *f = o->ring_able ? ring_now(o->s, &full) : NULL;
        o->on_ring = full;
        if (full)
            return -EAGAIN;
        if (f && by_ring(o, f))
            continue;
        if (o->file) {
            o->total = o->done; /* for the rest there are other ways */
            break;
        }
        if (!o->s->wr_shutdown && !settled(o->s, &o->on_ring))
            return -EAGAIN; /* first what a frozen receiver has left */
        ssize_t n = by_kernel(o);
        if (n < 0)
            return n;
    }
    return 0;
}

/* ---- waiting ----------------------------------------------------------------------------- */

static bool room_hint(struct sock *s)
{
    bool room = true;
    if (!ivc_trylock(&s->tx_lock))
        return false;
    struct tx_flow *f = stream_tx(s);
    if (f && f->leaving)
        room = !relayed_runs(f);
    else if (f && f->ring.own && !s->stream->bypass)
        room = roomy(s, f);
    ivc_unlock(&s->tx_lock);
    return room;
}

/* True once for a ring that was full and is not any more. */
bool stream_made_room(struct sock *s)
{
    if (!stream_on_ring(s) || !ivc_trylock(&s->tx_lock))
        return false;
    struct tx_flow *f = stream_tx(s);
    bool made = f && s->stream->full && roomy(s, f);
    if (made)
        s->stream->full = false, s->stream->full_since = 0;
    ivc_unlock(&s->tx_lock);
    return made;
}

/* Has a handler run that ends this send? With a time limit any does. */
static bool interrupted(const struct outgoing *o)
{
    return o->s->sndtimeo ? signals_since(o->mark) : signals_ended_since(o->mark);
}

static bool spin_for_room(const struct outgoing *o)
{
    uint64_t now = ivc_now(), end = now + wait_spin_budget();
    for (; now < end && !interrupted(o); now = ivc_now()) {
        if (room_hint(o->s))
            return true;
        ivc_pause();
    }
    return false;
}

/* Sleep until it is worth another try. 0, or -errno. */
static int wait_out(struct outgoing *o)
{
    struct sock *s = o->s;
    uint64_t now = ivc_now(), limit = UINT64_MAX;
    struct timespec ts;
    if (o->on_ring && spin_for_room(o))
        return 0;
    if (s->sndtimeo) {
        if (!o->deadline)
            o->deadline = now + s->sndtimeo;
        if (now >= o->deadline)
            return -EAGAIN;
        limit = o->deadline - now;
    }
    if (o->on_ring && limit > STREAM_NAP_NS)
        limit = STREAM_NAP_NS;
    if (o->on_ring) {
        if (ivc_bell_consume(&s->bell)) {
            reg_stir(s);
            if (recv_unread(s))
                wait_pass_on(s); /* it was the reader's */
        }
        if (!stream_arm_out(s, &limit))
            return 0;
    }
    struct pollfd fds[3] = {
        {.fd = o->fd, .events = (short)(o->on_ring ? POLLRDHUP : POLLOUT)},
        {.fd = o->on_ring ? s->bell.fd : -1, .events = POLLIN},
        {.fd = control_mail_fd(), .events = POLLIN},
    };
    ts = (struct timespec){.tv_sec = (time_t)(limit / IVC_NS_PER_S),
                           .tv_nsec = (long)(limit % IVC_NS_PER_S)};
    atomic_fetch_add(&s->bell_waits, 1);
    struct signal_hold hold;
    int saved = errno, n = 0, error = 0;
    const sigset_t *mask = signals_hold(&hold, NULL);
    if (interrupted(o))
        error = EINTR;
    else if ((n = real(ppoll)(fds, 3, limit == UINT64_MAX ? NULL : &ts, mask)) < 0)
        error = errno;
    signals_release(&hold);
    errno = saved;
    atomic_fetch_sub(&s->bell_waits, 1);
    if (n > 0 && fds[2].revents)
        control_read();
    if (error == EINTR)
        return s->sndtimeo || !signals_restart(o->mark) ? -EINTR : 0;
    return -error;
}

/*
 * `eager`: the first bytes wait for the flow, if somebody is about to make it. Each time in vain
 * the next connection has half the patience: where both ends have many, each may be waiting at one
 * for what the other does only after its wait at another.
 */
static void wait_for_flow(struct sock *s)
{
    static _Atomic uint64_t patience = STREAM_EAGER_NS;
    struct stream *st = s->stream;
    if (!st->eager || st->waited || !atomic_load(&st->wanted))
        return;
    st->waited = true;
    uint64_t most = atomic_load(&patience), end = ivc_now() + most;
    for (uint64_t now = ivc_now(); now < end; now = ivc_now()) {
        bool pending = false;
        control_read();
        if (stream_on_ring(s))
            atomic_store(&patience, STREAM_EAGER_NS);
        if (stream_on_ring(s) || !ivc_lock(&s->tx_lock))
            return;
        uint32_t reason = s->dests ? s->dests->reason : IVC_REASON_PENDING;
        pending = reason == IVC_REASON_PENDING || reason == IVC_REASON_NO_RECEIVER;
        ivc_unlock(&s->tx_lock);
        if (!pending || s->unusable)
            return;
        struct pollfd mail = {.fd = control_mail_fd(), .events = POLLIN};
        struct timespec ts = {.tv_nsec = (long)(end - now)};
        if (ivc_sys(SYS_ppoll, &mail, 1, &ts, NULL, 0) < 0)
            return;
    }
    if (most / 2 >= STREAM_EAGER_LEAST_NS)
        atomic_store(&patience, most / 2);
}

/* ---- sendmsg -------------------------------------------------------------------------------- */

static ssize_t native(struct outgoing *o)
{
    if (o->file)
        return 0;
    int saved = errno;
    ssize_t n = real(sendmsg)(o->fd, o->msg, o->flags);
    if (n < 0) {
        n = -errno;
        errno = saved;
    }
    return n;
}

static void sync_out(struct sock *s)
{
    if (s->regs)
        reg_sync_out(s);
}

static ssize_t send_all(struct outgoing *o)
{
    struct sock *s = o->s;
    const int fd = o->fd;
    const uint32_t id = s->id;
    o->mark = signals_mark();
    o->block = !(o->flags & MSG_DONTWAIT) && !s->nonblock;
    control_poll_unslept();
    stream_call(s);
    wait_for_flow(s);
    for (bool waited = false;; waited = true) {
        if (!ivc_lock(&s->tx_lock))
            return o->done ? (ssize_t)o->done : -EAGAIN; /* a handler inside our own send */
        if (!sock_is(s, fd) || s->id != id) {
            ivc_unlock(&s->tx_lock);
            return o->done ? (ssize_t)o->done : waited ? -EBADF : native(o);
        }
        if (o->flags & MSG_OOB)
            s->stream->kernel_only = true; /* the receiver does not count that byte */
        bool before = stream_on_ring(s);
        ssize_t n = attempt(o);
        stream_update(s);
        bool changed = before != stream_on_ring(s);
        if (n == -EAGAIN && !o->block)
            filled(s); /* the kernel's buffer it may be, too */
        ivc_unlock(&s->tx_lock);
        if (changed)
            sync_out(s);
        stream_part(s);
        if (n == 0 || (o->done && n != -EAGAIN))
            return (ssize_t)o->done;
        if (n != -EAGAIN || !o->block)
            return o->done ? (ssize_t)o->done : n;
        int error = wait_out(o);
        if (error)
            return o->done ? (ssize_t)o->done : error;
    }
}

ssize_t stream_send(struct sock *s, int fd, const struct msghdr *msg, int flags)
{
    struct outgoing o = {.s = s, .fd = fd, .msg = msg, .flags = flags};
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        o.total += msg->msg_iov[i].iov_len;
    if (o.total == 0)
        return native(&o);
    o.ring_able = (flags & ~RING_FLAGS) == 0 && msg->msg_controllen == 0;
    return send_all(&o);
}

ssize_t stream_send_file(struct sock *s, int fd, int in, off64_t at, size_t size, bool *stopped)
{
    struct outgoing o = {.s = s, .fd = fd, .file = true, .in = in, .at = at, .total = size};
    o.ring_able = true;
    ssize_t n = send_all(&o);
    *stopped = o.done < o.total;
    return n;
}

/* The kernel takes the bytes from a file and counts them; it may block, so not under the lock: then
 * nobody may say where the next record stands. The kernel from now on. True: nothing that a frozen
 * receiver has left is to go ahead. */
static bool leave_to_kernel(struct sock *s)
{
    if (!ivc_lock(&s->tx_lock))
        return true;
    s->stream->kernel_only = true;
    bool relayed, clear = settled(s, &relayed);
    stream_update(s);
    ivc_unlock(&s->tx_lock);
    sync_out(s);
    return clear;
}

ssize_t stream_send_by(struct sock *s, ssize_t (*call)(void *), void *arg)
{
    while (!leave_to_kernel(s)) {
        struct pollfd room = {.fd = s->fd, .events = POLLOUT};
        const struct timespec nap = {.tv_nsec = STREAM_NAP_NS}; /* it may be a relay that is late */
        (void)ivc_sys(SYS_nanosleep, &nap, NULL);
        long n = s->nonblock ? -EAGAIN : ivc_sys(SYS_ppoll, &room, 1, NULL, NULL, 0);
        if (n < 0) {
            errno = (int)-n;
            return -1;
        }
    }
    ssize_t n = call(arg);
    filled(s); /* it may not have taken all */
    return n;
}

/* ---- readiness -------------------------------------------------------------------------------- */

bool stream_writable(struct sock *s)
{
    bool full = false;
    short got = 0;
    if (!ivc_lock(&s->tx_lock))
        return true;
    struct tx_flow *f = sock_matched(s) ? ring_now(s, &full) : NULL;
    bool room = f && roomy(s, f);
    if (f && !room) { /* whoever is told to wait must also find out that nobody reads */
        s->stream->full = true;
        filled(s);
        f = ring_now(s, &full);
    }
    stream_update(s);
    ivc_unlock(&s->tx_lock);
    if (f || full)
        return room;
    return kernel_events(s->fd, POLLOUT, &got) && (got & (POLLOUT | POLLERR | POLLHUP));
}

bool stream_arm_out(struct sock *s, uint64_t *limit)
{
    bool quiet = false;
    if (!ivc_lock(&s->tx_lock))
        return true;
    struct tx_flow *f = stream_tx(s);
    struct stream *st = s->stream;
    if (f && stream_on_ring(s)) {
        /* Half of it, not a quarter: who is woken takes the processor of a reader that is slow. */
        quiet = f->leaving ? relayed_runs(f)
                           : !ivc_tx_arm(&f->ring, spare(s, f) + 2 * quarter(s, f));
        /* Who waits for room finds out here that nobody makes any. */
        if (st->full_since == 0)
            note_unread(st, f, ivc_now());
        if (*limit > STREAM_STUCK_NS)
            *limit = STREAM_STUCK_NS;
    }
    ivc_unlock(&s->tx_lock);
    return quiet;
}

int stream_unread(struct sock *s)
{
    uint64_t bytes = 0;
    if (!ivc_lock(&s->tx_lock))
        return 0;
    struct tx_flow *f = stream_tx(s);
    if (f && f->ring.own && f->end.peer && ivc_tx_free(&f->ring) >= 0) {
        for (uint64_t at = f->ring.head; at < f->ring.published;) {
            uint32_t length;
            memcpy(&length, f->ring.data + (at & (f->ring.size - 1)), sizeof(length));
            bytes += length;
            at += ivc_record_bytes(length);
        }
    }
    ivc_unlock(&s->tx_lock);
    return (int)bytes;
}
