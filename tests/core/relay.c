/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay's loop on a thread of its own, with flows full of traffic, one that
 * comes and goes meanwhile, and a controller that decides late and anew, and delays
 * all and clears that again: per flow all arrives once, whole and in order, except
 * what is counted as dropped.
 * Argument 1: records a flow; argument 2: "channel" gives the bells event-channel
 * semantics.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "harness.h"
#include "relay.h"

#define FLOWS 3
#define LOST_AFTER_MS 10000
#define PAYLOAD 600
#define KINDS 5

/* A relayed flow: its sender holds first.tx, its receiver second.rx. */
struct way {
    struct flow first;
    struct flow second;
    struct ivc_bell relay_bell;
    struct ivc_relayed relayed;
};

static struct ivc_relay *relay;
static struct ivc_bell receiver_bell;
static struct way ways[FLOWS];
static unsigned long records;
static const char *bells;
static _Atomic bool over;

static void open_bell(struct ivc_bell *bell)
{
    CHECK(ivc_bell_open(bell) == 0);
    bell->channel = bells != NULL && strcmp(bells, "channel") == 0;
}

static void open_way(struct way *way, uint64_t number)
{
    memset(way, 0, sizeof(*way));
    flow_open(&way->first, 12, UINT64_MAX - 4095);
    flow_open(&way->second, 12, 0);
    open_bell(&way->relay_bell);
    way->relayed = (struct ivc_relayed){.flow = number, .way = 1,
                                        .rx = &way->first.rx,
                                        .tx = &way->second.tx,
                                        .heard = way->relay_bell,
                                        .rung = receiver_bell};
    CHECK(ivc_relay_add(relay, &way->relayed) == 0);
}

static void close_way(struct way *way)
{
    (void)ivc_relay_hurry(relay, &way->relayed);
    ivc_relay_remove(relay, &way->relayed);
    flow_free(&way->first);
    flow_free(&way->second);
    close(way->relay_bell.fd);
}

/* Message `number`: every byte follows from it. One in ten is rubbish. */
static size_t make(uint8_t *payload, uint32_t number)
{
    uint64_t random = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    size_t length = 20 + next_random(&random) % (PAYLOAD - 20);
    uint32_t covered = (uint32_t)length - 8;

    for (size_t i = 0; i < length; i++) {
        payload[i] = (uint8_t)(random >> (i % 8));
    }
    payload[0] = (uint8_t)(number % KINDS);
    for (size_t i = 0; i < 4; i++) {
        payload[4 + i] = (uint8_t)(covered >> (24 - 8 * i));
        payload[16 + i] = (uint8_t)(number >> (24 - 8 * i));
    }
    memset(payload + 1, 0, 3);
    memset(payload + 8, 0, 7);
    payload[12] = number % 10 != 0;
    return length;
}

static uint32_t number_of(const uint8_t *payload)
{
    return (uint32_t)payload[16] << 24 | (uint32_t)payload[17] << 16 | (uint32_t)payload[18] << 8 |
           payload[19];
}

static void publish(struct way *way)
{
    if (ivc_tx_publish(&way->first.tx)) {
        ivc_bell_ring(&way->relay_bell);
    }
}

static void *send_all(void *unused)
{
    uint8_t payload[PAYLOAD];
    uint64_t random = 1;

    for (uint32_t i = 0; i < records; i++) {
        size_t length = make(payload, i);

        for (size_t w = 0; w < FLOWS; w++) {
            while (flow_write(&ways[w].first, payload, length) == -ENOBUFS) {
                publish(&ways[w]);
                sched_yield();
            }
            if (next_random(&random) % 3 != 0) {
                publish(&ways[w]);
            }
        }
    }
    for (size_t w = 0; w < FLOWS; w++) {
        publish(&ways[w]);
    }
    return unused;
}

static void *run_relay(void *unused)
{
    ivc_relay_run(relay);
    return unused;
}

static void delay(uint64_t ns)
{
    const struct ivc_fault fault = {.effect = ns != 0 ? IVC_FAULT_DELAY : IVC_FAULT_NONE,
                                    .delay = ns};

    ivc_relay_set_fault(relay, 0, &fault);
}

/* Decide on what is asked for, begin anew now and then, and let a flow come and go. */
static void *control(void *unused)
{
    struct pollfd look = {.fd = ivc_relay_fd(relay), .events = POLLIN};
    struct ivc_relay_call call;
    struct way passing;

    for (unsigned round = 0; !atomic_load(&over); round++) {
        open_way(&passing, FLOWS);
        CHECK(poll(&look, 1, 1) >= 0);
        while (ivc_relay_next(relay, &call)) {
            CHECK(call.why == IVC_RELAY_ASKS && call.flow < FLOWS);
            CHECK(ivc_relay_decide(relay, call.way, call.key, IVC_ACTION_RELAY, 0, 1) != NULL);
        }
        if (round % 3 == 0) {
            ivc_relay_ask_again(relay);
        }
        delay(round % 2 != 0 ? 500000 : 0);
        close_way(&passing);
    }
    delay(0);
    return unused;
}

static uint64_t dropped(const struct way *way)
{
    return atomic_load(&way->relayed.full);
}

/* Read what is there. True: there was something. */
static bool drain(struct way *way, uint32_t *next, uint64_t *received)
{
    uint8_t in[PAYLOAD], expected[PAYLOAD];
    long got = flow_read(&way->second, in, sizeof(in));

    if (got == -EAGAIN) {
        return false;
    }
    CHECK(got >= 20 && number_of(in) >= *next);
    *next = number_of(in);
    CHECK(got == (long)make(expected, (*next)++));
    CHECK(memcmp(in, expected, (size_t)got) == 0);
    ++*received;
    return true;
}

static bool sleep_until_rung(void)
{
    struct pollfd look = {.fd = receiver_bell.fd, .events = POLLIN};

    (void)ivc_bell_consume(&receiver_bell);
    for (size_t w = 0; w < FLOWS; w++) {
        if (!ivc_rx_arm(&ways[w].second.rx)) {
            return true;
        }
    }
    return poll(&look, 1, LOST_AFTER_MS) == 1;
}

static void receive_all(void)
{
    uint32_t next[FLOWS] = {0};
    uint64_t received[FLOWS] = {0};

    for (size_t done = 0; done < FLOWS;) {
        bool any = false;

        done = 0;
        for (size_t w = 0; w < FLOWS; w++) {
            any |= drain(&ways[w], &next[w], &received[w]);
            done += received[w] + dropped(&ways[w]) == records;
        }
        CHECK(any || done == FLOWS || sleep_until_rung());
    }
    for (size_t w = 0; w < FLOWS; w++) {
        CHECK(received[w] > records / 2);
        CHECK(!ivc_rx_ready(&ways[w].second.rx));
        CHECK(atomic_load(&ways[w].relayed.messages) == records);
    }
}

int main(int argc, char **argv)
{
    pthread_t sender, loop, controller;

    records = argc > 1 ? strtoul(argv[1], NULL, 10) : 50000;
    bells = argc > 2 ? argv[2] : NULL;
    relay = ivc_relay_make(7);
    CHECK(relay != NULL);
    open_bell(&receiver_bell);
    for (size_t w = 0; w < FLOWS; w++) {
        open_way(&ways[w], w);
    }
    CHECK(pthread_create(&loop, NULL, run_relay, NULL) == 0);
    CHECK(pthread_create(&controller, NULL, control, NULL) == 0);
    CHECK(pthread_create(&sender, NULL, send_all, NULL) == 0);
    receive_all();
    CHECK(pthread_join(sender, NULL) == 0);
    atomic_store(&over, true);
    CHECK(pthread_join(controller, NULL) == 0);
    for (size_t w = 0; w < FLOWS; w++) {
        close_way(&ways[w]);
    }
    ivc_relay_stop(relay);
    CHECK(pthread_join(loop, NULL) == 0);
    ivc_relay_free(relay);
    close(receiver_bell.fd);
    return 0;
}
