/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending datagrams: which road each takes, and their order across roads.
 */
#ifndef IVC_SEND_H
#define IVC_SEND_H

#include "sock.h"

/*
 * Send on a matched socket. `addr` may be NULL (connected). Returns what the
 * kernel would: bytes, or -errno. -EAGAIN from a lock held by this very thread
 * cannot happen: then the datagram goes through the kernel.
 */
ssize_t send_dgram(struct sock *s, int fd, const struct msghdr *msg, int flags);

/* Put what the receiver has not read of a dying flow through the kernel;
 * tx lock held. */
void send_unread(struct sock *s, struct tx_flow *f);

/* Has the relay passed on all that was written, so that nothing overtakes it any more? True if
 * there is no relay; tx lock held. */
bool send_passed_on(struct tx_flow *f);

/* A relay passes on later than its ring is written: wait (bounded) until it has, before anything
 * goes by a road on which it would overtake; tx lock held. False: it lives, and is late. */
bool send_settle(struct tx_flow *f);

#endif
