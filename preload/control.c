/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "epoll.h"
#include "flow.h"
#include "fork.h"
#include "match.h"
#include "own.h"
#include "sock.h"
#include "trace.h"
#include "util.h"

#define RETRY_FIRST_NS (100 * IVC_NS_PER_MS)
#define RETRY_MOST_NS (2 * IVC_NS_PER_S)
#define MAIL_BATCH 64
#define LATE_NS (10 * IVC_NS_PER_MS) /* until a call that was interrupted has ended */
/* How often a process that never sleeps in a call of ours looks whether its controller lives. */
#define UNSLEPT_LOOK_NS (250 * IVC_NS_PER_MS)

struct control_state ivc_control_state = {.fd = -1, .mail_fd = -1};

static struct ivc_lock lock;
static int timer_fd = -1;
static uint64_t retry_ns = RETRY_FIRST_NS;
static uint64_t retry_at;
static struct ivc_stats_header *_Atomic stats;
static unsigned slot_count;
static struct ivc_stats_header no_stats;
static struct ivc_stats_slot no_slot;
static bool was_welcomed; /* by an earlier controller */
static bool leaves;       /* QUIESCE has come, and waits for a call that was interrupted */

struct ivc_stats_header *control_stats(void)
{
    struct ivc_stats_header *page = atomic_load_explicit(&stats, memory_order_acquire);
    return page ? page : &no_stats;
}

static struct ivc_stats_slot *slots(struct ivc_stats_header *page)
{
    return (struct ivc_stats_slot *)(void *)((uint8_t *)page + sizeof(*page));
}

struct ivc_stats_slot *control_no_slot(void)
{
    return &no_slot;
}

struct ivc_stats_slot *control_stats_slot(uint32_t socket)
{
    struct ivc_stats_header *page = atomic_load_explicit(&stats, memory_order_acquire);
    for (unsigned i = 0; page && i < slot_count; i++) {
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

void control_listen(int fd)
{
    if (ivc_control_state.mail_fd >= 0)
        mail_add(fd);
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

/* Expired and unread, it would keep everybody who listens from sleeping. */
static void timer_read(void)
{
    uint64_t expirations;
    (void)ivc_sys(SYS_read, timer_fd, &expirations, sizeof(expirations));
}

/* ---- connection ------------------------------------------------------------- */

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
    atomic_store_explicit(&ivc_control_state.sent, NULL, memory_order_release);
    trace_stop();
    ivc_host->disconnect(fd);
    flows_controller_lost();
    retry_ns = RETRY_FIRST_NS;
    retry_later();
}

/* Called under the lock. */
static void reconnect(void)
{
    if (atomic_load(&ivc_control_state.fd) >= 0 || ivc_now() < retry_at || !mail_open())
        return;
    uint64_t patience;
    int fd = ivc_host->connect(&patience);
    if (fd < 0) {
        retry_later();
        return;
    }
    timer_set(patience);
    retry_at = 0;
    atomic_fetch_add(&ivc_control_state.era, 1);
    atomic_store_explicit(&ivc_control_state.fd, fd, memory_order_release);
    mail_add(fd);
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

void control_sign(struct ivc_msg *msg)
{
    msg->version = IVC_PROTOCOL_VERSION;
    msg->pid = (uint32_t)ivc_sys(SYS_getpid);
}

bool control_send(struct ivc_msg *msg, const struct attached *with)
{
    int to = atomic_load_explicit(&ivc_control_state.fd, memory_order_acquire);
    if (to < 0)
        return false;
    control_sign(msg);
    return ivc_host->send(to, msg, with);
}

bool control_alive(void)
{
    int fd = atomic_load_explicit(&ivc_control_state.fd, memory_order_acquire);
    return fd >= 0 && ivc_host->alive(fd);
}

/* ---- mail -------------------------------------------------------------------- */

void control_command(char out[IVC_COMMAND_SIZE])
{
    long fd = ivc_sys(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? 0 : ivc_sys(SYS_read, fd, out, IVC_COMMAND_SIZE - 1);
    if (fd >= 0)
        (void)ivc_sys(SYS_close, fd);
    n = n < 0 ? 0 : n;
    out[n] = 0;
    if (n > 0 && out[n - 1] == '\n')
        out[n - 1] = 0;
}

/*
 * Pages of the controller before this one stay: a thread may be about to count
 * there. Those of the one before that are in nobody's hands: since then every
 * socket was shown anew, under its locks.
 */
static struct welcome current, before;

static void unmap_welcome(struct welcome *w)
{
    if (w->sent_map)
        munmap(w->sent_map, w->sent_size);
    if (w->stats)
        munmap(w->stats, w->stats_size);
    *w = (struct welcome){0};
}

static void keep_pages(const struct welcome *fresh)
{
    unmap_welcome(&before);
    before = current;
    current = *fresh;
}

static void introduce(struct ivc_stats_header *page)
{
    page->magic = IVC_STATS_MAGIC;
    page->abi = IVC_STATS_ABI;
    page->pid = (uint32_t)ivc_sys(SYS_getpid);
    control_command(page->command);
}

static void on_welcome(const struct mail *mail)
{
    struct welcome fresh;
    if (atomic_load(&ivc_control_state.sent))
        return;
    if (ivc_host->welcome(mail, &fresh)) {
        introduce(fresh.stats);
        keep_pages(&fresh);
        slot_count = (unsigned)((fresh.stats_size - sizeof(struct ivc_stats_header)) /
                                sizeof(struct ivc_stats_slot));
        atomic_store_explicit(&stats, fresh.stats, memory_order_release);
        atomic_store_explicit(&ivc_control_state.sent, fresh.sent, memory_order_release);
    } else {
        unmap_welcome(&fresh);
    }
    retry_ns = RETRY_FIRST_NS;
    if (ivc_host->moved())
        sock_renew_bells();
    sock_rematch_all();
    if (was_welcomed)
        flows_renew();
    was_welcomed = true;
    sock_announce_all();
}

/* What no save preserves goes; then the connection, which says that it has gone: on Xen, who sees
 * us leave counts on it that we map nothing of others'. A call that a handler has interrupted may
 * be at work with what we map, flows and trace: then all that waits for its end. */
static void quiesce(void)
{
    leaves = !sock_calls_ended();
    if (leaves)
        return;
    flows_quiesce();
    ivc_host->quiesce();
    sock_renew_bells();
    lose();
}

static void handle(struct mail *mail)
{
    switch (mail->msg.version == IVC_PROTOCOL_VERSION ? mail->msg.type : 0) {
    case IVC_MSG_WELCOME:
        on_welcome(mail);
        break;
    case IVC_MSG_ATTACH_TX:
        flow_attach_tx(mail);
        break;
    case IVC_MSG_ATTACH_RX:
        flow_attach_rx(mail);
        break;
    case IVC_MSG_PEER:
        flow_peer(mail);
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
    case IVC_MSG_QUIESCE:
        quiesce();
        break;
    case IVC_MSG_TRACE:
        trace_set(mail);
        break;
    default:
        break;
    }
    for (unsigned i = 0; i < mail->fd_count; i++)
        if (mail->fds[i] >= 0)
            (void)ivc_sys(SYS_close, mail->fds[i]);
}

static void read_all(void)
{
    sock_end_late();
    static struct mail mail; /* large, and the control lock is held */
    for (unsigned i = 0; i < MAIL_BATCH; i++) {
        int got = ivc_host->receive(atomic_load(&ivc_control_state.fd), &mail);
        if (got < 0)
            lose();
        if (got <= 0)
            break;
        handle(&mail);
        if (atomic_load(&ivc_control_state.fd) < 0)
            break; /* it said that we should leave */
    }
    flows_retry();
    reg_sync_all();
}

/* What could not be done within a handler. Before the welcome, or without a connection, the timer
 * is set for something else, and comes by soon enough. */
static void catch_up(void)
{
    if (leaves)
        quiesce();
    bool done = trace_end_late() && !leaves;
    if (!done && atomic_load(&ivc_control_state.sent))
        timer_set(LATE_NS);
}

/* A process that only ever sends comes by no wait: it looks now and then, for
 * the welcome, and for a controller that has come back. */
#define IDLE_LOOKS 64u

void control_glance(void)
{
    static _Atomic uint32_t calls;
    if (atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) % IDLE_LOOKS == 0 ||
        control_has_mail())
        control_read();
}

void control_read(void)
{
    if (ivc_control_state.mail_fd < 0 || !ivc_trylock(&lock))
        return; /* somebody is reading, or a signal handler interrupted the reader */
    timer_read();
    fork_look();
    if (atomic_load(&ivc_control_state.fd) < 0)
        reconnect();
    if (atomic_load(&ivc_control_state.fd) >= 0)
        read_all();
    catch_up();
    ivc_unlock(&lock);
}

void control_poll_unslept(void)
{
    static _Atomic uint64_t looked;
    uint64_t now = ivc_time_of(CLOCK_MONOTONIC_COARSE);
    bool welcomed = atomic_load_explicit(&ivc_control_state.sent, memory_order_relaxed) != NULL;
    uint64_t pause = welcomed ? UNSLEPT_LOOK_NS : 1; /* a tick of the coarse clock */
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
    atomic_store(&ivc_control_state.sent, NULL);
    atomic_store(&stats, NULL);
    if (ivc_host->inherited) {
        unmap_welcome(&before);
        unmap_welcome(&current);
    }
    before = current = (struct welcome){0};
    trace_after_fork();
    ivc_host->after_fork();
    was_welcomed = leaves = false;
    retry_at = 0;
}
