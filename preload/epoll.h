/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: the kernel's set stays the set. A matched socket's bell is registered
 * beside it, and what the kernel and the rings say becomes one truthful event
 * per descriptor of the application.
 *
 * Tokens: for a matched socket the kernel holds, instead of the application's
 * data, a number of ours for its registration (reg.c), which nothing that an
 * application keeps there is.
 */
#ifndef IVC_EPOLL_H
#define IVC_EPOLL_H

#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include "sock.h"

struct epset;

/* A descriptor made by epoll_create*. */
void epset_track(int fd);
struct epset *epset_of(int fd);
void epset_dup(struct epset *set, int newfd);
void epset_release(int fd, struct epset *set);

/* epoll_ctl on a tracked set and a tracked socket. -errno. */
int epset_ctl(struct epset *set, int epfd, int op, int fd, struct sock *s,
              struct epoll_event *event);

/* epoll_wait on a tracked set. timeout in ns, UINT64_MAX = for ever. -errno. */
int epset_wait(struct epset *set, int epfd, struct epoll_event *events, int max, uint64_t timeout,
               const sigset_t *mask);

/* The socket has just been matched: put tokens and bells into its sets.
 * reg_lock held. */
void reg_matched(struct sock *s);

/* The socket's bell is about to be replaced: reg_matched() puts the new one in. reg_lock held. */
void reg_unbell(struct sock *s);

/* The socket is about to go: take its bell out of every set. reg_lock held. */
void reg_closing(struct sock *s);
/* Is one of its sets at work, in code this handler has interrupted? reg_lock held. */
bool reg_interrupted(struct sock *s);

/* The set's own descriptor is about to be polled, or put into another set. */
void epset_nested(struct epset *set);

/* What the application has removed from sets under this descriptor (-1: any), and the kernel does
 * not know of yet. reg_lock held. */
void reg_settle(struct sock *s, int fd);

/* Whether a stream sends on its ring has changed: OUT is asked of the kernel, or not. */
void reg_sync_out(struct sock *s);
void reg_sync_all(void);

/* Does any thread sleep in a set that holds this socket? */
bool reg_sleepers(struct sock *s);

/* Something may be due of a socket whose bell will not tell of it: sets in which it rests (reg.h)
 * look again, at all they have. Any lock may be held. */
extern _Atomic uint32_t ivc_stirs;
static inline void reg_stir(const struct sock *s)
{
    atomic_thread_fence(memory_order_seq_cst); /* pairs with that in reg_rest() */
    if (atomic_load_explicit(&s->resting, memory_order_relaxed))
        atomic_fetch_add(&ivc_stirs, 1);
}

/* The same, at this socket only. reg_lock held, no lock behind it. */
void reg_wake(struct sock *s);

void epoll_after_fork(void);

#endif
