/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "epoll.h"

#include <string.h>
#include <sys/mman.h>

#include "control.h"
#include "match.h"
#include "real.h"
#include "recv.h"
#include "signals.h"
#include "stream.h"
#include "wait.h"

#define READ_EVENTS ((uint32_t)(EPOLLIN | EPOLLRDNORM))
#define WRITE_EVENTS ((uint32_t)(EPOLLOUT | EPOLLWRNORM))

/* One descriptor in one set. */
struct reg {
    struct reg *set_next;
    struct reg *sock_next;
    struct epset *set; /* NULL: free */
    struct sock *s;
    int fd;
    uint32_t events;
    epoll_data_t data;
    bool managed;   /* the kernel holds our token instead of data */
    bool belled;    /* the bell is in the set */
    bool disabled;  /* EPOLLONESHOT has fired; the application's MOD re-arms it */
    bool rung;      /* the bell was seen and is still to be cleared */
    bool hidden;    /* OUT is ours to tell, not the kernel's */
    bool echo;      /* the kernel was asked for OUT again, and will tell of it again */
    bool gone;      /* the application has removed it, the kernel's set may have it still */
    uint32_t mask;  /* what the kernel was asked for */
    int at;         /* where its event is, if gather->from there says so */
    uint64_t fulls; /* stream->fulls when the last edge of OUT was told */
    uint64_t seen;  /* recv_arrivals() when the last edge was told */
    char token;     /* address = token of the application's descriptor */
    char bell_token; /* address = token of the bell */
};

struct epset {
    struct object object;
    struct ivc_lock lock;
    struct reg *regs;
    _Atomic uint32_t refs;
    _Atomic bool managed;     /* tokens are in the set, or have been */
    _Atomic uint32_t sleepers;
    bool mailed;
    bool nested;              /* polled as a descriptor itself: no rings in here */
    bool kernel_first;        /* with room for one event: whose turn */
    _Atomic uint64_t kernel_looked;
    char mail_token;
};

static struct ivc_slab set_slab = {.size = sizeof(struct epset),
                                   .keep = sizeof(struct object) + sizeof(struct ivc_lock)};

/* ---- registrations: an arena of its own, so that a token can be recognised ------------- */

#define REG_MAX 65536u

static struct reg *arena;
static uint32_t arena_used;
static struct reg *arena_free;

/* reg_lock held */
static struct reg *reg_new(void)
{
    if (!arena) {
        void *map = mmap(NULL, REG_MAX * sizeof(struct reg), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            return NULL;
        arena = map;
    }
    struct reg *r = arena_free;
    if (r)
        arena_free = r->set_next;
    else if (arena_used < REG_MAX)
        r = &arena[arena_used++];
    else
        return NULL;
    memset(r, 0, sizeof(*r));
    return r;
}

/* Token of a registration? *bell says which of the two. */
static struct reg *reg_of_token(uint64_t token, bool *bell)
{
    uintptr_t base = (uintptr_t)arena;
    if (!arena || token < base || token >= base + REG_MAX * sizeof(struct reg))
        return NULL;
    struct reg *r = &arena[(token - base) / sizeof(struct reg)];
    *bell = token == (uintptr_t)&r->bell_token;
    return *bell || token == (uintptr_t)&r->token ? r : NULL;
}

static struct reg *reg_find(struct epset *set, int fd, const struct sock *s)
{
    for (struct reg *r = set->regs; r; r = r->set_next)
        if (r->fd == fd && r->s == s)
            return r;
    return NULL;
}

static void unlink_from_set(struct reg *r)
{
    for (struct reg **at = &r->set->regs; *at; at = &(*at)->set_next) {
        if (*at == r) {
            *at = r->set_next;
            return;
        }
    }
}

static void unlink_from_sock(struct reg *r)
{
    for (struct reg **at = &r->s->regs; *at; at = &(*at)->sock_next) {
        if (*at == r) {
            *at = r->sock_next;
            return;
        }
    }
}

/* reg_lock and the set's lock held */
static void reg_free(struct reg *r)
{
    unlink_from_set(r);
    unlink_from_sock(r);
    r->set = NULL;
    r->s = NULL;
    r->set_next = arena_free;
    arena_free = r;
}

/* ---- tokens and bells ------------------------------------------------------------------ */

static long kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t token)
{
    struct epoll_event event = {.events = events, .data.u64 = token};
    int saved = errno;
    long result = real(epoll_ctl)(epfd, op, fd, &event);
    if (result < 0) {
        result = -errno;
        errno = saved;
    }
    return result;
}

static void add_mail(struct epset *set, int epfd)
{
    if (set->mailed || set->nested || control_mail_fd() < 0)
        return;
    long result = kernel_ctl(epfd, EPOLL_CTL_ADD, control_mail_fd(), EPOLLIN,
                             (uintptr_t)&set->mail_token);
    set->mailed = result == 0 || result == -EEXIST;
}

static void add_bell(struct reg *r, int epfd)
{
    if (r->belled || r->set->nested || !sock_matched(r->s))
        return;
    r->belled = kernel_ctl(epfd, EPOLL_CTL_ADD, r->s->bell.fd, EPOLLIN,
                           (uintptr_t)&r->bell_token) == 0;
    add_mail(r->set, epfd);
}

static void drop_bell(struct reg *r, int epfd)
{
    if (r->belled)
        (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->s->bell.fd, 0, 0);
    r->belled = false;
}

static uint64_t kernel_data(struct reg *r)
{
    return r->managed ? (uintptr_t)&r->token : r->data.u64;
}

/* What the kernel is asked for. OUT of a stream on its ring would always be true there. */
static uint32_t kernel_mask(struct reg *r)
{
    r->hidden = stream_on_ring(r->s);
    return r->hidden ? r->events & ~WRITE_EVENTS : r->events;
}

static long tell_kernel(struct reg *r, int epfd, int op)
{
    uint32_t mask = kernel_mask(r);
    long result = kernel_ctl(epfd, op, r->fd, mask, kernel_data(r));
    if (result == 0)
        r->mask = mask;
    return result;
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

static bool known_to_kernel(struct reg *r)
{
    return !(kernel_mask(r) & ~r->mask);
}

/* What is gone, for the kernel too. The record stays until its socket goes, or it is put back. */
static void bury(struct reg *r, int epfd)
{
    if (!r->gone || !r->belled || epfd < 0)
        return;
    (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
    drop_bell(r, epfd);
}

/* From now on the kernel speaks of this registration by its token. */
static void manage(struct reg *r)
{
    r->managed = true;
    atomic_store_explicit(&r->set->managed, true, memory_order_release);
}

/* ---- sets --------------------------------------------------------------------------------- */

void epset_track(int fd)
{
    struct epset *set = ivc_slab_get(&set_slab);
    if (!set)
        return;
    set->object.type = OBJECT_EPSET;
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

/* Any descriptor of the set will do for epoll_ctl. */
static int set_fd(struct epset *set, int hint)
{
    if (hint >= 0 && ivc_object(hint) == &set->object)
        return hint;
    for (int fd = 0; fd <= ivc_highest_fd(); fd++)
        if (ivc_object(fd) == &set->object)
            return fd;
    return -1;
}

/* ---- epoll_ctl ---------------------------------------------------------------------------- */

static int ctl_add(struct epset *set, int epfd, int fd, struct sock *s, const struct epoll_event *e)
{
    struct reg *r = reg_new();
    if (!r)
        return (int)kernel_ctl(epfd, EPOLL_CTL_ADD, fd, e->events, e->data.u64);
    *r = (struct reg){.set = set, .s = s, .fd = fd, .events = e->events, .data = e->data,
                      .seen = UINT64_MAX};
    /* ONESHOT from the start: whether it has fired must be known when the
     * socket is matched later. */
    if (sock_matched(s) || (e->events & EPOLLONESHOT))
        manage(r);
    if (set->nested)
        sock_retire(s, IVC_REASON_NESTED);
    r->set_next = set->regs;
    set->regs = r;
    r->sock_next = s->regs;
    s->regs = r;
    r->fulls = UINT64_MAX;
    long result = tell_kernel(r, epfd, EPOLL_CTL_ADD);
    if (result < 0)
        reg_free(r);
    else
        add_bell(r, epfd);
    return (int)result;
}

static void ask_anew(struct reg *r, const struct epoll_event *e)
{
    r->events = e->events;
    r->data = e->data;
    r->disabled = r->gone = false;
    r->fulls = UINT64_MAX;
    r->seen = UINT64_MAX; /* MOD asks to be told again */
}

/* ADD of what is gone */
static int ctl_add_again(struct reg *r, int epfd, const struct epoll_event *e)
{
    bool silent = lazy(r, e->events);
    ask_anew(r, e);
    if (silent && known_to_kernel(r))
        return 0;
    (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
    long result = tell_kernel(r, epfd, EPOLL_CTL_ADD);
    if (result < 0) {
        drop_bell(r, epfd);
        reg_free(r);
    } else {
        add_bell(r, epfd);
    }
    return (int)result;
}

static int ctl_mod(struct reg *r, int epfd, const struct epoll_event *e)
{
    if (e->events & EPOLLONESHOT)
        manage(r);
    bool silent = lazy(r, e->events);
    const struct reg before = *r;
    ask_anew(r, e);
    if (silent && known_to_kernel(r))
        return 0;
    long result = tell_kernel(r, epfd, EPOLL_CTL_MOD);
    if (result < 0)
        *r = before;
    return (int)result;
}

static int ctl_del(struct reg *r, int epfd)
{
    struct epoll_event unused = {0};
    int saved = errno;
    if (lazy(r, 0)) {
        r->gone = true;
        return 0;
    }
    int result = real(epoll_ctl)(epfd, EPOLL_CTL_DEL, r->fd, &unused);
    if (result < 0) {
        result = -errno;
        errno = saved;
        return result;
    }
    drop_bell(r, epfd);
    reg_free(r);
    return 0;
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
    int epfd = set_fd(set, -1);
    if (epfd < 0 || !ivc_lock(&set->lock))
        return;
    for (struct reg *r = set->regs; r; r = r->set_next) {
        if (r->gone)
            bury(r, epfd);
        else if (r->managed && !r->disabled && r->mask != kernel_mask(r))
            (void)tell_kernel(r, epfd, EPOLL_CTL_MOD);
        drop_bell(r, epfd);
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
    int epfd = set_fd(r->set, -1);
    if (epfd < 0 || r->gone)
        return;
    if (!r->managed) {
        manage(r);
        if (r->events & EPOLLEXCLUSIVE) { /* MOD of these is EINVAL */
            (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
            (void)tell_kernel(r, epfd, EPOLL_CTL_ADD);
        } else {
            (void)tell_kernel(r, epfd, EPOLL_CTL_MOD);
        }
    }
    add_bell(r, epfd);
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
    int epfd = set_fd(r->set, -1);
    if (epfd >= 0 && r->gone && !stream_on_ring(r->s))
        bury(r, epfd);
    if (epfd < 0 || r->gone || !r->managed || r->disabled)
        return;
    if ((r->events & WRITE_EVENTS) && r->hidden != stream_on_ring(r->s)) {
        (void)tell_kernel(r, epfd, EPOLL_CTL_MOD);
        r->echo = !r->hidden;
    }
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

/* Whoever else has the socket from now on may keep it open: then what is gone would never be, and
 * nobody could take it out. reg_lock held. */
void reg_settle(struct sock *s, int fd)
{
    for (struct reg *r = s->regs; r; r = r->sock_next) {
        if (!r->gone || (fd >= 0 && r->fd != fd) || !ivc_lock(&r->set->lock))
            continue;
        bury(r, set_fd(r->set, -1));
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
        int epfd = set_fd(r->set, -1);
        bury(r, epfd); /* without its bell it could not be any more */
        if (epfd >= 0)
            drop_bell(r, epfd);
        ivc_unlock(&r->set->lock);
    }
}

void reg_closing(struct sock *s)
{
    while (s->regs) {
        struct reg *r = s->regs;
        struct epset *set = r->set;
        bool locked = ivc_lock(&set->lock);
        int epfd = set_fd(set, -1);
        bury(r, epfd);
        if (epfd >= 0)
            drop_bell(r, epfd);
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

/* ---- epoll_wait ------------------------------------------------------------------------------- */

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
    unsigned rings; /* sockets of the set that have rings */
    bool ring_hit;  /* one of them has made an event */
    bool rung;      /* a bell was among what the kernel reported */
    struct sock *share[MERGE_MAX]; /* whose news others asleep may not have seen */
    int shares;
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
    if (r->events & EPOLLONESHOT)
        r->disabled = true;
}

static void put_other(struct gather *g, const struct epoll_event *e)
{
    if (g->n < MERGE_MAX)
        g->from[g->n] = NULL;
    g->out[g->n++] = *e;
}

/* OUT is ours to tell. */
static bool writes(const struct reg *r)
{
    return (r->events & WRITE_EVENTS) && stream_on_ring(r->s);
}

static bool listens(const struct reg *r)
{
    bool heard = r->belled || (r->managed && r->s->inherited); /* a child looks without a bell */
    return heard && !r->disabled && !r->gone && ((r->events & READ_EVENTS) || writes(r));
}

static bool due_in(struct reg *r)
{
    if (!(r->events & READ_EVENTS))
        return false;
    if (!(r->events & EPOLLET))
        return recv_readable(r->s, false);
    uint64_t arrivals = recv_arrivals(r->s);
    if (arrivals == r->seen || !recv_readable(r->s, false))
        return false;
    r->seen = arrivals;
    return true;
}

/* There was room when it was told of OUT last, and has been since: no edge. */
static bool told_out(const struct reg *r)
{
    return (r->events & EPOLLET) && atomic_load(&r->s->stream->fulls) == r->fulls;
}

/* An edge of OUT: there is room again after it was full, or somebody has just asked. */
static bool due_out(struct reg *r)
{
    if (!writes(r) || told_out(r) || !stream_writable(r->s))
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
    else if (events && writes(r) && stream_writable(r->s))
        events |= r->events & WRITE_EVENTS; /* as the kernel: an edge tells all there is */
    return events;
}

/* There was no room for `first` and what follows: they come first next time. */
static void rotate(struct epset *set, struct reg *first)
{
    struct reg **last = &set->regs;
    while (*last != first)
        last = &(*last)->set_next;
    struct reg **end = &first->set_next;
    while (*end)
        end = &(*end)->set_next;
    *end = set->regs;
    *last = NULL;
    set->regs = first;
}

/* What the rings have, up to `limit` events. True: there was no room for all of it. */
static bool collect(struct gather *g, int limit)
{
    g->rings = 0;
    if (!ivc_lock(&g->set->lock))
        return false;
    struct reg *r;
    for (r = g->set->regs; r && g->n < limit; r = r->set_next) {
        if (!listens(r) || (!recv_has_rings(r->s) && !r->s->stash.full))
            continue;
        g->rings++;
        uint32_t events = due_now(r);
        if (events) {
            put(g, r, events);
            g->ring_hit = true;
        }
    }
    if (r && r != g->set->regs)
        rotate(g->set, r);
    ivc_unlock(&g->set->lock);
    return r != NULL;
}

/* Does a thread asleep elsewhere not know yet that the socket can be read? reg_lock held. */
static bool untold(struct sock *s, const struct epset *but)
{
    bool found = atomic_load(&s->read_waits) > 0;
    for (struct reg *r = s->regs; r && !found; r = r->sock_next) {
        if (r->set == but || !atomic_load(&r->set->sleepers) || !ivc_lock(&r->set->lock))
            continue;
        found = listens(r) && (r->events & READ_EVENTS) &&
                (!(r->events & EPOLLET) || recv_arrivals(s) != r->seen);
        ivc_unlock(&r->set->lock);
    }
    return found && recv_readable(s, false);
}

static void share_bell(struct sock *s, const struct epset *but)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    if (sock_matched(s) && untold(s, but))
        ivc_bell_ring(&s->bell);
    ivc_unlock(&ivc_reg_lock);
}

/* What the kernel had is ours now, and other sets that were woken for it find nothing there. */
static void taken(struct gather *g, struct sock *s)
{
    if (s->stash.full && g->shares < MERGE_MAX)
        g->share[g->shares++] = s;
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
    if (r->set != g->set || r->disabled)
        return;
    if (r->gone) {
        bury(r, g->epfd);
        return;
    }
    if (events & ~(r->events | EPOLLERR | EPOLLHUP))
        (void)tell_kernel(r, g->epfd, EPOLL_CTL_MOD);
    events &= r->events | EPOLLERR | EPOLLHUP;
    if ((events & READ_EVENTS) && sock_matched(r->s) && !recv_readable(r->s, true))
        events &= ~READ_EVENTS; /* only a twin of what has been delivered */
    if (r->s && writes(r)) {
        events &= ~WRITE_EVENTS; /* asked for before it got on the ring */
        if (events && stream_writable(r->s))
            events |= r->events & WRITE_EVENTS;
    } else if (r->s) {
        events = kernel_out(r, events);
    }
    if (events & READ_EVENTS) {
        r->seen = recv_arrivals(r->s);
        taken(g, r->s);
    }
    if (events)
        put(g, r, events);
    else if (r->events & EPOLLONESHOT) /* the kernel has disabled it for nothing */
        (void)tell_kernel(r, g->epfd, EPOLL_CTL_MOD);
}

/* Turn `got` raw events at out[n] into the application's, in place. */
static void translate(struct gather *g, int got)
{
    int raw = g->n;
    if (!ivc_lock(&g->set->lock))
        return; /* a signal handler in our own wait: level events come again */
    for (int i = raw; i < raw + got; i++) {
        struct epoll_event e = g->out[i];
        bool bell = false;
        struct reg *r = reg_of_token(e.data.u64, &bell);
        if (r && bell && r->gone)
            bury(r, g->epfd); /* unread: it may mean others */
        else if (r && bell)
            g->rung = r->rung = r->rung || r->set == g->set;
        else if (r)
            translate_one(g, r, e.events);
        else if (e.data.u64 != (uintptr_t)&g->set->mail_token)
            put_other(g, &e);
    }
    ivc_unlock(&g->set->lock);
    share_all(g);
}

static bool has_mail_event(const struct gather *g, int got)
{
    for (int i = g->n; i < g->n + got; i++)
        if (g->out[i].data.u64 == (uintptr_t)&g->set->mail_token)
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
    if (error)
        return error;
    atomic_store_explicit(&g->set->kernel_looked, ivc_pace(), memory_order_relaxed);
    if (has_mail_event(g, got))
        control_read();
    translate(g, got);
    return 0;
}

/* Rings, then the kernel if it has not been asked for a while. */
static int look(struct gather *g, bool ask)
{
    struct epset *set = g->set;
    int limit = g->max;
    if (ask) /* leave room for the kernel's events */
        limit = g->max > 1 ? g->max - 1 : (set->kernel_first = !set->kernel_first) ? 0 : 1;
    bool more = collect(g, limit);
    if (!ask || g->n == g->max)
        return 0;
    int error = ask_kernel(g, 0);
    if (!error && more && g->n < g->max)
        (void)collect(g, g->max);
    return g->n ? 0 : error;
}

/* Is it worth to collect? Undrained data an edge has told of already is not. */
static bool stirs(struct reg *r)
{
    if (!listens(r))
        return false;
    bool edge = r->events & EPOLLET;
    if ((r->events & READ_EVENTS) && (edge ? recv_arrivals(r->s) != r->seen : recv_hint(r->s)))
        return true;
    return writes(r) && !told_out(r) && stream_writable(r->s);
}

static bool set_stirs(void *who)
{
    struct epset *set = who;
    bool found = false;
    if (!ivc_lock(&set->lock))
        return false;
    for (struct reg *r = set->regs; r && !found; r = r->set_next)
        found = stirs(r);
    ivc_unlock(&set->lock);
    return found;
}

static int spin_set(struct gather *g, struct ivc_limit *limit)
{
    struct spin spin = {.mark = g->mark, .ended = signals_since};
    const unsigned width = g->rings;
    if (!width)
        return 0;
    for (;;) {
        enum spun spun = wait_spin(&spin, limit, set_stirs, g->set, width);
        if (spun == SPUN_OVER || spun == SPUN_SIGNAL)
            return 0;
        control_poll();
        int error = look(g, spun == SPUN_KERNEL);
        if (g->n) {
            if (g->ring_hit)
                wait_spin_hit();
            else
                wait_spin_miss(); /* the spin is for rings; this was the kernel's */
            return 0;
        }
        if (error)
            return error;
    }
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
    for (struct reg *r = g->set->regs; r && g->shares < MERGE_MAX; r = r->set_next) {
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
    bool quiet = true;
    if (!ivc_lock(&g->set->lock))
        return false;
    for (struct reg *r = g->set->regs; r; r = r->set_next) {
        if (!listens(r) || (!recv_has_rings(r->s) && !r->s->stash.full))
            continue;
        bool empty = !(r->events & READ_EVENTS) || recv_arm(r->s, limit);
        if (!empty && (r->events & EPOLLET)) /* undrained, but told already? */
            empty = recv_arrivals(r->s) == r->seen;
        if (writes(r) && !stream_arm_out(r->s, limit))
            empty = empty && told_out(r);
        quiet = quiet && empty;
    }
    ivc_unlock(&g->set->lock);
    return quiet;
}

static int sleep_in_set(struct gather *g, uint64_t limit)
{
    int error = 0;
    clear_bells(g);
    atomic_fetch_add(&g->set->sleepers, 1);
    uint64_t begin = ivc_now(), slept = UINT64_MAX;
    if (arm_set(g, &limit) && !control_has_mail()) {
        g->rung = false;
        error = ask_kernel(g, limit);
        slept = ivc_now() - begin;
        if (g->rung)
            wait_woken();
    }
    atomic_fetch_sub(&g->set->sleepers, 1);
    if (!error && g->n < g->max)
        (void)collect(g, g->max);
    if (g->ring_hit)
        wait_slept(slept);
    return g->n ? 0 : error;
}

static void pass_on(struct gather *g)
{
    struct sock *hear[MERGE_MAX];
    int n = 0;
    if (!g->consumed || !ivc_lock(&g->set->lock))
        return;
    for (struct reg *r = g->set->regs; r && n < MERGE_MAX; r = r->set_next)
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
    for (struct reg *r = g->set->regs; r && !stale; r = r->set_next)
        stale = r->managed && !r->disabled && !r->gone && (r->events & WRITE_EVENTS) &&
                r->hidden != stream_on_ring(r->s);
    ivc_unlock(&g->set->lock);
    if (stale)
        reg_sync_all();
}

/* As for poll: level events that rings do not answer. An edge has its time. */
static bool asks_kernel(struct gather *g)
{
    bool found = false;
    if (!ivc_lock(&g->set->lock))
        return true;
    for (struct reg *r = g->set->regs; r && !found; r = r->set_next) {
        uint32_t ours = READ_EVENTS | (writes(r) ? WRITE_EVENTS : 0);
        uint32_t asked = r->events & (WRITE_EVENTS | EPOLLRDHUP | EPOLLPRI) & ~ours;
        found = asked && !(r->events & EPOLLET) && !r->disabled && !r->gone;
    }
    ivc_unlock(&g->set->lock);
    return found;
}

static int wait_managed(struct gather *g, struct ivc_limit *limit)
{
    for (;;) {
        control_poll();
        sync_set(g);
        uint64_t looked = atomic_load_explicit(&g->set->kernel_looked, memory_order_relaxed);
        bool fresh = ivc_pace() - looked < KERNEL_LOOK_NS && !asks_kernel(g);
        int error = look(g, !fresh);
        /* Looked a moment ago, and about to spin or sleep: both look again. */
        if (!g->n && !error && fresh && limit->timeout == 0)
            error = look(g, true);
        if (!g->n && !error && limit->timeout == 0)
            clear_bells(g); /* or whoever polls the set itself finds it ready for good */
        if (g->n || error || limit->timeout == 0)
            break;
        error = spin_masked(g, limit);
        if (g->n || error)
            return error;
        if (signals_since(g->mark))
            return -EINTR;
        uint64_t now = ivc_now(), end = ivc_limit_end(limit, now);
        if (now >= end)
            return 0;
        error = sleep_in_set(g, end == UINT64_MAX ? UINT64_MAX : end - now);
        if (g->n || error)
            return error;
    }
    return 0;
}

static int wait_native(struct gather *g, const struct timespec *timeout)
{
    int saved = errno, n;
    bool fine = timeout && (timeout->tv_nsec % 1000000 || timeout->tv_sec > INT32_MAX / 1000);
    if (fine && real(epoll_pwait2)) {
        n = real(epoll_pwait2)(g->epfd, g->out, g->max, timeout, g->mask);
    } else {
        int ms = timeout ? (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000) : -1;
        n = g->mask ? real(epoll_pwait)(g->epfd, g->out, g->max, ms, g->mask)
                    : real(epoll_wait)(g->epfd, g->out, g->max, ms);
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
    g->consumed = g->ring_hit = g->rung = false;
    g->rings = 0;
}

int epset_wait(struct epset *set, int epfd, struct epoll_event *events, int max,
               const struct timespec *timeout, const sigset_t *mask)
{
    struct gather g;
    begin(&g, set, epfd, events, max, mask);
    struct ivc_limit limit = {0};
    if (!ivc_timeout(timeout, &limit.timeout))
        return -EINVAL;
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
    pass_on(&g);
    return g.n ? g.n : error;
}

void epoll_after_fork(void)
{
    ivc_slab_after_fork(&set_slab);
    for (int fd = 0; fd <= ivc_highest_fd(); fd++) {
        struct epset *set = epset_of(fd);
        if (set)
            memset(&set->lock, 0, sizeof(set->lock));
    }
    /* The sets are shared with the parent; its bells are not ours to clear. */
    for (uint32_t i = 0; i < arena_used; i++) {
        arena[i].belled = false;
        arena[i].rung = false;
    }
}
