/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way of a TCP connection through the relay's loop, on a thread of its own, with a sender that cuts
 * messages anywhere, a receiver that sleeps, and a controller that decides late and anew: what is
 * not denied arrives once, whole and in order, and then the end; each denied call is answered on the
 * way back.
 * Argument 1: messages; argument 2: "channel" gives the bells event-channel semantics.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "harness.h"
#include "relay.h"

#define LOST_AFTER_MS 10000
#define MESSAGE 3000
#define METHODS 4
#define DENIED 3

struct way {
    struct flow first;
    struct flow second;
    struct ivc_bell heard;
    struct ivc_bell rung;
    struct ivc_stream stream;
    struct ivc_relayed relayed;
};

static struct ivc_relay *relay;
static struct way there, back;
static unsigned long messages;
static const char *bells;
static _Atomic bool over;
static _Atomic bool ended;

static void open_bell(struct ivc_bell *bell)
{
    CHECK(ivc_bell_open(bell) == 0);
    bell->channel = bells != NULL && strcmp(bells, "channel") == 0;
}

static void open_way(struct way *way, uint64_t number)
{
    memset(way, 0, sizeof(*way));
    flow_open(&way->first, 12, 0);
    flow_open(&way->second, 12, 0);
    way->first.rx.kind = way->second.rx.kind = IVC_RECORD_STREAM;
    ivc_tx_set_kernel(&way->first.tx, IVC_KERNEL_DONE | IVC_KERNEL_FRESH);
    open_bell(&way->heard);
    open_bell(&way->rung);
    way->stream.strict = true;
    way->relayed = (struct ivc_relayed){.flow = number, .way = 1,
                                        .stream = &way->stream,
                                        .rx = &way->first.rx,
                                        .tx = &way->second.tx,
                                        .heard = way->heard,
                                        .rung = way->rung};
    CHECK(ivc_relay_add(relay, &way->relayed) == 0);
}

static void close_way(struct way *way)
{
    ivc_relay_remove(relay, &way->relayed);
    ivc_relay_end(relay, &way->relayed);
    flow_free(&way->first);
    flow_free(&way->second);
    close(way->heard.fd);
    close(way->rung.fd);
}

/* Message `number`: every byte follows from it. */
static size_t make(uint8_t *data, uint32_t number)
{
    uint64_t random = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    size_t length = 16 + (size_t)(next_random(&random) % (number % 7 == 0 ? MESSAGE - 16 : 40));

    for (size_t i = 0; i < length; i++) {
        data[i] = (uint8_t)(random >> (i % 8));
    }
    memset(data, 0, 16);
    data[3] = (uint8_t)(number % METHODS);
    data[6] = (uint8_t)((length - 8) >> 8);
    data[7] = (uint8_t)(length - 8);
    data[12] = data[13] = 1;
    return length;
}

static int write_piece(const uint8_t *data, size_t size)
{
    const struct iovec iov = {(void *)(uintptr_t)data, size};
    const struct ivc_record record = {.kind = IVC_RECORD_STREAM};
    int rc = ivc_tx_write(&there.first.tx, &record, &iov, 1, size);

    if (rc == 0 && ivc_tx_publish(&there.first.tx)) {
        ivc_bell_ring(&there.heard);
    }
    return rc;
}

static void *send_all(void *unused)
{
    uint8_t data[MESSAGE];
    uint64_t random = 1;

    for (uint32_t i = 0; i < messages; i++) {
        size_t length = make(data, i);

        for (size_t at = 0; at < length;) {
            size_t size = 1 + (size_t)(next_random(&random) % 500);
            size = size < length - at ? size : length - at;
            if (write_piece(data + at, size) == 0) {
                at += size;
            } else {
                sched_yield();
            }
        }
    }
    ivc_tx_set_state(&there.first.tx, IVC_REGION_CLOSED);
    ivc_bell_ring(&there.heard);
    return unused;
}

static void *run_relay(void *unused)
{
    ivc_relay_run(relay);
    return unused;
}

static void *control(void *unused)
{
    struct pollfd look = {.fd = ivc_relay_fd(relay), .events = POLLIN};
    struct ivc_relay_call call;

    for (unsigned round = 0; !atomic_load(&over); round++) {
        CHECK(poll(&look, 1, 1) >= 0);
        while (ivc_relay_next(relay, &call)) {
            if (call.why == IVC_RELAY_ENDED) {
                CHECK(call.flow == 1);
                atomic_store(&ended, true);
                continue;
            }
            CHECK(call.why == IVC_RELAY_ASKS);
            bool deny = call.header[3] == DENIED;
            CHECK(ivc_relay_decide(relay, call.way, call.key,
                                   deny ? IVC_ACTION_DENY : IVC_ACTION_RELAY, deny ? 5 : 0,
                                   0) != NULL);
        }
        if (round % 3 == 0) {
            ivc_relay_ask_again(relay);
        }
    }
    return unused;
}

/* The next of what arrives, at most `most` bytes; 0: nothing now. */
static size_t take(struct way *way, uint32_t *offset, uint8_t *data, size_t most)
{
    struct ivc_record record;
    int rc = ivc_rx_peek(&way->second.rx, &record);

    CHECK(rc >= 0);
    if (rc == 0) {
        return 0;
    }
    const struct iovec iov = {data, most};
    size_t got = ivc_rx_copy_from(&way->second.rx, &record, *offset, &iov, 1);
    *offset += (uint32_t)got;
    if (*offset == record.length) {
        *offset = 0;
        uint64_t before = way->second.rx.head;
        ivc_rx_consume(&way->second.rx, &record);
        if (ivc_rx_sender_waits(&way->second.rx, before)) {
            ivc_bell_ring(&back.heard); /* as the other way's sender does */
        }
    }
    return got;
}

/* All that has been said in the service's name. */
static unsigned long answers(void)
{
    static uint32_t offset;
    static unsigned long bytes;
    uint8_t data[64];

    for (size_t got; (got = take(&back, &offset, data, sizeof(data))) != 0;) {
        bytes += got;
    }
    return bytes / 16;
}

static void await_more(void)
{
    struct pollfd look = {.fd = there.rung.fd, .events = POLLIN};

    (void)ivc_bell_consume(&there.rung);
    if (ivc_rx_arm(&there.second.rx)) {
        CHECK(poll(&look, 1, LOST_AFTER_MS) == 1);
    }
}

static void receive_all(void)
{
    uint8_t expected[MESSAGE], data[MESSAGE];
    uint32_t offset = 0;

    for (uint32_t i = 0; i < messages; i++) {
        size_t length = i % METHODS == DENIED ? 0 : make(expected, i);

        for (size_t at = 0; at < length;) {
            size_t got = take(&there, &offset, data, length - at);

            CHECK(memcmp(data, expected + at, got) == 0);
            at += got;
            if (got == 0) {
                (void)answers();
                await_more();
            }
        }
    }
}

int main(int argc, char **argv)
{
    pthread_t sender, loop, controller;

    messages = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    bells = argc > 2 ? argv[2] : NULL;
    relay = ivc_relay_make(7);
    CHECK(relay != NULL);
    open_way(&there, 1);
    open_way(&back, 2);
    ivc_relay_answer_on(relay, &there.relayed, &back.relayed);
    ivc_relay_answer_on(relay, &back.relayed, &there.relayed);
    CHECK(pthread_create(&loop, NULL, run_relay, NULL) == 0);
    CHECK(pthread_create(&controller, NULL, control, NULL) == 0);
    CHECK(pthread_create(&sender, NULL, send_all, NULL) == 0);
    receive_all();
    CHECK(pthread_join(sender, NULL) == 0);
    while (!atomic_load(&ended)) {
        (void)answers();
        sched_yield();
    }
    CHECK(ivc_rx_peer_state(&there.second.rx) == IVC_REGION_CLOSED);
    CHECK(ivc_tx_peer_state(&there.first.tx) == IVC_REGION_FROZEN);
    CHECK(!ivc_rx_ready(&there.second.rx));
    atomic_store(&over, true);
    CHECK(pthread_join(controller, NULL) == 0);
    ivc_relay_stop(relay);
    CHECK(pthread_join(loop, NULL) == 0);
    CHECK(answers() == atomic_load(&there.relayed.answered));
    CHECK(answers() + atomic_load(&there.relayed.unanswered) == messages / METHODS);
    ivc_relay_answer_on(relay, &there.relayed, NULL);
    close_way(&back);
    close_way(&there);
    ivc_relay_free(relay);
    return 0;
}
