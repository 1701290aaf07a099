/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way of a TCP connection through the relay: from the first ring to the second, cut into its
 * SOME/IP messages on the way.
 *
 * A turn copies what is next, wherever records begin and end, and only the copy counts. A message is
 * judged when its header is complete, and let through, or left out, as its bytes come: it may be
 * larger than the rings. Where it may be denied the first bytes of a header wait in the first ring
 * for the rest of it.
 *
 * Where messages begin is known only of a stream that began here: its sender says so
 * (IVC_KERNEL_FRESH). All other bytes, and all behind what is no message, are of the kind that has
 * no header.
 *
 * Each byte is in one place at any time: either before `passed` (core/layout.h) and on the second
 * ring, or not. So the sender can give what is left to the kernel if the relay ends or dies, but for
 * the rest of a message of which some is gone, or if it dies between the two.
 */
#ifndef IVC_STREAM_RELAY_H
#define IVC_STREAM_RELAY_H

#include "relay.h"
#include "stream_state.h"

/* What the relay lends for a turn. */
struct ivc_stream_desk {
    struct ivc_kinds *kinds;
    struct ivc_trace *trace; /* NULL: nobody traces */
    uint8_t *room; /* for the bytes at hand */
    size_t size;
    int copies; /* the socket they are sent by */
};

enum ivc_relay_result ivc_stream_turn(const struct ivc_stream_desk *desk,
                                      struct ivc_relayed *flow);

/* Does an answer wait here for nothing but room? */
bool ivc_stream_has_answers(struct ivc_relayed *flow);

/* Ask to be woken by what comes next. False: something has come, or changed. */
bool ivc_stream_arm(struct ivc_relayed *flow);

/* Nothing goes on any more: what is left is the sender's. Both ends are told. Idempotent. */
void ivc_stream_end(struct ivc_relayed *flow);

#endif
