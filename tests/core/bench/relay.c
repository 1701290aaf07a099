/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many messages of 64 bytes a second go one way through the relay: a sender that
 * publishes 64 at a time, the loop, and a receiver that sleeps when there is nothing,
 * a thread each. Prints messages per second, and the part that was dropped.
 *   cc -O2 -Icore tests/core/bench/relay.c core/[!x]*.c -lpthread -o relay
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "../harness.h"
#include "relay.h"

#define ORDER 18
#define BATCH 64
#define MESSAGES 4000000u

static struct flow first, second;
static struct ivc_bell relay_bell, receiver_bell;
static struct ivc_relay *relay;

static const uint8_t message[64] = {
    0x12, 0x34, 0x04, 0x21, 0, 0, 0, 56, 0, 1, 0, 2, 1, 1, 0, 0,
};

static void *run_relay(void *unused)
{
    ivc_relay_run(relay);
    return unused;
}

static void *send_all(void *unused)
{
    for (unsigned i = 1; i <= MESSAGES; i++) {
        while (flow_write(&first, message, sizeof(message)) == -ENOBUFS) {
            sched_yield();
        }
        if (i % BATCH == 0 && ivc_tx_publish(&first.tx)) {
            ivc_bell_ring(&relay_bell);
        }
    }
    return unused;
}

static void decide(void)
{
    struct pollfd look = {.fd = ivc_relay_fd(relay), .events = POLLIN};
    struct ivc_relay_call call;

    CHECK(poll(&look, 1, 10000) == 1 && ivc_relay_next(relay, &call));
    CHECK(ivc_relay_decide(relay, call.way, call.key, IVC_ACTION_RELAY, 0, 0) != NULL);
}

static void receive_all(const struct ivc_relayed *relayed)
{
    struct pollfd look = {.fd = receiver_bell.fd, .events = POLLIN};
    uint8_t in[sizeof(message)];
    uint64_t received = 0;

    while (received + atomic_load(&relayed->full) < MESSAGES) {
        if (flow_read(&second, in, sizeof(in)) > 0) {
            received++;
        } else if (ivc_rx_arm(&second.rx)) {
            CHECK(poll(&look, 1, 10000) == 1);
            (void)ivc_bell_consume(&receiver_bell);
        }
    }
}

int main(void)
{
    struct ivc_relayed relayed = {.way = 1, .rx = &first.rx, .tx = &second.tx};
    struct timespec begin, end;
    pthread_t loop, sender;

    flow_open(&first, ORDER, 0);
    flow_open(&second, ORDER, 0);
    CHECK(ivc_bell_open(&relay_bell) == 0 && ivc_bell_open(&receiver_bell) == 0);
    relayed.heard = relay_bell;
    relayed.rung = receiver_bell;
    relay = ivc_relay_make(7);
    CHECK(relay != NULL && ivc_relay_add(relay, &relayed) == 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    CHECK(pthread_create(&loop, NULL, run_relay, NULL) == 0);
    CHECK(pthread_create(&sender, NULL, send_all, NULL) == 0);
    decide();
    receive_all(&relayed);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%.0f %.4f\n", MESSAGES / seconds, (double)atomic_load(&relayed.full) / MESSAGES);
    ivc_relay_stop(relay);
    CHECK(pthread_join(loop, NULL) == 0 && pthread_join(sender, NULL) == 0);
    return 0;
}
