/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IVC Wrapper: the exported symbols. LD_PRELOAD=libivcsock.so ./app
 *
 * Stubs only. What concerns no matched socket goes to the function behind us
 * unchanged; the rest is decided in sock.c (life), send.c, recv.c, wait.c
 * (poll, select) and epoll.c. Inside, errors are -errno; here they become -1
 * and errno, and errno is left alone on success.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "control.h"
#include "epoll.h"
#include "flow.h"
#include "fork.h"
#include "match.h"
#include "own.h"
#include "real.h"
#include "recv.h"
#include "send.h"
#include "signals.h"
#include "sock.h"
#include "stream.h"
#include "wait.h"

#define EXPORT __attribute__((visibility("default")))

static ssize_t result(ssize_t n)
{
    if (n >= 0)
        return n;
    errno = (int)-n;
    return -1;
}

/* ---- start-up and fork ------------------------------------------------------------ */

static pid_t our_pid;

/* A vfork child runs in our memory: what it closes is not closed for us. Asked
 * only where a record is about to be changed by the death of a descriptor. */
static bool foreign_process(void)
{
    return ivc_sys(SYS_getpid) != our_pid;
}

static void after_fork(void)
{
    our_pid = (pid_t)ivc_sys(SYS_getpid);
    ivc_tid_known = 0;
    fork_child();
    sock_after_fork();
    epoll_after_fork();
    control_after_fork();
}

__attribute__((constructor)) static void start(void)
{
    ivc_real_init();
    our_pid = (pid_t)ivc_sys(SYS_getpid);
    wait_init();
    match_init();
    if (ivc_table_init() == 0)
        (void)pthread_atfork(fork_prepare, fork_parent, after_fork);
}

/* Tells a program that it runs under the wrapper. */
EXPORT int ivcsock_present(void);
EXPORT int ivcsock_present(void)
{
    return IVC_RING_ABI_MAJOR;
}

/* ---- life of a socket -------------------------------------------------------------- */

EXPORT int socket(int domain, int type, int protocol)
{
    int fd = real(socket)(domain, type, protocol);
    if (fd >= 0 && ivc_table) {
        if (ivc_object(fd))
            object_release(fd); /* closed behind our back, the number is reused */
        if (domain == AF_INET && (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_DGRAM &&
            (protocol == 0 || protocol == IPPROTO_UDP))
            (void)sock_track(fd, (type & SOCK_NONBLOCK) != 0, NULL);
        else if (domain == AF_INET && (type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == SOCK_STREAM &&
                 (protocol == 0 || protocol == IPPROTO_TCP))
            (void)stream_track(fd, (type & SOCK_NONBLOCK) != 0);
    }
    return fd;
}

static int accepted(int fd, bool nonblock)
{
    if (fd >= 0 && ivc_table) {
        if (ivc_object(fd))
            object_release(fd);
        stream_accepted(fd, nonblock);
    }
    return fd;
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return accepted(real(accept)(fd, addr, len), false);
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return accepted(real(accept4)(fd, addr, len, flags), (flags & SOCK_NONBLOCK) != 0);
}

EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    int r = real(bind)(fd, addr, len);
    struct sock *s = r == 0 ? ivc_sock(fd) : NULL;
    if (s && !s->stream)
        sock_bound(s, addr, len);
    return r;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    int r = real(connect)(fd, addr, len);
    int saved = errno;
    struct sock *s = r == 0 || saved == EINPROGRESS ? ivc_sock(fd) : NULL;
    if (s && s->stream)
        stream_connected(s, addr, len);
    else if (s && r == 0)
        sock_connected(s, fd);
    errno = saved;
    return r;
}

EXPORT int shutdown(int fd, int how)
{
    struct sock *s = ivc_sock(fd);
    if (s) { /* also when it fails: on an unconnected socket it still wakes receivers */
        if (how == SHUT_RD || how == SHUT_RDWR)
            atomic_store(&s->rd_shutdown, true);
        if (how == SHUT_WR || how == SHUT_RDWR)
            s->wr_shutdown = true;
        if (s->stream)
            stream_settle(s);
        if (s->stream && how != SHUT_WR)
            stream_unheard(s);
    }
    return real(shutdown)(fd, how);
}

/* An error a receive has found, and its application not asked for yet, is still there. */
EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    int r = real(getsockopt)(fd, level, name, value, len);
    struct sock *s = r == 0 && level == SOL_SOCKET && name == SO_ERROR ? ivc_matched(fd) : NULL;
    if (s && s->stream && *len == sizeof(int) && *(int *)value == 0 && ivc_lock(&s->rx_lock)) {
        *(int *)value = s->stream->error;
        s->stream->error = 0;
        ivc_unlock(&s->rx_lock);
    }
    return r;
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    struct sock *s = ivc_sock(fd);
    /* Not while a send borrows TCP_NODELAY. */
    bool locked = level == IPPROTO_TCP && s && s->stream && ivc_lock(&s->tx_lock);
    int r = real(setsockopt)(fd, level, name, value, len);
    if (locked)
        ivc_unlock(&s->tx_lock);
    if (r == 0 && s)
        sock_option(s, level, name, value, len);
    return r;
}

/* ---- death of a descriptor ----------------------------------------------------------- */

/* A socket that no ring and no epoll set of ours knows. Should it be a vfork
 * child that closes it, the parent's stays with the kernel, which is no harm:
 * not worth a system call at every close. */
static bool is_bystander(const struct object *object)
{
    const struct sock *s = (const struct sock *)object;
    return object->type == OBJECT_SOCK && atomic_load(&s->state) == SOCK_TRACKED && !s->regs;
}

EXPORT int close(int fd)
{
    struct object *object = ivc_object(fd);
    if (object && (is_bystander(object) || !foreign_process())) {
        if (object->type == OBJECT_OWN)
            return (int)result(-EBADF);
        object_release(fd);
    }
    return real(close)(fd);
}

EXPORT int fclose(FILE *file)
{
    int saved = errno;
    int fd = fileno(file);
    errno = saved;
    if (ivc_object(fd) && !own_is(fd) && !foreign_process())
        object_release(fd);
    return real(fclose)(file);
}

#ifndef CLOSE_RANGE_CLOEXEC /* headers older than glibc 2.34 */
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* Close what is not ours in [first, last]. */
static int close_around(unsigned first, unsigned last, int flags)
{
    int r = 0;
    unsigned from = first;
    for (unsigned fd = first; fd <= last && fd < IVC_MAX_FDS; fd++) {
        if (!own_is((int)fd)) {
            if (!((unsigned)flags & CLOSE_RANGE_CLOEXEC) && ivc_object((int)fd))
                object_release((int)fd);
            continue;
        }
        if (fd > from)
            r |= real(close_range)(from, fd - 1, flags);
        from = fd + 1;
    }
    return from <= last ? r | real(close_range)(from, last, flags) : r;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (!real(close_range))
        return (int)result(-ENOSYS);
    if (!ivc_table || first > last || foreign_process())
        return real(close_range)(first, last, flags);
    return close_around(first, last, flags) ? -1 : 0;
}

EXPORT void closefrom(int first)
{
    if (!ivc_table || first < 0 || foreign_process() || !real(close_range))
        real(closefrom)(first);
    else
        (void)close_around((unsigned)first, ~0U, 0);
}

static void named_again(int fd, int newfd)
{
    struct object *object = ivc_object(fd);
    if (!object || newfd == fd)
        return;
    if (object->type == OBJECT_SOCK)
        sock_dup((struct sock *)object, newfd);
    else if (object->type == OBJECT_EPSET)
        epset_dup((struct epset *)object, newfd);
}

EXPORT int dup(int fd)
{
    int r = real(dup)(fd);
    if (r >= 0)
        named_again(fd, r);
    return r;
}

static bool dup_over_ours(int newfd)
{
    return own_is(newfd) && !foreign_process();
}

static void replaced(int fd, int newfd)
{
    if (fd == newfd || foreign_process())
        return;
    if (ivc_object(newfd) && ivc_object(newfd) != ivc_object(fd))
        object_release(newfd);
    else if (ivc_object(newfd))
        return; /* the same socket under both numbers already */
    named_again(fd, newfd);
}

/* While sets know the old number still. */
static void about_to_replace(int fd, int newfd)
{
    struct sock *s = fd != newfd && !foreign_process() ? ivc_sock(newfd) : NULL;
    if (s)
        sock_settle(s, newfd);
}

EXPORT int dup2(int fd, int newfd)
{
    if (dup_over_ours(newfd))
        return (int)result(-EBUSY);
    about_to_replace(fd, newfd);
    int r = real(dup2)(fd, newfd);
    if (r >= 0)
        replaced(fd, newfd);
    return r;
}

EXPORT int dup3(int fd, int newfd, int flags)
{
    if (dup_over_ours(newfd))
        return (int)result(-EBUSY);
    about_to_replace(fd, newfd);
    int r = real(dup3)(fd, newfd, flags);
    if (r >= 0)
        replaced(fd, newfd);
    return r;
}

static void after_fcntl(int fd, int cmd, long arg, int r)
{
    if (r < 0)
        return;
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
        named_again(fd, r);
    } else if (cmd == F_SETFL) {
        struct sock *s = ivc_sock(fd);
        if (s)
            s->nonblock = (arg & O_NONBLOCK) != 0;
    }
}

EXPORT int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    int r = real(fcntl)(fd, cmd, arg);
    after_fcntl(fd, cmd, arg, r);
    return r;
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    int r = real(fcntl64) ? real(fcntl64)(fd, cmd, arg) : real(fcntl)(fd, cmd, arg);
    after_fcntl(fd, cmd, arg, r);
    return r;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    struct sock *s = ivc_sock(fd);
    if (s && s->stream && sock_matched(s) && (request == FIONREAD || request == TIOCOUTQ)) {
        int r = real(ioctl)(fd, request, arg);
        if (r == 0 && arg)
            *(int *)arg += request == FIONREAD ? stream_held(s) : stream_unread(s);
        return r;
    }
    if (s && request == FIONREAD && sock_matched(s) && arg) {
        long size = recv_next_size(s);
        if (size >= 0) {
            *(int *)arg = (int)size;
            return 0;
        }
    }
    int r = real(ioctl)(fd, request, arg);
    if (s && r == 0 && request == FIONBIO && arg)
        s->nonblock = *(int *)arg != 0;
    return r;
}

/* ---- other programs --------------------------------------------------------------------- */

static void before_exec(void)
{
    if (ivc_table && !foreign_process())
        sock_hand_over_all(IVC_REASON_HANDED_ON, true);
}

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
    before_exec();
    return real(execve)(path, argv, env);
}

EXPORT int execv(const char *path, char *const argv[])
{
    before_exec();
    return real(execv)(path, argv);
}

EXPORT int execvp(const char *file, char *const argv[])
{
    before_exec();
    return real(execvp)(file, argv);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
    before_exec();
    return real(execvpe)(file, argv, env);
}

EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
    before_exec();
    return real(fexecve)(fd, argv, env);
}

/* How many arguments come before the NULL that ends them. */
static size_t arguments(const char *first, va_list ap)
{
    size_t n = 0;
    for (const char *each = first; each; each = va_arg(ap, const char *))
        n++;
    return n;
}

#define LISTED(argv, first, ap)                                                                    \
    va_start(ap, first);                                                                           \
    size_t argument_count = arguments(first, ap);                                                  \
    va_end(ap);                                                                                    \
    const char *argv[argument_count + 1];                                                          \
    va_start(ap, first);                                                                           \
    argv[0] = first;                                                                               \
    for (size_t i = 1; i <= argument_count; i++)                                                   \
        argv[i] = va_arg(ap, const char *)

EXPORT int execl(const char *path, const char *arg, ...)
{
    va_list ap;
    LISTED(argv, arg, ap);
    va_end(ap);
    return execv(path, (char *const *)(uintptr_t)argv);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
    va_list ap;
    LISTED(argv, arg, ap);
    va_end(ap);
    return execvp(file, (char *const *)(uintptr_t)argv);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
    va_list ap;
    LISTED(argv, arg, ap);
    char *const *env = va_arg(ap, char *const *);
    va_end(ap);
    return execve(path, (char *const *)(uintptr_t)argv, env);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
    spawn_prepare();
    return real(posix_spawn)(pid, path, actions, attr, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
    spawn_prepare();
    return real(posix_spawnp)(pid, file, actions, attr, argv, env);
}

/* ---- sending --------------------------------------------------------------------------- */

/* Programs may start before the controller: its table is looked for once a
 * second as long as there is none. */
static void look_for_controller(void)
{
    if (__builtin_expect(!match_present(), 0) && match_retry())
        sock_rematch_all();
}

/* A first send binds the socket: only now may it turn out to be ours. */
static void sent_unmatched(int fd)
{
    struct sock *s = ivc_sock(fd);
    if (!s || s->stream)
        return;
    look_for_controller();
    if (s->match_tried)
        return;
    s->match_tried = true;
    sock_try_match(s);
}

static ssize_t send_any(struct sock *s, int fd, const struct msghdr *msg, int flags)
{
    return s->stream ? stream_send(s, fd, msg, flags) : send_dgram(s, fd, msg, flags);
}

static ssize_t recv_any(struct sock *s, int fd, struct msghdr *msg, int flags)
{
    return s->stream ? stream_recv(s, fd, msg, flags) : recv_dgram(s, fd, msg, flags);
}

static ssize_t send_one(struct sock *s, int fd, const void *buf, size_t len, int flags,
                        const struct sockaddr *addr, socklen_t alen)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_name = (void *)(uintptr_t)addr,
                         .msg_namelen = addr ? alen : 0,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    return result(send_any(s, fd, &msg, flags));
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    struct sock *s = ivc_matched(fd);
    return s ? send_one(s, fd, buf, len, flags, NULL, 0) : real(send)(fd, buf, len, flags);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr,
                      socklen_t alen)
{
    struct sock *s = ivc_matched(fd);
    if (s)
        return send_one(s, fd, buf, len, flags, addr, alen);
    ssize_t n = real(sendto)(fd, buf, len, flags, addr, alen);
    if (n >= 0)
        sent_unmatched(fd);
    return n;
}

/* The descriptors a message carries. */
static const int *rights(const struct msghdr *msg, size_t *count)
{
    struct msghdr at = *msg;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&at); c; c = CMSG_NXTHDR(&at, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
            continue;
        *count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        return (const int *)(const void *)CMSG_DATA(c);
    }
    *count = 0;
    return NULL;
}

/* Another process may read what rings hold of them, and the kernel is all it knows. */
static void hand_on(const struct msghdr *msg)
{
    size_t count = 0;
    const int *fds = msg && msg->msg_controllen ? rights(msg, &count) : NULL;
    for (size_t i = 0; i < count; i++) {
        struct sock *s = ivc_sock(fds[i]);
        if (s && !foreign_process())
            sock_hand_over(s, IVC_REASON_HANDED_ON);
    }
}

/* Their numbers may be those of sockets closed behind our back. */
static void received(const struct msghdr *msg)
{
    size_t count = 0;
    const int *fds = msg->msg_controllen ? rights(msg, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        if (ivc_object(fds[i]) && !own_is(fds[i]))
            object_release(fds[i]);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct sock *s = ivc_matched(fd);
    if (s && msg && msg->msg_iovlen <= IOV_MAX)
        return result(send_any(s, fd, msg, flags));
    hand_on(msg);
    ssize_t n = real(sendmsg)(fd, msg, flags);
    if (n >= 0)
        sent_unmatched(fd);
    return n;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags)
{
    struct sock *s = ivc_matched(fd);
    for (unsigned i = 0; vec && !s && i < n; i++)
        hand_on(&vec[i].msg_hdr);
    if (!s)
        return real(sendmmsg)(fd, vec, n, flags);
    for (unsigned i = 0; i < n; i++) {
        ssize_t r = send_any(s, fd, &vec[i].msg_hdr, flags);
        if (r < 0)
            return i ? (int)i : (int)result(r);
        vec[i].msg_len = (unsigned)r;
    }
    return (int)n;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    struct sock *s = ivc_matched(fd);
    return s ? send_one(s, fd, buf, len, 0, NULL, 0) : real(write)(fd, buf, len);
}

/* Of no bytes, or an impossible number of pieces, a file's calls make nothing. */
static bool something(const struct iovec *iov, int n)
{
    for (int i = 0; n <= IOV_MAX && i < n; i++)
        if (iov[i].iov_len)
            return true;
    return false;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct sock *s = ivc_matched(fd);
    if (!s || !something(iov, n))
        return real(writev)(fd, iov, n);
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return result(send_any(s, fd, &msg, 0));
}

/* ---- bytes that a call takes from, or gives to, something else ------------------------------ */

struct sendfile_call {
    int out, in;
    off64_t *offset;
    size_t count;
};

static ssize_t call_sendfile(void *arg)
{
    const struct sendfile_call *c = arg;
    return real(sendfile64)(c->out, c->in, c->offset, c->count);
}

static struct sock *matched_stream(int fd)
{
    struct sock *s = ivc_matched(fd);
    return s && s->stream ? s : NULL;
}

#define SENDFILE_MOST 0x7ffff000u /* what the kernel moves in one call */

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
    struct sendfile_call c = {out, in, offset, size}, nothing = {out, in, offset, 0};
    struct sock *s = matched_stream(out);
    off64_t at;
    if (!s || size == 0 || size > SSIZE_MAX)
        return call_sendfile(&c);
    if (call_sendfile(&nothing) < 0) /* of no bytes: it looks at all it is given */
        return -1;
    if (!stream_sends_file(in, offset, &at))
        return stream_send_by(s, call_sendfile, &c);
    ssize_t n = stream_sendfile(s, out, in, at, size < SENDFILE_MOST ? size : SENDFILE_MOST);
    if (n > 0 && offset)
        *offset = at + n;
    else if (n > 0)
        (void)ivc_sys(SYS_lseek, in, at + n, SEEK_SET);
    return result(n);
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t size)
{
    _Static_assert(sizeof(off_t) == sizeof(off64_t), "64-bit");
    return matched_stream(out) ? sendfile64(out, in, (off64_t *)offset, size)
                               : real(sendfile)(out, in, offset, size);
}

struct splice_call {
    int in;
    off64_t *in_offset;
    int out;
    off64_t *out_offset;
    size_t count;
    unsigned flags;
};

static ssize_t call_splice(void *arg)
{
    const struct splice_call *c = arg;
    return real(splice)(c->in, c->in_offset, c->out, c->out_offset, c->count, c->flags);
}

#define SPLICE_PIECE 16384u

/* From a stream into a pipe: what the pipe takes of what can be seen. */
static ssize_t splice_from(struct sock *s, const struct splice_call *c)
{
    uint8_t bytes[SPLICE_PIECE];
    int flags = (c->flags & SPLICE_F_NONBLOCK) ? MSG_DONTWAIT : 0;
    struct iovec iov = {bytes, c->count < sizeof(bytes) ? c->count : sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = stream_recv(s, c->in, &msg, MSG_PEEK | flags);
    if (n <= 0)
        return result(n);
    n = real(write)(c->out, bytes, (size_t)n);
    if (n <= 0)
        return n;
    iov.iov_len = (size_t)n;
    return result(stream_recv(s, c->in, &msg, MSG_DONTWAIT));
}

EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                      unsigned flags)
{
    struct splice_call c = {in, in_offset, out, out_offset, size, flags};
    struct sock *s = matched_stream(in);
    if (s)
        return splice_from(s, &c);
    s = matched_stream(out);
    return s ? stream_send_by(s, call_splice, &c) : call_splice(&c);
}

/* stdio reads and writes past us. */
EXPORT FILE *fdopen(int fd, const char *mode)
{
    struct sock *s = ivc_sock(fd);
    if (s)
        sock_hand_over(s, IVC_REASON_FOREIGN_IO);
    return real(fdopen)(fd, mode);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static ssize_t recv_one(struct sock *s, int fd, void *buf, size_t len, int flags,
                        struct sockaddr *addr, socklen_t *alen)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {.msg_name = addr,
                         .msg_namelen = addr && alen ? *alen : 0,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    ssize_t n = recv_any(s, fd, &msg, flags);
    if (n >= 0 && addr && alen)
        *alen = msg.msg_namelen;
    return result(n);
}

/* A tracked socket may be matched while a thread sleeps in the kernel: that
 * thread must be known, for it would not hear a bell. */
static inline void enter_native(struct sock *s)
{
    if (s) {
        look_for_controller();
        atomic_fetch_add(&s->native_waits, 1);
    }
}

static void leave_native(struct sock *s)
{
    if (s && atomic_fetch_sub(&s->native_waits, 1) == 1 && sock_matched(s))
        flows_retry(); /* matched meanwhile; flows may have waited for us */
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
                        socklen_t *alen)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s))
        return recv_one(s, fd, buf, len, flags, addr, alen);
    enter_native(s);
    ssize_t n = real(recvfrom)(fd, buf, len, flags, addr, alen);
    leave_native(s);
    return n;
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s))
        return recv_one(s, fd, buf, len, flags, NULL, NULL);
    enter_native(s);
    ssize_t n = real(recv)(fd, buf, len, flags);
    leave_native(s);
    return n;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s) && msg && msg->msg_iovlen <= IOV_MAX)
        return result(recv_any(s, fd, msg, flags));
    enter_native(s);
    ssize_t n = real(recvmsg)(fd, msg, flags);
    leave_native(s);
    if (n >= 0)
        received(msg);
    return n;
}

/* The kernel's rules: block for the first only (MSG_WAITFORONE), look at the
 * timeout after each datagram, report an error only if nothing was received. */
static int recv_many(struct sock *s, int fd, struct mmsghdr *vec, unsigned n, int flags,
                     const struct timespec *timeout)
{
    struct ivc_limit limit = {0};
    int once = flags & ~MSG_WAITFORONE;
    if (!ivc_timeout(timeout, &limit.timeout))
        return (int)result(-EINVAL);
    uint64_t end = timeout ? ivc_limit_end(&limit, ivc_now()) : UINT64_MAX;
    for (unsigned i = 0; i < n; i++) {
        ssize_t r = recv_any(s, fd, &vec[i].msg_hdr, once);
        if (r < 0)
            return i ? (int)i : (int)result(r);
        vec[i].msg_len = (unsigned)r;
        if (flags & MSG_WAITFORONE)
            once |= MSG_DONTWAIT;
        if (timeout && ivc_now() >= end)
            return (int)i + 1;
    }
    return (int)n;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags, struct timespec *timeout)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s))
        return recv_many(s, fd, vec, n, flags, timeout);
    enter_native(s);
    int r = real(recvmmsg)(fd, vec, n, flags, timeout);
    leave_native(s);
    return r;
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s) && len)
        return recv_one(s, fd, buf, len, 0, NULL, NULL);
    enter_native(s);
    ssize_t n = real(read)(fd, buf, len);
    leave_native(s);
    return n;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
    struct sock *s = ivc_sock(fd);
    if (is_matched(s) && something(iov, n)) {
        struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
        return result(recv_any(s, fd, &msg, 0));
    }
    enter_native(s);
    ssize_t r = real(readv)(fd, iov, n);
    leave_native(s);
    return r;
}

/* Fortified forms: the check is the function's behind us, where it fails. */
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
    return len > size ? real(__recv_chk)(fd, buf, len, size, flags) : recv(fd, buf, len, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
                              struct sockaddr *addr, socklen_t *alen);
EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags,
                              struct sockaddr *addr, socklen_t *alen)
{
    return len > size ? real(__recvfrom_chk)(fd, buf, len, size, flags, addr, alen)
                      : recvfrom(fd, buf, len, flags, addr, alen);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
    return len > size ? real(__read_chk)(fd, buf, len, size) : read(fd, buf, len);
}

/* glibc declares the array write-only for the caller's benefit; we read it. */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

/* ---- poll and select ------------------------------------------------------------------------ */

#define NATIVE_MOST 256u

static uint64_t ms_to_ns(int ms)
{
    return ms < 0 ? UINT64_MAX : (uint64_t)ms * IVC_NS_PER_MS;
}

/* A poll that concerns tracked, unmatched sockets is a kernel wait without our
 * bell, like a receive. */
static unsigned enter_polled(const struct pollfd *fds, nfds_t n, struct sock *in[NATIVE_MOST])
{
    unsigned count = 0;
    for (nfds_t i = 0; fds && i < n && count < NATIVE_MOST; i++) {
        struct sock *s = fds[i].fd >= 0 ? ivc_sock(fds[i].fd) : NULL;
        if (s) {
            atomic_fetch_add(&s->native_waits, 1);
            in[count++] = s;
        }
    }
    return count;
}

/* Those we entered: their numbers may be other sockets' by now. */
static void leave_polled(struct sock *in[NATIVE_MOST], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        leave_native(in[i]);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    if (fds && wait_poll_concerns(fds, n)) {
        struct ivc_limit limit = {0};
        bool valid = ivc_timeout(timeout, &limit.timeout);
        return (int)result(valid ? wait_poll(fds, n, &limit, mask) : -EINVAL);
    }
    struct sock *in[NATIVE_MOST];
    unsigned count = enter_polled(fds, n, in);
    int r = real(ppoll)(fds, n, timeout, mask);
    leave_polled(in, count);
    return r;
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (fds && wait_poll_concerns(fds, n)) {
        struct ivc_limit limit = {.timeout = ms_to_ns(timeout)};
        return (int)result(wait_poll(fds, n, &limit, NULL));
    }
    struct sock *in[NATIVE_MOST];
    unsigned count = enter_polled(fds, n, in);
    int r = real(poll)(fds, n, timeout);
    leave_polled(in, count);
    return r;
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    return size / sizeof(*fds) < n ? real(__poll_chk)(fds, n, timeout, size)
                                   : poll(fds, n, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask, size_t size);
EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask, size_t size)
{
    return size / sizeof(*fds) < n ? real(__ppoll_chk)(fds, n, timeout, mask, size)
                                   : ppoll(fds, n, timeout, mask);
}

/* The sets' bits, a word at a time: most are empty. */
#define SET_BITS (8 * (int)sizeof(unsigned long))

static unsigned long set_word(const fd_set *set, int n, int at)
{
    unsigned long word = 0;
    int left = n - at * SET_BITS;
    if (set && left > 0)
        memcpy(&word, (const char *)set + (size_t)at * sizeof(word), sizeof(word));
    return left < SET_BITS && left > 0 ? word & ((1UL << left) - 1) : word;
}

static int next_bit(unsigned long *word)
{
    int bit = __builtin_ctzl(*word);
    *word &= *word - 1;
    return bit;
}

static bool select_concerns(int n, const fd_set *r, const fd_set *w)
{
    bool concerns = false;
    for (int at = 0; at * SET_BITS < n; at++) {
        unsigned long reads = set_word(r, n, at), writes = set_word(w, n, at);
        while (writes && !concerns)
            concerns = matched_stream(at * SET_BITS + next_bit(&writes));
        while (reads) {
            int fd = at * SET_BITS + next_bit(&reads);
            struct epset *set = epset_of(fd);
            if (set)
                epset_nested(set);
            concerns = concerns || ivc_matched(fd);
        }
    }
    return concerns;
}

static nfds_t from_sets(int n, const fd_set *r, const fd_set *w, const fd_set *e,
                        struct pollfd *fds)
{
    nfds_t count = 0;
    for (int at = 0; at * SET_BITS < n; at++) {
        unsigned long reads = set_word(r, n, at), writes = set_word(w, n, at);
        unsigned long urgent = set_word(e, n, at), any = reads | writes | urgent;
        while (any) {
            int bit = next_bit(&any);
            short events = (short)((reads >> bit & 1 ? POLLIN : 0) |
                                   (writes >> bit & 1 ? POLLOUT : 0) |
                                   (urgent >> bit & 1 ? POLLPRI : 0));
            fds[count++] = (struct pollfd){.fd = at * SET_BITS + bit, .events = events};
        }
    }
    return count;
}

/* The same events that make the kernel's select report a descriptor. */
static int to_set(fd_set *set, const struct pollfd *p, short asked, short answers)
{
    if (!set || !(p->events & asked))
        return 0;
    if (p->revents & answers)
        return 1;
    FD_CLR(p->fd, set);
    return 0;
}

static int to_sets(const struct pollfd *fds, nfds_t count, fd_set *r, fd_set *w, fd_set *e)
{
    int bits = 0;
    for (nfds_t i = 0; i < count; i++) {
        bits += to_set(r, &fds[i], POLLIN, POLLIN | POLLHUP | POLLERR);
        bits += to_set(w, &fds[i], POLLOUT, POLLOUT | POLLERR);
        bits += to_set(e, &fds[i], POLLPRI, POLLPRI);
    }
    return bits;
}

static int select_by_poll(int n, fd_set *r, fd_set *w, fd_set *e, struct ivc_limit *limit,
                          const sigset_t *mask)
{
    struct pollfd fds[FD_SETSIZE];
    nfds_t count = from_sets(n, r, w, e, fds);
    int got = wait_poll(fds, count, limit, mask);
    for (nfds_t i = 0; got > 0 && i < count; i++)
        if (fds[i].revents & POLLNVAL)
            return (int)result(-EBADF);
    return got < 0 ? (int)result(got) : to_sets(fds, count, r, w, e);
}

EXPORT int pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
                   const sigset_t *mask)
{
    struct ivc_limit limit = {0};
    if (n > FD_SETSIZE || !select_concerns(n, r, w))
        return real(pselect)(n, r, w, e, timeout, mask);
    if (!ivc_timeout(timeout, &limit.timeout))
        return (int)result(-EINVAL);
    return select_by_poll(n, r, w, e, &limit, mask);
}

EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
    struct ivc_limit limit = {.timeout = UINT64_MAX};
    if (n > FD_SETSIZE || !select_concerns(n, r, w))
        return real(select)(n, r, w, e, timeout);
    if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0))
        return (int)result(-EINVAL);
    if (timeout) {
        struct timespec ts = {.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000,
                              .tv_nsec = timeout->tv_usec % 1000000 * 1000};
        (void)ivc_timeout(&ts, &limit.timeout); /* just checked */
    }
    int got = select_by_poll(n, r, w, e, &limit, NULL);
    if (timeout && limit.end) { /* Linux leaves the time that is left */
        uint64_t now = ivc_now(), left = now < limit.end ? limit.end - now : 0;
        timeout->tv_sec = (time_t)(left / IVC_NS_PER_S);
        timeout->tv_usec = (suseconds_t)(left % IVC_NS_PER_S / IVC_NS_PER_US);
    }
    return got;
}

/* ---- signals ----------------------------------------------------------------------------------- */

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return signals_action(sig, action, old, !foreign_process());
}

EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    return signals_signal(sig, handler, !foreign_process());
}

EXPORT int siginterrupt(int sig, int flag)
{
    return signals_interrupt(sig, flag);
}

/* ---- epoll ------------------------------------------------------------------------------------- */

static int new_epset(int fd)
{
    if (fd >= 0 && ivc_table) {
        if (ivc_object(fd))
            object_release(fd);
        epset_track(fd);
    }
    return fd;
}

EXPORT int epoll_create(int size)
{
    return new_epset(real(epoll_create)(size));
}

EXPORT int epoll_create1(int flags)
{
    return new_epset(real(epoll_create1)(flags));
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    struct epset *set = epset_of(epfd);
    struct sock *s = set ? ivc_sock(fd) : NULL;
    if (op == EPOLL_CTL_ADD && epset_of(fd))
        epset_nested(epset_of(fd));
    if (!s)
        return real(epoll_ctl)(epfd, op, fd, event);
    int r = epset_ctl(set, epfd, op, fd, s, event);
    if (s->stream)
        stream_heard(s);
    return (int)result(r);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    struct epset *set = epset_of(epfd);
    if (!set)
        return real(epoll_wait)(epfd, events, max, timeout);
    return (int)result(epset_wait(set, epfd, events, max, ms_to_ns(timeout), NULL));
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
                       const sigset_t *mask)
{
    struct epset *set = epset_of(epfd);
    if (!set)
        return real(epoll_pwait)(epfd, events, max, timeout, mask);
    return (int)result(epset_wait(set, epfd, events, max, ms_to_ns(timeout), mask));
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask)
{
    struct epset *set = epset_of(epfd);
    uint64_t ns;
    if (set && !ivc_timeout(timeout, &ns))
        return (int)result(-EINVAL);
    if (set)
        return (int)result(epset_wait(set, epfd, events, max, ns, mask));
    if (!real(epoll_pwait2))
        return (int)result(-ENOSYS);
    return real(epoll_pwait2)(epfd, events, max, timeout, mask);
}

/* ---- system calls made by number ------------------------------------------------------------------ */

struct raw {
    long number, a[6];
};

/* What changes the meaning of descriptors is noted as if made by name. */
static void note(const struct raw *r)
{
    int fd = (int)r->a[0];
    if (r->number == SYS_close && ivc_object(fd) && !own_is(fd) && !foreign_process())
        object_release(fd);
    if (r->number == SYS_io_uring_setup && ivc_table && !foreign_process())
        sock_hand_over_all(IVC_REASON_FOREIGN_IO, false); /* it will go past us */
}

/* True: made by one of our functions. */
static bool by_name(const struct raw *r, long *done)
{
    int fd = (int)r->a[0];
    void *at = (void *)r->a[1];
    size_t size = (size_t)r->a[2];
    if (r->number == SYS_close_range && ivc_table)
        *done = close_range((unsigned)r->a[0], (unsigned)r->a[1], (int)r->a[2]);
    else if (r->number == SYS_dup && ivc_object(fd))
        *done = dup(fd);
    else if (r->number == SYS_dup3 && (ivc_object(fd) || ivc_object((int)r->a[1])))
        *done = dup3(fd, (int)r->a[1], (int)r->a[2]);
#ifdef SYS_dup2
    else if (r->number == SYS_dup2 && (ivc_object(fd) || ivc_object((int)r->a[1])))
        *done = dup2(fd, (int)r->a[1]);
#endif
    else if (!ivc_matched(fd))
        return false;
    else if (r->number == SYS_fcntl && (int)r->a[1] == F_SETFL)
        *done = fcntl(fd, F_SETFL, r->a[2]);
    else if (r->number == SYS_ioctl && (unsigned)r->a[1] == FIONBIO)
        *done = ioctl(fd, FIONBIO, (void *)r->a[2]);
    else if (r->number == SYS_read)
        *done = read(fd, at, size);
    else if (r->number == SYS_write)
        *done = write(fd, at, size);
    else if (r->number == SYS_readv)
        *done = readv(fd, at, (int)r->a[2]);
    else if (r->number == SYS_writev)
        *done = writev(fd, at, (int)r->a[2]);
    else if (r->number == SYS_sendto)
        *done = sendto(fd, at, size, (int)r->a[3], (void *)r->a[4], (socklen_t)r->a[5]);
    else if (r->number == SYS_recvfrom)
        *done = recvfrom(fd, at, size, (int)r->a[3], (void *)r->a[4], (void *)r->a[5]);
    else if (r->number == SYS_sendmsg)
        *done = sendmsg(fd, at, (int)r->a[2]);
    else if (r->number == SYS_recvmsg)
        *done = recvmsg(fd, at, (int)r->a[2]);
    else
        return false;
    return true;
}

EXPORT long syscall(long number, ...)
{
    struct raw r = {.number = number};
    long done;
    va_list ap;
    va_start(ap, number);
    for (unsigned i = 0; i < 6; i++)
        r.a[i] = va_arg(ap, long);
    va_end(ap);
    if (by_name(&r, &done))
        return done;
    note(&r);
    return real(syscall)(number, r.a[0], r.a[1], r.a[2], r.a[3], r.a[4], r.a[5]);
}
