/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of core/relay.h.
 *
 * One mutex guards everything. The loop holds it for one turn of one flow at a time
 * and gives way in between if somebody else wants it; asleep it does not hold it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll() */
#endif
#include "relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answer.h"
#include "clock.h"
#include "stream_relay.h"

#define EVENTS_AT_ONCE 64
#define PARTS_MOST (IVC_DATAGRAM_MOST / IVC_SOMEIP_HEADER + 1) /* a rest may be rubbish */

/* How long a receiver may take nothing before what is for it is dropped; well below what
 * a sender waits for us to pass on what its kernel must not overtake (preload/send.c). */
#define PATIENCE_NS UINT64_C(50000000)

/* Nobody rings when there is room again: how soon we look. */
#define RETRY_NS 100000

/* A stream's receiver does ring, unless it has no ring of its own any more. */
#define PARKED_NS 5000000

/* What a flow waits for; each but STOPPED has a queue. */
enum state { STOPPED, IDLE, READY, FULL, PARKED, CALLING, ASKED, STATES };

struct queue {
    struct ivc_relayed *first;
    struct ivc_relayed *last;
};

/* A message of the datagram at hand, and what its kind does not say of its header. */
struct part {
    struct ivc_kind *kind;
    size_t size;
    bool dropped; /* denied, or by a fault */
    uint16_t effects; /* of faults that have acted on it */
    struct ivc_request request;
};

/* A datagram a fault delays. */
struct ivc_held {
    struct ivc_held *before;
    struct ivc_held *next;
    uint64_t due;    /* ns; 0: let go before its time */
    uint64_t faults; /* a bit for each that may have delayed it */
    struct ivc_record record;
    uint8_t event;    /* for the trace: enum ivc_trace_event, */
    uint16_t effects; /* and what faults have done to it */
    size_t length;
    uint8_t data[];
};

struct ivc_relay {
    pthread_mutex_t mutex;
    _Atomic uint32_t callers; /* who wants the mutex besides the loop */
    bool stop;
    int epoll;
    int copies; /* the socket they are sent by */
    struct ivc_bell wake;  /* ends the loop's sleep */
    struct ivc_bell calls; /* the controller's */
    uint64_t removals;     /* so that an event of a flow gone meanwhile is told from others */
    struct queue queues[STATES];
    struct ivc_trace *trace; /* NULL: nobody traces */
    size_t count;
    bool dropped;    /* one of the parts is */
    bool mirrored;   /* one of the parts is */
    bool passed;     /* what is left of it goes on */
    uint64_t faults; /* which act on one of the parts */
    struct ivc_fault armed[IVC_FAULTS_MOST];
    struct ivc_fault before[IVC_FAULTS_MOST]; /* as they were before the datagram at hand */
    struct ivc_relayed *holding;              /* flows of which something is held */
    size_t held_bytes;
    struct part parts[PARTS_MOST];
    uint8_t copy[IVC_DATAGRAM_MOST];
    bool cut;                         /* something is not in the copy any more; */
    uint8_t whole[IVC_DATAGRAM_MOST]; /* as it was before, if somebody traces */
    struct ivc_kinds kinds;
};

/* ---- the mutex ------------------------------------------------------------ */

static void enter(struct ivc_relay *relay)
{
    atomic_fetch_add(&relay->callers, 1);
    pthread_mutex_lock(&relay->mutex);
    atomic_fetch_sub(&relay->callers, 1);
}

static void leave(struct ivc_relay *relay)
{
    pthread_mutex_unlock(&relay->mutex);
}

/* A mutex given up and taken again at once would never be had by anybody who sleeps for it. */
static void give_way(struct ivc_relay *relay)
{
    if (atomic_load(&relay->callers) == 0) {
        return;
    }
    pthread_mutex_unlock(&relay->mutex);
    while (atomic_load(&relay->callers) > 0) {
        sched_yield();
    }
    pthread_mutex_lock(&relay->mutex);
}

/* ---- queues --------------------------------------------------------------- */

static void unlink_flow(struct queue *queue, struct ivc_relayed *flow)
{
    *(flow->before != NULL ? &flow->before->next : &queue->first) = flow->next;
    *(flow->next != NULL ? &flow->next->before : &queue->last) = flow->before;
}

static void append(struct queue *queue, struct ivc_relayed *flow)
{
    flow->next = NULL;
    flow->before = queue->last;
    *(queue->last != NULL ? &queue->last->next : &queue->first) = flow;
    queue->last = flow;
}

static void move(struct ivc_relay *relay, struct ivc_relayed *flow, enum state state)
{
    if (flow->state != STOPPED) {
        unlink_flow(&relay->queues[flow->state], flow);
    }
    flow->state = state;
    if (state != STOPPED) {
        append(&relay->queues[state], flow);
    }
}

static void move_all(struct ivc_relay *relay, enum state from, enum state to)
{
    while (relay->queues[from].first != NULL) {
        move(relay, relay->queues[from].first, to);
    }
}

/* ---- one record ----------------------------------------------------------- */

static bool is_copied(const struct ivc_kind *kind)
{
    return kind->action == IVC_ACTION_MIRROR || kind->action == IVC_ACTION_WATCH;
}

/* Divide the copy of `length` bytes into messages. False: one is of a kind to be asked for. */
static bool divide(struct ivc_relay *relay, struct ivc_relayed *flow, size_t length)
{
    size_t at = 0;

    relay->count = 0;
    relay->dropped = relay->mirrored = relay->cut = false;
    relay->faults = 0;
    do {
        uint64_t key;
        size_t size = ivc_someip_key(relay->copy + at, length - at, &key);
        struct ivc_kind *kind = ivc_kinds_find(&relay->kinds, flow->way, key);

        if (kind == NULL || kind->action == IVC_ACTION_ASK) {
            memset(flow->asked_header, 0, sizeof(flow->asked_header));
            if (key != 0) {
                memcpy(flow->asked_header, relay->copy + at, sizeof(flow->asked_header));
            }
            flow->asked_key = key;
            return false;
        }
        struct part *part = &relay->parts[relay->count++];
        *part = (struct part){
            .kind = kind, .size = size, .dropped = kind->action == IVC_ACTION_DENY};
        relay->dropped |= part->dropped;
        relay->mirrored |= is_copied(kind);
        relay->faults |= kind->faults;
        if (ivc_is_answered(kind)) {
            part->request = ivc_request_of(relay->copy + at);
        }
        at += size;
    } while (at < length);
    return true;
}

/* ---- traces ------------------------------------------------------------------- */

/* Before it is published: so the trace has it before anybody can answer it. */
static void trace(struct ivc_relay *relay, struct ivc_relayed *flow,
                  const struct ivc_record *record, uint8_t event, uint16_t effects,
                  const uint8_t *data, size_t size)
{
    /* What was written last, if it was; else what nobody takes. */
    uint32_t number = flow->tx->seq - 1;
    const struct iovec iov = {(void *)(uintptr_t)data, size};

    if (relay->trace == NULL) {
        return;
    }
    const struct ivc_trace_record traced = {
        .time = ivc_clock_ns(),
        .length = (uint32_t)size,
        .flow = (uint32_t)flow->flow,
        .src_ip = record->src_ip,
        .dst_ip = record->dst_ip,
        .src_port = record->src_port,
        .dst_port = record->dst_port,
        .lost = flow->untraced,
        .kind = IVC_RECORD_DGRAM,
        .event = event,
        .faults = effects,
        .number = number,
    };
    flow->untraced = ivc_trace_put(relay->trace, &traced, &iov, 1) ? 0 : flow->untraced + 1;
}

/* What is to be told of what goes on of the datagram at hand: the most that is said of a part. */
static uint8_t event_of(const struct ivc_relay *relay)
{
    uint8_t event = IVC_TRACE_PASSED;

    for (size_t i = 0; i < relay->count; i++) {
        const struct part *part = &relay->parts[i];

        if (!part->dropped && part->kind->action == IVC_ACTION_MIRROR) {
            return IVC_TRACE_MIRRORED;
        }
        if (!part->dropped && part->kind->action == IVC_ACTION_AUDIT) {
            event = IVC_TRACE_AUDITED;
        }
    }
    return event;
}

static uint16_t effects_of(const struct ivc_relay *relay)
{
    uint16_t effects = 0;

    for (size_t i = 0; i < relay->count; i++) {
        effects |= relay->parts[i].dropped ? 0 : relay->parts[i].effects;
    }
    return effects;
}

/* Messages of the datagram at hand that go nowhere, each by itself. */
static void trace_dropped(struct ivc_relay *relay, struct ivc_relayed *flow,
                          const struct ivc_record *record)
{
    const uint8_t *data = relay->cut ? relay->whole : relay->copy;

    for (size_t i = 0; relay->trace != NULL && relay->dropped && i < relay->count; i++) {
        const struct part *part = &relay->parts[i];

        if (part->dropped) {
            bool denied = part->kind->action == IVC_ACTION_DENY;
            trace(relay, flow, record, denied ? IVC_TRACE_DENIED : IVC_TRACE_DROPPED,
                  part->effects, data, part->size);
        }
        data += part->size;
    }
}

/* The kernel has the same datagram: the receiver will compare the two. */
static bool is_of_kernel(const struct ivc_record *record)
{
    return (record->flags & (IVC_RECORD_TWIN | IVC_RECORD_FENCE)) != 0;
}

/* Take dropped messages out of the copy. True: something is left; *length says how much.
 * All or nothing of what the kernel has too: the receiver compares its copy with ours. */
static bool take_out_dropped(struct ivc_relay *relay, const struct ivc_record *record,
                             size_t *length)
{
    size_t at = 0, kept = 0;
    bool any = false;

    if (!relay->dropped) {
        return true;
    }
    if (relay->trace != NULL) {
        memcpy(relay->whole, relay->copy, *length);
        relay->cut = true;
    }
    for (size_t i = 0; i < relay->count; i++) {
        size_t size = relay->parts[i].size;

        if (!relay->parts[i].dropped) {
            if (kept != at) {
                memmove(relay->copy + kept, relay->copy + at, size);
            }
            kept += size;
            any = true;
        }
        at += size;
    }
    if (is_of_kernel(record) && kept != at) {
        return false;
    }
    *length = kept;
    return any;
}

/* ---- answers to what is denied ------------------------------------------------ */

/* Whether somebody reads what is written there, or is about to. */
static bool is_read(const struct ivc_tx *tx)
{
    uint32_t state = ivc_tx_peer_state(tx);

    return state == IVC_REGION_OPEN || state == IVC_REGION_INIT;
}

static bool write_answer(struct ivc_relay *relay, const struct part *part,
                         struct ivc_relayed *back)
{
    uint8_t header[IVC_SOMEIP_HEADER];
    const struct iovec iov = {header, sizeof(header)};

    if (back == NULL || !is_read(back->tx)) {
        return false;
    }
    const struct ivc_ctrl *line = back->tx->own;
    const struct ivc_record record = {.kind = IVC_RECORD_DGRAM,
                                      .src_ip = line->src_ip,
                                      .dst_ip = line->dst_ip,
                                      .src_port = line->src_port,
                                      .dst_port = line->dst_port,
                                      .kseq = back->kseq};
    ivc_make_answer(header, part->kind, &part->request);
    if (ivc_tx_write(back->tx, &record, &iov, 1, sizeof(header)) != 0) {
        return false;
    }
    trace(relay, back, &record, IVC_TRACE_ANSWER, 0, header, sizeof(header));
    if (ivc_tx_publish(back->tx)) {
        ivc_bell_ring(&back->rung);
    }
    return true;
}

/* Answer the requests of the datagram at hand that were denied and shall have one. */
static void answer_denied(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    for (size_t i = 0; relay->dropped && i < relay->count; i++) {
        const struct part *part = &relay->parts[i];

        if (ivc_is_answered(part->kind)) {
            bool done = write_answer(relay, part, flow->back);

            ivc_count(done ? &flow->answered : &flow->unanswered, 1);
        }
    }
}

/* ---- copies of what is mirrored ------------------------------------------------ */

/* Who traces has it already, if it was told of. */
static void count_in_trace(const struct ivc_relay *relay, const struct ivc_relayed *flow,
                           struct ivc_kind *kind)
{
    bool there = relay->trace != NULL && flow->untraced == 0;

    ivc_count(there ? &kind->copied : &kind->uncopied, 1);
}

/* Of the datagram at hand, if it has been passed on: what was dropped is not in the copy any
 * more. */
static void send_copies(struct ivc_relay *relay, const struct ivc_relayed *flow)
{
    size_t at = 0;

    for (size_t i = 0; relay->mirrored && relay->passed && i < relay->count; i++) {
        const struct part *part = &relay->parts[i];

        if (part->dropped) {
            continue;
        }
        if (part->kind->action == IVC_ACTION_MIRROR && part->kind->detail == 0) {
            count_in_trace(relay, flow, part->kind);
        } else if (is_copied(part->kind)) {
            ivc_send_copy(relay->copies, part->kind, relay->copy + at, part->size);
        }
        at += part->size;
    }
}

static void count_record(struct ivc_relay *relay, struct ivc_relayed *flow, size_t length)
{
    for (size_t i = 0; i < relay->count; i++) {
        ivc_kind_count(relay->parts[i].kind, relay->parts[i].size, relay->parts[i].dropped);
    }
    ivc_count(&flow->messages, 1);
    ivc_count(&flow->bytes, length);
}

static bool is_patient(struct ivc_relayed *flow)
{
    uint64_t now = ivc_clock_ns();

    if (flow->full_since == 0) {
        flow->full_since = now;
    }
    return now - flow->full_since < PATIENCE_NS;
}

/* Its receiver has left, and the flow is about to end: the record stays with its sender, who gives
 * it to the kernel, which knows who listens now and tells the sender if nobody does. Not so a
 * group's, which would reach its other members twice. */
static bool nobody_reads(const struct ivc_relayed *flow, const struct ivc_record *record)
{
    return ivc_tx_peer_state(flow->tx) == IVC_REGION_CLOSED && record->dst_ip >> 28 != 0xe;
}

/*
 * Write the copy to the second ring, or drop it: IVC_RELAY_MORE. Else what keeps it from
 * either. `last`: there is no later.
 */
static enum ivc_relay_result write_copy(struct ivc_relay *relay, struct ivc_relayed *flow,
                                        const struct ivc_record *record, size_t length, bool last)
{
    const struct iovec iov = {relay->copy, length};
    bool gone = nobody_reads(flow, record);
    int rc = gone ? -ENOBUFS : ivc_tx_write(flow->tx, record, &iov, 1, length);

    if (rc == -EPROTO) {
        return IVC_RELAY_POISONED;
    }
    if (rc == 0) {
        flow->full_since = 0;
        flow->kseq = record->kseq;
        relay->passed = true;
    } else if (last ? gone : is_patient(flow)) {
        return IVC_RELAY_FULL;
    } else {
        ivc_count(&flow->full, 1);
    }
    if (relay->trace != NULL) {
        trace(relay, flow, record, rc == 0 ? event_of(relay) : IVC_TRACE_FULL, effects_of(relay),
              relay->copy, length);
    }
    return IVC_RELAY_MORE;
}

/* ---- faults --------------------------------------------------------------- */

/* Faults, in their order, until one drops the message. */
static struct ivc_fate suffer_part(struct ivc_relay *relay, const struct part *part, uint8_t *data,
                                   uint64_t now)
{
    struct ivc_fate fate = {0};

    for (uint64_t left = part->kind->faults; left != 0 && !fate.dropped; left &= left - 1) {
        ivc_fault_apply(&relay->armed[__builtin_ctzll(left)], data, part->size, now, &fate);
    }
    return fate;
}

/* What faults do to the copy. Of its messages that are left the longest delay counts, and one
 * that goes twice takes the others along. */
static struct ivc_fate suffer(struct ivc_relay *relay)
{
    struct ivc_fate whole = {0};
    uint64_t now = ivc_clock_ns();
    size_t at = 0;

    memcpy(relay->before, relay->armed, sizeof(relay->armed));
    for (size_t i = 0; i < relay->count; at += relay->parts[i++].size) {
        struct part *part = &relay->parts[i];

        if (part->dropped) {
            continue;
        }
        struct ivc_fate fate = suffer_part(relay, part, relay->copy + at, now);
        part->dropped = fate.dropped;
        part->effects = fate.effects;
        relay->dropped |= fate.dropped;
        if (!fate.dropped) {
            whole.twice |= fate.twice;
            whole.delay = fate.delay > whole.delay ? fate.delay : whole.delay;
        }
    }
    return whole;
}

/* Put one behind another, or in front of all (NULL). */
static void insert_held(struct ivc_relayed *flow, struct ivc_held *before, struct ivc_held *held)
{
    held->before = before;
    held->next = before != NULL ? before->next : flow->held;
    *(before != NULL ? &before->next : &flow->held) = held;
    *(held->next != NULL ? &held->next->before : &flow->held_last) = held;
}

static void unlink_held(struct ivc_relayed *flow, struct ivc_held *held)
{
    *(held->before != NULL ? &held->before->next : &flow->held) = held->next;
    *(held->next != NULL ? &held->next->before : &flow->held_last) = held->before;
}

/* False: there is no room for more. */
static bool hold(struct ivc_relay *relay, struct ivc_relayed *flow,
                 const struct ivc_record *record, size_t length, uint64_t due)
{
    size_t bytes = sizeof(struct ivc_held) + length;

    if (relay->held_bytes + bytes > IVC_RELAY_HELD_MOST) {
        return false;
    }
    struct ivc_held *held = malloc(bytes), *before = flow->held_last;
    if (held == NULL) {
        return false;
    }
    *held = (struct ivc_held){
        .due = due,
        .faults = relay->faults,
        .record = *record,
        .event = event_of(relay),
        .effects = effects_of(relay),
        .length = length};
    memcpy(held->data, relay->copy, length);
    while (before != NULL && before->due > due) { /* without jitter it is the last at once */
        before = before->before;
    }
    insert_held(flow, before, held);
    relay->held_bytes += bytes;
    if (!flow->holds) {
        flow->holds = true;
        flow->next_holding = relay->holding;
        relay->holding = flow;
    }
    return true;
}

static void let_go(struct ivc_relay *relay, struct ivc_relayed *flow, struct ivc_held *held)
{
    unlink_held(flow, held);
    relay->held_bytes -= sizeof(*held) + held->length;
    free(held);
}

/* What these faults hold back of a flow is due: in the order it is in, and before all else. */
static void release(struct ivc_relayed *flow, uint64_t faults)
{
    struct ivc_held *last = NULL, *next;

    for (struct ivc_held *at = flow->held; at != NULL; at = next) {
        next = at->next;
        if (at->due == 0 || (at->faults & faults) != 0) {
            unlink_held(flow, at);
            at->due = 0;
            insert_held(flow, last, at);
            last = at;
        }
    }
}

/* As write_copy. If the record stays where it is, its faults have not happened yet. */
static enum ivc_relay_result pass_with_faults(struct ivc_relay *relay, struct ivc_relayed *flow,
                                              const struct ivc_record *record, size_t length,
                                              bool last)
{
    struct ivc_fate fate = suffer(relay);
    enum ivc_relay_result result = IVC_RELAY_MORE;

    if (!take_out_dropped(relay, record, &length)) {
        return IVC_RELAY_MORE;
    }
    for (int copies = fate.twice ? 2 : 1; copies > 0; copies--) {
        if (fate.delay != 0 && !last && !flow->hurried) {
            bool done = hold(relay, flow, record, length, ivc_clock_ns() + fate.delay);
            relay->passed |= done;
            result = done ? IVC_RELAY_MORE : IVC_RELAY_FULL;
        } else {
            result = write_copy(relay, flow, record, length, last);
        }
        if (result == IVC_RELAY_FULL && fate.twice && copies == 1) {
            flow->full_since = 0; /* the first has gone, and the second is lost: nobody waits */
            ivc_count(&flow->full, 1);
            return IVC_RELAY_MORE;
        }
        if (result != IVC_RELAY_MORE) {
            memcpy(relay->armed, relay->before, sizeof(relay->armed));
            return result;
        }
    }
    return result;
}

/* Write what is held, or drop it. False: there is no room, but there may be soon. */
static bool deliver(struct ivc_relay *relay, struct ivc_relayed *flow, struct ivc_held *held,
                    bool last)
{
    const struct iovec iov = {held->data, held->length};
    int rc = ivc_tx_write(flow->tx, &held->record, &iov, 1, held->length);

    if (rc == 0) {
        flow->full_since = 0;
        flow->kseq = held->record.kseq;
        trace(relay, flow, &held->record, held->event, held->effects, held->data, held->length);
        if (ivc_tx_publish(flow->tx)) {
            ivc_bell_ring(&flow->rung);
        }
        return true;
    }
    if (!last && rc != -EPROTO && !nobody_reads(flow, &held->record) && is_patient(flow)) {
        return false;
    }
    ivc_count(&flow->full, 1);
    trace(relay, flow, &held->record, IVC_TRACE_FULL, held->effects, held->data, held->length);
    return true;
}

/* Write what is due of a flow, a turn of it. False: some is left, and all that is newer waits. */
static bool deliver_due_of(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    uint64_t now = flow->held != NULL ? ivc_clock_ns() : 0;

    for (unsigned i = 0; flow->held != NULL && flow->held->due <= now; i++) {
        if (i == IVC_RELAY_TURN || !deliver(relay, flow, flow->held, false)) {
            return false;
        }
        let_go(relay, flow, flow->held);
    }
    return true;
}

/* A turn for each flow of which something is held. */
static void deliver_due(struct ivc_relay *relay)
{
    struct ivc_relayed **at = &relay->holding;
    uint64_t removals = relay->removals;

    while (relay->removals == removals && *at != NULL) { /* else `at` may be gone */
        struct ivc_relayed *flow = *at;

        (void)deliver_due_of(relay, flow);
        if (flow->held != NULL) {
            at = &flow->next_holding;
        } else {
            *at = flow->next_holding;
            flow->holds = false;
        }
        give_way(relay);
    }
}

/* All that is held of a flow goes out, or nowhere. */
static void deliver_all_of(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    struct ivc_relayed **at = &relay->holding;

    while (flow->held != NULL) {
        (void)deliver(relay, flow, flow->held, true);
        let_go(relay, flow, flow->held);
    }
    while (flow->holds && *at != flow) {
        at = &(*at)->next_holding;
    }
    if (flow->holds) {
        *at = flow->next_holding;
        flow->holds = false;
    }
}

/* How long the loop may sleep for what it holds: not too short for a receiver to make room. */
static uint64_t until_due(const struct ivc_relay *relay)
{
    uint64_t now = ivc_clock_ns(), due = UINT64_MAX;

    for (const struct ivc_relayed *at = relay->holding; at != NULL; at = at->next_holding) {
        uint64_t first = at->held != NULL ? at->held->due : 0;
        due = first < due ? first : due;
    }
    return due > now + RETRY_NS ? due - now : RETRY_NS;
}

/* No sender of datagrams writes a record so long; there is no room of ours for it either. */
static enum ivc_relay_result refuse(struct ivc_relayed *flow)
{
    flow->rx->poisoned = true;
    ivc_rx_set_state(flow->rx, IVC_REGION_POISONED);
    return IVC_RELAY_POISONED;
}

/* The record just peeked: IVC_RELAY_MORE if it is done with and may be consumed. */
static enum ivc_relay_result pass_record(struct ivc_relay *relay, struct ivc_relayed *flow,
                                         const struct ivc_record *record, bool last)
{
    const struct iovec room = {relay->copy, sizeof(relay->copy)};
    enum ivc_relay_result result = IVC_RELAY_MORE;
    size_t length = record->length;

    if (length > sizeof(relay->copy)) {
        return refuse(flow);
    }
    /* From here on only the copy counts: the sender may change the record at any time. */
    (void)ivc_rx_copy(flow->rx, record, &room, 1);
    if (!divide(relay, flow, length)) {
        return IVC_RELAY_ASKS;
    }
    relay->passed = is_of_kernel(record); /* what the kernel has goes on by it in any case */
    if (relay->faults != 0 && !is_of_kernel(record)) {
        result = pass_with_faults(relay, flow, record, length, last);
    } else if (take_out_dropped(relay, record, &length)) {
        result = write_copy(relay, flow, record, length, last);
    }
    if (result == IVC_RELAY_MORE) {
        count_record(relay, flow, record->length);
        trace_dropped(relay, flow, record);
        answer_denied(relay, flow);
        send_copies(relay, flow);
    }
    return result;
}

/* ---- one turn ------------------------------------------------------------- */

static enum ivc_relay_result pass_records(struct ivc_relay *relay, struct ivc_relayed *flow,
                                          bool last, bool *wake)
{
    uint64_t share = flow->rx->size / 8, start = flow->rx->head;
    struct ivc_record record;

    for (unsigned i = 0; i < IVC_RELAY_TURN && flow->rx->head - start < share; i++) {
        int rc = ivc_rx_peek(flow->rx, &record);

        if (rc <= 0) {
            return rc == 0 ? IVC_RELAY_EMPTY : IVC_RELAY_POISONED;
        }
        enum ivc_relay_result result = pass_record(relay, flow, &record, last);
        if (result != IVC_RELAY_MORE) {
            return result;
        }
        if (flow->rx->head - start + sizeof(record) + record.length >= share - IVC_RECORD_ALIGN) {
            /* The consume may show the sender our head, and what it sees as read has to be
             * passed on already, also if we die in between. */
            *wake |= ivc_tx_publish(flow->tx);
        }
        ivc_rx_consume(flow->rx, &record);
    }
    return IVC_RELAY_MORE;
}

/* Answers that found no room on their way are tried again. */
static enum ivc_relay_result stream_turn(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    const struct ivc_stream_desk desk = {
        &relay->kinds, relay->trace, relay->copy, sizeof(relay->copy), relay->copies};
    enum ivc_relay_result result = ivc_stream_turn(&desk, flow);
    struct ivc_relayed *back = flow->back;

    if (back != NULL && back->stream != NULL && back->state == IDLE &&
        ivc_stream_has_answers(back)) {
        move(relay, back, READY);
    }
    return result;
}

static enum ivc_relay_result turn(struct ivc_relay *relay, struct ivc_relayed *flow, bool last)
{
    bool wake = false;

    if (flow->stream != NULL) {
        return stream_turn(relay, flow);
    }
    if (!deliver_due_of(relay, flow)) {
        return IVC_RELAY_FULL;
    }
    enum ivc_relay_result result = pass_records(relay, flow, last, &wake);

    wake |= ivc_tx_publish(flow->tx);
    if (wake) {
        ivc_bell_ring(&flow->rung);
    }
    ivc_rx_publish(flow->rx); /* last: see above */
    return result;
}

/* ---- the loop ------------------------------------------------------------- */

static bool may_sleep(struct ivc_relayed *flow)
{
    return flow->stream != NULL ? ivc_stream_arm(flow) : ivc_rx_arm(flow->rx);
}

/* Where a flow waits for room in its second ring. */
static enum state until_room(struct ivc_relayed *flow)
{
    if (flow->stream == NULL) {
        return FULL;
    }
    return ivc_tx_arm(flow->tx, flow->tx->size / 4) ? READY : PARKED;
}

static void settle(struct ivc_relay *relay, struct ivc_relayed *flow, enum ivc_relay_result result)
{
    /* Only now, when what was rung for is on its way: on Xen it takes two system calls. Before
     * the ring is armed, so that who rings after that is heard. */
    if (flow->to_clear) {
        flow->to_clear = false;
        (void)ivc_bell_consume(&flow->heard);
    }
    switch (result) {
    case IVC_RELAY_EMPTY:
        move(relay, flow, may_sleep(flow) ? IDLE : READY);
        break;
    case IVC_RELAY_MORE:
        move(relay, flow, READY);
        break;
    case IVC_RELAY_FULL:
        move(relay, flow, until_room(flow));
        break;
    case IVC_RELAY_ASKS:
    case IVC_RELAY_POISONED:
    case IVC_RELAY_ENDED:
        flow->why = result;
        move(relay, flow, CALLING);
        ivc_bell_ring(&relay->calls);
        break;
    }
}

/* One turn for each flow that is ready now. */
static void serve(struct ivc_relay *relay)
{
    struct ivc_relayed *last = relay->queues[READY].last, *flow = NULL;
    uint64_t removals = relay->removals;

    while (flow != last && relay->queues[READY].first != NULL && !relay->stop) {
        flow = relay->queues[READY].first;
        settle(relay, flow, turn(relay, flow, false));
        give_way(relay);
        if (relay->removals != removals) {
            return; /* `last` may be gone */
        }
    }
}

/* An eventfd tells epoll of every ring, cleared or not: then the loop need not clear it, which would
 * be a third of its system calls. */
static bool need_not_be_cleared(const struct ivc_bell *bell)
{
    return bell->port == 0 && !bell->channel;
}

static void hear(struct ivc_relay *relay, const struct epoll_event *event)
{
    struct ivc_relayed *flow = event->data.ptr;

    if (flow == NULL) {
        (void)ivc_bell_consume(&relay->wake);
        return;
    }
    bool clear = !need_not_be_cleared(&flow->heard);
    if (flow->state == IDLE) {
        flow->to_clear = clear;
        move(relay, flow, READY);
    } else if (clear && !flow->to_clear) {
        (void)ivc_bell_consume(&flow->heard);
    }
}

/* How long the loop may sleep: ns, or UINT64_MAX. */
static uint64_t patience(const struct ivc_relay *relay)
{
    uint64_t full = relay->queues[FULL].first != NULL ? RETRY_NS : UINT64_MAX;
    uint64_t parked = relay->queues[PARKED].first != NULL ? PARKED_NS : UINT64_MAX;
    uint64_t held = relay->holding != NULL ? until_due(relay) : UINT64_MAX;
    uint64_t first = full < parked ? full : parked;

    return first < held ? first : held;
}

/* Sleep until something happens. The mutex is free meanwhile. */
static int await(struct ivc_relay *relay, struct epoll_event *events)
{
    bool ready = relay->queues[READY].first != NULL;
    struct pollfd look = {.fd = relay->epoll, .events = POLLIN};
    uint64_t ns = patience(relay);
    bool limited = ns != UINT64_MAX;
    const struct timespec rest = {.tv_sec = (time_t)(ns / UINT64_C(1000000000)),
                                  .tv_nsec = (long)(ns % UINT64_C(1000000000))};
    int n;

    pthread_mutex_unlock(&relay->mutex);
    if (limited && !ready) {
        (void)ppoll(&look, 1, &rest, NULL); /* epoll_wait knows no less than a millisecond */
    }
    n = epoll_wait(relay->epoll, events, EVENTS_AT_ONCE, limited || ready ? 0 : -1);
    pthread_mutex_lock(&relay->mutex);
    return n;
}

static void listen_to_bells(struct ivc_relay *relay)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t removals = relay->removals;
    int n = await(relay, events);

    for (int i = 0; i < n && relay->removals == removals; i++) {
        hear(relay, &events[i]);
    }
    if (n > 0 && relay->removals != removals) {
        /* Events may be of a flow that has gone meanwhile, and nobody tells of the others again. */
        move_all(relay, IDLE, READY);
    }
    move_all(relay, FULL, READY);
    move_all(relay, PARKED, READY);
}

void ivc_relay_run(struct ivc_relay *relay)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL); /* signals are the controller's main thread's */
    pthread_mutex_lock(&relay->mutex);
    while (!relay->stop) {
        serve(relay);
        deliver_due(relay);
        listen_to_bells(relay);
    }
    pthread_mutex_unlock(&relay->mutex);
}

void ivc_relay_stop(struct ivc_relay *relay)
{
    enter(relay);
    relay->stop = true;
    leave(relay);
    ivc_bell_ring(&relay->wake);
}

/* ---- life ----------------------------------------------------------------- */

static int watch(struct ivc_relay *relay, const struct ivc_bell *bell, struct ivc_relayed *flow)
{
    bool edge = flow != NULL && need_not_be_cleared(bell);
    struct epoll_event event = {.events = EPOLLIN | (edge ? (uint32_t)EPOLLET : 0),
                                .data.ptr = flow};

    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, bell->fd, &event) == 0 ? 0 : -errno;
}

struct ivc_relay *ivc_relay_make(uint64_t seed)
{
    struct ivc_relay *relay = calloc(1, sizeof(*relay));

    if (relay == NULL) {
        return NULL;
    }
    pthread_mutex_init(&relay->mutex, NULL);
    ivc_kinds_init(&relay->kinds, seed);
    relay->wake.fd = relay->calls.fd = -1;
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    relay->copies = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (relay->epoll < 0 || relay->copies < 0 || ivc_bell_open(&relay->wake) != 0 ||
        ivc_bell_open(&relay->calls) != 0 || watch(relay, &relay->wake, NULL) != 0) {
        ivc_relay_free(relay);
        return NULL;
    }
    return relay;
}

void ivc_relay_free(struct ivc_relay *relay)
{
    if (relay == NULL) {
        return;
    }
    for (struct ivc_relayed *flow = relay->holding; flow != NULL; flow = flow->next_holding) {
        while (flow->held != NULL) {
            let_go(relay, flow, flow->held);
        }
    }
    const int fds[] = {relay->epoll, relay->copies, relay->wake.fd, relay->calls.fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    pthread_mutex_destroy(&relay->mutex);
    free(relay);
}

int ivc_relay_add(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    flow->state = STOPPED;
    int rc = watch(relay, &flow->heard, flow);
    if (rc == 0) {
        move(relay, flow, READY);
    }
    leave(relay);
    ivc_bell_ring(&relay->wake);
    return rc;
}

bool ivc_relay_hurry(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    if (!flow->hurried) {
        flow->hurried = true;
        release(flow, UINT64_MAX);
    }
    bool left = flow->held != NULL;
    leave(relay);
    ivc_bell_ring(&relay->wake);
    return left;
}

void ivc_relay_remove(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    (void)epoll_ctl(relay->epoll, EPOLL_CTL_DEL, flow->heard.fd, NULL);
    move(relay, flow, STOPPED);
    deliver_all_of(relay, flow);
    relay->removals++;
    leave(relay);
}

void ivc_relay_finish(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    flow->stream->finishing = true;
    if (flow->state == IDLE || flow->state == PARKED) {
        move(relay, flow, READY);
    }
    leave(relay);
    ivc_bell_ring(&relay->wake);
}

void ivc_relay_end(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    ivc_stream_end(flow);
    leave(relay);
}

enum ivc_relay_result ivc_relay_turn(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    enum ivc_relay_result result = turn(relay, flow, true);
    leave(relay);
    return result;
}

/* ---- the controller's answers --------------------------------------------- */

int ivc_relay_fd(const struct ivc_relay *relay)
{
    return relay->calls.fd;
}

bool ivc_relay_next(struct ivc_relay *relay, struct ivc_relay_call *call)
{
    enter(relay);
    struct ivc_relayed *flow = relay->queues[CALLING].first;
    if (flow != NULL) {
        *call = (struct ivc_relay_call){
            .flow = flow->flow, .why = flow->why, .way = flow->way, .key = flow->asked_key};
        memcpy(call->header, flow->asked_header, sizeof(call->header));
        move(relay, flow, flow->why == IVC_RELAY_ASKS ? ASKED : STOPPED);
    } else {
        (void)ivc_bell_consume(&relay->calls);
    }
    leave(relay);
    return flow != NULL;
}

/* Those in a queue that wait for a decision on a kind go on. */
static void resume(struct ivc_relay *relay, enum state state, uint32_t way, uint64_t key)
{
    struct ivc_relayed *next;

    for (struct ivc_relayed *flow = relay->queues[state].first; flow != NULL; flow = next) {
        next = flow->next;
        if (flow->why == IVC_RELAY_ASKS && flow->way == way && flow->asked_key == key) {
            move(relay, flow, READY);
        }
    }
}

struct ivc_kind *ivc_relay_decide(struct ivc_relay *relay, uint32_t way, uint64_t key,
                                  uint16_t action, uint64_t detail, uint64_t faults)
{
    enter(relay);
    struct ivc_kind *kind = ivc_kinds_put(&relay->kinds, way, key, action, detail);
    if (kind != NULL) {
        kind->faults = faults;
        resume(relay, ASKED, way, key);
        resume(relay, CALLING, way, key);
    }
    leave(relay);
    ivc_bell_ring(&relay->wake);
    return kind;
}

void ivc_relay_answer_on(struct ivc_relay *relay, struct ivc_relayed *flow,
                         struct ivc_relayed *back)
{
    enter(relay);
    flow->back = back;
    leave(relay);
}

void ivc_relay_reroute(struct ivc_relay *relay, struct ivc_relayed *flow, uint32_t way)
{
    enter(relay);
    flow->way = way;
    if (flow->why == IVC_RELAY_ASKS && (flow->state == ASKED || flow->state == CALLING)) {
        move(relay, flow, READY); /* nobody will answer what it has asked */
    }
    leave(relay);
    ivc_bell_ring(&relay->wake);
}

void ivc_relay_set_fault(struct ivc_relay *relay, uint32_t at, const struct ivc_fault *fault)
{
    enter(relay);
    if (relay->armed[at].effect == IVC_FAULT_DELAY) {
        for (struct ivc_relayed *flow = relay->holding; flow != NULL; flow = flow->next_holding) {
            release(flow, UINT64_C(1) << at);
        }
    }
    relay->armed[at] = *fault;
    leave(relay);
    ivc_bell_ring(&relay->wake);
}

void ivc_relay_get_fault(struct ivc_relay *relay, uint32_t at, struct ivc_fault *fault)
{
    enter(relay);
    *fault = relay->armed[at];
    leave(relay);
}

void ivc_relay_trace(struct ivc_relay *relay, struct ivc_trace *trace)
{
    enter(relay);
    relay->trace = trace;
    leave(relay);
}

void ivc_relay_ask_again(struct ivc_relay *relay)
{
    enter(relay);
    ivc_kinds_ask_again(&relay->kinds);
    leave(relay);
}

void ivc_relay_clear(struct ivc_relay *relay)
{
    enter(relay);
    ivc_kinds_clear(&relay->kinds);
    leave(relay);
}

const struct ivc_kind *ivc_relay_cleared(const struct ivc_relay *relay)
{
    return &relay->kinds.cleared;
}
