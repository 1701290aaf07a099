/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "flow.h"
#include "match.h"
#include "own.h"
#include "sock.h"
#include "util.h"

#define RETRY_FIRST_NS (100 * IVC_NS_PER_MS)
#define RETRY_MOST_NS (2 * IVC_NS_PER_S)
#define MAIL_BATCH 64
/* How often a process that only sends looks whether its controller lives. */
#define SENDER_LOOK_NS (250 * IVC_NS_PER_MS)
#define SEND_PATIENCE_NS (100 * 1000 * 1000)

struct control_state ivc_control_state = {.fd = -1, .mail_fd = -1};

static struct ivc_lock lock;
static int timer_fd = -1;
static uint64_t retry_ns = RETRY_FIRST_NS;
static uint64_t retry_at;
static struct ivc_stats_header *_Atomic stats;
static struct ivc_stats_header no_stats;
static struct ivc_stats_slot no_slot;
static bool was_welcomed; /* by an earlier controller */

struct ivc_stats_header *control_stats(void)
{
    struct ivc_stats_header *page = atomic_load_explicit(&stats, memory_order_acquire);
    return page ? page : &no_stats;
}

static struct ivc_stats_slot *slots(struct ivc_stats_header *page)
{
    return (struct ivc_stats_slot *)(void *)((uint8_t *)page + sizeof(*page));
}

struct ivc_stats_slot *control_stats_slot(uint32_t socket)
{
    struct ivc_stats_header *page = atomic_load_explicit(&stats, memory_order_acquire);
    for (unsigned i = 0; page && i < IVC_STATS_SLOTS; i++) {
        struct ivc_stats_slot *slot = &slots(page)[i];
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong(&slot->socket, &expected, socket))
            return slot;
    }
    if (page)
        count(&page->sockets_lost, 1);
    return &no_slot;
}

void control_stats_free(struct ivc_stats_slot *slot)
{
    if (slot == NULL || slot == &no_slot)
        return;
    uint8_t *bytes = (uint8_t *)slot;
    memset(bytes + sizeof(uint32_t), 0, sizeof(*slot) - sizeof(uint32_t));
    atomic_store_explicit(&slot->socket, 0, memory_order_release);
}

/* ---- mail set: what a sleeping thread listens to --------------------------- */

static void mail_add(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    (void)ivc_sys(SYS_epoll_ctl, ivc_control_state.mail_fd, EPOLL_CTL_ADD, fd, &event);
}

static bool mail_open(void)
{
    if (ivc_control_state.mail_fd >= 0)
        return true;
    int mail = own_fd((int)ivc_sys(SYS_epoll_create1, EPOLL_CLOEXEC));
    int timer = own_fd((int)ivc_sys(SYS_timerfd_create, CLOCK_MONOTONIC,
                                    TFD_NONBLOCK | TFD_CLOEXEC));
    if (mail < 0 || timer < 0) {
        own_close(mail);
        own_close(timer);
        return false;
    }
    ivc_control_state.mail_fd = mail;
    timer_fd = timer;
    mail_add(timer);
    return true;
}

static void timer_set(uint64_t ns)
{
    struct itimerspec spec = {0};
    spec.it_value.tv_sec = (time_t)(ns / IVC_NS_PER_S);
    spec.it_value.tv_nsec = (long)(ns % IVC_NS_PER_S);
    (void)ivc_sys(SYS_timerfd_settime, timer_fd, 0, &spec, NULL);
}

/* ---- connection ------------------------------------------------------------- */

static int connect_now(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
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
    return fd;
}

/* Called under the lock. The next attempt comes by timer, to a thread that
 * sleeps as well as to one that works. */
static void retry_later(void)
{
    retry_at = ivc_now() + retry_ns;
    timer_set(retry_ns);
    retry_ns = 2 * retry_ns < RETRY_MOST_NS ? 2 * retry_ns : RETRY_MOST_NS;
}

static void lose(void)
{
    int fd = atomic_exchange(&ivc_control_state.fd, -1);
    if (fd < 0)
        return;
    own_close(fd);
    atomic_store_explicit(&ivc_control_state.page, NULL, memory_order_release);
    flows_controller_lost();
    retry_ns = RETRY_FIRST_NS;
    retry_later();
}

static void hello(void)
{
    struct ivc_msg msg = {.type = IVC_MSG_HELLO, .arg = IVC_RING_ABI_MAJOR};
    (void)control_send(&msg, -1);
}

/* Called under the lock. */
static void reconnect(void)
{
    if (atomic_load(&ivc_control_state.fd) >= 0 || ivc_now() < retry_at || !mail_open())
        return;
    int fd = connect_now();
    if (fd < 0) {
        retry_later();
        return;
    }
    timer_set(0);
    retry_at = 0;
    atomic_store(&ivc_control_state.received, 0);
    atomic_fetch_add(&ivc_control_state.era, 1);
    atomic_store_explicit(&ivc_control_state.fd, fd, memory_order_release);
    mail_add(fd);
    hello();
    (void)match_load();
}

void control_ensure(void)
{
    if (atomic_load_explicit(&ivc_control_state.fd, memory_order_acquire) >= 0)
        return;
    if (!ivc_trylock(&lock))
        return;
    reconnect();
    ivc_unlock(&lock);
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

bool control_send(struct ivc_msg *msg, int fd)
{
    int to = atomic_load_explicit(&ivc_control_state.fd, memory_order_acquire);
    if (to < 0)
        return false;
    msg->version = IVC_PROTOCOL_VERSION;
    msg->pid = (uint32_t)ivc_sys(SYS_getpid);
    struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
        header.msg_control = &control;
        header.msg_controllen = sizeof(control);
    }
    return put(to, &header) == sizeof(*msg);
}

bool control_alive(void)
{
    int fd = atomic_load_explicit(&ivc_control_state.fd, memory_order_acquire);
    struct pollfd look = {.fd = fd};
    const struct timespec zero = {0};
    if (fd < 0)
        return false;
    (void)ivc_sys(SYS_ppoll, &look, 1, &zero, NULL, 0);
    return (look.revents & (POLLHUP | POLLERR)) == 0;
}

/* ---- mail -------------------------------------------------------------------- */

struct mail {
    struct ivc_msg msg;
    int fds[IVC_MSG_MAX_FDS];
    unsigned fd_count;
};

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

/* 1 = a message, 0 = none now, -1 = connection lost */
static int receive(struct mail *mail)
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
    mail->fd_count = 0;
    long n = ivc_sys(SYS_recvmsg, atomic_load(&ivc_control_state.fd), &header,
                     MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0)
        return -1;
    take_fds(&header, mail);
    if (n != sizeof(mail->msg) || mail->msg.version != IVC_PROTOCOL_VERSION)
        mail->msg.type = 0;
    return 1;
}

static void *map_shared(int fd, size_t size, int prot)
{
    struct stat st;
    if (ivc_sys(SYS_fstat, fd, &st) != 0 || (size_t)st.st_size < size)
        return NULL;
    void *map = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static void read_command(char out[16])
{
    long fd = ivc_sys(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    long n = ivc_sys(SYS_read, fd, out, 15);
    if (n > 0 && out[n - 1] == '\n')
        out[n - 1] = 0;
    (void)ivc_sys(SYS_close, fd);
}

/*
 * Pages of the controller before this one stay: a thread may be about to count
 * there. Those of the one before that are in nobody's hands: since then every
 * socket was shown anew, under its locks.
 */
static void keep_pages(const struct ivc_control *page, struct ivc_stats_header *fresh)
{
    static struct {
        const struct ivc_control *page;
        struct ivc_stats_header *stats;
    } now, before;
    if (before.page) {
        munmap((void *)(uintptr_t)before.page, sizeof(*before.page));
        munmap(before.stats, IVC_STATS_SIZE);
    }
    before = now;
    now.page = page;
    now.stats = fresh;
}

static void on_welcome(const struct mail *mail)
{
    if (mail->fd_count != 2 || atomic_load(&ivc_control_state.page))
        return;
    const struct ivc_control *page = map_shared(mail->fds[0], sizeof(*page), PROT_READ);
    struct ivc_stats_header *fresh = map_shared(mail->fds[1], IVC_STATS_SIZE,
                                                PROT_READ | PROT_WRITE);
    if (page && fresh) {
        fresh->magic = IVC_STATS_MAGIC;
        fresh->abi = IVC_STATS_ABI;
        fresh->pid = (uint32_t)ivc_sys(SYS_getpid);
        read_command(fresh->command);
        keep_pages(page, fresh);
        atomic_store_explicit(&stats, fresh, memory_order_release);
        atomic_store_explicit(&ivc_control_state.page, page, memory_order_release);
    }
    retry_ns = RETRY_FIRST_NS;
    sock_rematch_all();
    if (was_welcomed)
        flows_renew();
    was_welcomed = true;
    sock_announce_all();
}

static void handle(struct mail *mail)
{
    switch (mail->msg.type) {
    case IVC_MSG_WELCOME:
        on_welcome(mail);
        break;
    case IVC_MSG_ATTACH_TX:
        flow_attach_tx(&mail->msg, mail->fds, mail->fd_count);
        break;
    case IVC_MSG_ATTACH_RX:
        flow_attach_rx(&mail->msg, mail->fds, mail->fd_count);
        break;
    case IVC_MSG_PEER:
        flow_peer(&mail->msg, mail->fds, mail->fd_count);
        break;
    case IVC_MSG_ACTIVE:
        flow_active(&mail->msg);
        break;
    case IVC_MSG_CLOSE:
        flow_close(&mail->msg);
        break;
    case IVC_MSG_ROUTE:
        flow_route(&mail->msg);
        break;
    case IVC_MSG_TABLE:
        if (match_load())
            sock_rematch_all();
        break;
    default:
        break;
    }
    for (unsigned i = 0; i < mail->fd_count; i++)
        (void)ivc_sys(SYS_close, mail->fds[i]);
}

static void read_all(void)
{
    struct mail mail;
    for (unsigned i = 0; i < MAIL_BATCH; i++) {
        int got = receive(&mail);
        if (got < 0)
            lose();
        if (got <= 0)
            break;
        atomic_fetch_add_explicit(&ivc_control_state.received, 1, memory_order_relaxed);
        handle(&mail);
    }
    flows_retry_acks();
}

/* A process that only ever sends comes by no wait: it looks now and then, for
 * the welcome, and for a controller that has come back. */
#define IDLE_LOOKS 64u

void control_glance(void)
{
    static _Atomic uint32_t calls;
    if (atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) % IDLE_LOOKS == 0)
        control_read();
}

void control_read(void)
{
    if (ivc_control_state.mail_fd < 0 || !ivc_trylock(&lock))
        return; /* somebody is reading, or a signal handler interrupted the reader */
    if (atomic_load(&ivc_control_state.fd) < 0)
        reconnect();
    if (atomic_load(&ivc_control_state.fd) >= 0)
        read_all();
    ivc_unlock(&lock);
}

void control_poll_sending(void)
{
    static _Atomic uint64_t looked;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    uint64_t now = (uint64_t)ts.tv_sec * IVC_NS_PER_S + (uint64_t)ts.tv_nsec;
    bool welcomed = atomic_load_explicit(&ivc_control_state.page, memory_order_relaxed) != NULL;
    uint64_t pause = welcomed ? SENDER_LOOK_NS : 1; /* a tick of the coarse clock */
    if (!control_has_mail() &&
        now - atomic_load_explicit(&looked, memory_order_relaxed) < pause)
        return;
    atomic_store_explicit(&looked, now, memory_order_relaxed);
    control_read();
}

void control_after_fork(void)
{
    memset(&lock, 0, sizeof(lock));
    own_close(atomic_exchange(&ivc_control_state.fd, -1));
    own_close(ivc_control_state.mail_fd);
    own_close(timer_fd);
    ivc_control_state.mail_fd = -1;
    timer_fd = -1;
    atomic_store(&ivc_control_state.page, NULL);
    atomic_store(&stats, NULL);
    was_welcomed = false;
    retry_at = 0;
}
