/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: one loop that passes records on from the first ring of each relayed
 * flow to its second. Part of the controller, never of an application.
 *
 * The loop sleeps until a flow's doorbell is rung, then gives every flow that has
 * something a turn of at most IVC_RELAY_TURN records, or an eighth of its ring. A
 * record is copied once, and what becomes of the copy is decided message by message,
 * by kind (core/kinds.h). Payload, addresses, flags and counts go on as they are.
 * A record with a message that is denied goes on without it, unless the kernel has the
 * same datagram: the receiver would not know the two for one, so the record is dropped.
 *
 *   unknown kind   the flow waits and a call says so; others go on meanwhile. The
 *                  answer, ivc_relay_decide, is for the kind, not for the record.
 *   no room        the record stays where it is, so that its sender feels it; after
 *                  50 ms in which the receiver took nothing the newest are dropped
 *                  and counted, until it does again.
 *   rules broken   the flow stops and a call says so.
 *
 * Faults (core/faults.h) act on the copy, message by message, but never on what the kernel has
 * too. A delayed datagram is held, in the loop's memory, until its time; beyond
 * IVC_RELAY_HELD_MOST bytes the record stays where it is as if there were no room. While what is
 * due finds no room in the second ring, what comes after it waits, with the same patience.
 *
 * Copies are sent by a socket of the loop's own that never makes it wait: what the kernel does not
 * take at once is counted, and no more. They are of what goes on, after faults, and go at once: of what
 * is held, too, whether or not there will be room for it.
 *
 * Ways of TCP connections are passed on by core/stream_relay.h, with the same kinds. They wait for
 * room however long it takes, and no fault acts on them.
 *
 * All functions may be called by any thread. Between ivc_relay_add and
 * ivc_relay_remove the flow is the loop's, except for its counts.
 */
#ifndef IVC_RELAY_H
#define IVC_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "doorbell.h"
#include "faults.h"
#include "kinds.h"
#include "ring.h"
#include "stream_state.h"
#include "trace.h"

#define IVC_RELAY_TURN 64u
#define IVC_RELAY_HELD_MOST 4194304u /* bytes of payload and their bookkeeping */
#define IVC_DATAGRAM_MOST 65507u /* bytes of payload of UDP: more is no datagram */

enum ivc_relay_result {
    IVC_RELAY_EMPTY = 0,
    IVC_RELAY_MORE = 1, /* its turn is over */
    IVC_RELAY_ASKS = 2, /* the next record is of a kind not decided on */
    IVC_RELAY_FULL = 3, /* the next record does not fit */
    IVC_RELAY_POISONED = 4,
    IVC_RELAY_ENDED = 5, /* a stream's: nothing goes on any more */
};

/* A relayed flow. */
struct ivc_relayed {
    uint64_t flow; /* its number */
    struct ivc_rx *rx;
    struct ivc_tx *tx;
    uint32_t way; /* what its kinds are kinds of; not 0 */
    uint32_t reserved;
    struct ivc_relayed *back; /* on which its requests are answered, or NULL; of a stream also the
                                 one whose receiver's bell is its sender's */
    struct ivc_stream *stream; /* NULL: datagrams */
    struct ivc_bell heard; /* the sender rings it */
    struct ivc_bell rung;  /* the receiver's */
    _Atomic uint64_t messages; /* records taken, their bytes, and those there was no room for */
    _Atomic uint64_t bytes;
    _Atomic uint64_t full;
    _Atomic uint64_t answered;   /* denied requests that got an answer, */
    _Atomic uint64_t unanswered; /* and those that should have got one */
    /* the loop's */
    uint64_t full_since; /* ns; 0: there is room */
    uint64_t asked_key;
    uint8_t asked_header[16]; /* IVC_SOMEIP_HEADER */
    uint32_t state;
    uint32_t why; /* enum ivc_relay_result of the call */
    uint32_t kseq; /* of what was written to the second ring last */
    bool to_clear; /* `heard` has rung, and still says so */
    bool hurried;  /* nothing more is held of it */
    bool holds;    /* it is among those of which something is held */
    uint32_t untraced; /* messages the trace had no room for, since the last it had */
    struct ivc_relayed *before; /* of the queue its state stands for */
    struct ivc_relayed *next;
    struct ivc_relayed *next_holding;
    struct ivc_held *held; /* by when it is due, */
    struct ivc_held *held_last; /* and the last */
};

/* Why the controller is called. */
struct ivc_relay_call {
    uint64_t flow;
    uint32_t why; /* IVC_RELAY_ASKS, IVC_RELAY_POISONED or IVC_RELAY_ENDED */
    uint32_t way;
    uint64_t key;
    uint8_t header[16]; /* of the message; zeros if key is 0 */
};

/* NULL if there is no memory or descriptor left. `seed`: of the kinds' table. */
struct ivc_relay *ivc_relay_make(uint64_t seed);

/* After the last run; flows need not be removed before, but must still be there. NULL: nothing. */
void ivc_relay_free(struct ivc_relay *relay);

/* The loop. Returns after ivc_relay_stop. */
void ivc_relay_run(struct ivc_relay *relay);
void ivc_relay_stop(struct ivc_relay *relay);

/* 0, or -errno and nothing is changed. */
int ivc_relay_add(struct ivc_relay *relay, struct ivc_relayed *flow);

/*
 * What is held of a flow goes out as soon as there is room, and nothing more is held. True: some
 * is left. For who removes the flow next, and can wait a little.
 */
bool ivc_relay_hurry(struct ivc_relay *relay, struct ivc_relayed *flow);

/* From now on the loop does not touch it. What it holds of the flow goes out at once, or, if there
 * is no room, nowhere. */
void ivc_relay_remove(struct ivc_relay *relay, struct ivc_relayed *flow);

/* The sender of a stream is no more: the flow ends, with a call, when all of it has been passed on. */
void ivc_relay_finish(struct ivc_relay *relay, struct ivc_relayed *flow);

/* A stream that has been removed ends: what is left is its sender's. */
void ivc_relay_end(struct ivc_relay *relay, struct ivc_relayed *flow);

/* A turn for a flow that has been removed; what finds no room is dropped at once, but a stream's
 * stays. */
enum ivc_relay_result ivc_relay_turn(struct ivc_relay *relay, struct ivc_relayed *flow);

/* Readable when there are calls; taking one is all it needs. */
int ivc_relay_fd(const struct ivc_relay *relay);

/* The next call. False: none is left. Each flow has one at most. */
bool ivc_relay_next(struct ivc_relay *relay, struct ivc_relay_call *call);

/*
 * Decide on a kind, also which faults act on it (a bit each); flows that wait for it go on.
 * The entry, which stays where it is until ivc_relay_clear, or NULL: the table is full.
 */
struct ivc_kind *ivc_relay_decide(struct ivc_relay *relay, uint32_t way, uint64_t key,
                                  uint16_t action, uint64_t detail, uint64_t faults);

/*
 * Requests denied on a flow are answered on `back`, which leads to their sender; NULL: not.
 * Before `back` is removed nobody may be left who answers on it. An answer follows what `back`
 * has passed on last, as if the service had sent it next.
 */
void ivc_relay_answer_on(struct ivc_relay *relay, struct ivc_relayed *flow,
                         struct ivc_relayed *back);

/* A flow's messages are of other kinds from now on. */
void ivc_relay_reroute(struct ivc_relay *relay, struct ivc_relayed *flow, uint32_t way);

/* Fault number `at`, below IVC_FAULTS_MOST: put another in its place, or read how it is now. What
 * a delay that was there holds back is due now, before all that comes after it. */
void ivc_relay_set_fault(struct ivc_relay *relay, uint32_t at, const struct ivc_fault *fault);
void ivc_relay_get_fault(struct ivc_relay *relay, uint32_t at, struct ivc_fault *fault);

/* What becomes of messages is traced there from now on, or nowhere (NULL). When this returns, the
 * loop looks at no other any more. */
void ivc_relay_trace(struct ivc_relay *relay, struct ivc_trace *trace);

/* Ask again about all kinds: ivc_kinds_ask_again, ivc_kinds_clear. */
void ivc_relay_ask_again(struct ivc_relay *relay);
void ivc_relay_clear(struct ivc_relay *relay);

/* The counts of what ivc_relay_clear has forgotten. */
const struct ivc_kind *ivc_relay_cleared(const struct ivc_relay *relay);

#endif
