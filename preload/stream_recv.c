/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving from a TCP connection: ring and kernel merged into one stream. */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "control.h"
#include "flow.h"
#include "real.h"
#include "recv.h"
#include "stream.h"
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

/* What another process of the family has read meanwhile. */
static void adopt(struct stream *st, struct rx_flow *f)
{
    const struct family *shared = st->family;
    uint64_t head = atomic_load_explicit(&shared->head, memory_order_acquire);
    if (shared->flow != f->id || head < f->ring.head || head - f->ring.head > f->ring.size)
        return;
    if (head > f->ring.tail) { /* ready() looks at the peer's tail only from the end of ours */
        uint64_t before = f->ring.head;
        f->ring.head = f->ring.tail;
        bool seen = ivc_rx_ready(&f->ring) && !f->ring.poisoned && head <= f->ring.tail;
        f->ring.head = before;
        if (!seen)
            return;
    }
    f->ring.head = head;
    f->ring.seq = shared->seq;
    st->offset = shared->offset;
    st->krx = shared->krx;
}

/* The ring to read from: the oldest, without those that are finished. */
static struct rx_flow *current(struct sock *s)
{
    for (;;) {
        struct rx_flow *oldest = NULL;
        for (struct rx_flow *f = s->rx_flows; f; f = f->next)
            if (f->attached)
                oldest = f;
        if (oldest && s->stream->family)
            adopt(s->stream, oldest);
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
static ssize_t kernel_queued(struct sock *s, int fd)
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
    if (queued == 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)))
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

/* May it be left at what is there without a look at the kernel? Whoever gets bytes from the ring
 * may, if their sender says that the kernel has had no more: an end comes by an event of its own. */
static bool fresh(const struct sock *s, bool look, const struct rx_flow *ringed)
{
    if (look || s->kernel_maybe)
        return false;
    if (ringed)
        return (uint32_t)ivc_rx_peer_kernel(&ringed->ring) == (uint32_t)s->stream->krx;
    return ivc_now() - s->kernel_looked < KERNEL_LOOK_NS;
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
static ssize_t take(struct sock *s, int fd, struct cursor *c, bool look)
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
        } else if (fresh(s, look, ringed == f ? f : NULL)) {
            break;
        } else {
            n = kernel_queued(s, fd);
            /* What the kernel had was written after every record before it was published. */
            if (f && ivc_rx_ready(&f->ring))
                continue;
            if (n > 0)
                n = kernel_read(s, fd, c, (size_t)n);
            else if (n == 0 && c->got == 0)
                n = kernel_read(s, fd, c, c->left); /* the end, or the error */
        }
        if (n == -EAGAIN)
            break;
        if (n <= 0)
            return ended(st, c, n);
        ringed = NULL;
    }
    return c->got ? (ssize_t)c->got : -EAGAIN;
}

/* ---- peeking --------------------------------------------------------------------------- */

static size_t stashed(const struct stream *st)
{
    return st->stash_end - st->stash_at;
}

#define STASH_STEP ((size_t)64 * 1024)
#define STASH_MOST ((size_t)16 * 1024 * 1024)

static bool stash_room(struct stream *st, size_t size)
{
    size = (size + STASH_STEP - 1) & ~(STASH_STEP - 1);
    if (size > STASH_MOST)
        return false;
    if (size > st->stash_size) {
        void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return false;
        if (st->stash) {
            memcpy(map, st->stash + st->stash_at, stashed(st));
            munmap(st->stash, st->stash_size);
        }
        st->stash = map;
        st->stash_size = size;
    } else {
        memmove(st->stash, st->stash + st->stash_at, stashed(st));
    }
    st->stash_end = stashed(st);
    st->stash_at = 0;
    return true;
}

static void copy_stashed(struct stream *st, struct cursor *c)
{
    size_t at = st->stash_at;
    while (c->left && at < st->stash_end) {
        struct iovec piece = span(c, st->stash_end - at);
        if (!c->discard)
            memcpy(piece.iov_base, st->stash + at, piece.iov_len);
        at += piece.iov_len;
        advance(c, piece.iov_len);
    }
}

/* Without rings nothing has to be kept: whoever gets the descriptor next finds it in the kernel. */
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

/* Show up to c->left bytes; they stay. */
static ssize_t peek(struct sock *s, int fd, struct cursor *c, bool look)
{
    struct stream *st = s->stream;
    size_t want = c->left < STASH_MOST ? c->left : STASH_MOST;
    ssize_t n = -EAGAIN;
    if (!stashed(st) && !st->error && !s->rx_flows)
        return kernel_peek(fd, c);
    if (stashed(st) < want) {
        if (!stash_room(st, want))
            return -ENOMEM;
        struct iovec iov = {st->stash + st->stash_end, want - st->stash_end};
        struct cursor into = cursor_of(&iov, 1);
        n = take(s, fd, &into, look);
        st->stash_end += into.got;
        c->end = into.end;
    }
    copy_stashed(st, c);
    return c->got ? (ssize_t)c->got : n;
}

static ssize_t take_all(struct sock *s, int fd, struct cursor *c, bool look)
{
    struct stream *st = s->stream;
    if (stashed(st)) {
        copy_stashed(st, c);
        st->stash_at += c->got;
        if (!c->left)
            return (ssize_t)c->got;
    }
    return take(s, fd, c, look);
}

/* ---- recvmsg ------------------------------------------------------------------------------ */

static bool satisfied(const struct cursor *c, int flags, bool block)
{
    return c->left == 0 || c->end || (c->got > 0 && !((flags & MSG_WAITALL) && block));
}

static ssize_t attempt(struct sock *s, int fd, struct cursor *c, int flags, bool look)
{
    if (!(flags & MSG_PEEK))
        return take_all(s, fd, c, look);
    /* What a peek has shown counts once. */
    struct cursor anew = cursor_of(c->iov, c->count);
    anew.discard = c->discard;
    ssize_t n = peek(s, fd, &anew, look);
    *c = anew;
    return n;
}

ssize_t stream_recv(struct sock *s, int fd, struct msghdr *msg, int flags)
{
    struct cursor c = cursor_of(msg->msg_iov, msg->msg_iovlen);
    if ((flags & ~RECV_RING_FLAGS) || c.left == 0)
        return recv_native(fd, msg, flags);
    c.discard = (flags & MSG_TRUNC) && !(flags & MSG_PEEK);
    bool block = !(flags & MSG_DONTWAIT) && !s->nonblock;
    struct wait wait = {.s = s, .fd = fd, .mark = signals_mark()};
    const uint32_t id = s->id;
    bool waited = false;
    msg->msg_flags = 0;
    msg->msg_controllen = 0;
    msg->msg_namelen = 0;
    stream_heard(s);
    stream_call(s);
    for (bool look = false;; look = wait.kernel) {
        control_poll();
        if (!ivc_lock(&s->rx_lock)) /* a handler inside our own receive: not past what it counts */
            return c.got ? (ssize_t)c.got : -EAGAIN;
        if (!sock_is(s, fd) || s->id != id) {
            ivc_unlock(&s->rx_lock);
            return c.got ? (ssize_t)c.got : waited ? -EBADF : recv_native(fd, msg, flags);
        }
        ssize_t n = attempt(s, fd, &c, flags, look);
        leave_ring(s);
        bool pass_on = wait.consumed && s->rx_flows != NULL;
        ivc_unlock(&s->rx_lock);
        stream_part(s);
        if (satisfied(&c, flags, block) || (n < 0 && n != -EAGAIN) || !block) {
            if (pass_on)
                wait_pass_on(s);
            return c.got ? (ssize_t)c.got : n;
        }
        if (atomic_load_explicit(&s->rd_shutdown, memory_order_relaxed))
            return c.got ? (ssize_t)c.got : recv_native(fd, msg, flags | MSG_DONTWAIT);
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
    return f && !f->next && f->attached && ivc_rx_idle(&f->ring) && !st->family && !stashed(st) &&
           !st->error;
}

bool stream_readable(struct sock *s, bool kernel)
{
    struct stream *st = s->stream;
    struct ivc_record r;
    if (!kernel && idle(s))
        return false;
    if (kernel)
        s->kernel_maybe = true;
    if (stashed(st) || st->error)
        return true;
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    int head = f ? ivc_rx_peek(&f->ring, &r) : 0;
    return head < 0 || (head > 0 && ahead(st, &r) <= 0) || kernel;
}

bool stream_hint(struct sock *s)
{
    if (idle(s))
        return false;
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    struct ivc_record r;
    return f && ivc_rx_ready(&f->ring) &&
           (ivc_rx_peek(&f->ring, &r) < 0 || ahead(s->stream, &r) <= 0);
}

bool stream_arm_in(struct sock *s)
{
    struct stream *st = s->stream;
    if (idle(s) && ivc_rx_arm(&s->rx_flows->ring))
        return true;
    struct rx_flow *f = s->rx_flows ? current(s) : NULL;
    struct ivc_record r;
    if (stashed(st) || st->error)
        return false;
    if (!f || ivc_rx_arm(&f->ring))
        return true;
    /* A record that waits for the kernel: the kernel's word wakes us. */
    return ivc_rx_peek(&f->ring, &r) == 1 && ahead(st, &r) > 0 && !stream_foreign_in(s);
}

int stream_held(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return 0;
    struct stream *st = s->stream;
    uint64_t held = stashed(st);
    for (struct rx_flow *f = s->rx_flows; f; f = f->next) {
        struct ivc_record r;
        if (!f->attached || !ivc_rx_ready(&f->ring))
            continue;
        struct ivc_rx look = f->ring;
        while (look.head - f->ring.head < look.size && !look.poisoned) {
            look.published = look.head; /* a copy: it must not publish */
            if (ivc_rx_peek(&look, &r) != 1) /* looks for a newer tail at the end of the one known */
                break;
            held += r.length;
            look.head += sizeof(r) + ((r.length + IVC_RECORD_ALIGN - 1) & ~(IVC_RECORD_ALIGN - 1u));
            look.seq++;
        }
    }
    held -= st->offset < held ? st->offset : 0;
    ivc_unlock(&s->rx_lock);
    return (int)held;
}
