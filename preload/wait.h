/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting: a bounded spin, then sleep with the bell in the wait.
 */
#ifndef IVC_WAIT_H
#define IVC_WAIT_H

#include <poll.h>
#include <signal.h>

#include "signals.h"
#include "sock.h"

/* One spin: rings are looked at in bursts, clock and kernel in between. */
struct spin {
    bool begun;
    uint64_t budget; /* 0 = one burst, without a look at the clock */
    uint64_t until;  /* 0 = the clock has not been looked at yet */
    uint64_t look;   /* when it is the kernel's turn */
    uint64_t looked; /* when the caller had looked at it last; 0 = long ago */
    struct signal_mark mark; /* handlers run before the call began, and which end it */
    bool (*ended)(struct signal_mark);
};

/* Why a spin stops. */
enum spun {
    SPUN_OVER,   /* nothing came while it paid to look */
    SPUN_RING,   /* `hint` has seen something */
    SPUN_MAIL,   /* the controller has said something */
    SPUN_KERNEL, /* it is time to look at the kernel */
    SPUN_SIGNAL, /* a handler has run that ends the call */
};

/*
 * Begin a spin, or go on with it after a look that found nothing. `hint` looks
 * at the rings of about `width` sockets (at least 1), without a system call.
 */
enum spun wait_spin(struct spin *spin, struct ivc_limit *limit, bool (*hint)(void *), void *who,
                    unsigned width);

/* One receive that waits on one socket. */
struct wait {
    struct sock *s;
    int fd;
    bool seen;     /* what is there has been peeked, and more is wanted */
    bool kernel;   /* the kernel has something, or is to be asked */
    uint64_t empty; /* when it was seen to have nothing while we slept; 0 = not */
    bool consumed; /* we cleared the bell */
    bool rung;     /* the bell was seen readable and is still to be cleared */
    uint64_t deadline;       /* SO_RCVTIMEO; 0 = not yet worked out */
    struct signal_mark mark; /* handlers run before the call began */
    struct spin spin;
};

/* Wait until it is worth another look. 0, or -errno to return (-EAGAIN after
 * SO_RCVTIMEO, -EINTR). */
int wait_one(struct wait *wait);

/* We cleared a bell, and leave with data left or sleep on for something else: others asleep, whom
 * it may have meant, must hear of it. */
void wait_pass_on(struct sock *s);

void wait_init(void);

/* On Xen: what waking costs is measured with a bell of our own, since senders'
 * clocks are not ours. Its other end may run while we spin, on one CPU too. */
void wait_judge_bell(const struct ivc_bell *bell);

/* How long to spin now, in ns; 0 = not at all. Then what came of it: a burst without a budget says
 * nothing of whether spinning pays, as it comes in any case. */
uint64_t wait_spin_budget(void);
void wait_spin_hit(const struct spin *spin);
void wait_spin_miss(const struct spin *spin);

/* Something came `slept` ns after we had gone to sleep. */
void wait_slept(uint64_t slept);

/* A bell has ended this thread's sleep just now. */
void wait_woken(void);

/* The publish stamp of a record: if a bell had to wake us for it, what did that
 * cost? */
void wait_learn_wake_cost(uint16_t stamp);

/* poll() and select() with at least one matched socket. -errno. limit->end is 0 still: it has not
 * waited. */
int wait_poll(struct pollfd *fds, nfds_t n, struct ivc_limit *limit, const sigset_t *mask);

/* Any matched socket among them? Sets among them are polled from now on. */
bool wait_poll_concerns(const struct pollfd *fds, nfds_t n);

#endif
