/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP connection with a relay between its ends (docs/architecture.md, "TCP through the relay").
 * What it has not passed on it must not be overtaken by: as long as a flow runs, all goes by it,
 * and before anything goes by the kernel the relay has frozen, or is dead.
 */
#ifndef IVC_STREAM_RELAYED_H
#define IVC_STREAM_RELAYED_H

#include "stream.h"

/* The flow may be used from now on: say what the relay can know of its beginning. tx lock held. */
void relayed_begin(struct sock *s, struct tx_flow *f);

/* Does a relay that lives still have it? tx lock held. */
bool relayed_runs(struct tx_flow *f);

/* Ask the relay to freeze, as soon as it has passed on what it can. tx lock held. */
void relayed_ask(struct tx_flow *f, uint32_t reason);

/* The same, and wait for it, but not for ever. False: it still runs. tx lock held. */
bool relayed_left(struct tx_flow *f, uint32_t reason);

/* Nothing more will be sent: all of it is the relay's to deliver, which takes a while. Waits, but not
 * for ever, as the relay may yet die. tx lock held. */
void relayed_finish(struct tx_flow *f, uint32_t reason);

/* A nap, if a relay that lives still has it, and it is not yet `end`. tx lock held. */
bool relayed_waits(struct tx_flow *f, uint64_t end);

/* Neither end may go on: the bytes under way are in two places, or in none. */
void relayed_break(struct sock *s);

/* Has a relay that has ended left here what the kernel will never have? rx lock held. */
bool relayed_strands(const struct sock *s, struct rx_flow *f);

/* The kernel has come to the connection's end: may the relay still bring more? Then the end is held
 * back, and this takes a nap: the kernel goes on telling of it. rx lock held. */
bool relayed_holds_end(struct sock *s, const struct rx_flow *f);

/* Is there an end that was held back, and is not any more? rx lock held. */
bool relayed_end_due(const struct sock *s);

#endif
