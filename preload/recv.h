/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving datagrams: rings and kernel merged into one queue in the order the
 * kernel alone would have kept.
 */
#ifndef IVC_RECV_H
#define IVC_RECV_H

#include "stream.h"

/* How old the last look at the kernel may be while rings keep us busy. */
#define KERNEL_LOOK_NS (20 * IVC_NS_PER_US)
/* How long a ring waits after a fence that could not be told from its fellows. */
#define FENCE_SETTLE_NS (5 * IVC_NS_PER_MS)
/* How long the kernel's twin may be late. */
#define TWIN_LIFE_NS IVC_NS_PER_S
/* How long it may lie in the kernel's queue besides, if that is never seen empty. */
#define TWIN_UNREAD_NS (30 * IVC_NS_PER_S)

/* Flags of a receive that rings know how to honour. */
#define RECV_RING_FLAGS \
    (MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC | MSG_WAITALL | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)

/* The kernel's recvmsg(), -errno on failure. */
ssize_t recv_native(int fd, struct msghdr *msg, int flags);

/* recvmsg() on a matched socket: what the kernel would return, or -errno. */
ssize_t recv_dgram(struct sock *s, int fd, struct msghdr *msg, int flags);

/*
 * Would a receive return at once? Takes the rx lock. `kernel` says that the
 * kernel reported something for the descriptor just now. *kernel_error is set
 * when an error waits.
 */
bool recv_readable(struct sock *s, bool kernel);

/* Others have seen just now that the kernel has nothing for the socket: the next receive need not
 * ask it. */
void recv_kernel_empty(struct sock *s, uint64_t when);

/* A look at the rings alone, for a spinning thread. */
bool recv_hint(struct sock *s);

/* The same for those who must not miss anything: also of what has been taken from the kernel. */
bool recv_unread(struct sock *s);

/* A word that changes whenever something new has come: for edges. rx lock taken. */
uint64_t recv_arrivals(struct sock *s);

/* For edges: has something come since *seen, an earlier recv_arrivals(), and would a receive return
 * at once? Then *seen is set anew. */
bool recv_news(struct sock *s, uint64_t *seen);

/*
 * Before sleeping: ask every ring for the bell. False: something is there.
 * *limit is lowered to the time until a held record has to be looked at again.
 */
bool recv_arm(struct sock *s, uint64_t *limit);

/* The same for who will not look at the socket again before its bell, or the kernel, says so. True:
 * nothing is there, nor waits for the kernel, and every ring was asked for the bell. */
bool recv_rest(struct sock *s);

/* Does the socket have rings, so that spinning can pay? */
static inline bool recv_has_rings(const struct sock *s)
{
    return __atomic_load_n(&s->rx_flows, __ATOMIC_RELAXED) != NULL ||
           (s->stream && stream_holds(s));
}

/* Can a receive find anything but what the kernel has? */
static inline bool recv_may_have(const struct sock *s)
{
    return recv_has_rings(s) || s->stash.full ||
           atomic_load_explicit(&s->kernel_error, memory_order_relaxed);
}

/* Size of the next datagram (FIONREAD), or -1: ask the kernel. */
long recv_next_size(struct sock *s);

#endif
