/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows come and go: the wrapper's half of core/protocol.h. The functions that
 * take a message are called with the control lock held.
 */
#ifndef IVC_FLOW_H
#define IVC_FLOW_H

#include "host.h"
#include "sock.h"

void flow_attach_tx(const struct mail *mail);
void flow_attach_rx(const struct mail *mail);
void flow_peer(struct mail *mail);
void flow_active(const struct ivc_msg *msg);
void flow_close(const struct ivc_msg *msg);
void flow_route(const struct ivc_msg *msg);

/* What waited: ACKs for a thread to leave a kernel wait without our bell, ends of flows for a late
 * relay. */
void flows_retry(void);

/* Its receiver reads no more: what it has not read goes through the kernel, ahead of all that
 * follows; tx lock held. False: the kernel takes no more for now. */
bool flow_give_back(struct sock *s, struct tx_flow *f);

/* Read no more of a flow; its sender gives the rest to the kernel. rx lock held. */
void flow_freeze_rx(struct sock *s, struct rx_flow *f, uint32_t reason);

/* The same where another process has frozen it. rx lock held. */
void flow_forget_rx(struct sock *s, struct rx_flow *f, uint32_t reason);

/* Its group has been left: what has been published so far is still delivered. rx lock held. */
void flow_leave_rx(struct sock *s, struct rx_flow *f, uint32_t reason);

/* The controller has died: what ends in it is dead, direct flows go on. */
void flows_controller_lost(void);

/* A new controller is there: leave the old one's flows, in order. */
void flows_renew(void);
void flows_quiesce(void);

/* Everything of one socket; called with its lock held. */
void flow_drop_tx(struct dest *d, struct tx_flow *f, uint32_t reason);
void flow_end_tx(struct sock *s, struct dest *d, struct tx_flow *f, uint32_t reason);
void flow_drop_rx(struct sock *s, struct rx_flow *f, uint32_t reason);

/* Find or make the record of a destination; tx lock held. NULL: no memory. */
struct dest *flow_dest(struct sock *s, struct endpoint ep);

/* Ask the controller for a destination. */
void flow_want(struct sock *s, struct dest *d);

#endif
