/* SPDX-License-Identifier: Apache-2.0 */
/* epoll_wait: what rings and kernel have becomes one event a descriptor. */
#define _GNU_SOURCE
#include "control.h"
#include "match.h"
#include "real.h"
#include "recv.h"
#include "reg.h"
#include "signals.h"
#include "wait.h"

/* So many waits in vain, and a registration rests: about what they cost is what its bell costs. */
#define REST_AFTER 128u

/* Events at a time: as many as can be merged. */
#define MERGE_MAX 128

struct gather {
    struct epset *set;
    int epfd;
    struct epoll_event *out;
    int max;
    int n;                       /* events in out */
    struct reg *from[MERGE_MAX]; /* whose the events are; NULL = none of ours */
    const sigset_t *mask;
    struct signal_mark mark; /* handlers run before the call began */
    bool consumed;
    unsigned rings; /* of those awake, how many have rings */
    bool ring_hit;  /* one of them has made an event */
    bool rung;      /* a bell was among what the kernel reported */
    struct sock *share[MERGE_MAX]; /* whose news others asleep may not have seen */
    int shares;
    bool asking; /* somebody asks for level events that rings do not answer; an edge has its time */
    bool asked;  /* the kernel, in this call */
    uint64_t complete; /* when it told last of all it has; 0: not yet, or there was no room */
    bool ages;   /* the first look of a wait, which counts */
    bool weary;  /* one is to rest whose bell is to be cleared first */
};

static void put(struct gather *g, struct reg *r, uint32_t events)
{
    if (r->at < g->n && r->at < MERGE_MAX && g->from[r->at] == r) {
        g->out[r->at].events |= events; /* rings and kernel merge into one event */
        return;
    }
    r->at = g->n;
    g->out[g->n].events = events;
    g->out[g->n].data = r->data;
    if (g->n < MERGE_MAX)
        g->from[g->n] = r;
    g->n++;
    if (r->events & EPOLLONESHOT) {
        r->disabled = true;
        reg_recount(r);
    }
}

static void put_other(struct gather *g, const struct epoll_event *e)
{
    if (g->n < MERGE_MAX)
        g->from[g->n] = NULL;
    g->out[g->n++] = *e;
}

static bool due_in(struct reg *r)
{
    if (!(r->events & READ_EVENTS))
        return false;
    if (!(r->events & EPOLLET))
        return recv_readable(r->s, false);
    return recv_news(r->s, &r->seen);
}

/* An edge of OUT: there is room again after it was full, or somebody has just asked. */
static bool due_out(struct reg *r)
{
    if (!reg_writes(r) || reg_told_out(r) || !stream_writable(r->s))
        return false;
    r->fulls = atomic_load(&r->s->stream->fulls);
    return true;
}

/* What the kernel says of OUT; an edge told before the connection left the ring is not told again
 * for that. Whoever was told to wait since has changed `fulls`. */
static uint32_t kernel_out(struct reg *r, uint32_t events)
{
    if (!(events & WRITE_EVENTS) || !(r->events & EPOLLET) || !r->s->stream)
        return events;
    uint64_t fulls = atomic_load(&r->s->stream->fulls);
    if (r->echo && fulls == r->fulls && !(events & ~WRITE_EVENTS))
        events = 0;
    r->echo = false;
    r->fulls = fulls;
    return events;
}

/* What the rings make of a registration. */
static uint32_t due_now(struct reg *r)
{
    uint32_t events = 0;
    if (due_in(r))
        events |= r->events & READ_EVENTS;
    if (due_out(r))
        events |= r->events & WRITE_EVENTS;
    else if (events && reg_writes(r) && stream_writable(r->s))
        events |= r->events & WRITE_EVENTS; /* as the kernel: an edge tells all there is */
    return events;
}

/* Has somebody said reg_stir()? Then all is looked at anew. */
static void wake_stirred(struct epset *set)
{
    uint32_t stirs = atomic_load(&ivc_stirs);
    if (set->stirs == stirs)
        return;
    set->stirs = stirs;
    reg_awake_all(set);
}

/* The kernel has told of something to read, or may have before: an edge. */
static bool told_in(const struct gather *g, const struct reg *r)
{
    return (r->events & EPOLLET) || !(r->events & READ_EVENTS) ||
           (r->at < g->n && r->at < MERGE_MAX && g->from[r->at] == r);
}

/* One that is awake. */
static void look_at(struct gather *g, struct reg *r)
{
    if (!reg_listens(r) || (!recv_has_rings(r->s) && !r->s->stash.full)) {
        reg_rest(r);
        return;
    }
    g->rings++;
    if (r->rung && g->complete && !told_in(g, r))
        recv_kernel_empty(r->s, g->complete);
    uint32_t events = due_now(r);
    if (events) {
        r->vain = 0;
        g->ring_hit = true;
        put(g, r, events);
    } else if (g->ages && ++r->vain >= REST_AFTER) {
        g->weary |= r->rung;
        reg_rest(r);
    }
}

/* What the rings have, up to `limit` events. True: there was no room for all of it; then it comes
 * first next time. */
static bool collect(struct gather *g, int limit)
{
    struct epset *set = g->set;
    bool more = false;
    g->rings = 0;
    if (!ivc_lock(&set->lock))
        return false;
    wake_stirred(set);
    struct reg *last = set->awake ? set->awake->awake_prev : NULL, *next = set->awake;
    for (struct reg *r = NULL; r != last && !more;) {
        r = next;
        next = r->awake_next; /* it may go to rest */
        more = g->n >= limit;
        if (more)
            set->awake = r;
        else
            look_at(g, r);
    }
    g->asking = set->asking > 0;
    g->ages = false;
    ivc_unlock(&set->lock);
    return more;
}

/* Does a thread asleep elsewhere not know yet that the socket can be read? reg_lock held. */
static bool untold(struct sock *s, const struct epset *but)
{
    bool found = atomic_load(&s->read_waits) > 0;
    for (struct reg *r = s->regs; r && !found; r = r->sock_next) {
        if (r->set == but || !atomic_load(&r->set->sleepers) || !ivc_lock(&r->set->lock))
            continue;
        found = reg_listens(r) && (r->events & READ_EVENTS) &&
                (!(r->events & EPOLLET) || recv_arrivals(s) != r->seen);
        ivc_unlock(&r->set->lock);
    }
    return found && recv_readable(s, false);
}

static void share_bell(struct sock *s, const struct epset *but)
{
    if (!ivc_lock(&ivc_reg_lock)) {
        reg_stir(s); /* in a handler */
        return;
    }
    reg_wake(s); /* where it rests, somebody counts on the bell */
    if (sock_matched(s) && untold(s, but))
        ivc_bell_ring(&s->bell);
    ivc_unlock(&ivc_reg_lock);
}

/* What the kernel had is ours now, and other sets that were woken for it find nothing there. */
static void taken(struct gather *g, struct reg *r)
{
    if (!r->s->stash.full)
        return;
    reg_awake(r); /* the kernel does not tell of it again */
    if (g->shares < MERGE_MAX)
        g->share[g->shares++] = r->s;
}

static void share_all(struct gather *g)
{
    for (int i = 0; i < g->shares; i++)
        share_bell(g->share[i], g->set);
    g->shares = 0;
}

/* One event of the kernel for a managed registration. */
static void translate_one(struct gather *g, struct reg *r, uint32_t events)
{
    if (r->disabled)
        return;
    if (r->gone) {
        reg_bury(r, g->epfd);
        return;
    }
    if (events & ~(r->events | EPOLLERR | EPOLLHUP))
        (void)reg_tell_kernel(r, g->epfd, EPOLL_CTL_MOD);
    events &= r->events | EPOLLERR | EPOLLHUP;
    if ((events & READ_EVENTS) && sock_matched(r->s) && !recv_readable(r->s, true))
        events &= ~READ_EVENTS; /* only a twin of what has been delivered */
    if (r->s && reg_writes(r)) {
        events &= ~WRITE_EVENTS; /* asked for before it got on the ring */
        if (events && stream_writable(r->s))
            events |= r->events & WRITE_EVENTS;
    } else if (r->s) {
        events = kernel_out(r, events);
    }
    if (events & READ_EVENTS) {
        r->seen = recv_arrivals(r->s);
        taken(g, r);
    }
    if (events)
        put(g, r, events);
    else if (r->events & EPOLLONESHOT) /* the kernel has disabled it for nothing */
        (void)reg_tell_kernel(r, g->epfd, EPOLL_CTL_MOD);
}

static void hear(struct gather *g, struct reg *r)
{
    if (r->gone) {
        reg_bury(r, g->epfd); /* unread: it may mean others */
        return;
    }
    g->rung = r->rung = true;
    reg_awake(r);
}

/* Turn `got` raw events at out[n] into the application's, in place. */
static void translate(struct gather *g, int got)
{
    int raw = g->n;
    if (!ivc_lock(&g->set->lock))
        return; /* a signal handler in our own wait: level events come again */
    for (int i = raw; i < raw + got; i++) {
        struct epoll_event e = g->out[i];
        struct reg *r = NULL;
        enum token token = reg_of_token(g->set, e.data.u64, &r);
        if (token == TOKEN_BELL)
            hear(g, r);
        else if (token == TOKEN_FD)
            translate_one(g, r, e.events);
        else if (token == TOKEN_OTHER)
            put_other(g, &e);
    }
    ivc_unlock(&g->set->lock);
    share_all(g);
}

static bool has_mail_event(const struct gather *g, int got)
{
    struct reg *none;
    for (int i = g->n; i < g->n + got; i++)
        if (reg_of_token(g->set, g->out[i].data.u64, &none) == TOKEN_MAIL)
            return true;
    return false;
}

static int to_ms(uint64_t ns)
{
    if (ns == UINT64_MAX)
        return -1;
    uint64_t ms = (ns + IVC_NS_PER_MS - 1) / IVC_NS_PER_MS;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* Ask the kernel; append what it says. -errno or 0. */
static int ask_kernel(struct gather *g, uint64_t timeout)
{
    struct signal_hold hold = {.held = false};
    int saved = errno, got = -1;
    const sigset_t *mask = timeout ? signals_hold(&hold, g->mask) : g->mask;
    if (timeout && signals_since(g->mark))
        errno = EINTR;
    else
        got = real(epoll_pwait)(g->epfd, g->out + g->n, g->max - g->n, to_ms(timeout), mask);
    int error = got < 0 ? -errno : 0;
    signals_release(&hold);
    errno = saved;
    g->asked = true;
    if (error)
        return error;
    uint64_t now = ivc_pace();
    g->complete = got < g->max - g->n ? now : 0;
    atomic_store_explicit(&g->set->kernel_looked, now, memory_order_relaxed);
    if (has_mail_event(g, got))
        control_read();
    translate(g, got);
    return 0;
}

static uint64_t kernel_looked(const struct gather *g)
{
    return atomic_load_explicit(&g->set->kernel_looked, memory_order_relaxed);
}

static bool is_due(const struct gather *g)
{
    return ivc_pace() - kernel_looked(g) >= KERNEL_LOOK_NS;
}

/* The kernel, in what room is left, and what of the rings has found none or has rung just now. */
static int look_at_kernel(struct gather *g, bool more)
{
    g->rung = false;
    int error = ask_kernel(g, 0);
    if (!error && (more || g->rung) && g->n < g->max)
        (void)collect(g, g->max);
    return g->n ? 0 : error;
}

/* Whether the kernel is asked when rings have something; when they have nothing: only NOW. */
enum turn { IF_ASKED_FOR, IF_DUE, NOW };

/* Rings, and the kernel in its turn. With room for one event they take turns. */
static int look(struct gather *g, enum turn turn)
{
    struct epset *set = g->set;
    bool one = g->max == 1, kernel_first = one && set->kernel_first;
    bool more = collect(g, one ? !kernel_first : g->max - 1);
    bool ask = turn == NOW || kernel_first || (g->n && (g->asking || (turn == IF_DUE && is_due(g))));
    set->kernel_first = ask && one && g->n;
    if (ask && !set->kernel_first)
        return look_at_kernel(g, more);
    if (more && g->n < g->max)
        (void)collect(g, g->max);
    return 0;
}

/* Is it worth to collect? Undrained data an edge has told of already is not. */
static bool stirs(struct reg *r)
{
    if (!reg_listens(r))
        return false;
    bool edge = r->events & EPOLLET;
    if ((r->events & READ_EVENTS) && (edge ? recv_arrivals(r->s) != r->seen : recv_hint(r->s)))
        return true;
    return reg_writes(r) && !reg_told_out(r) && stream_writable(r->s);
}

static bool set_stirs(void *who)
{
    struct epset *set = who;
    if (!ivc_lock(&set->lock))
        return false;
    bool found = set->stirs != atomic_load_explicit(&ivc_stirs, memory_order_relaxed);
    for (struct reg *r = set->awake; r && !found; r = reg_next_awake(set, r))
        found = stirs(r);
    ivc_unlock(&set->lock);
    return found;
}

static int spin_set(struct gather *g, struct ivc_limit *limit)
{
    struct spin spin = {.mark = g->mark, .ended = signals_since, .looked = kernel_looked(g)};
    while (g->rings) {
        enum spun spun = wait_spin(&spin, limit, set_stirs, g->set, g->rings);
        if (spun == SPUN_OVER || spun == SPUN_SIGNAL)
            return 0;
        control_poll();
        /* The first burst was without a look at the clock. */
        int error = look(g, spun == SPUN_KERNEL ? NOW : spin.until ? IF_ASKED_FOR : IF_DUE);
        if (g->n) {
            if (g->ring_hit)
                wait_spin_hit(&spin);
            else
                wait_spin_miss(&spin); /* the spin is for rings; this was the kernel's */
            return 0;
        }
        if (error)
            return error;
    }
    return 0;
}

static int spin_masked(struct gather *g, struct ivc_limit *limit)
{
    sigset_t before;
    if (!g->mask)
        return spin_set(g, limit);
    signals_swap(g->mask, &before);
    int error = spin_set(g, limit);
    signals_swap(&before, NULL);
    return error;
}

/* The bell of a socket in several sets was cleared before all who were woken by it had looked:
 * the kernel let them sleep on. We ring until they have. */
static void clear_bells(struct gather *g)
{
    if (!ivc_lock(&g->set->lock))
        return;
    for (struct reg *r = g->set->awake; r && g->shares < MERGE_MAX;
         r = reg_next_awake(g->set, r)) {
        if (!r->rung)
            continue;
        if (ivc_bell_consume(&r->s->bell))
            g->share[g->shares++] = r->s;
        r->rung = false;
    }
    ivc_unlock(&g->set->lock);
    g->consumed |= g->shares > 0;
    share_all(g);
}

/* True: nothing new anywhere, safe to sleep. */
static bool arm_set(struct gather *g, uint64_t *limit)
{
    if (!ivc_lock(&g->set->lock))
        return false;
    bool quiet = g->set->stirs == atomic_load(&ivc_stirs);
    for (struct reg *r = g->set->awake; r; r = reg_next_awake(g->set, r)) {
        if (!reg_listens(r) || (!recv_has_rings(r->s) && !r->s->stash.full))
            continue;
        bool empty = !(r->events & READ_EVENTS) || recv_arm(r->s, limit);
        if (!empty && (r->events & EPOLLET)) /* undrained, but told already? */
            empty = recv_arrivals(r->s) == r->seen;
        if (reg_writes(r) && !stream_arm_out(r->s, limit))
            empty = empty && reg_told_out(r);
        quiet = quiet && empty && !reg_is_stale(r);
    }
    ivc_unlock(&g->set->lock);
    return quiet;
}

static int sleep_in_set(struct gather *g, uint64_t begin, uint64_t limit)
{
    int error = 0;
    bool slept = false;
    clear_bells(g);
    atomic_fetch_add(&g->set->sleepers, 1);
    if (arm_set(g, &limit) && !control_has_mail()) {
        slept = true;
        g->rung = false;
        error = ask_kernel(g, limit);
        if (g->rung)
            wait_woken();
    }
    atomic_fetch_sub(&g->set->sleepers, 1);
    if (!error && g->n < g->max)
        (void)collect(g, g->max);
    if (g->ring_hit && slept)
        wait_slept(ivc_now() - begin);
    return g->n ? 0 : error;
}

static void pass_on(struct gather *g)
{
    struct sock *hear[MERGE_MAX];
    int n = 0;
    if (!g->consumed || !ivc_lock(&g->set->lock))
        return;
    for (struct reg *r = g->set->awake; r && n < MERGE_MAX; r = reg_next_awake(g->set, r))
        if (r->belled && !r->gone && recv_unread(r->s))
            hear[n++] = r->s;
    ivc_unlock(&g->set->lock);
    for (int i = 0; i < n; i++)
        wait_pass_on(hear[i]);
}

/* A stream found here that nobody reads its ring: the kernel's OUT counts again. */
static void sync_set(struct gather *g)
{
    bool stale = false;
    if (!match_has_streams() || !ivc_lock(&g->set->lock))
        return;
    wake_stirred(g->set);
    for (struct reg *r = g->set->awake; r && !stale; r = reg_next_awake(g->set, r))
        stale = reg_is_stale(r);
    ivc_unlock(&g->set->lock);
    if (stale)
        reg_sync_all();
}

static int wait_managed(struct gather *g, struct ivc_limit *limit)
{
    for (;;) {
        control_poll();
        sync_set(g);
        g->ages = true;
        int error = look(g, IF_DUE);
        if (!g->n && !error && limit->timeout == 0)
            error = look(g, NOW); /* who spins or sleeps asks the kernel then */
        if (!g->n && !error && limit->timeout == 0)
            clear_bells(g); /* or whoever polls the set itself finds it ready for good */
        if (g->n || error || limit->timeout == 0)
            return error;
        error = spin_masked(g, limit);
        if (g->n || error)
            return error;
        if (signals_since(g->mark))
            return -EINTR;
        uint64_t now = ivc_now(), end = ivc_limit_end(limit, now);
        if (now >= end)
            return g->asked ? 0 : look(g, NOW);
        error = sleep_in_set(g, now, end == UINT64_MAX ? UINT64_MAX : end - now);
        if (g->n || error || (g->asked && ivc_now() >= end))
            return error;
    }
}

static int wait_native(struct gather *g, uint64_t timeout)
{
    int saved = errno, n;
    bool fine = timeout != UINT64_MAX &&
                (timeout % IVC_NS_PER_MS || timeout / IVC_NS_PER_MS > INT32_MAX);
    if (fine && real(epoll_pwait2)) {
        struct timespec ts = {.tv_sec = (time_t)(timeout / IVC_NS_PER_S),
                              .tv_nsec = (long)(timeout % IVC_NS_PER_S)};
        n = real(epoll_pwait2)(g->epfd, g->out, g->max, &ts, g->mask);
    } else if (g->mask) {
        n = real(epoll_pwait)(g->epfd, g->out, g->max, to_ms(timeout), g->mask);
    } else {
        n = real(epoll_wait)(g->epfd, g->out, g->max, to_ms(timeout));
    }
    if (n < 0) {
        n = -errno;
        errno = saved;
    }
    return n;
}

/* Not by an initialiser, which would clear the arrays in every call. */
static void begin(struct gather *g, struct epset *set, int epfd, struct epoll_event *out, int max,
                  const sigset_t *mask)
{
    g->set = set;
    g->epfd = epfd;
    g->out = out;
    g->max = max;
    g->n = g->shares = 0;
    g->mask = mask;
    g->mark = signals_mark();
    g->consumed = g->ring_hit = g->rung = g->asked = g->weary = false;
    g->rings = 0;
    g->complete = 0;
}

int epset_wait(struct epset *set, int epfd, struct epoll_event *events, int max, uint64_t timeout,
               const sigset_t *mask)
{
    struct gather g;
    begin(&g, set, epfd, events, max, mask);
    struct ivc_limit limit = {.timeout = timeout};
    /* acquire: pairs with the release in manage() */
    if (max <= 0 || !events || !atomic_load_explicit(&set->managed, memory_order_acquire)) {
        atomic_fetch_add(&set->sleepers, 1);
        int got = wait_native(&g, timeout);
        atomic_fetch_sub(&set->sleepers, 1);
        if (got <= 0 || !atomic_load_explicit(&set->managed, memory_order_acquire))
            return got;
        /* A socket was matched while this thread slept. */
        if (has_mail_event(&g, got))
            control_read();
        translate(&g, got);
        if (g.n)
            return g.n;
    }
    if (g.max > MERGE_MAX)
        g.max = MERGE_MAX;
    int error = wait_managed(&g, &limit);
    if (g.weary)
        clear_bells(&g);
    pass_on(&g);
    return g.n ? g.n : error;
}
