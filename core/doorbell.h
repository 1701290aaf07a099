/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doorbell: the event that says "look". It belongs to the receiving socket.
 *
 * Contract, the same on every platform (an event-channel descriptor is not an
 * eventfd: a port stays masked until written back, and pollers wake only when
 * the descriptor's queue was empty):
 *   - a receiver that was woken calls ivc_bell_consume() and only then looks at
 *     its rings and arms them again;
 *   - several rings may have one bell; a ring may come with nothing to see.
 */
#ifndef IVC_DOORBELL_H
#define IVC_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

struct ivc_bell {
    int fd;        /* poll this for POLLIN; -1 = none */
    uint32_t port; /* 0: fd is an eventfd; else fd is of /dev/xen/evtchn, and ringing is this */
    uint32_t far;  /* Xen, own bell: the other port it takes */
    bool channel;  /* test mode: an eventfd that behaves like an event channel */
};

/* Make a bell of our own: an eventfd. Returns 0 or -errno. */
int ivc_bell_open(struct ivc_bell *bell);

/*
 * The same on Xen, in domain `self`: others ring it by ports bound on bell->fd
 * (ivc_evtchn_unbound), its own process by bell->port, the near end of a channel
 * from the domain to itself. Two event channels.
 */
int ivc_bell_open_xen(struct ivc_bell *bell, uint16_t self);

/* Give back both event channels at once, whoever still listens at the descriptor. */
void ivc_bell_unbind_xen(const struct ivc_bell *bell);

/* Adopt a descriptor received from the controller. */
void ivc_bell_adopt(struct ivc_bell *bell, int fd);

/* Ring. Never blocks, never fails in a way the caller could act on. */
void ivc_bell_ring(const struct ivc_bell *bell);

/* Clear and unmask. True if it had been rung. Look at the rings after it. */
bool ivc_bell_consume(const struct ivc_bell *bell);

#endif
