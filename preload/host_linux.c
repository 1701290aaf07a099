/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host of plain Linux: files and a socket in the controller's run directory,
 * memfds, eventfds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../core/ring.h"
#include "../core/trace.h"
#include "control.h"
#include "host.h"
#include "match.h"
#include "own.h"
#include "util.h"

#define SEALS_PEER (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | 0x10 /* F_SEAL_FUTURE_WRITE */)
#define SEND_PATIENCE_NS (100 * 1000 * 1000)

/* ---- match table ---------------------------------------------------------------- */

static uint64_t own_netns(void)
{
    struct stat st;
    return ivc_sys(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &st, 0) == 0 ? st.st_ino : 0;
}

static int map_table(int fd, uint64_t known, struct table_text *out)
{
    struct stat st;
    if (ivc_sys(SYS_fstat, fd, &st) != 0)
        return -EIO;
    if (st.st_ino == known)
        return 0;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    *out = (struct table_text){
        .map = map, .size = (size_t)st.st_size, .serial = st.st_ino, .here = own_netns()};
    return 1;
}

static int linux_table(uint64_t known, struct table_text *out)
{
    char path[128];
    const char *name = match_run_path("match", path, sizeof(path));
    long fd = name ? ivc_sys(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -ENOENT;
    if (fd < 0)
        return (int)fd;
    int saved = errno;
    int result = map_table((int)fd, known, out);
    errno = saved;
    (void)ivc_sys(SYS_close, fd);
    return result;
}

/* ---- control connection ------------------------------------------------------------ */

static bool linux_send(int fd, const struct ivc_msg *msg, const struct attached *with);

static int linux_connect(uint64_t *patience)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ivc_msg hello = {.type = IVC_MSG_HELLO, .arg = IVC_RING_ABI_MAJOR};
    if (!match_run_path("control", addr.sun_path, sizeof(addr.sun_path)))
        return -ENAMETOOLONG;
    int fd = own_fd((int)ivc_sys(SYS_socket, AF_UNIX,
                                 SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return fd;
    long result = ivc_sys(SYS_connect, fd, &addr, sizeof(addr));
    if (result < 0) {
        own_close(fd);
        return (int)result;
    }
    control_sign(&hello);
    (void)linux_send(fd, &hello, &ATTACHED_NOTHING);
    atomic_store(&ivc_control_state.received, 0);
    *patience = 0;
    return fd;
}

static void linux_disconnect(int fd)
{
    own_close(fd);
}

/*
 * A controller behind with its mail gets a moment to catch up. One that does
 * not is given up: a message must not get lost alone, so the connection ends
 * and everything is told anew over the next one.
 */
static long put(int to, const struct msghdr *header)
{
    struct pollfd writable = {.fd = to, .events = POLLOUT};
    struct timespec patience = {.tv_nsec = SEND_PATIENCE_NS};
    long n = ivc_sys(SYS_sendmsg, to, header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n != -EAGAIN)
        return n;
    (void)ivc_sys(SYS_ppoll, &writable, 1, &patience, NULL, 0);
    n = ivc_sys(SYS_sendmsg, to, header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == -EAGAIN)
        (void)ivc_sys(SYS_shutdown, to, SHUT_RDWR);
    return n;
}

static bool linux_send(int fd, const struct ivc_msg *msg, const struct attached *with)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg)};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (with->fd >= 0) {
        memset(&control, 0, sizeof(control));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &with->fd, sizeof(int));
        header.msg_control = &control;
        header.msg_controllen = sizeof(control);
    }
    return put(fd, &header) == sizeof(*msg);
}

static bool linux_alive(int fd)
{
    struct pollfd look = {.fd = fd};
    const struct timespec zero = {0};
    (void)ivc_sys(SYS_ppoll, &look, 1, &zero, NULL, 0);
    return (look.revents & (POLLHUP | POLLERR)) == 0;
}

static void take_fds(struct msghdr *header, struct mail *mail)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (mail->fd_count < IVC_MSG_MAX_FDS)
                mail->fds[mail->fd_count++] = fd;
            else
                (void)ivc_sys(SYS_close, fd);
        }
    }
}

static int linux_receive(int fd, struct mail *mail)
{
    struct iovec iov = {.iov_base = &mail->msg, .iov_len = sizeof(mail->msg)};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(IVC_MSG_MAX_FDS * sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    mail->fd_count = mail->word_count = 0;
    long n = ivc_sys(SYS_recvmsg, fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0)
        return -1;
    take_fds(&header, mail);
    if (n != sizeof(mail->msg))
        mail->msg.type = 0;
    atomic_fetch_add_explicit(&ivc_control_state.received, 1, memory_order_relaxed);
    return 1;
}

static void *map_shared(int fd, size_t size, int prot)
{
    struct stat st;
    if (ivc_sys(SYS_fstat, fd, &st) != 0 || (size_t)st.st_size < size)
        return NULL;
    void *map = mmap(NULL, size, prot, MAP_SHARED | MAP_POPULATE, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static bool linux_welcome(const struct mail *mail, struct welcome *out)
{
    if (mail->fd_count != 2)
        return false;
    struct ivc_control *page = map_shared(mail->fds[0], sizeof(*page), PROT_READ);
    struct ivc_stats_header *stats =
        map_shared(mail->fds[1], IVC_STATS_SIZE, PROT_READ | PROT_WRITE);
    *out = (struct welcome){.sent = page ? &page->sent : NULL,
                            .sent_map = page,
                            .sent_size = sizeof(*page),
                            .stats = stats,
                            .stats_size = IVC_STATS_SIZE};
    return page && stats;
}

static void linux_unmap_trace(struct trace_memory *memory)
{
    if (memory->own)
        munmap(memory->own, memory->own_size);
    if (memory->peer)
        munmap(memory->peer, memory->peer_size);
    *memory = (struct trace_memory){0};
}

static bool linux_map_trace(const struct mail *mail, struct trace_memory *out,
                            struct attached *answer)
{
    struct stat st;
    *answer = ATTACHED_NOTHING;
    if (mail->fd_count != 2 || ivc_sys(SYS_fstat, mail->fds[0], &st) != 0)
        return false;
    struct trace_memory fresh = {.own_size = (size_t)st.st_size, .peer_size = IVC_TRACE_PAGE};
    fresh.own = map_shared(mail->fds[0], fresh.own_size, PROT_READ | PROT_WRITE);
    fresh.peer = map_shared(mail->fds[1], fresh.peer_size, PROT_READ);
    bool mapped = fresh.own && fresh.peer;
    if (!mapped)
        linux_unmap_trace(&fresh);
    *out = fresh;
    return mapped;
}

/* ---- flows ------------------------------------------------------------------------------ */

static int linux_map_own(struct flow_end *end, const struct mail *attach, struct attached *answer)
{
    *answer = ATTACHED_NOTHING;
    if (attach->fd_count != 1)
        return -EPROTO;
    if (end->role == IVC_ROLE_SENDER)
        end->bell.fd = -1; /* comes with PEER */
    end->own = map_shared(attach->fds[0], end->own_size, PROT_READ | PROT_WRITE);
    return end->own ? 0 : -ENOMEM;
}

static int linux_map_peer(struct flow_end *end, struct mail *peer)
{
    bool sender = end->role == IVC_ROLE_SENDER;
    if (peer->fd_count != (sender ? 2 : 1))
        return -EPROTO;
    if (sender) {
        ivc_bell_adopt(&end->bell, own_fd(peer->fds[1]));
        peer->fds[1] = -1;
    }
    /* The peer's pages must be unable to shrink under us (SIGBUS) or to be
     * written by anybody who is not their owner. */
    if ((ivc_sys(SYS_fcntl, peer->fds[0], F_GET_SEALS) & SEALS_PEER) != SEALS_PEER)
        return -EPROTO;
    end->peer = map_shared(peer->fds[0], end->peer_size, PROT_READ);
    return end->peer ? 0 : -ENOMEM;
}

static void linux_let_go(struct flow_end *end)
{
    if (end->own)
        munmap(end->own, end->own_size);
    if (end->peer)
        munmap(end->peer, end->peer_size);
    if (end->role == IVC_ROLE_SENDER)
        own_close(end->bell.fd);
    *end = (struct flow_end){.bell.fd = -1};
}

static int linux_keep_copy(struct flow_end *end)
{
    (void)end; /* a memfd is nobody's loss */
    return 0;
}

/* Nobody saves a host of plain Linux. */
static void linux_quiesce(void)
{
}

static void linux_close_bell(const struct ivc_bell *bell)
{
    (void)bell; /* its descriptor is all there is */
}

static bool linux_moved(void)
{
    return false;
}

static void linux_after_fork(void)
{
}

const struct host ivc_host_linux = {
    .one_clock = true,
    .inherited = true,
    .kernel_late_ns = 50 * IVC_NS_PER_MS,
    .table = linux_table,
    .connect = linux_connect,
    .disconnect = linux_disconnect,
    .receive = linux_receive,
    .welcome = linux_welcome,
    .send = linux_send,
    .alive = linux_alive,
    .map_trace = linux_map_trace,
    .unmap_trace = linux_unmap_trace,
    .map_own = linux_map_own,
    .map_peer = linux_map_peer,
    .let_go = linux_let_go,
    .keep_copy = linux_keep_copy,
    .bell = ivc_bell_open,
    .quiesce = linux_quiesce,
    .close_bell = linux_close_bell,
    .moved = linux_moved,
    .after_fork = linux_after_fork,
};
