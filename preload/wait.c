/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "wait.h"

#include <alloca.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "control.h"
#include "epoll.h"
#include "real.h"
#include "recv.h"
#include "stream.h"

/* ---- how long to spin -------------------------------------------------------------- */

#define SPIN_FIRST_NS (30 * IVC_NS_PER_US)
#define SPIN_FLOOR_NS (20 * IVC_NS_PER_US)
#define SPIN_MOST_NS (2 * IVC_NS_PER_MS)
/* By what waking is seen to cost where others want the CPUs, too: more would take them from those. */
#define LEARNT_MOST_NS IVC_NS_PER_MS

/* Spinning must pay: a running average of how often it ended in data. Below
 * half it only takes the CPU from those who would make the data, so then only
 * every SPIN_PROBE-th wait tries whether that has changed. */
#define SCORE_FULL 256u
#define SCORE_SHARE 8u
#define SPIN_PROBE 16u

/* How many wakes make one judgement of what waking costs. */
#define WAKES_JUDGED 16u

static struct {
    _Atomic uint64_t most;  /* budget: about two wake-ups */
    _Atomic uint32_t score; /* 0 .. SCORE_FULL */
    _Atomic uint32_t waits;
    bool fixed; /* IVC_SPIN_US was given */
} spins = {.score = SCORE_FULL};

/* How often a spinning thread looks at the kernel, where system calls are cheap. */
#define SPIN_LOOK_NS (4 * IVC_NS_PER_US)

/* What clocks and system calls cost decides how often they are made while spinning. */
static struct {
    uint64_t spin_look; /* between looks at the kernel, ns */
    unsigned burst;     /* looks at a ring between looks at the clock */
} pace = {.spin_look = SPIN_LOOK_NS, .burst = 1};

static unsigned cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* A process pinned to one CPU may still have its peer on another: only a
 * machine that has one CPU cannot spin. */
static unsigned online_cpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : cpus();
}

/* Not atoi(): built with glibc 2.38 that asks for a strtol older ones have not. */
static uint64_t number(const char *digits)
{
    uint64_t n = 0;
    for (; *digits >= '0' && *digits <= '9' && n < SPIN_MOST_NS; digits++)
        n = 10 * n + (uint64_t)(*digits - '0');
    return n;
}

void wait_init(void)
{
    uint64_t ns = online_cpus() > 1 ? SPIN_FIRST_NS : 0;
    const char *text = getenv("IVC_SPIN_US");
    if (text && text[0] >= '0' && text[0] <= '9') {
        ns = number(text) * IVC_NS_PER_US;
        spins.fixed = true;
    }
    if (ns > SPIN_MOST_NS)
        ns = SPIN_MOST_NS;
    atomic_store(&spins.most, ns);
}

static uint64_t bounded(uint64_t ns, uint64_t most)
{
    return ns < SPIN_FLOOR_NS ? SPIN_FLOOR_NS : ns > most ? most : ns;
}

#define JUDGE_CALLS 16u
#define CLOCK_SLOW_NS (2 * IVC_NS_PER_US)
#define BURST_SLOW 512u
#define SPIN_LOOK_FACTOR 8u

/* Under some hypervisors a system call takes as long as ten ring hops, and the
 * clock is a system call. */
static void judge_calls(void)
{
    uint64_t begin = ivc_now();
    for (unsigned i = 0; i < JUDGE_CALLS; i++)
        (void)ivc_now();
    uint64_t clock = (ivc_now() - begin) / JUDGE_CALLS;
    begin = ivc_now();
    for (unsigned i = 0; i < JUDGE_CALLS; i++)
        (void)ivc_sys(SYS_getppid);
    uint64_t call = (ivc_now() - begin) / JUDGE_CALLS;
    if (SPIN_LOOK_FACTOR * call > pace.spin_look)
        pace.spin_look = SPIN_LOOK_FACTOR * call;
    if (clock > CLOCK_SLOW_NS) {
        pace.burst = BURST_SLOW;
        ivc_pace_clock = CLOCK_MONOTONIC_COARSE;
    }
}

#define JUDGE_RINGS 4u
#define JUDGE_PATIENCE_NS (20 * 1000 * 1000)
/* From ringing to a readable descriptor in one thread is about a fifth of what it takes until a
 * sleeper is back in its program, whose vCPU was idle. */
#define JUDGE_FACTOR 5u
/* An answer that comes through a relay takes two wake-ups of the relay's, and one of ours. */
#define JUDGED_WAKES 3u

void wait_judge_bell(const struct ivc_bell *bell)
{
    struct pollfd look = {.fd = bell->fd, .events = POLLIN};
    const struct timespec patience = {.tv_nsec = JUDGE_PATIENCE_NS};
    uint64_t least = UINT64_MAX;
    judge_calls();
    if (spins.fixed)
        return;
    (void)ivc_bell_consume(bell); /* whoever binds a channel finds it rung */
    for (unsigned i = 0; i < JUDGE_RINGS; i++) {
        struct timespec limit = patience;
        uint64_t begin = ivc_now();
        ivc_bell_ring(bell);
        (void)ivc_sys(SYS_ppoll, &look, 1, &limit, NULL, 0);
        uint64_t took = ivc_now() - begin;
        least = took < least ? took : least;
        (void)ivc_bell_consume(bell);
    }
    uint64_t cost = JUDGE_FACTOR * least;
    atomic_store_explicit(&control_stats()->wake_cost_ns, cost, memory_order_relaxed);
    atomic_store_explicit(&spins.most, bounded(JUDGED_WAKES * cost, SPIN_MOST_NS),
                          memory_order_relaxed);
}

uint64_t wait_spin_budget(void)
{
    uint32_t score = atomic_load_explicit(&spins.score, memory_order_relaxed);
    if (score < SCORE_FULL / 2 && !spins.fixed &&
        atomic_fetch_add_explicit(&spins.waits, 1, memory_order_relaxed) % SPIN_PROBE)
        return 0;
    return atomic_load_explicit(&spins.most, memory_order_relaxed);
}

/* Not exact between threads, and need not be. */
static void rate(bool hit)
{
    uint32_t score = atomic_load_explicit(&spins.score, memory_order_relaxed);
    score = hit ? score + (SCORE_FULL - score) / SCORE_SHARE : score - score / SCORE_SHARE;
    atomic_store_explicit(&spins.score, score, memory_order_relaxed);
}

void wait_spin_hit(const struct spin *spin)
{
    if (spin->budget == 0)
        return;
    rate(true);
    count(&control_stats()->spin_hits, 1);
}

void wait_spin_miss(const struct spin *spin)
{
    if (spin->budget == 0)
        return;
    rate(false);
    count(&control_stats()->spin_misses, 1);
}

/* A sleep shorter than the budget was one that spinning would have saved. */
void wait_slept(uint64_t slept)
{
    if (slept < atomic_load_explicit(&spins.most, memory_order_relaxed))
        rate(true);
}

/* What there is to see between two looks at the clock; SPUN_OVER = nothing. */
static enum spun spin_burst(const struct spin *spin, bool (*hint)(void *), void *who,
                            unsigned width)
{
    for (unsigned i = 0; i < pace.burst; i += width) {
        if (hint(who))
            return SPUN_RING;
        if (control_has_mail())
            return SPUN_MAIL;
        if (spin->ended(spin->mark))
            return SPUN_SIGNAL;
        ivc_pause();
    }
    return SPUN_OVER;
}

/* The first burst comes before any look at the clock, so that what is about to come costs none, and
 * where it is long it comes whatever the budget: sleeping takes more system calls than it is long.
 * Whoever comes back has found nothing where `hint` saw something: then the clock goes first. */
enum spun wait_spin(struct spin *spin, struct ivc_limit *limit, bool (*hint)(void *), void *who,
                    unsigned width)
{
    enum spun spun = SPUN_OVER;
    if (!spin->begun) {
        spin->begun = true;
        spin->budget = wait_spin_budget();
        if (spin->budget || pace.burst > 1)
            spun = spin_burst(spin, hint, who, width);
    }
    while (spun == SPUN_OVER && spin->budget) {
        uint64_t now = ivc_now();
        if (spin->until == 0) {
            uint64_t end = ivc_limit_end(limit, now);
            spin->until = now + spin->budget < end ? now + spin->budget : end;
            spin->look = now - spin->looked < KERNEL_LOOK_NS ? now + pace.spin_look : now;
        }
        if (now >= spin->until) {
            wait_spin_miss(spin);
            return SPUN_OVER;
        }
        if (now >= spin->look) {
            spin->look = now + pace.spin_look;
            return SPUN_KERNEL;
        }
        spun = spin_burst(spin, hint, who, width);
    }
    return spun;
}

/* When this thread was last woken by a bell; 0 = the next record will not tell
 * what waking costs. */
static __thread uint64_t woken_at __attribute__((tls_model("initial-exec")));

void wait_woken(void)
{
    woken_at = ivc_now();
    count(&control_stats()->wakes, 1);
}

/* For whoever looks on; nothing here goes by it. A stamp from after the waking is of no message that
 * was waited for. */
static void count_latency(struct ivc_stats_header *stats, int16_t took)
{
    if (took >= 0)
        count(&stats->latency[took ? 32 - __builtin_clz((unsigned)took) : 0], 1);
}

void wait_learn_wake_cost(uint16_t stamp)
{
    uint16_t took = (uint16_t)((uint16_t)(woken_at >> 10) - stamp);
    uint64_t cost = (uint64_t)took << 10;
    struct ivc_stats_header *stats = control_stats();
    if (woken_at == 0)
        return;
    woken_at = 0; /* one record tells, or the next stamp would be compared with this waking */
    count_latency(stats, (int16_t)took);
    if (cost > LEARNT_MOST_NS)
        return;
    /* The least of some: a wake that came late because the CPUs were busy says
     * nothing about what sleeping costs, and spinning would make them busier. */
    static _Atomic uint64_t least = UINT64_MAX;
    static _Atomic uint32_t seen;
    if (cost < atomic_load_explicit(&least, memory_order_relaxed))
        atomic_store_explicit(&least, cost, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&seen, 1, memory_order_relaxed) % WAKES_JUDGED != WAKES_JUDGED - 1)
        return;
    cost = atomic_exchange_explicit(&least, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&stats->wake_cost_ns, cost, memory_order_relaxed);
    if (spins.fixed || atomic_load_explicit(&spins.most, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&spins.most, bounded(2 * cost, LEARNT_MOST_NS), memory_order_relaxed);
}

/* ---- one socket --------------------------------------------------------------------- */

static struct timespec *to_timespec(uint64_t ns, struct timespec *ts)
{
    if (ns == UINT64_MAX)
        return NULL;
    ts->tv_sec = (time_t)(ns / IVC_NS_PER_S);
    ts->tv_nsec = (long)(ns % IVC_NS_PER_S);
    return ts;
}

/* Has a handler run that ends this receive? With a time limit any does. */
static bool interrupted(const struct wait *wait)
{
    return wait->s->rcvtimeo ? signals_since(wait->mark) : signals_ended_since(wait->mark);
}

static bool hint_one(void *who)
{
    return recv_hint(who);
}

/* True: worth another look now. Comes back for the kernel's sake in between. */
static bool spin_one(struct wait *wait)
{
    struct ivc_limit none = {.timeout = UINT64_MAX}; /* SO_RCVTIMEO is looked at before sleeping */
    wait->spin.mark = wait->mark;
    wait->spin.ended = wait->s->rcvtimeo ? signals_since : signals_ended_since;
    enum spun spun = wait_spin(&wait->spin, &none, hint_one, wait->s, 1);
    if (spun == SPUN_RING)
        wait_spin_hit(&wait->spin);
    wait->kernel = spun == SPUN_KERNEL;
    return spun != SPUN_OVER && spun != SPUN_SIGNAL;
}

/* Whoever shares a socket with others is not on rings; and what its own process does we see. */
static bool turned_nonblocking(struct wait *wait)
{
    if (recv_has_rings(wait->s) && !wait->s->unusable)
        return wait->s->nonblock;
    long flags = ivc_sys(SYS_fcntl, wait->fd, F_GETFL);
    wait->s->nonblock = flags >= 0 && (flags & O_NONBLOCK);
    return wait->s->nonblock;
}

static int sleep_one(struct wait *wait, uint64_t limit)
{
    struct sock *s = wait->s;
    struct pollfd fds[3] = {
        {.fd = wait->seen ? -1 : wait->fd, .events = POLLIN},
        {.fd = s->bell.fd, .events = POLLIN},
        {.fd = control_mail_fd(), .events = POLLIN},
    };
    struct timespec ts;
    struct signal_hold hold;
    uint64_t begin = ivc_now();
    int saved = errno, n = 0, error = 0;
    const sigset_t *mask = signals_hold(&hold, NULL);
    if (interrupted(wait))
        error = EINTR;
    else if ((n = real(ppoll)(fds, 3, to_timespec(limit, &ts), mask)) < 0)
        error = errno;
    signals_release(&hold);
    errno = saved;
    wait->kernel = n <= 0 || fds[0].revents != 0;
    if (n > 0 && fds[1].revents) {
        wait->rung = true;
        wait_woken();
        wait_slept(woken_at - begin);
        if (!wait->kernel && !wait->seen)
            wait->empty = woken_at;
    }
    if (n > 0 && fds[2].revents)
        control_read();
    return error;
}

/* Neither ring nor kernel says that there is more than has been peeked already: how soon we look. */
#define PEEK_AGAIN_NS IVC_NS_PER_MS

/* Before arming and looking: what rings after this is seen. */
static void clear_bell(struct wait *wait)
{
    struct sock *s = wait->s;
    wait->consumed |= ivc_bell_consume(&s->bell);
    wait->rung = false;
    reg_stir(s);
    if (s->stream && stream_made_room(s))
        wait_pass_on(s);
}

/* There is nothing, if the kernel says so, too. */
static int give_up(struct wait *wait, bool asked)
{
    wait->kernel = !asked;
    return asked ? -EAGAIN : 0;
}

int wait_one(struct wait *wait)
{
    struct sock *s = wait->s;
    const bool asked = wait->kernel;
    wait->kernel = false;
    if (!wait->seen && recv_has_rings(s) && spin_one(wait))
        return 0;
    wait->spin = (struct spin){0};
    if (turned_nonblocking(wait))
        return give_up(wait, asked);
    uint64_t now = ivc_now(), limit = UINT64_MAX;
    if (s->rcvtimeo) {
        if (!wait->deadline)
            wait->deadline = now + s->rcvtimeo;
        if (now >= wait->deadline)
            return give_up(wait, asked);
        limit = wait->deadline - now;
    }
    if (wait->rung)
        clear_bell(wait);
    atomic_fetch_add(&s->bell_waits, 1);
    atomic_fetch_add(&s->read_waits, 1);
    int error = 0;
    bool quiet = recv_arm(s, &limit);
    if (wait->seen && limit > PEEK_AGAIN_NS)
        limit = PEEK_AGAIN_NS;
    if ((quiet || wait->seen) && !control_has_mail())
        error = sleep_one(wait, limit);
    atomic_fetch_sub(&s->read_waits, 1);
    if (atomic_fetch_sub(&s->bell_waits, 1) == 1 && wait->rung && !s->regs)
        clear_bell(wait); /* or the next call would be woken by it again */
    if (error == EINTR)
        return s->rcvtimeo || !signals_restart(wait->mark) ? -EINTR : 0;
    return -error;
}

void wait_pass_on(struct sock *s)
{
    if (atomic_load(&s->bell_waits) > 0 || reg_sleepers(s))
        ivc_bell_ring(&s->bell);
}

/* ---- poll ------------------------------------------------------------------------------ */

/* When this thread last looked at the kernel in poll(). */
static __thread uint64_t poll_looked __attribute__((tls_model("initial-exec")));

bool wait_poll_concerns(const struct pollfd *fds, nfds_t n)
{
    bool concerns = false;
    for (nfds_t i = 0; i < n; i++) {
        struct object *object = fds[i].fd >= 0 ? ivc_object(fds[i].fd) : NULL;
        if (object && object->type == OBJECT_EPSET)
            epset_nested((struct epset *)object);
        else if (object && object->type == OBJECT_SOCK)
            concerns = concerns || sock_matched((struct sock *)object);
    }
    return concerns;
}

#define POLL_READ (POLLIN | POLLRDNORM)
#define POLL_WRITE (POLLOUT | POLLWRNORM)

struct polling {
    struct pollfd *fds;
    nfds_t n;
    struct pollfd *all; /* fds, then a bell for each matched one, then the mail */
    nfds_t bells;
    const sigset_t *mask;
    struct signal_mark mark; /* handlers run before the call began */
    bool built; /* `all` is filled in */
    bool asked; /* the kernel, in this call */
    bool asks;  /* for something that rings do not answer: what they have is not all there is */
    bool rung, consumed;
};

static inline struct sock *polled(const struct pollfd *p)
{
    if (p->fd < 0 || !(p->events & (POLL_READ | POLL_WRITE)))
        return NULL;
    struct sock *s = ivc_matched(p->fd);
    return s && (s->stream || (p->events & POLL_READ)) ? s : NULL;
}

/* What the rings say; `kernel` is what it said of reading. */
static short poll_ready(struct sock *s, short events, bool kernel)
{
    short ready = 0;
    if (s->stream)
        stream_heard(s);
    if ((events & POLL_READ) && (kernel || recv_may_have(s)) && recv_readable(s, kernel))
        ready = (short)(events & POLL_READ);
    if ((events & POLL_WRITE) && stream_on_ring(s) && stream_writable(s))
        ready = (short)(ready | (events & POLL_WRITE));
    return ready;
}

static bool asks_kernel(const struct pollfd *p, const struct sock *s)
{
    int ours = POLL_READ | (s && stream_on_ring(s) ? POLL_WRITE : 0) | POLLERR | POLLHUP;
    return p->fd >= 0 && (p->events & ~ours);
}

static int poll_rings(struct polling *p)
{
    int ready = 0;
    p->asks = false;
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        p->asks |= asks_kernel(&p->fds[i], s);
        p->fds[i].revents = s ? poll_ready(s, p->fds[i].events, false) : 0;
        ready += p->fds[i].revents != 0;
    }
    return ready;
}

/* Merge what the kernel says of the application's descriptors. */
static int poll_merge(struct polling *p)
{
    int ready = 0;
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        short kernel = p->all[i].revents;
        if (s) {
            bool reads = (kernel & POLL_READ) != 0;
            kernel &= (short)~(POLL_READ | (stream_on_ring(s) ? POLL_WRITE : 0));
            kernel = (short)(kernel | poll_ready(s, p->fds[i].events, reads));
            if ((kernel & POLL_READ) && !reads)
                recv_kernel_empty(s, poll_looked);
        }
        p->fds[i].revents = kernel;
        ready += kernel != 0;
    }
    return ready;
}

/* The kernel's, then a bell for each of ours, and the mail. */
static void build_all(struct polling *p)
{
    nfds_t at = p->n;
    memcpy(p->all, p->fds, p->n * sizeof(*p->fds));
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        if (s)
            p->all[at++] = (struct pollfd){.fd = s->bell.fd, .events = POLLIN};
    }
    p->bells = at - p->n;
    p->all[at] = (struct pollfd){.fd = control_mail_fd(), .events = POLLIN};
    p->built = true;
}

/* Of the application's descriptors; if `asleep`, also of ours. */
static int poll_kernel(struct polling *p, bool asleep, uint64_t limit)
{
    struct timespec ts;
    int saved = errno;
    if (!p->built)
        build_all(p);
    nfds_t n = asleep ? p->n + p->bells + 1 : p->n;
    for (nfds_t i = 0; i < p->n; i++) { /* OUT of a stream on its ring is not the kernel's */
        struct sock *s = polled(&p->fds[i]);
        bool ours = s && stream_on_ring(s);
        p->all[i].events = (short)(p->fds[i].events & (ours ? ~POLL_WRITE : ~0));
    }
    struct signal_hold hold = {.held = false};
    const sigset_t *mask = limit ? signals_hold(&hold, p->mask) : p->mask;
    int error = 0;
    if (limit && signals_since(p->mark))
        error = EINTR;
    else if (real(ppoll)(p->all, n, to_timespec(limit, &ts), mask) < 0)
        error = errno;
    signals_release(&hold);
    errno = saved;
    poll_looked = ivc_pace();
    p->asked = true;
    if (error)
        for (nfds_t i = 0; i < n; i++)
            p->all[i].revents = 0;
    return -error;
}

static bool poll_hint(void *who)
{
    const struct polling *p = who;
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        if (s && recv_has_rings(s) && recv_hint(s))
            return true;
    }
    return false;
}

static bool poll_has_rings(const struct polling *p)
{
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        if (s && recv_has_rings(s))
            return true;
    }
    return false;
}

/* Positive: descriptors ready; 0: nothing within the budget; -errno. */
static int poll_spin(struct polling *p, struct ivc_limit *limit)
{
    struct spin spin = {.mark = p->mark, .ended = signals_since, .looked = poll_looked};
    int ready = 0;
    if (!poll_has_rings(p))
        return 0;
    while (!ready) {
        enum spun spun = wait_spin(&spin, limit, poll_hint, p, (unsigned)p->n);
        if (spun == SPUN_OVER || spun == SPUN_SIGNAL)
            return 0;
        if (spun == SPUN_KERNEL) {
            int error = poll_kernel(p, false, 0);
            ready = error ? error : poll_merge(p);
            continue;
        }
        control_poll();
        ready = poll_rings(p);
        if (ready)
            wait_spin_hit(&spin);
        if (ready && p->asks) {
            int error = poll_kernel(p, false, 0);
            ready = error ? error : poll_merge(p);
        }
    }
    return ready;
}

static int poll_spin_masked(struct polling *p, struct ivc_limit *limit)
{
    sigset_t before;
    if (!p->mask)
        return poll_spin(p, limit);
    signals_swap(p->mask, &before);
    int ready = poll_spin(p, limit);
    signals_swap(&before, NULL);
    return ready;
}

static struct sock *of_bell(const struct polling *p, int bell)
{
    struct sock *s = NULL;
    for (nfds_t i = 0; i < p->n && !(s && s->bell.fd == bell); i++)
        s = polled(&p->fds[i]);
    return s && s->bell.fd == bell ? s : NULL;
}

static bool reads(const struct polling *p, const struct sock *s)
{
    bool found = false;
    for (nfds_t i = 0; i < p->n && !found; i++)
        found = (p->fds[i].events & POLL_READ) && polled(&p->fds[i]) == s;
    return found;
}

/* Those that have rung; if `alone`, but those that others wait for, too. */
static void poll_clear_bells(struct polling *p, bool alone)
{
    bool left = false;
    for (struct pollfd *bell = p->all + p->n; p->rung && bell < p->all + p->n + p->bells; bell++) {
        struct sock *s = bell->revents ? of_bell(p, bell->fd) : NULL;
        if (bell->revents && !s)
            bell->fd = -1; /* closed meanwhile */
        if (!s)
            continue;
        if (alone && (atomic_load(&s->bell_waits) > 0 || s->regs)) {
            left = true;
            continue;
        }
        bell->revents = 0;
        if (!ivc_bell_consume(&s->bell))
            continue;
        p->consumed = true;
        reg_stir(s);
        if (!reads(p, s) && recv_unread(s))
            wait_pass_on(s); /* it was a reader's, who may not have looked yet */
    }
    p->rung = left;
}

static bool poll_arm(struct polling *p, uint64_t *limit, int step)
{
    bool quiet = true;
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        if (!s)
            continue;
        const uint32_t by = step > 0 ? 1 : UINT32_MAX;
        atomic_fetch_add(&s->bell_waits, by);
        if (p->fds[i].events & POLL_READ)
            atomic_fetch_add(&s->read_waits, by);
        if (step > 0 && (p->fds[i].events & POLL_READ) && !recv_arm(s, limit))
            quiet = false;
        if (step > 0 && (p->fds[i].events & POLL_WRITE) && stream_on_ring(s) &&
            !stream_arm_out(s, limit))
            quiet = false;
    }
    return quiet;
}

static int poll_sleep(struct polling *p, uint64_t begin, uint64_t limit)
{
    int error = 0;
    if (!p->built)
        build_all(p);
    poll_clear_bells(p, false);
    if (poll_arm(p, &limit, 1) && !control_has_mail()) {
        error = poll_kernel(p, true, limit);
        for (nfds_t i = p->n; !error && i < p->n + p->bells; i++)
            p->rung |= p->all[i].revents != 0;
        if (p->rung) {
            wait_woken();
            wait_slept(woken_at - begin);
        }
        if (!error && p->all[p->n + p->bells].revents)
            control_read();
    } else {
        for (nfds_t i = 0; i < p->n; i++)
            p->all[i].revents = 0;
    }
    (void)poll_arm(p, &limit, -1);
    poll_clear_bells(p, true); /* or the next call would be woken by them again */
    return error;
}

static void poll_pass_on(const struct polling *p)
{
    for (nfds_t i = 0; i < p->n; i++) {
        struct sock *s = polled(&p->fds[i]);
        if (s && (p->fds[i].revents & POLL_READ))
            wait_pass_on(s);
    }
}

static int poll_loop(struct polling *p, struct ivc_limit *limit)
{
    for (;;) {
        control_poll();
        int error = 0, ready = poll_rings(p);
        if (ready && !p->asks && ivc_pace() - poll_looked < KERNEL_LOOK_NS)
            return ready;
        if (ready || limit->timeout == 0) { /* else who spins or sleeps asks the kernel then */
            error = poll_kernel(p, false, 0);
            ready = error ? error : poll_merge(p);
            if (ready || limit->timeout == 0)
                return ready;
        }
        ready = poll_spin_masked(p, limit);
        if (ready)
            return ready;
        if (signals_since(p->mark))
            return -EINTR;
        uint64_t now = ivc_now(), end = ivc_limit_end(limit, now);
        if (now >= end && p->asked)
            return 0;
        if (now >= end) {
            error = poll_kernel(p, false, 0);
            return error ? error : poll_merge(p);
        }
        error = poll_sleep(p, now, end == UINT64_MAX ? UINT64_MAX : end - now);
        ready = error ? error : poll_merge(p);
        if (ready || (p->asked && ivc_now() >= end))
            return ready;
    }
}

#define POLL_STACK 512u

int wait_poll(struct pollfd *fds, nfds_t n, struct ivc_limit *limit, const sigset_t *mask)
{
    struct polling p = {.fds = fds, .n = n, .mask = mask, .mark = signals_mark()};
    size_t size = (2 * n + 1) * sizeof(struct pollfd);
    if (n <= POLL_STACK) {
        p.all = alloca(size);
    } else {
        p.all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p.all == MAP_FAILED)
            return -ENOMEM;
    }
    int ready = poll_loop(&p, limit);
    if (ready > 0 && p.consumed)
        poll_pass_on(&p);
    if (n > POLL_STACK)
        munmap(p.all, size);
    return ready;
}
