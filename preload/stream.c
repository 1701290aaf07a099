/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a TCP connection: which of them concern us, when they are offered. */
#define _GNU_SOURCE
#include "stream.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "control.h"
#include "flow.h"
#include "match.h"
#include "real.h"

static struct ivc_slab stream_slab = {.size = sizeof(struct stream), .keep = sizeof(void *)};

/* ---- birth and death ----------------------------------------------------------- */

/* A program may have nothing but TCP: then nobody else asks for the match table. */
static bool are_planned(void)
{
    (void)match_retry();
    return match_has_streams();
}

bool stream_track(int fd, bool nonblock)
{
    struct stream *st = are_planned() ? ivc_slab_get(&stream_slab) : NULL;
    if (!st)
        return false;
    if (sock_track(fd, nonblock, st))
        return true;
    ivc_slab_put(&stream_slab, st);
    return false;
}

void stream_forget(struct sock *s)
{
    struct stream *st = s->stream;
    if (st->family)
        munmap(st->family, sizeof(struct family));
    if (st->peek_room)
        munmap(st->peek_room, st->peek_size);
    s->stream = NULL;
    ivc_slab_put(&stream_slab, st);
}

static void begin(struct sock *s, struct endpoint local, struct endpoint peer)
{
    bool eager = false;
    uint32_t node = 0;
    uint32_t reason = match_stream(local, peer, &node, &eager);
    if (reason != IVC_REASON_NONE) {
        sock_show(s, reason);
        return;
    }
    s->stream->born = ivc_now();
    s->stream->eager = eager;
    s->node = node;
    sock_match_stream(s, local, peer);
    /* One thread may have both ends: the other would not be announced while this one waits. */
    if (eager && sock_matched(s))
        stream_call(s);
}

void stream_connected(struct sock *s, const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_in in = {0};
    struct endpoint local;
    if (len < sizeof(in))
        return;
    memcpy(&in, addr, sizeof(in));
    if (in.sin_family != AF_INET || sock_matched(s) || !sock_name(s->fd, false, &local))
        return;
    begin(s, local, (struct endpoint){ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)});
}

void stream_accepted(int fd, bool nonblock)
{
    struct endpoint local, peer;
    if (!are_planned() || !sock_name(fd, false, &local) || !sock_name(fd, true, &peer))
        return;
    if (stream_track(fd, nonblock))
        begin(ivc_sock(fd), local, peer);
}

/* What the ring still holds for us is lost, and the peer must hear of that as it
 * would of bytes the kernel has to throw away: by a reset. */
void stream_closing(struct sock *s)
{
    const struct linger now = {.l_onoff = 1};
    int saved = errno;
    if (stream_held(s) > 0)
        (void)real(setsockopt)(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    errno = saved;
}

/* Nobody listens: what the peer sends from now on is for the kernel to answer, with a reset if both
 * directions are shut. What the ring holds is still read. */
void stream_unheard(struct sock *s)
{
    if (!ivc_lock(&s->rx_lock))
        return;
    for (struct rx_flow *f = s->rx_flows; f; f = f->next)
        if (f->attached)
            ivc_rx_set_state(&f->ring, IVC_REGION_CLOSED);
    ivc_unlock(&s->rx_lock);
}

/* ---- options --------------------------------------------------------------------- */

bool stream_option_fits(int level, int name)
{
    if (level == SOL_SOCKET)
        return name == SO_REUSEADDR || name == SO_REUSEPORT || name == SO_KEEPALIVE ||
               name == SO_LINGER || name == SO_RCVTIMEO || name == SO_SNDTIMEO ||
               name == SO_RCVBUF || name == SO_SNDBUF || name == SO_RCVBUFFORCE ||
               name == SO_SNDBUFFORCE || name == SO_BINDTODEVICE || name == SO_PRIORITY ||
               name == SO_BROADCAST || name == SO_DONTROUTE;
    if (level == IPPROTO_IP)
        return name == IP_TOS || name == IP_TTL || name == IP_FREEBIND ||
               name == IP_MTU_DISCOVER || name == IP_BIND_ADDRESS_NO_PORT;
    if (level == IPPROTO_TCP)
        return name == TCP_NODELAY || name == TCP_CORK || name == TCP_KEEPIDLE ||
               name == TCP_KEEPINTVL || name == TCP_KEEPCNT || name == TCP_USER_TIMEOUT ||
               name == TCP_QUICKACK || name == TCP_SYNCNT || name == TCP_LINGER2 ||
               name == TCP_DEFER_ACCEPT || name == TCP_MAXSEG || name == TCP_WINDOW_CLAMP ||
               name == TCP_CONGESTION || name == TCP_NOTSENT_LOWAT || name == TCP_FASTOPEN;
    return false;
}

/* Accepted sockets inherit what was set on the listener, without a call of ours. */
static bool options_fit(int fd)
{
    int lowat = 1, inlined = 0;
    socklen_t len = sizeof(int);
    (void)real(getsockopt)(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &len);
    len = sizeof(int);
    (void)real(getsockopt)(fd, SOL_SOCKET, SO_OOBINLINE, &inlined, &len);
    return lowat <= 1 && !inlined;
}

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* Linux 5.14 */
#endif
#define SNDBUF_LOCK 1

/* What is under way at most if the application has said so itself; here or on its listener. */
void stream_send_buffer(struct sock *s)
{
    int locked = 0, size = 0, saved = errno;
    socklen_t len = sizeof(int);
    if (real(getsockopt)(s->fd, SOL_SOCKET, SO_BUF_LOCK, &locked, &len) == 0 &&
        (locked & SNDBUF_LOCK) && (len = sizeof(int)) &&
        real(getsockopt)(s->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 && size > 0)
        atomic_store_explicit(&s->stream->most, (uint64_t)size, memory_order_relaxed);
    errno = saved;
}

/* ---- counts ------------------------------------------------------------------------ */

#define TCP_STATE_ESTABLISHED 1
#define AUDIT_TRIES 16u

struct counts {
    bool established;
    bool known; /* the kernel is new enough to count */
    uint64_t sent, received;
};

static bool read_info(int fd, struct tcp_info *info)
{
    socklen_t len = sizeof(*info);
    memset(info, 0, sizeof(*info));
    return real(getsockopt)(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0 &&
           len >= offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(info->tcpi_bytes_retrans);
}

static uint64_t bytes_written(const struct tcp_info *info)
{
    return info->tcpi_bytes_sent - info->tcpi_bytes_retrans + info->tcpi_notsent_bytes;
}

/* Bytes the application's side has written and read, by the kernel's count. More may
 * arrive between both looks: until two agree. */
static struct counts kernel_counts(int fd)
{
    struct counts c = {0};
    struct tcp_info info;
    int queued, saved = errno;
    uint64_t before = UINT64_MAX;
    for (unsigned i = 0; i < AUDIT_TRIES && read_info(fd, &info); i++) {
        c.established = info.tcpi_state == TCP_STATE_ESTABLISHED;
        c.sent = bytes_written(&info);
        c.known = before == info.tcpi_bytes_received;
        before = info.tcpi_bytes_received;
        if (c.known || real(ioctl)(fd, SIOCINQ, &queued) != 0)
            break;
        c.received = before - (uint64_t)queued;
    }
    errno = saved;
    return c;
}

bool stream_whole(struct sock *s)
{
    struct tcp_info info;
    int saved = errno;
    bool known = read_info(s->fd, &info);
    errno = saved;
    /* Any other state has seen a FIN, which counts as a byte, or a reset. */
    if (!known || info.tcpi_state != TCP_STATE_ESTABLISHED)
        return false;
    bool ours = bytes_written(&info) == s->stream->ktx;
    if (!ours)
        s->stream->foreign = true;
    return ours;
}

bool stream_foreign_in(struct sock *s)
{
    struct stream *st = s->stream;
    struct counts c = kernel_counts(s->fd);
    if (!c.known || !c.established || c.received <= st->krx)
        return false;
    stream_count_in(st, c.received);
    st->foreign = true;
    return true;
}

void stream_part(struct sock *s)
{
    if (__builtin_expect(atomic_exchange(&s->stream->foreign, false), 0))
        sock_retire(s, IVC_REASON_FOREIGN_IO);
}

#define IO_URING_LINK "anon_inode:[io_uring]"

/* What a process submits to io_uring goes past us, and nothing tells when it begins to. */
static bool has_io_uring(void)
{
    uint8_t names[4096];
    bool found = false;
    long dir = ivc_sys(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (long n; dir >= 0 && !found && (n = ivc_sys(SYS_getdents64, dir, names, sizeof(names))) > 0;) {
        for (long at = 0; at < n && !found;) {
            struct dirent64 *entry = (struct dirent64 *)(void *)(names + at);
            char link[sizeof(IO_URING_LINK)];
            found = ivc_sys(SYS_readlinkat, dir, entry->d_name, link, sizeof(link)) ==
                        (long)sizeof(link) - 1 &&
                    memcmp(link, IO_URING_LINK, sizeof(link) - 1) == 0;
            at += entry->d_reclen;
        }
    }
    if (dir >= 0)
        (void)ivc_sys(SYS_close, dir);
    return found;
}

uint32_t stream_confirm(struct sock *s, uint32_t role)
{
    struct stream *st = s->stream;
    if (!st || s->unusable)
        return st ? s->unusable : IVC_REASON_NOT_CONFIRMED;
    struct counts c = kernel_counts(s->fd);
    if (!c.established || st->kernel_only || s->wr_shutdown || atomic_load(&s->rd_shutdown))
        return IVC_REASON_NOT_CONFIRMED;
    if (!options_fit(s->fd))
        return IVC_REASON_OPTION;
    uint64_t ours = role == IVC_ROLE_SENDER ? st->ktx : st->krx;
    if (role == IVC_ROLE_SENDER)
        stream_send_buffer(s);
    if (!c.known || has_io_uring() || ours != (role == IVC_ROLE_SENDER ? c.sent : c.received))
        return IVC_REASON_FOREIGN_IO;
    return IVC_REASON_NONE;
}

/* ---- promotion ------------------------------------------------------------------------ */

static bool established(int fd)
{
    struct tcp_info info;
    int saved = errno;
    bool yes = read_info(fd, &info) && info.tcpi_state == TCP_STATE_ESTABLISHED;
    errno = saved;
    return yes;
}

void stream_call(struct sock *s)
{
    struct stream *st = s->stream;
    if (__builtin_expect(atomic_load_explicit(&st->wanted, memory_order_relaxed), 1))
        return;
    uint32_t calls = atomic_fetch_add(&st->calls, 1);
    bool due = st->eager || calls >= STREAM_LAZY_CALLS || ivc_now() - st->born >= STREAM_LAZY_NS;
    if (!due || s->unusable || !established(s->fd) || atomic_exchange(&st->wanted, true))
        return;
    sock_announce_stream(s);
}

void stream_heard(struct sock *s)
{
    struct stream *st = s->stream;
    if (atomic_load_explicit(&st->heard, memory_order_relaxed))
        return;
    atomic_store(&st->heard, true);
    flows_retry();
}

void stream_update(struct sock *s)
{
    struct stream *st = s->stream;
    struct tx_flow *f = stream_tx(s);
    bool runs = f && atomic_load_explicit(&f->state, memory_order_relaxed) == TX_RUN;
    if (!runs)
        st->full = st->bypass = false, st->full_since = 0;
    bool by_kernel = st->bypass || st->kernel_only;
    /* A relay has to let go first: until then there is no room at all. */
    atomic_store_explicit(&st->on_ring, runs && (f->relay || !by_kernel), memory_order_relaxed);
}

/* ---- fork -------------------------------------------------------------------------------- */

/* Nobody stays so long, but who is killed or stopped there. */
#define FAMILY_PATIENCE_NS (100 * IVC_NS_PER_MS)

void stream_enter_family(struct stream *st)
{
    if (!st->family)
        return;
    uint64_t end = 0;
    /* acquire: pairs with the release in stream_leave_family */
    while (atomic_exchange_explicit(&st->family->busy, 1, memory_order_acquire)) {
        uint64_t now = ivc_now();
        end = end ? end : now + FAMILY_PATIENCE_NS;
        if (now >= end)
            return;
        (void)ivc_sys(SYS_sched_yield);
    }
}

void stream_leave_family(struct stream *st)
{
    /* release: what was read and written down is seen by who comes next */
    if (st->family)
        atomic_store_explicit(&st->family->busy, 0, memory_order_release);
}

void stream_count_in(struct stream *st, uint64_t krx)
{
    st->krx = krx;
    if (st->family) /* or the next look at the ring takes it back */
        st->family->krx = krx;
}

void stream_store_family(struct stream *st, const struct rx_flow *f)
{
    struct family *shared = st->family;
    shared->krx = st->krx;
    shared->flow = f->id;
    shared->offset = st->offset;
    shared->seq = f->ring.seq;
    atomic_store_explicit(&shared->head, f->ring.head, memory_order_release);
}

void stream_begin_family(struct stream *st, const struct rx_flow *f)
{
    struct family *shared = st->family;
    if (shared && shared->flow == f->id)
        shared->flow = 0;
    if (shared && atomic_load_explicit(&shared->frozen, memory_order_relaxed) == f->id)
        atomic_store_explicit(&shared->frozen, 0, memory_order_relaxed);
}

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

bool stream_catch_up(struct stream *st, struct rx_flow *f)
{
    if (!st->family)
        return true;
    adopt(st, f);
    /* acquire: pairs with the release in stream_freeze_family; the counts before it are adopted */
    return atomic_load_explicit(&st->family->frozen, memory_order_acquire) != f->id;
}

void stream_freeze_family(struct stream *st, const struct rx_flow *f)
{
    /* release: pairs with the acquire in stream_catch_up, and before the sender is told */
    if (st->family)
        atomic_store_explicit(&st->family->frozen, f->id, memory_order_release);
}

void stream_make_family(struct sock *s)
{
    struct stream *st = s->stream;
    if (st->family || !ivc_lock(&s->rx_lock))
        return;
    struct rx_flow *oldest = NULL;
    for (struct rx_flow *f = s->rx_flows; f; f = f->next)
        if (f->attached)
            oldest = f;
    void *map = !oldest ? MAP_FAILED
                        : mmap(NULL, sizeof(struct family), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map != MAP_FAILED) {
        st->family = map;
        stream_store_family(st, oldest);
    }
    ivc_unlock(&s->rx_lock);
}
