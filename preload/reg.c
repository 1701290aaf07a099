/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "reg.h"

#include <assert.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "control.h"
#include "real.h"
#include "recv.h"

_Atomic uint32_t ivc_stirs;

/* ---- records and their tokens ----------------------------------------------------------- */

#define REG_MAX 65536u

static struct reg *arena;
static uint32_t arena_used;
static struct reg *arena_free;

/*
 * Of its 64 bits an application may have set but 32, `data.fd`, and the others are what was on its
 * stack: half an address, or half a token. So both halves of a token are like nothing else:
 *
 *   bits  0..31  the mark of this process: larger than descriptors and indices are
 *   bits 32..47  which record
 *   bits 48..52  which of its lives, as events are held of those before
 *   bits 53..55  enum token
 *   bits 56..63  as no address has them
 */
#define RECORD_SHIFT 32
#define LIFE_SHIFT 48
#define LIVES 32u
#define KIND_SHIFT 53
#define KINDS 8u
#define TOP_SHIFT 56
#define TOP 0xa5u
#define MARK_LEAST (UINT32_C(1) << 30)

static_assert(REG_MAX <= 1u << (LIFE_SHIFT - RECORD_SHIFT), "record in token");
static_assert(LIVES <= 1u << (KIND_SHIFT - LIFE_SHIFT), "life in token");

static uint32_t mark;

static uint32_t new_mark(const void *somewhere)
{
    uint64_t mixed = ((uintptr_t)somewhere >> 12) ^ ivc_now();
    return MARK_LEAST | (uint32_t)(mixed % MARK_LEAST);
}

static struct reg *take_record(void)
{
    if (!arena) {
        void *map = mmap(NULL, REG_MAX * sizeof(struct reg), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            return NULL;
        mark = new_mark(map);
        __atomic_store_n(&arena, map, __ATOMIC_RELEASE); /* pairs with reg_of_token() */
    }
    struct reg *r = arena_free;
    if (r)
        arena_free = r->set_next;
    else if (arena_used < REG_MAX)
        r = &arena[arena_used++];
    return r;
}

static uint64_t token_of(enum token kind, const struct reg *r)
{
    uint64_t record = (uint64_t)(r - arena);
    uint64_t life = atomic_load_explicit(&r->life, memory_order_relaxed) % LIVES;
    return mark | record << RECORD_SHIFT | life << LIFE_SHIFT | (uint64_t)kind << KIND_SHIFT |
           (uint64_t)TOP << TOP_SHIFT;
}

enum token reg_of_token(const struct epset *set, uint64_t token, struct reg **found)
{
    struct reg *records = __atomic_load_n(&arena, __ATOMIC_ACQUIRE); /* `mark` is there, too */
    if (!records || (uint32_t)token != mark || token >> TOP_SHIFT != TOP)
        return TOKEN_OTHER;
    enum token kind = (enum token)(token >> KIND_SHIFT) % KINDS;
    struct reg *r = &records[(token >> RECORD_SHIFT) % REG_MAX];
    *found = r;
    if (kind == TOKEN_MAIL)
        return TOKEN_MAIL;
    bool lives = atomic_load_explicit(&r->set, memory_order_relaxed) == set;
    return lives && token == token_of(kind, r) ? kind : TOKEN_STALE;
}

struct reg *reg_find(const struct epset *set, int fd, const struct sock *s)
{
    for (struct reg *r = s->regs; r; r = r->sock_next)
        if (r->set == set && r->fd == fd)
            return r;
    return NULL;
}

/* ---- awake or resting ------------------------------------------------------------------ */

/* At the end of the circle. */
static void join_circle(struct epset *set, struct reg *r)
{
    struct reg *first = set->awake;
    if (!first) {
        r->awake_next = r->awake_prev = set->awake = r;
        return;
    }
    r->awake_next = first;
    r->awake_prev = first->awake_prev;
    first->awake_prev->awake_next = r;
    first->awake_prev = r;
}

static void leave_circle(struct epset *set, struct reg *r)
{
    if (reg_rests(r))
        return;
    if (set->awake == r)
        set->awake = r->awake_next != r ? r->awake_next : NULL;
    r->awake_prev->awake_next = r->awake_next;
    r->awake_next->awake_prev = r->awake_prev;
    r->awake_next = r->awake_prev = NULL;
}

void reg_awake(struct reg *r)
{
    if (!reg_rests(r))
        return;
    r->vain = 0;
    join_circle(r->set, r);
    atomic_fetch_sub(&r->s->resting, 1);
}

void reg_awake_all(struct epset *set)
{
    for (struct reg *r = set->regs; r; r = r->set_next)
        reg_awake(r);
}

/* Would nothing of it be missed? */
static bool may_rest(const struct reg *r)
{
    if (reg_is_stale(r))
        return false;
    if (!reg_listens(r))
        return true; /* whatever changes that wakes it */
    if (!r->belled && recv_has_rings(r->s))
        return false;
    /* Another thread may fill the ring, and who sleeps here is to hear when there is room again. */
    return !reg_writes(r) && recv_rest(r->s);
}

void reg_rest(struct reg *r)
{
    if (reg_rests(r) || r->rung) /* a bell to be cleared is looked for among those awake */
        return;
    r->vain = 0; /* if not now, then after as many looks again */
    atomic_fetch_add(&r->s->resting, 1);
    /* Full fence between our store of `resting` and our looks at rings, stash and counts. Pairs with
     * that in reg_stir(), which stands between a change of these and the load of `resting`. */
    atomic_thread_fence(memory_order_seq_cst);
    if (may_rest(r))
        leave_circle(r->set, r);
    else
        atomic_fetch_sub(&r->s->resting, 1);
}

/* ---- records ---------------------------------------------------------------------------- */

struct reg *reg_new(struct epset *set, int fd, struct sock *s)
{
    struct reg *r = take_record();
    if (!r)
        return NULL;
    memset((char *)r + offsetof(struct reg, set_next), 0,
           sizeof(*r) - offsetof(struct reg, set_next));
    r->s = s;
    r->fd = fd;
    r->at = INT_MAX; /* what a record before it had in a batch is not ours */
    r->seen = r->fulls = UINT64_MAX;
    r->set_next = set->regs;
    if (set->regs)
        set->regs->set_prev = r;
    set->regs = r;
    r->sock_next = s->regs;
    s->regs = r;
    atomic_fetch_add(&r->life, 1);
    r->set = set;
    join_circle(set, r);
    return r;
}

static void leave_sock(struct reg *r)
{
    struct reg **at = &r->s->regs;
    while (*at && *at != r)
        at = &(*at)->sock_next;
    if (*at)
        *at = r->sock_next;
}

static void leave_set(struct epset *set, struct reg *r)
{
    if (r->set_next)
        r->set_next->set_prev = r->set_prev;
    if (r->set_prev)
        r->set_prev->set_next = r->set_next;
    else
        set->regs = r->set_next;
}

void reg_free(struct reg *r)
{
    struct epset *set = r->set;
    if (reg_rests(r))
        atomic_fetch_sub(&r->s->resting, 1);
    leave_circle(set, r);
    leave_set(set, r);
    leave_sock(r);
    set->asking -= r->asks;
    r->set = NULL;
    r->s = NULL;
    r->set_next = arena_free;
    arena_free = r;
}

void reg_recount(struct reg *r)
{
    uint32_t ours = READ_EVENTS | (r->mask & WRITE_EVENTS ? 0 : WRITE_EVENTS);
    bool asks = (r->events & (WRITE_EVENTS | EPOLLRDHUP | EPOLLPRI) & ~ours) &&
                !(r->events & EPOLLET) && !r->disabled && !r->gone;
    r->set->asking += asks;
    r->set->asking -= r->asks;
    r->asks = asks;
}

/* ---- the kernel's half -------------------------------------------------------------------- */

long kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t token)
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

/* OUT of a stream on its ring would always be true there. */
uint32_t reg_kernel_mask(const struct reg *r, uint32_t events)
{
    return stream_on_ring(r->s) ? events & ~WRITE_EVENTS : events;
}

uint64_t reg_kernel_data(const struct reg *r, epoll_data_t data)
{
    return r->managed ? token_of(TOKEN_FD, r) : data.u64;
}

long reg_tell_kernel(struct reg *r, int epfd, int op)
{
    uint32_t mask = reg_kernel_mask(r, r->events);
    long result = kernel_ctl(epfd, op, r->fd, mask, reg_kernel_data(r, r->data));
    if (result == 0)
        r->mask = mask;
    reg_recount(r);
    return result;
}

void reg_manage(struct reg *r)
{
    r->managed = true;
    atomic_store_explicit(&r->set->managed, true, memory_order_release);
}

static void add_mail(struct epset *set, int epfd)
{
    if (set->mailed || set->nested || control_mail_fd() < 0)
        return;
    uint64_t token = token_of(TOKEN_MAIL, arena);
    long result = kernel_ctl(epfd, EPOLL_CTL_ADD, control_mail_fd(), EPOLLIN, token);
    set->mailed = result == 0 || result == -EEXIST;
}

void reg_add_bell(struct reg *r, int epfd)
{
    struct epset *set = r->set;
    if (r->belled || set->nested || !sock_matched(r->s))
        return;
    uint64_t token = token_of(TOKEN_BELL, r);
    r->belled = kernel_ctl(epfd, EPOLL_CTL_ADD, r->s->bell.fd, EPOLLIN, token) == 0;
    reg_awake(r);
    add_mail(set, epfd);
}

void reg_drop_bell(struct reg *r, int epfd)
{
    if (r->belled)
        (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->s->bell.fd, 0, 0);
    r->belled = false;
}

/* The record stays until its socket goes, or it is put back. */
void reg_bury(struct reg *r, int epfd)
{
    if (!r->gone || !r->belled || epfd < 0)
        return;
    (void)kernel_ctl(epfd, EPOLL_CTL_DEL, r->fd, 0, 0);
    reg_drop_bell(r, epfd);
}
