/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving from a TCP connection: ring and kernel merged into one stream. */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "control.h"
#include "epoll.h"
#include "flow.h"
#include "real.h"
#include "recv.h"
#include "stream.h"
#include "stream_relayed.h"
#include "trace.h"
#include "wait.h"

/* ---- where bytes go -------------------------------------------------------------- */

struct cursor {
    const struct iovec *iov;
    size_t count, index, offset;
    size_t left, got;
    bool discard; /* MSG_TRUNC: count, do not copy */
    bool end;     /* nothing more will come, or an error is next */
};

static struct cursor cursor_of(const struct iovec *iov, size_t count)
{
    struct cursor c = {.iov = iov, .count = count};
    for (size_t i = 0; i < count; i++)
        c.left += iov[i].iov_len;
    return c;
}

/* The next piece in one go, at most `most` bytes; there is one while left > 0. */
static struct iovec span(struct cursor *c, size_t most)
{
    while (c->iov[c->index].iov_len == c->offset) {
        c->index++;
        c->offset = 0;
    }
    size_t n = c->iov[c->index].iov_len - c->offset;
    return (struct iovec){(uint8_t *)c->iov[c->index].iov_base + c->offset, n < most ? n : most};
}

static void advance(struct cursor *c, size_t n)
{
    c->offset += n;
    c->left -= n;
    c->got += n;
}

/* ---- the ring --------------------------------------------------------------------- */

/* The ring to read from: the oldest, without those that are finished. */
static struct rx_flow *current(struct sock *s)
{
    for (;;) {
        struct rx_flow *oldest = NULL;
        for (struct rx_flow *f = s->rx_flows; f; f = f->next)
            if (f->attached)
                oldest = f;
        if (oldest && s->stream->family && !stream_catch_up(s->stream, oldest)) {
            flow_forget_rx(s, oldest, IVC_REASON_HANDED_ON);
            continue;
        }
        if (!oldest || s->stream->offset || ivc_rx_ready(&oldest->ring))
            return oldest;
        bool left = oldest->closing || ivc_rx_peer_state(&oldest->ring) == IVC_REGION_CLOSED;
        /* State first, then the tail once more. */
        if (!left || ivc_rx_ready(&oldest->ring))
            return oldest;
        flow_drop_rx(s, oldest, IVC_REASON_PEER_GONE);
    }
}

/* How far the record at the head is ahead of what we took from the kernel. 0: it is next. Less:
 * something at the other end has sent past its wrapper. */
static int32_t ahead(const struct stream *st, const struct ivc_record *r)
{
    return (int32_t)(r->kseq - (uint32_t)st->krx);
}

static void take_record(struct sock *s, struct rx_flow *f, const struct ivc_record *r,
                        struct cursor *c)
{
    struct stream *st = s->stream;
    while (c->left && st->offset < r->length) {
        struct iovec piece = span(c, r->length - st->offset);
        if (!c->discard)
            (void)ivc_rx_copy_from(&f->ring, r, st->offset, &piece, 1);
        st->offset += (uint32_t)piece.iov_len;
        advance(c, piece.iov_len);
        count(&s->stats->rx_ring_bytes, piece.iov_len);
    }
    if (st->offset == r->length) {
        if (r->stamp)
            wait_learn_wake_cost(r->stamp);
        st->offset = 0;
        trace_taken(f, r);
        ivc_rx_consume(&f->ring, r);
        count(&s->stats->rx_ring_msgs, 1);
    }
    if (__builtin_expect(st->family != NULL, 0))
        stream_store_family(st, f);
}

/* Its sender may wait for room: looked at each eighth of the ring. */
static void release_room(struct sock *s, struct rx_flow *f)
{
    struct stream *st = s->stream;
    if (f->ring.head - st->released < f->ring.size / 8)
        return;
    uint64_t before = st->released;
    st->released = f->ring.head;
    if (!ivc_rx_sender_waits(&f->ring, before) || !ivc_lock(&s->tx_lock))
        return;
    struct tx_flow *back = stream_tx(s);
    if (back && back->end.peer)
        ivc_bell_ring(&back->end.bell);
    ivc_unlock(&s->tx_lock);
}

/* ---- the kernel ---------------------------------------------------------------------- */

static ssize_t kernel_read(struct sock *s, int fd, struct cursor *c, size_t most)
{
    struct iovec piece = span(c, most < c->left ? most : c->left);
    int saved = errno;
    ssize_t n = real(recv)(fd, piece.iov_base, piece.iov_len,
                           MSG_DONTWAIT | (c->discard ? MSG_TRUNC : 0));
    if (n < 0) {
        n = -errno;
        errno = saved;
        return n == -EINTR ? -EAGAIN : n;
    }
    stream_count_in(s->stream, s->stream->krx + (uint64_t)n);
    advance(c, (size_t)n);
    if (n > 0) {
        count(&s->stats->rx_net_msgs, 1);
        count(&s->stats->rx_net_bytes, (uint64_t)n);
    }
    return n;
}

/* Bytes the kernel has; 0 = none, and it has come to the end or to an error; -EAGAIN = none now.
 * An error stays where it is: until a receive has nothing else to tell, it is also for a send, for
 * SO_ERROR and for poll. */
static ssize_t kernel_queued(struct sock *s, int fd, bool *ended)
{
    struct pollfd look = {.fd = fd, .events = POLLIN | POLLRDHUP};
    const struct timespec zero = {0};
    int queued = 0, saved = errno;
    bool any = ivc_sys(SYS_ppoll, &look, 1, &zero, NULL, 0) > 0;
    if (any && real(ioctl)(fd, SIOCINQ, &queued) != 0)
        queued = 0;
    errno = saved;
    s->kernel_looked = ivc_now();
    s->kernel_maybe = any;
    if (!any)
        return -EAGAIN;
    *ended = (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    if (queued == 0 && *ended)
        return 0;
    return queued > 0 ? queued : 1; /* before an urgent byte nothing is counted */
}

/* ---- both ------------------------------------------------------------------------------ */

/* The peer has broken the rules: nothing that follows can be trusted. */
static ssize_t poison(struct sock *s, struct rx_flow *f)
{
    flow_drop_rx(s, f, IVC_REASON_POISONED);
    s->stream->offset = 0;
    (void)real(shutdown)(s->fd, SHUT_RDWR);
    return -ECONNRESET;
}

/* An end found while bytes were taken already is for the next call; EOF comes again. */
static ssize_t ended(struct stream *st, struct cursor *c, ssize_t n)
{
    c->end = true;
    if (c->got == 0)
        return n;
    if (n < 0)
        st->error = (int)-n;
    return (ssize_t)c->got;
}

/* When the kernel is asked for more than a record waits for: a call that will sleep finds out by
 * that. */
enum asking { ASK_DUE, ASK_NOW, ASK_ASLEEP };

/* May it be left at what is there without a look at the kernel? Whoever gets bytes from the ring
 * may, if their sender says that the kernel has had no more: an end comes by an event of its own. */
static bool fresh(const struct sock *s, enum asking asking, const struct rx_flow *ringed)
{
    if (asking == ASK_NOW || s->kernel_maybe)
        return false;
    if (ringed)
        return (uint32_t)ivc_rx_peer_kernel(&ringed->ring) == (uint32_t)s->stream->krx;
    return asking == ASK_ASLEEP || ivc_now() - s->kernel_looked < KERNEL_LOOK_NS;
}

/* Nobody may come back for long: the sender shall know exactly what has been read. */
static void leave_ring(struct sock *s)
{
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    if (f)
        ivc_rx_publish(&f->ring);
    if (f && s->stream->family)
        stream_store_family(s->stream, f);
}

/* As much as there is and fits. Bytes; 0 = end; -EAGAIN; -errno. */
static ssize_t take(struct sock *s, int fd, struct cursor *c, enum asking asking)
{
    struct stream *st = s->stream;
    struct rx_flow *ringed = NULL; /* by which the last bytes came */
    ssize_t n;
    while (c->left) {
        struct rx_flow *f = s->rx_flows ? current(s) : NULL;
        struct ivc_record r;
        int head = f ? ivc_rx_peek(&f->ring, &r) : 0;
        if (head < 0 || (head > 0 && r.length == 0))
            return ended(st, c, poison(s, f));
        if (head > 0 && ahead(st, &r) <= 0) {
            if (ahead(st, &r) < 0)
                st->foreign = true; /* its sender does not know of bytes we have read already */
            take_record(s, f, &r, c);
            release_room(s, f);
            ringed = f;
            continue;
        }
        if (head > 0) {
            n = kernel_read(s, fd, c, (size_t)ahead(st, &r));
            if (n == -EAGAIN && stream_foreign_in(s))
                continue; /* others have read what this record waits for */
        } else if (st->error) {
            n = -st->error;
            if (c->got == 0)
                st->error = 0;
        } else if (!f && c->got == 0) {
            n = kernel_read(s, fd, c, SIZE_MAX);
        } else if (fresh(s, asking, ringed == f ? f : NULL)) {
            break;
        } else {
            n = kernel_queued(s, fd, &(bool){false});
            /* What the kernel had was written after every record before it was published. */
            if (f && ivc_rx_ready(&f->ring))
                continue;
            if (n > 0)
                n = kernel_read(s, fd, c, (size_t)n);
            else if (n == 0 && relayed_holds_end(s, f))
                n = -EAGAIN;
            else if (n == 0 && c->got == 0)
                n = kernel_read(s, fd, c, c->left); /* the end, or the error */
        }
        if (n == -EAGAIN)
            break;
        if (n <= 0)
            return ended(st, c, n);
        ringed = NULL;
        if (f)
            ivc_rx_set_kernel(&f->ring, st->krx);
    }
    return c->got ? (ssize_t)c->got : -EAGAIN;
}

/* ---- peeking --------------------------------------------------------------------------- */

/* A way through what is unread that leaves it there, for whoever reads next, here or elsewhere: of
 * a ring's state and of the kernel's bytes it has copies. */
struct view {
    struct rx_flow *f;  /* the ring it has come to */
    struct ivc_rx ring; /* where it is in it */
    uint32_t offset;    /* bytes seen of the record there */
    uint64_t krx;       /* place in what came by the kernel */
    bool asked;         /* the kernel; before the ring is looked at again, as in take() */
    bool ended;         /* and it has nothing behind these: */
    const uint8_t *kernel;
    size_t left;
};

static struct ivc_rx copy_of(const struct ivc_rx *ring)
{
    struct ivc_rx copy = *ring;
    copy.published = copy.head; /* it must not publish */
    return copy;
}

/* A copy goes on behind the record just peeked. */
static void step_over(struct ivc_rx *copy, const struct ivc_record *r)
{
    copy->head += ivc_record_bytes(r->length);
    copy->published = copy->head;
    copy->seq++;
}

static struct rx_flow *newer_than(const struct sock *s, const struct rx_flow *old)
{
    struct rx_flow *found = NULL;
    for (struct rx_flow *f = s->rx_flows; f && f != old; f = f->next)
        if (f->attached)
            found = f;
    return found;
}

/* The record the view has come to, as ivc_rx_peek(). */
static int view_record(const struct sock *s, struct view *v, struct ivc_record *r)
{
    for (;;) {
        if (v->ring.head - v->f->ring.head >= v->ring.size)
            return 0; /* all a ring can hold, whatever its sender says */
        int head = ivc_rx_peek(&v->ring, r);
        if (head)
            return head;
        bool left = v->f->closing || ivc_rx_peer_state(&v->ring) == IVC_REGION_CLOSED;
        struct rx_flow *next = left ? newer_than(s, v->f) : NULL;
        if (!next)
            return 0;
        if (ivc_rx_ready(&v->ring))
            continue; /* state first, then the tail once more */
        v->f = next;
        v->ring = copy_of(&next->ring);
    }
}

static void show_record(struct view *v, const struct ivc_record *r, struct cursor *c)
{
    while (c->left && v->offset < r->length) {
        struct iovec piece = span(c, r->length - v->offset);
        if (!c->discard)
            (void)ivc_rx_copy_from(&v->ring, r, v->offset, &piece, 1);
        v->offset += (uint32_t)piece.iov_len;
        advance(c, piece.iov_len);
    }
    if (v->offset == r->length) {
        step_over(&v->ring, r);
        v->offset = 0;
    }
}

/* At most `most` of the kernel's bytes. False: there are none. */
static bool show_kernel(struct view *v, struct cursor *c, size_t most)
{
    if (most > v->left)
        most = v->left;
    for (size_t n = most; c->left && n;) {
        struct iovec piece = span(c, n);
        if (!c->discard)
            memcpy(piece.iov_base, v->kernel, piece.iov_len);
        advance(c, piece.iov_len);
        v->kernel += piece.iov_len;
        v->left -= piece.iov_len;
        v->krx += piece.iov_len;
        n -= piece.iov_len;
    }
    return most > 0;
}

#define PEEK_STEP ((size_t)64 * 1024)
#define PEEK_MOST ((size_t)16 * 1024 * 1024)

static bool make_peek_room(struct stream *st, size_t size)
{
    size = (size + PEEK_STEP - 1) & ~(PEEK_STEP - 1);
    if (size <= st->peek_size)
        return true;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    if (st->peek_room)
        munmap(st->peek_room, st->peek_size);
    st->peek_room = map;
    st->peek_size = size;
    return true;
}

/* What was shown is copied. One step stays, or many small peeks would each make it anew. */
static void give_peek_room_back(struct stream *st)
{
    if (st->peek_size <= PEEK_STEP)
        return;
    munmap(st->peek_room, st->peek_size);
    st->peek_room = NULL;
    st->peek_size = 0;
}

static void ask_kernel(struct sock *s, int fd, struct view *v, size_t most)
{
    struct stream *st = s->stream;
    ssize_t queued = kernel_queued(s, fd, &v->ended);
    v->asked = true;
    most = most < PEEK_MOST ? most : PEEK_MOST;
    if (queued <= 0 || !make_peek_room(st, most < (size_t)queued ? most : (size_t)queued))
        return;
    int saved = errno;
    ssize_t n = real(recv)(fd, st->peek_room, most < st->peek_size ? most : st->peek_size,
                           MSG_PEEK | MSG_DONTWAIT);
    errno = saved;
    v->kernel = st->peek_room;
    v->left = n > 0 ? (size_t)n : 0;
}

/* Nothing is on rings: the kernel shows it, and tells of an end or an error. */
static ssize_t kernel_peek(int fd, struct cursor *c)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)c->iov, .msg_iovlen = c->count};
    int saved = errno;
    ssize_t n = real(recvmsg)(fd, &msg, MSG_PEEK | MSG_DONTWAIT | (c->discard ? MSG_TRUNC : 0));
    if (n < 0) {
        n = -errno;
        errno = saved;
        return n == -EINTR ? -EAGAIN : n;
    }
    c->end = n == 0 && c->left > 0;
    advance(c, (size_t)n);
    return n;
}

/* There was nothing to show. */
static ssize_t peek_end(struct stream *st, int fd, struct cursor *c, bool ended)
{
    int error = st->error;
    st->error = 0;
    if (error)
        return -error;
    return ended ? kernel_peek(fd, c) : -EAGAIN;
}

/* Show up to c->left bytes; they stay. */
static ssize_t peek(struct sock *s, int fd, struct cursor *c)
{
    struct stream *st = s->stream;
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    if (!f) {
        bool over = false; /* more will not come; asked first, so that all of it is shown */
        (void)kernel_queued(s, fd, &over);
        ssize_t n = peek_end(st, fd, c, true);
        c->end = c->end || over;
        return n;
    }
    struct view v = {.f = f, .ring = copy_of(&f->ring), .offset = st->offset, .krx = st->krx};
    while (c->left) {
        struct ivc_record r;
        int head = view_record(s, &v, &r);
        int32_t gap = head > 0 ? (int32_t)(r.kseq - (uint32_t)v.krx) : INT32_MAX;
        if (head < 0 || (head > 0 && r.length == 0)) {
            if (c->got == 0)
                return poison(s, v.f);
            break; /* whoever comes to it reports it */
        }
        if (gap <= 0)
            show_record(&v, &r, c);
        else if (!v.asked)
            ask_kernel(s, fd, &v, c->left);
        else if (!show_kernel(&v, c, (size_t)gap))
            break;
    }
    v.ended = v.ended && !relayed_holds_end(s, v.f);
    c->end = v.ended;
    return c->got ? (ssize_t)c->got : peek_end(st, fd, c, v.ended);
}

/* ---- recvmsg ------------------------------------------------------------------------------ */

static bool satisfied(const struct cursor *c, int flags, bool block)
{
    return c->left == 0 || c->end || (c->got > 0 && !((flags & MSG_WAITALL) && block));
}

static ssize_t attempt(struct sock *s, int fd, struct cursor *c, int flags, enum asking asking)
{
    if (!(flags & MSG_PEEK))
        return take(s, fd, c, asking);
    /* What a peek has shown counts once. */
    struct cursor anew = cursor_of(c->iov, c->count);
    anew.discard = c->discard;
    ssize_t n = peek(s, fd, &anew);
    give_peek_room_back(s->stream);
    *c = anew;
    return n;
}

/* rx lock held */
static enum asking when_to_ask(struct sock *s, struct wait *wait, bool block)
{
    if (wait->kernel)
        return ASK_NOW;
    if (wait->empty) {
        s->kernel_looked = wait->empty;
        s->kernel_maybe = false;
        wait->empty = 0;
    }
    return block ? ASK_ASLEEP : ASK_DUE;
}

ssize_t stream_recv(struct sock *s, int fd, struct msghdr *msg, int flags)
{
    struct cursor c = cursor_of(msg->msg_iov, msg->msg_iovlen);
    if ((flags & ~RECV_RING_FLAGS) || c.left == 0)
        return recv_native(fd, msg, flags);
    c.discard = (flags & MSG_TRUNC) != 0;
    bool block = !(flags & MSG_DONTWAIT) && !s->nonblock;
    struct wait wait = {.s = s, .fd = fd, .mark = signals_mark()};
    const uint32_t id = s->id;
    bool waited = false;
    msg->msg_flags = 0;
    msg->msg_controllen = 0;
    msg->msg_namelen = 0;
    stream_heard(s);
    stream_call(s);
    for (;;) {
        control_poll();
        if (!ivc_lock(&s->rx_lock)) /* a handler inside our own receive: not past what it counts */
            return c.got ? (ssize_t)c.got : -EAGAIN;
        if (!sock_is(s, fd) || s->id != id) {
            ivc_unlock(&s->rx_lock);
            return c.got ? (ssize_t)c.got : waited ? -EBADF : recv_native(fd, msg, flags);
        }
        stream_enter_family(s->stream);
        ssize_t n = attempt(s, fd, &c, flags, when_to_ask(s, &wait, block));
        leave_ring(s);
        wait.spin.looked = s->kernel_looked;
        if (s->stream->error)
            reg_stir(s); /* the kernel does not tell of it any more */
        stream_leave_family(s->stream);
        bool pass_on = wait.consumed && s->rx_flows != NULL;
        ivc_unlock(&s->rx_lock);
        stream_part(s);
        if (satisfied(&c, flags, block) || (n < 0 && n != -EAGAIN) || !block) {
            if (pass_on)
                wait_pass_on(s);
            if (!block && !c.got)
                control_poll_unslept();
            return c.got ? (ssize_t)c.got : n;
        }
        if (atomic_load_explicit(&s->rd_shutdown, memory_order_relaxed))
            return c.got ? (ssize_t)c.got : recv_native(fd, msg, flags | MSG_DONTWAIT);
        wait.seen = (flags & MSG_PEEK) && c.got > 0;
        int error = wait_one(&wait);
        if (error)
            return c.got ? (ssize_t)c.got : error;
        waited = true;
    }
}

/* ---- readiness -------------------------------------------------------------------------------- */

/* It has one ring, empty as when last looked at, and nothing else. */
static bool idle(const struct sock *s)
{
    const struct stream *st = s->stream;
    const struct rx_flow *f = s->rx_flows;
    return f && !f->next && f->attached && ivc_rx_idle(&f->ring) && !st->family && !st->error;
}

/* Is there a record to be read next, or a broken rule to be told of? */
static bool ring_readable(struct sock *s)
{
    struct ivc_record r;
    if (!s->rx_flows)
        return false;
    stream_enter_family(s->stream);
    struct rx_flow *f = current(s);
    int head = f ? ivc_rx_peek(&f->ring, &r) : 0;
    stream_leave_family(s->stream);
    return head < 0 || (head > 0 && ahead(s->stream, &r) <= 0);
}

bool stream_readable(struct sock *s, bool kernel)
{
    if (relayed_end_due(s))
        return true;
    if (!kernel && idle(s))
        return false;
    if (kernel)
        s->kernel_maybe = true;
    return s->stream->error || ring_readable(s) || kernel;
}

bool stream_hint(struct sock *s)
{
    return relayed_end_due(s) || (!idle(s) && ring_readable(s));
}

static bool arm_current(struct sock *s)
{
    struct stream *st = s->stream;
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    struct ivc_record r;
    if (st->error || relayed_end_due(s))
        return false;
    if (!f || ivc_rx_arm(&f->ring))
        return true;
    /* A record that waits for the kernel: the kernel's word wakes us. */
    return ivc_rx_peek(&f->ring, &r) == 1 && ahead(st, &r) > 0 && !stream_foreign_in(s);
}

bool stream_arm_in(struct sock *s)
{
    if (idle(s) && !relayed_end_due(s) && ivc_rx_arm(&s->rx_flows->ring))
        return true;
    stream_enter_family(s->stream);
    bool quiet = arm_current(s);
    stream_leave_family(s->stream);
    return quiet;
}

bool stream_rest(struct sock *s)
{
    if (!s->rx_flows)
        return !s->stream->error;
    return s->unusable != IVC_REASON_FORKED && idle(s) && ivc_rx_arm(&s->rx_flows->ring);
}

int stream_held(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return 0;
    struct stream *st = s->stream;
    uint64_t held = 0;
    for (struct rx_flow *f = s->rx_flows; f; f = f->next) {
        struct ivc_record r;
        if (!f->attached || !ivc_rx_ready(&f->ring))
            continue;
        struct ivc_rx look = copy_of(&f->ring);
        /* looks for a newer tail at the end of the one known */
        while (look.head - f->ring.head < look.size && ivc_rx_peek(&look, &r) == 1) {
            held += r.length;
            step_over(&look, &r);
        }
    }
    held -= st->offset < held ? st->offset : 0;
    ivc_unlock(&s->rx_lock);
    return (int)held;
}
