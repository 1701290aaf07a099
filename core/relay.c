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
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64
#define PARTS_MOST (IVC_DATAGRAM_MOST / IVC_SOMEIP_HEADER + 1) /* a rest may be rubbish */

#define SOMEIP_REQUEST 0x00u
#define SOMEIP_ERROR 0x81u

/* How long a receiver may take nothing before what is for it is dropped; well below what
 * a sender waits for us to pass on what its kernel must not overtake (preload/send.c). */
#define PATIENCE_NS UINT64_C(50000000)

/* Nobody rings when there is room again: how soon we look. */
#define RETRY_NS 100000

/* What a flow waits for; each but IDLE and STOPPED has a queue. */
enum state { IDLE, READY, FULL, CALLING, ASKED, STOPPED, STATES };

struct queue {
    struct ivc_relayed *first;
    struct ivc_relayed *last;
};

/* A message of the datagram at hand, and what its kind does not say of its header. */
struct part {
    struct ivc_kind *kind;
    size_t size;
    uint8_t session[2];
    uint8_t interface;
};

struct ivc_relay {
    pthread_mutex_t mutex;
    _Atomic uint32_t callers; /* who wants the mutex besides the loop */
    bool stop;
    int epoll;
    struct ivc_bell wake;  /* ends the loop's sleep */
    struct ivc_bell calls; /* the controller's */
    uint64_t removals;     /* so that an event of a flow gone meanwhile is told from others */
    struct queue queues[STATES];
    size_t count;
    bool denied; /* one of the parts is */
    struct part parts[PARTS_MOST];
    uint8_t copy[IVC_DATAGRAM_MOST];
    struct ivc_kinds kinds;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

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
    struct ivc_relayed *before = NULL;

    for (struct ivc_relayed *at = queue->first; at != flow; at = at->next) {
        before = at;
    }
    *(before != NULL ? &before->next : &queue->first) = flow->next;
    if (queue->last == flow) {
        queue->last = before;
    }
}

static void append(struct queue *queue, struct ivc_relayed *flow)
{
    flow->next = NULL;
    *(queue->last != NULL ? &queue->last->next : &queue->first) = flow;
    queue->last = flow;
}

static void move(struct ivc_relay *relay, struct ivc_relayed *flow, enum state state)
{
    if (flow->state != IDLE && flow->state != STOPPED) {
        unlink_flow(&relay->queues[flow->state], flow);
    }
    flow->state = state;
    if (state != IDLE && state != STOPPED) {
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

/* Denied, and its sender shall be told. Key 0 is of what has no header to answer to. */
static bool is_answered(const struct ivc_kind *kind)
{
    return kind->action == IVC_ACTION_DENY && kind->answer != 0 && kind->key != 0 &&
           (kind->key & 0xff) == SOMEIP_REQUEST;
}

/* Divide the copy of `length` bytes into messages. False: one is of a kind to be asked for. */
static bool divide(struct ivc_relay *relay, struct ivc_relayed *flow, size_t length)
{
    size_t at = 0;

    relay->count = 0;
    relay->denied = false;
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
        *part = (struct part){.kind = kind, .size = size};
        relay->denied |= kind->action == IVC_ACTION_DENY;
        if (is_answered(kind)) {
            memcpy(part->session, relay->copy + at + 10, sizeof(part->session));
            part->interface = relay->copy[at + 13];
        }
        at += size;
    } while (at < length);
    return true;
}

/* Take denied messages out of the copy. True: something is left; *length says how much.
 * All or nothing of what the kernel has too: the receiver compares its copy with ours. */
static bool take_out_denied(struct ivc_relay *relay, uint8_t flags, size_t *length)
{
    const bool whole = (flags & (IVC_RECORD_TWIN | IVC_RECORD_FENCE)) != 0;
    size_t at = 0, kept = 0;
    bool any = false;

    if (!relay->denied) {
        return true;
    }
    for (size_t i = 0; i < relay->count; i++) {
        size_t size = relay->parts[i].size;

        if (relay->parts[i].kind->action != IVC_ACTION_DENY) {
            if (kept != at) {
                memmove(relay->copy + kept, relay->copy + at, size);
            }
            kept += size;
            any = true;
        }
        at += size;
    }
    if (whole && kept != at) {
        return false;
    }
    *length = kept;
    return any;
}

/* ---- answers to what is denied ------------------------------------------------ */

static void big_endian(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = bytes; i > 0; i--, value >>= 8) {
        at[i - 1] = (uint8_t)value;
    }
}

/* The header of an error that answers a request: its ids and session, and no payload
 * (message types: Open SOME/IP 684). */
static void make_answer(uint8_t *header, const struct part *part)
{
    const uint64_t key = part->kind->key;

    big_endian(header, 4, key >> 32);
    big_endian(header + 4, 4, 8);
    big_endian(header + 8, 2, key >> 16);
    memcpy(header + 10, part->session, sizeof(part->session));
    header[12] = (uint8_t)(key >> 8);
    header[13] = part->interface;
    header[14] = SOMEIP_ERROR;
    header[15] = (uint8_t)part->kind->answer;
}

static bool write_answer(const struct part *part, struct ivc_relayed *back)
{
    uint8_t header[IVC_SOMEIP_HEADER];
    const struct iovec iov = {header, sizeof(header)};

    if (back == NULL || back->last.kind == 0) {
        return false;
    }
    make_answer(header, part);
    struct ivc_record record = back->last;
    record.flags = 0;
    record.stamp = 0;
    if (ivc_tx_write(back->tx, &record, &iov, 1, sizeof(header)) != 0) {
        return false;
    }
    if (ivc_tx_publish(back->tx)) {
        ivc_bell_ring(&back->rung);
    }
    return true;
}

/* Answer the requests of the datagram at hand that were denied and shall have one. */
static void answer_denied(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    for (size_t i = 0; relay->denied && i < relay->count; i++) {
        const struct part *part = &relay->parts[i];

        if (is_answered(part->kind)) {
            ivc_count(write_answer(part, flow->back) ? &flow->answered : &flow->unanswered, 1);
        }
    }
}

static void count_record(struct ivc_relay *relay, struct ivc_relayed *flow, size_t length)
{
    for (size_t i = 0; i < relay->count; i++) {
        ivc_kind_count(relay->parts[i].kind, relay->parts[i].size);
    }
    ivc_count(&flow->messages, 1);
    ivc_count(&flow->bytes, length);
}

static bool is_patient(struct ivc_relayed *flow)
{
    uint64_t now = now_ns();

    if (flow->full_since == 0) {
        flow->full_since = now;
    }
    return now - flow->full_since < PATIENCE_NS;
}

/*
 * Write the copy to the second ring, or drop it: IVC_RELAY_MORE. Else what keeps it from
 * either. `last`: there is no later.
 */
static enum ivc_relay_result write_copy(struct ivc_relay *relay, struct ivc_relayed *flow,
                                        const struct ivc_record *record, size_t length, bool last)
{
    const struct iovec iov = {relay->copy, length};
    int rc = ivc_tx_write(flow->tx, record, &iov, 1, length);

    if (rc == -EPROTO) {
        return IVC_RELAY_POISONED;
    }
    if (rc == 0) {
        flow->full_since = 0;
        flow->last = *record;
    } else if (!last && is_patient(flow)) {
        return IVC_RELAY_FULL;
    } else {
        ivc_count(&flow->full, 1);
    }
    return IVC_RELAY_MORE;
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
    if (take_out_denied(relay, record->flags, &length)) {
        result = write_copy(relay, flow, record, length, last);
    }
    if (result == IVC_RELAY_MORE) {
        count_record(relay, flow, record->length);
        answer_denied(relay, flow);
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

static enum ivc_relay_result turn(struct ivc_relay *relay, struct ivc_relayed *flow, bool last)
{
    bool wake = false;
    enum ivc_relay_result result = pass_records(relay, flow, last, &wake);

    wake |= ivc_tx_publish(flow->tx);
    if (wake) {
        ivc_bell_ring(&flow->rung);
    }
    ivc_rx_publish(flow->rx); /* last: see above */
    return result;
}

/* ---- the loop ------------------------------------------------------------- */

static void settle(struct ivc_relay *relay, struct ivc_relayed *flow, enum ivc_relay_result result)
{
    switch (result) {
    case IVC_RELAY_EMPTY:
        move(relay, flow, ivc_rx_arm(flow->rx) ? IDLE : READY);
        break;
    case IVC_RELAY_MORE:
        move(relay, flow, READY);
        break;
    case IVC_RELAY_FULL:
        move(relay, flow, FULL);
        break;
    case IVC_RELAY_ASKS:
    case IVC_RELAY_POISONED:
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

static void hear(struct ivc_relay *relay, const struct epoll_event *event)
{
    struct ivc_relayed *flow = event->data.ptr;

    if (flow == NULL) {
        (void)ivc_bell_consume(&relay->wake);
        return;
    }
    (void)ivc_bell_consume(&flow->heard);
    if (flow->state == IDLE) {
        move(relay, flow, READY);
    }
}

/* Sleep until something happens. The mutex is free meanwhile. */
static int await(struct ivc_relay *relay, struct epoll_event *events)
{
    bool ready = relay->queues[READY].first != NULL, full = relay->queues[FULL].first != NULL;
    struct pollfd look = {.fd = relay->epoll, .events = POLLIN};
    const struct timespec retry = {.tv_nsec = RETRY_NS};
    int n;

    pthread_mutex_unlock(&relay->mutex);
    if (full && !ready) {
        (void)ppoll(&look, 1, &retry, NULL); /* epoll_wait knows no less than a millisecond */
    }
    n = epoll_wait(relay->epoll, events, EVENTS_AT_ONCE, full || ready ? 0 : -1);
    pthread_mutex_lock(&relay->mutex);
    return n;
}

static void listen_to_bells(struct ivc_relay *relay)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t removals = relay->removals;
    int n = await(relay, events);

    /* Bells not consumed are told of again: nothing is lost if a flow has gone meanwhile. */
    for (int i = 0; i < n && relay->removals == removals; i++) {
        hear(relay, &events[i]);
    }
    move_all(relay, FULL, READY);
}

void ivc_relay_run(struct ivc_relay *relay)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL); /* signals are the controller's main thread's */
    pthread_mutex_lock(&relay->mutex);
    while (!relay->stop) {
        serve(relay);
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
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};

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
    if (relay->epoll < 0 || ivc_bell_open(&relay->wake) != 0 ||
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
    const int fds[] = {relay->epoll, relay->wake.fd, relay->calls.fd};
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
    flow->state = IDLE;
    int rc = watch(relay, &flow->heard, flow);
    if (rc == 0) {
        move(relay, flow, READY);
    }
    leave(relay);
    ivc_bell_ring(&relay->wake);
    return rc;
}

void ivc_relay_remove(struct ivc_relay *relay, struct ivc_relayed *flow)
{
    enter(relay);
    (void)epoll_ctl(relay->epoll, EPOLL_CTL_DEL, flow->heard.fd, NULL);
    move(relay, flow, STOPPED);
    relay->removals++;
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
                                  uint16_t action, uint16_t answer)
{
    enter(relay);
    struct ivc_kind *kind = ivc_kinds_put(&relay->kinds, way, key, action, answer);
    if (kind != NULL) {
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
