/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registrations: one descriptor in one epoll set, for epoll.c (how they come, change and go) and
 * epoll_wait.c (what becomes of them in a wait).
 *
 * A registration is awake, or it rests. Waits look at those awake only, so that a thousand idle
 * sockets in a set cost them nothing. It rests once it has long been looked at in vain, and then
 *
 *   nothing is there to be told of, and whatever comes rings the bell, or is the kernel's to tell,
 *
 * or somebody says reg_stir() (epoll.h): who has cleared the bell, or taken something from the
 * kernel, or made something due that rings no bell.
 */
#ifndef IVC_REG_H
#define IVC_REG_H

#include "epoll.h"
#include "stream.h"

#define READ_EVENTS ((uint32_t)(EPOLLIN | EPOLLRDNORM))
#define WRITE_EVENTS ((uint32_t)(EPOLLOUT | EPOLLWRNORM))

struct reg {
    _Atomic(struct epset *) set; /* NULL: free */
    _Atomic uint32_t life;       /* counts its uses */
    /* behind here zero in a fresh record */
    struct reg *set_next, *set_prev;     /* all of the set */
    struct reg *awake_next, *awake_prev; /* a circle of those to look at; NULL: it rests */
    struct reg *sock_next;
    struct sock *s;
    int fd;
    uint32_t events;
    epoll_data_t data;
    bool managed;   /* the kernel holds our token instead of data */
    bool belled;    /* the bell is in the set */
    bool disabled;  /* EPOLLONESHOT has fired; the application's MOD re-arms it */
    bool rung;      /* the bell was seen and is still to be cleared */
    bool echo;      /* the kernel was asked for OUT again, and will tell of it again */
    bool gone;      /* the application has removed it, the kernel's set may have it still */
    bool asks;      /* counted in set->asking */
    uint32_t mask;  /* what the kernel was asked for */
    uint32_t vain;  /* waits it had nothing for, in a row */
    int at;         /* where its event is, if gather->from there says so */
    uint64_t fulls; /* stream->fulls when the last edge of OUT was told */
    uint64_t seen;  /* recv_arrivals() when the last edge was told */
};

struct epset {
    struct object object;
    struct ivc_lock lock;
    struct reg *regs;
    struct reg *awake;        /* whose turn it is of those to look at */
    uint32_t asking;          /* level events among its registrations that rings do not answer */
    uint32_t stirs;           /* ivc_stirs when all were woken last */
    int fd;                   /* one of its descriptors, when last looked */
    _Atomic uint32_t refs;
    _Atomic bool managed;     /* tokens are in the set, or have been */
    _Atomic uint32_t sleepers;
    bool mailed;
    bool nested;              /* polled as a descriptor itself: no rings in here */
    _Atomic bool kernel_first; /* there was no room for the kernel's events: it is its turn */
    _Atomic uint64_t kernel_looked;
};

/* Records; reg_lock and the set's lock held. A new one is awake. NULL: there is no more room. */
struct reg *reg_new(struct epset *set, int fd, struct sock *s);
void reg_free(struct reg *r);
struct reg *reg_find(const struct epset *set, int fd, const struct sock *s);

/* What the kernel's event means: not ours; of a life before; or what the token was made for. */
enum token { TOKEN_OTHER, TOKEN_STALE, TOKEN_FD, TOKEN_BELL, TOKEN_MAIL };
enum token reg_of_token(const struct epset *set, uint64_t token, struct reg **found);

/* Awake or resting; the set's lock held. */
void reg_awake(struct reg *r);
void reg_awake_all(struct epset *set);
void reg_rest(struct reg *r); /* if it may */

/* The kernel's half of it; the set's lock held. -errno. */
long kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t token);
uint64_t reg_kernel_data(const struct reg *r, epoll_data_t data); /* our token, or `data` */
long reg_tell_kernel(struct reg *r, int epfd, int op);
uint32_t reg_kernel_mask(const struct reg *r, uint32_t events);
void reg_manage(struct reg *r); /* from now on the kernel speaks of it by its token */
void reg_add_bell(struct reg *r, int epfd);
void reg_drop_bell(struct reg *r, int epfd);
void reg_bury(struct reg *r, int epfd); /* what is gone, for the kernel too */

/* After a change of what it asks for, or of what the kernel was asked. */
void reg_recount(struct reg *r);

static inline bool reg_rests(const struct reg *r)
{
    return r->awake_next == NULL;
}

/* The next of those awake, from set->awake on; NULL: there are no more. */
static inline struct reg *reg_next_awake(const struct epset *set, const struct reg *r)
{
    return r->awake_next != set->awake ? r->awake_next : NULL;
}

/* OUT is ours to tell. */
static inline bool reg_writes(const struct reg *r)
{
    return (r->events & WRITE_EVENTS) && stream_on_ring(r->s);
}

/* The kernel was asked for OUT though it is ours to tell, or was not though it is the kernel's. */
static inline bool reg_is_stale(const struct reg *r)
{
    return r->managed && !r->disabled && !r->gone && (r->events & WRITE_EVENTS) &&
           ((r->mask & WRITE_EVENTS) != 0) == stream_on_ring(r->s);
}

/* Do the rings have a say in it? */
static inline bool reg_listens(const struct reg *r)
{
    bool heard = r->belled || (r->managed && r->s->inherited); /* a child looks without a bell */
    return heard && !r->disabled && !r->gone && ((r->events & READ_EVENTS) || reg_writes(r));
}

/* There was room when it was told of OUT last, and has been since: no edge. */
static inline bool reg_told_out(const struct reg *r)
{
    return (r->events & EPOLLET) && atomic_load(&r->s->stream->fulls) == r->fulls;
}

#endif
