/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime() */
#endif
#include "stream_relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "clock.h"

static_assert(sizeof(((struct ivc_stream *)0)->lengths) == IVC_STREAM_RECORDS * sizeof(uint32_t),
              "lengths");
static_assert(sizeof(((struct ivc_stream *)0)->answer) == IVC_STREAM_PENDING, "answers");
static_assert(IVC_STREAM_PENDING == IVC_STREAM_ANSWERS * IVC_SOMEIP_HEADER, "answers");

/* How long a sender that leaves waits for room; then it has the rest itself. */
#define PATIENCE_NS UINT64_C(50000000)

/* Of the second ring: what a record adds to its bytes at most, with its padding. */
#define RECORD_EXTRA (2 * IVC_RECORD_ALIGN)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- where messages begin -------------------------------------------------- */

static bool knows_framing(struct ivc_relayed *flow)
{
    struct ivc_stream *s = flow->stream;
    uint64_t said = ivc_rx_peer_kernel(flow->rx);

    if (s->framed == IVC_FRAMED_UNKNOWN && (said & IVC_KERNEL_DONE) != 0) {
        s->framed = (said & IVC_KERNEL_FRESH) != 0 ? IVC_FRAMED_YES : IVC_FRAMED_NO;
    }
    return s->framed != IVC_FRAMED_UNKNOWN;
}

static bool between_messages(const struct ivc_stream *s)
{
    return s->framed == IVC_FRAMED_YES && s->left == 0 && s->have == 0;
}

/* ---- traces ------------------------------------------------------------------ */

/* What has just been written to the second ring, and before it is published: so the trace has it
 * before anybody can answer it. */
static void trace(const struct ivc_stream_desk *desk, struct ivc_relayed *flow, uint8_t event,
                  const uint8_t *data, size_t size)
{
    const struct ivc_ctrl *line = flow->tx->own;
    uint32_t position = flow->stream->kpos + flow->stream->position;

    flow->stream->position += (uint32_t)size;
    for (size_t at = 0; desk->trace != NULL && at < size; at += IVC_TRACE_SEGMENT) {
        const struct iovec iov = {(void *)(uintptr_t)(data + at),
                                  (size_t)least(size - at, IVC_TRACE_SEGMENT)};
        const struct ivc_trace_record traced = {
            .time = ivc_clock_ns(),
            .length = (uint32_t)iov.iov_len,
            .flow = (uint32_t)flow->flow,
            .src_ip = line->src_ip,
            .dst_ip = line->dst_ip,
            .src_port = line->src_port,
            .dst_port = line->dst_port,
            .position = position + (uint32_t)at,
            .lost = flow->untraced,
            .kind = IVC_RECORD_STREAM,
            .event = event,
            .number = flow->tx->seq - 1,
        };
        flow->untraced = ivc_trace_put(desk->trace, &traced, &iov, 1) ? 0 : flow->untraced + 1;
    }
}

/* ---- answers to what is denied on the other way ------------------------------ */

/* A record with what we say in the sender's name. */
static int write_bytes(const struct ivc_stream_desk *desk, struct ivc_relayed *flow, uint8_t event,
                       const uint8_t *data, size_t size)
{
    const struct ivc_ctrl *line = flow->tx->own;
    const struct iovec iov = {(void *)(uintptr_t)data, size};
    const struct ivc_record record = {.kind = IVC_RECORD_STREAM,
                                      .src_ip = line->src_ip,
                                      .dst_ip = line->dst_ip,
                                      .src_port = line->src_port,
                                      .dst_port = line->dst_port,
                                      .kseq = flow->stream->kpos};

    int rc = ivc_tx_write(flow->tx, &record, &iov, 1, size);

    if (rc == 0) {
        trace(desk, flow, event, data, size);
    }
    return rc;
}

/* Say what waits, if no message is in the midst. False: there is no room. */
static bool put_answers(const struct ivc_stream_desk *desk, struct ivc_relayed *flow)
{
    struct ivc_stream *s = flow->stream;

    if (s->answers == 0 || s->ended || !knows_framing(flow)) {
        return true;
    }
    if (between_messages(s)) {
        if (write_bytes(desk, flow, IVC_TRACE_ANSWER, s->answer,
                        s->answers * IVC_SOMEIP_HEADER) == -ENOBUFS) {
            return false;
        }
        if (ivc_tx_publish(flow->tx)) {
            ivc_bell_ring(&flow->rung);
        }
        s->answers = 0;
    } else if (s->framed == IVC_FRAMED_NO) {
        s->answers = 0; /* they could come anywhere */
    }
    return true;
}

bool ivc_stream_has_answers(struct ivc_relayed *flow)
{
    struct ivc_stream *s = flow->stream;

    return s->answers != 0 && !s->ended && knows_framing(flow) && between_messages(s);
}

static bool answer(const struct ivc_stream_desk *desk, struct ivc_relayed *back,
                   const struct ivc_kind *kind, const uint8_t *header)
{
    struct ivc_stream *s = back != NULL ? back->stream : NULL;
    const struct ivc_request request = ivc_request_of(header);

    if (s == NULL || s->ended || s->answers == IVC_STREAM_ANSWERS) {
        return false;
    }
    if (knows_framing(back) && s->framed == IVC_FRAMED_NO) {
        return false;
    }
    ivc_make_answer(s->answer + s->answers++ * IVC_SOMEIP_HEADER, kind, &request);
    (void)put_answers(desk, back);
    return true;
}

/* ---- copies of what is mirrored --------------------------------------------- */

static void drop_copy(struct ivc_stream *s)
{
    free(s->copy);
    s->copy = NULL;
}

/* A datagram cannot hold more than some messages have. */
static void begin_copy(struct ivc_stream *s, struct ivc_kind *kind, uint64_t size)
{
    s->copied = s->have;
    s->copy_key = kind->key;
    s->copy = size <= IVC_DATAGRAM_MOST ? malloc((size_t)size) : NULL;
    if (s->copy == NULL) {
        ivc_count(&kind->uncopied, 1);
    } else {
        memcpy(s->copy, s->header, s->have);
    }
}

static void feed_copy(const struct ivc_stream_desk *desk, struct ivc_relayed *flow,
                      const uint8_t *data, size_t size)
{
    struct ivc_stream *s = flow->stream;

    if (s->copy == NULL) {
        return;
    }
    memcpy(s->copy + s->copied, data, size);
    s->copied += size;
    if (s->left == size) { /* a new plan may have another word for it since it began */
        struct ivc_kind *kind = ivc_kinds_find(desk->kinds, flow->way, s->copy_key);

        if (kind != NULL && kind->action == IVC_ACTION_MIRROR && kind->detail == 0) {
            ivc_count(desk->trace != NULL ? &kind->copied : &kind->uncopied, 1); /* to the trace */
        } else if (kind != NULL && kind->action == IVC_ACTION_MIRROR) {
            ivc_send_copy(desk->copies, kind, s->copy, (size_t)s->copied);
        }
        drop_copy(s);
    }
}

/* ---- messages ---------------------------------------------------------------- */

/* Bytes of a header that is not whole yet need not wait if they go on whatever it says. */
static void begin_header(struct ivc_stream *s, const uint8_t *data, size_t size)
{
    memcpy(s->header + s->have, data, size);
    s->have += (uint32_t)size;
}

/* The header of the message that begins, or goes on, with these bytes. False: more has to come. */
static bool complete_header(struct ivc_stream *s, const uint8_t *data, size_t size)
{
    if (s->have + size < IVC_SOMEIP_HEADER) {
        return false;
    }
    memcpy(s->header + s->have, data, IVC_SOMEIP_HEADER - s->have);
    return true;
}

static enum ivc_relay_result ask(struct ivc_relayed *flow, uint64_t key)
{
    memset(flow->asked_header, 0, sizeof(flow->asked_header));
    if (key != 0) {
        memcpy(flow->asked_header, flow->stream->header, sizeof(flow->asked_header));
    }
    flow->asked_key = key;
    return IVC_RELAY_ASKS;
}

/* A message begins with these bytes, of which there are no more yet: IVC_RELAY_MORE, and it is
 * judged. IVC_RELAY_EMPTY: more of its header has to come, unless it is `over`. */
static enum ivc_relay_result begin_message(const struct ivc_stream_desk *desk,
                                           struct ivc_relayed *flow, const uint8_t *data,
                                           size_t size, bool over)
{
    struct ivc_stream *s = flow->stream;
    uint64_t key = 0, length = size;

    if (s->framed == IVC_FRAMED_YES && complete_header(s, data, size)) {
        length = ivc_someip_key(s->header, SIZE_MAX, &key);
    } else if (s->framed == IVC_FRAMED_YES && !over) {
        return IVC_RELAY_EMPTY;
    }
    struct ivc_kind *kind = ivc_kinds_find(desk->kinds, flow->way, key);
    if (kind == NULL || kind->action == IVC_ACTION_ASK) {
        return ask(flow, key);
    }
    if (key == 0) {
        s->framed = IVC_FRAMED_NO; /* where the next would begin nobody knows */
        s->have = 0;
        length = size;
        ivc_count(&s->unframed, size);
    }
    s->left = length - s->have;
    s->dropped = kind->action == IVC_ACTION_DENY && s->have == 0; /* the rest of it must go, too */
    ivc_kind_count(kind, (size_t)length, s->dropped);
    if (s->dropped && ivc_is_answered(kind)) {
        ivc_count(answer(desk, flow->back, kind, s->header) ? &flow->answered : &flow->unanswered, 1);
    }
    if (kind->action == IVC_ACTION_MIRROR) {
        begin_copy(s, kind, length);
    }
    s->have = 0;
    return IVC_RELAY_MORE;
}

/* Judge the bytes in `desk`: what is let through is moved to their front, *kept of them. Returns
 * how many are done with. */
static size_t sift(const struct ivc_stream_desk *desk, struct ivc_relayed *flow, size_t size,
                   bool over, size_t *kept, enum ivc_relay_result *result)
{
    struct ivc_stream *s = flow->stream;
    size_t at = 0;

    *kept = 0;
    *result = IVC_RELAY_MORE;
    while (at < size) {
        size_t part = size - at;

        if (between_messages(s) && s->answers != 0 && at != 0) {
            break; /* here they fit in */
        }
        if (s->left == 0) {
            *result = begin_message(desk, flow, desk->room + at, part, over);
        }
        if (*result == IVC_RELAY_EMPTY && !s->strict) {
            begin_header(s, desk->room + at, part);
        } else if (*result != IVC_RELAY_MORE) {
            break;
        } else {
            part = (size_t)least(s->left, part);
            feed_copy(desk, flow, desk->room + at, part);
            s->left -= part;
        }
        if (s->have != 0 || !s->dropped) {
            memmove(desk->room + *kept, desk->room + at, part);
            *kept += part;
        }
        at += part;
    }
    return at;
}

/* ---- the rings ---------------------------------------------------------------- */

/* Its sender does what none of ours does. */
static int refuse(struct ivc_rx *rx)
{
    rx->poisoned = true;
    ivc_rx_set_state(rx, IVC_REGION_POISONED);
    return -EPROTO;
}

static void step_over(struct ivc_rx *rx, uint32_t length)
{
    rx->head += ivc_record_bytes(length);
    rx->seq++;
}

/* Bytes given to the kernel in between would have passed what is under way here. */
static bool is_next(struct ivc_relayed *flow, const struct ivc_record *record)
{
    struct ivc_stream *s = flow->stream;

    if (!s->begun) {
        s->begun = true;
        s->kpos = record->kseq;
        ivc_tx_set_kernel(flow->tx, s->kpos);
    }
    return record->length != 0 && record->kseq == s->kpos;
}

/* Copy what is next, at most `most` bytes, and leave it in the ring. Their number, or -EPROTO. */
static int64_t gather(struct ivc_relayed *flow, uint8_t *room, size_t most)
{
    struct ivc_stream *s = flow->stream;
    struct ivc_rx look = *flow->rx;
    struct ivc_record record;
    uint64_t offset = s->offset;
    size_t size = 0;

    s->records = 0;
    while (size < most && s->records < IVC_STREAM_RECORDS &&
           look.head - flow->rx->head < look.size) {
        look.published = look.head; /* it must not publish */
        int rc = ivc_rx_peek(&look, &record);

        if (rc == 0) {
            break;
        }
        if (rc < 0 || !is_next(flow, &record) || offset > record.length) {
            return refuse(flow->rx);
        }
        const struct iovec iov = {room + size, (size_t)least(record.length - offset, most - size)};
        (void)ivc_rx_copy_from(&look, &record, (size_t)offset, &iov, 1);
        s->lengths[s->records++] = record.length;
        size += iov.iov_len;
        offset = 0;
        step_over(&look, record.length);
    }
    flow->rx->tail = s->seen = look.tail;
    return (int64_t)size;
}

/* `done` bytes of what was gathered are done with. */
static void advance(struct ivc_relayed *flow, size_t done)
{
    struct ivc_stream *s = flow->stream;

    s->offset += done;
    for (uint32_t i = 0; i < s->records && s->offset >= s->lengths[i]; i++) {
        s->offset -= s->lengths[i];
        step_over(flow->rx, s->lengths[i]);
    }
}

/* What is at the front of the room goes on; of the first ring `done` bytes are done with. */
static enum ivc_relay_result pass_on(const struct ivc_stream_desk *desk, struct ivc_relayed *flow,
                                     size_t kept, size_t done)
{
    struct ivc_stream *s = flow->stream;
    uint64_t before = flow->rx->head;

    if (kept != 0 && write_bytes(desk, flow, IVC_TRACE_PASSED, desk->room, kept) != 0) {
        return IVC_RELAY_POISONED; /* there was room */
    }
    advance(flow, done);
    uint64_t passed = flow->rx->head + (s->offset != 0 ? sizeof(struct ivc_record) + s->offset : 0);
    ivc_rx_will_pass(flow->rx, s->dropped && s->left != 0 ? UINT64_MAX : passed);
    bool wake = ivc_tx_publish(flow->tx);
    ivc_rx_has_passed(flow->rx, passed);
    bool waits = ivc_rx_sender_waits(flow->rx, before);
    if (wake) {
        ivc_bell_ring(&flow->rung);
    }
    if (waits && flow->back != NULL) {
        ivc_bell_ring(&flow->back->rung);
    }
    s->full_since = 0;
    ivc_count(&flow->messages, s->records);
    ivc_count(&flow->bytes, done);
    return IVC_RELAY_MORE;
}

/* ---- its end -------------------------------------------------------------------- */

void ivc_stream_end(struct ivc_relayed *flow)
{
    struct ivc_stream *s = flow->stream;

    if (s->ended) {
        return;
    }
    s->ended = true;
    drop_copy(s);
    if (ivc_tx_peer_state(flow->tx) == IVC_REGION_FROZEN &&
        ivc_tx_free(flow->tx) != (int64_t)flow->tx->size) {
        ivc_rx_will_pass(flow->rx, UINT64_MAX); /* what we hold nobody will read */
    }
    if (!flow->rx->poisoned) {
        ivc_rx_freeze(flow->rx, (uint32_t)s->offset);
    }
    if (!flow->tx->poisoned) {
        ivc_tx_set_state(flow->tx, IVC_REGION_CLOSED);
    }
    ivc_bell_ring(&flow->rung);
    if (flow->back != NULL) {
        ivc_bell_ring(&flow->back->rung);
    }
}

static enum ivc_relay_result end(struct ivc_relayed *flow)
{
    ivc_stream_end(flow);
    return IVC_RELAY_ENDED;
}

/* It reads no more of what we write. */
static bool receiver_left(const struct ivc_relayed *flow)
{
    uint32_t state = ivc_tx_peer_state(flow->tx);

    return state == IVC_REGION_FROZEN || state == IVC_REGION_POISONED;
}

/* It still reads what we write, as far as there is room. */
static bool receiver_leaves(const struct ivc_relayed *flow)
{
    return ivc_tx_peer_state(flow->tx) == IVC_REGION_CLOSED;
}

/* Its sender adds nothing, or what it adds is no more for here. */
static bool is_over(const struct ivc_relayed *flow)
{
    uint32_t state = ivc_rx_peer_state(flow->rx);

    return flow->stream->finishing || state == IVC_REGION_CLOSED || state == IVC_REGION_LEAVING ||
           receiver_leaves(flow);
}

/* ---- one turn -------------------------------------------------------------------- */

/* There is little room: nothing to do, or what to wait for. */
static enum ivc_relay_result wait_for_room(struct ivc_relayed *flow, bool over)
{
    struct ivc_stream *s = flow->stream;
    uint64_t now = ivc_clock_ns();

    s->full_since = s->full_since != 0 ? s->full_since : now;
    if (!ivc_rx_ready(flow->rx)) {
        s->seen = flow->rx->tail;
        return over ? end(flow) : IVC_RELAY_EMPTY;
    }
    bool leaving = ivc_rx_peer_state(flow->rx) == IVC_REGION_LEAVING && !s->finishing;
    if (receiver_leaves(flow) || (leaving && now - s->full_since >= PATIENCE_NS)) {
        return end(flow);
    }
    return IVC_RELAY_FULL;
}

enum ivc_relay_result ivc_stream_turn(const struct ivc_stream_desk *desk,
                                      struct ivc_relayed *flow)
{
    bool over = is_over(flow); /* before the ring is looked at: what came before is seen */
    uint64_t share = least(flow->rx->size, flow->tx->size) / 8;
    enum ivc_relay_result result;
    size_t kept;

    if (flow->stream->ended || receiver_left(flow)) {
        return end(flow);
    }
    if (!put_answers(desk, flow)) {
        return IVC_RELAY_FULL;
    }
    int64_t room = ivc_tx_free(flow->tx);
    if (room < 0) {
        return IVC_RELAY_POISONED;
    }
    if ((uint64_t)room < flow->tx->size / 8) {
        return wait_for_room(flow, over);
    }
    size_t most = (size_t)least(least(desk->size, share), (uint64_t)room - RECORD_EXTRA);
    int64_t size = gather(flow, desk->room, most);
    if (size <= 0) {
        return size < 0 ? IVC_RELAY_POISONED : over ? end(flow) : IVC_RELAY_EMPTY;
    }
    if (!knows_framing(flow)) {
        flow->stream->framed = IVC_FRAMED_NO;
    }
    bool all = (size_t)size < most && flow->stream->records < IVC_STREAM_RECORDS;
    size_t done = sift(desk, flow, (size_t)size, over, &kept, &result);
    if (done != 0 && pass_on(desk, flow, kept, done) != IVC_RELAY_MORE) {
        return IVC_RELAY_POISONED;
    }
    return result == IVC_RELAY_EMPTY && !all ? IVC_RELAY_MORE : result;
}

bool ivc_stream_arm(struct ivc_relayed *flow)
{
    struct ivc_stream *s = flow->stream;

    (void)ivc_rx_arm(flow->rx);
    bool known = s->framed != IVC_FRAMED_UNKNOWN;
    return flow->rx->tail == s->seen && !is_over(flow) &&
           (s->answers == 0 || known || !knows_framing(flow));
}
