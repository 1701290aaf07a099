/* SPDX-License-Identifier: Apache-2.0 */
/* Sets, what epoll_ctl changes in them, and sockets that come and go. */
#define _GNU_SOURCE
#include "epoll.h"

#include <string.h>

#include "control.h"
#include "match.h"
#include "real.h"
#include "recv.h"
#include "reg.h"

static struct ivc_slab set_slab = {.size = sizeof(struct epset),
                                   .keep = sizeof(struct object) + sizeof(struct ivc_lock)};

/* ---- sets --------------------------------------------------------------------------------- */

void epset_track(int fd)
{
    struct epset *set = ivc_slab_get(&set_slab);
    if (!set)
        return;
    set->object.type = OBJECT_EPSET;
    set->fd = fd;
    atomic_store(&set->refs, 1);
    ivc_table_set(fd, &set->object);
}

struct epset *epset_of(int fd)
{
    struct object *object = ivc_object(fd);
    return object && object->type == OBJECT_EPSET ? (struct epset *)object : NULL;
}

void epset_dup(struct epset *set, int newfd)
{
    atomic_fetch_add(&set->refs, 1);
    ivc_table_set(newfd, &set->object);
}

void epset_release(int fd, struct epset *set)
{
    ivc_table_set(fd, NULL);
    if (atomic_fetch_sub(&set->refs, 1) != 1 || !ivc_lock(&ivc_reg_lock))
        return;
    if (ivc_lock(&set->lock)) {
        while (set->regs)
            reg_free(set->regs);
        ivc_unlock(&set->lock);
    }
    ivc_unlock(&ivc_reg_lock);
    ivc_slab_put(&set_slab, set);
}

/* Any descriptor of the set will do for epoll_ctl. -1: there is none. */
static int set_fd(struct epset *set)
{
    if (ivc_object(set->fd) == &set->object)
        return set->fd;
    for (int fd = 0; fd <= ivc_highest_fd(); fd++)
        if (ivc_object(fd) == &set->object)
            return set->fd = fd;
    return -1;
}

/* ---- epoll_ctl ---------------------------------------------------------------------------- */

static void ask(struct reg *r, const struct epoll_event *e)
{
    r->events = e->events;
    r->data = e->data;
    r->disabled = r->gone = false;
    r->seen = r->fulls = UINT64_MAX; /* to be told again */
    reg_recount(r);
    reg_awake(r);
}

static int ctl_add(struct epset *set, int epfd, int fd, struct sock *s, const struct epoll_event *e)
{
    struct reg *r = reg_new(set, fd, s);
    if (!r)
        return (int)kernel_ctl(epfd, EPOLL_CTL_ADD, fd, e->events, e->data.u64);
    ask(r, e);
    /* ONESHOT from the start: whether it has fired must be known when the
     * socket is matched later. */
    if (sock_matched(s) || (e->events & EPOLLONESHOT))
        reg_manage(r);
    if (set->nested)
        sock_retire(s, IVC_REASON_NESTED);
    long result = reg_tell_kernel(r, epfd, EPOLL_CTL_ADD);
    if (result < 0)
        reg_free(r);
    else
        reg_add_bell(r, epfd);
    return (int)result;
}

/*
 * Many a program turns a connection from reading to writing and back for every message, by MOD or
 * by DEL and ADD. While both ways go by ring the kernel has next to nothing to say of it: what it
 * was asked for too much is taken back when it says something of it.
 */
static bool lazy(const struct reg *r, uint32_t events)
{
    return stream_on_ring(r->s) && r->managed && r->belled && !r->set->nested &&
           !((r->events | events) & (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP));
}

/* Need the kernel not be told? */
static bool known(const struct reg *r, uint32_t events)
{
    return lazy(r, events) && !(reg_kernel_mask(r, events) & ~r->mask);
}

/* ADD of what is gone */
static int ctl_add_again(struct reg *r, int epfd, const struct epoll_event *e)
{
    bool silent = known(r, e->events);
    ask(r, e);
    if (silent)
        return 0;
    (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
    long result = reg_tell_kernel(r, epfd, EPOLL_CTL_ADD);
    if (result < 0) {
        reg_drop_bell(r, epfd);
        reg_free(r);
    } else {
        reg_add_bell(r, epfd);
    }
    return (int)result;
}

static int ctl_mod(struct reg *r, int epfd, const struct epoll_event *e)
{
    if (e->events & EPOLLONESHOT)
        reg_manage(r);
    if (!known(r, e->events)) {
        uint32_t mask = reg_kernel_mask(r, e->events);
        long result = kernel_ctl(epfd, EPOLL_CTL_MOD, r->fd, mask, reg_kernel_data(r, e->data));
        if (result < 0)
            return (int)result;
        r->mask = mask;
    }
    ask(r, e);
    return 0;
}

static int ctl_del(struct reg *r, int epfd)
{
    if (lazy(r, 0)) {
        r->gone = true;
        reg_recount(r);
        return 0;
    }
    long result = kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
    if (result == 0) {
        reg_drop_bell(r, epfd);
        reg_free(r);
    }
    return (int)result;
}

/* Somebody sleeps in the set already and knew nothing of what is asked for now: armed here, in its
 * place. True: it has to look itself. */
static bool news_for_sleeper(struct sock *s)
{
    uint64_t limit = UINT64_MAX;
    bool quiet = recv_arm(s, &limit);
    return !quiet || limit != UINT64_MAX || recv_unread(s);
}

int epset_ctl(struct epset *set, int epfd, int op, int fd, struct sock *s,
              struct epoll_event *event)
{
    if (!event && op != EPOLL_CTL_DEL)
        return -EFAULT;
    if (!ivc_lock(&ivc_reg_lock))
        return -EBUSY; /* a signal handler inside our own epoll_ctl */
    int result;
    bool asleep = false, out = false;
    if (!ivc_lock(&set->lock)) {
        ivc_unlock(&ivc_reg_lock);
        return -EBUSY;
    }
    struct reg *r = reg_find(set, fd, s);
    if (r && r->gone)
        result = op == EPOLL_CTL_ADD ? ctl_add_again(r, epfd, event) : -ENOENT;
    else if (op == EPOLL_CTL_ADD && !r)
        result = ctl_add(set, epfd, fd, s, event);
    else if (op == EPOLL_CTL_MOD && r)
        result = ctl_mod(r, epfd, event);
    else if (op == EPOLL_CTL_DEL && r)
        result = ctl_del(r, epfd);
    else
        result = (int)kernel_ctl(epfd, op, fd, event ? event->events : 0,
                                 event ? event->data.u64 : 0);
    if (result == 0 && op != EPOLL_CTL_DEL && sock_matched(s)) {
        asleep = atomic_load(&set->sleepers) > 0;
        out = (event->events & WRITE_EVENTS) && stream_on_ring(s);
    }
    ivc_unlock(&set->lock);
    if (asleep && (out || news_for_sleeper(s)))
        ivc_bell_ring(&s->bell);
    ivc_unlock(&ivc_reg_lock);
    return result;
}

/* Neither bells nor mail, nor what nobody asks for, may make the set itself ready. */
static void silence(struct epset *set)
{
    int epfd = set_fd(set);
    if (epfd < 0 || !ivc_lock(&set->lock))
        return;
    for (struct reg *r = set->regs; r; r = r->set_next) {
        if (r->gone)
            reg_bury(r, epfd);
        else if (r->managed && !r->disabled && r->mask != reg_kernel_mask(r, r->events))
            (void)reg_tell_kernel(r, epfd, EPOLL_CTL_MOD);
        reg_drop_bell(r, epfd);
    }
    if (set->mailed)
        (void)kernel_ctl(epfd, EPOLL_CTL_DEL, control_mail_fd(), 0, 0);
    set->mailed = false;
    ivc_unlock(&set->lock);
}

/*
 * Whoever polls the set as a descriptor sleeps without arming its rings. Rather
 * than arm through any depth of nesting, its sockets stay with the kernel.
 */
void epset_nested(struct epset *set)
{
    if (set->nested || !ivc_lock(&ivc_reg_lock))
        return;
    set->nested = true;
    for (struct reg *r = set->regs; r; r = r->set_next)
        sock_hand_over(r->s, IVC_REASON_NESTED);
    silence(set);
    ivc_unlock(&ivc_reg_lock);
}

/* ---- sockets come and go --------------------------------------------------------------------- */

static void match_reg(struct reg *r)
{
    int epfd = set_fd(r->set);
    if (epfd < 0 || r->gone)
        return;
    if (!r->managed) {
        reg_manage(r);
        if (r->events & EPOLLEXCLUSIVE) { /* MOD of these is EINVAL */
            (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
            (void)reg_tell_kernel(r, epfd, EPOLL_CTL_ADD);
        } else {
            (void)reg_tell_kernel(r, epfd, EPOLL_CTL_MOD);
        }
    }
    reg_add_bell(r, epfd);
}

void reg_matched(struct sock *s)
{
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!ivc_lock(&r->set->lock))
            continue;
        match_reg(r);
        ivc_unlock(&r->set->lock);
    }
}

/* A disabled one-shot stays disabled: the application's MOD will ask for the right events. */
static void sync_reg(struct reg *r)
{
    int epfd = set_fd(r->set);
    if (epfd >= 0 && r->gone && !stream_on_ring(r->s))
        reg_bury(r, epfd);
    if (epfd < 0 || !reg_is_stale(r))
        return;
    (void)reg_tell_kernel(r, epfd, EPOLL_CTL_MOD);
    r->echo = (r->mask & WRITE_EVENTS) != 0;
    reg_awake(r);
    if (stream_on_ring(r->s) && atomic_load(&r->set->sleepers))
        ivc_bell_ring(&r->s->bell); /* the kernel does not tell them of OUT any more */
}

static void sync_regs(struct sock *s)
{
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!ivc_lock(&r->set->lock))
            continue;
        sync_reg(r);
        ivc_unlock(&r->set->lock);
    }
}

bool reg_interrupted(struct sock *s)
{
    for (struct reg *r = s->regs; r; r = r->sock_next)
        if (ivc_lock_mine(&r->set->lock))
            return true;
    return false;
}

/* Whoever else has the socket from now on may keep it open: then what is gone would never be, and
 * nobody could take it out. reg_lock held. */
void reg_settle(struct sock *s, int fd)
{
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!r->gone || (fd >= 0 && r->fd != fd) || !ivc_lock(&r->set->lock))
            continue;
        reg_bury(r, set_fd(r->set));
        ivc_unlock(&r->set->lock);
    }
}

void reg_sync_out(struct sock *s)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    sync_regs(s);
    ivc_unlock(&ivc_reg_lock);
}

void reg_sync_all(void)
{
    if (!match_has_streams() || !ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        if (s->stream && s->regs)
            sync_regs(s);
    ivc_unlock(&ivc_reg_lock);
}

void reg_unbell(struct sock *s)
{
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!ivc_lock(&r->set->lock))
            continue;
        int epfd = set_fd(r->set);
        reg_bury(r, epfd); /* without its bell it could not be any more */
        if (epfd >= 0)
            reg_drop_bell(r, epfd);
        ivc_unlock(&r->set->lock);
    }
}

void reg_wake(struct sock *s)
{
    atomic_thread_fence(memory_order_seq_cst); /* pairs with that in reg_rest() */
    if (!atomic_load_explicit(&s->resting, memory_order_relaxed))
        return;
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!ivc_lock(&r->set->lock)) {
            reg_stir(s); /* in a handler */
            continue;
        }
        reg_awake(r);
        ivc_unlock(&r->set->lock);
    }
}

void reg_closing(struct sock *s)
{
    while (s->regs) {
        struct reg *r = s->regs;
        struct epset *set = r->set;
        bool locked = ivc_lock(&set->lock);
        int epfd = set_fd(set);
        reg_bury(r, epfd);
        if (epfd >= 0)
            reg_drop_bell(r, epfd);
        reg_free(r);
        if (locked)
            ivc_unlock(&set->lock);
    }
}

bool reg_sleepers(struct sock *s)
{
    bool found = false;
    if (!s->regs || !ivc_lock(&ivc_reg_lock))
        return false;
    for (struct reg *r = s->regs; r && !found; r = r->sock_next)
        found = !r->gone && atomic_load(&r->set->sleepers) > 0;
    ivc_unlock(&ivc_reg_lock);
    return found;
}

/* It is shared with the parent, whose bells are not ours to clear: all is looked at without. A
 * thread we have not may have been at work on the circle of those awake. */
static void set_after_fork(struct epset *set)
{
    memset(&set->lock, 0, sizeof(set->lock));
    set->awake = NULL;
    for (struct reg *r = set->regs; r; r = r->set_next) {
        r->belled = r->rung = false;
        r->awake_next = NULL;
        r->s->resting = 1;
        reg_awake(r);
    }
}

void epoll_after_fork(void)
{
    ivc_slab_after_fork(&set_slab);
    for (int fd = 0; fd <= ivc_highest_fd(); fd++) {
        struct epset *set = epset_of(fd);
        if (set)
            set_after_fork(set);
    }
}
