/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads, records of random size and content, a receiver that sleeps on its
 * bell whenever the ring is empty: all arrive, in order, whole, and no wake-up is
 * lost (a sleep without an end fails). Argument 1: number of records; argument 2:
 * "channel" gives the bell event-channel semantics.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "harness.h"

#define LOST_AFTER_MS 10000

static struct flow flow;
static struct ivc_bell bell;
static unsigned long records;

static size_t make(uint8_t *payload, uint64_t *random)
{
    size_t length = next_random(random) % 600;

    for (size_t i = 0; i < length; i++) {
        payload[i] = (uint8_t)(*random >> (i % 8));
    }
    return length;
}

static void *send_all(void *unused)
{
    uint8_t payload[600];
    uint64_t random = 1, batch = 2;

    for (unsigned long i = 0; i < records; i++) {
        size_t length = make(payload, &random);

        while (flow_write(&flow, payload, length) == -ENOBUFS) {
            if (ivc_tx_publish(&flow.tx)) {
                ivc_bell_ring(&bell);
            }
            sched_yield();
        }
        if (next_random(&batch) % 3 != 0 && ivc_tx_publish(&flow.tx)) {
            ivc_bell_ring(&bell);
        }
    }
    if (ivc_tx_publish(&flow.tx)) {
        ivc_bell_ring(&bell);
    }
    return unused;
}

static void sleep_until_rung(void)
{
    struct pollfd look = {.fd = bell.fd, .events = POLLIN};

    if (ivc_rx_arm(&flow.rx)) {
        CHECK(poll(&look, 1, LOST_AFTER_MS) == 1);
        CHECK(ivc_bell_consume(&bell));
    }
}

int main(int argc, char **argv)
{
    uint8_t in[600], expected[600];
    uint64_t random = 1;
    pthread_t sender;

    records = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;
    flow_open(&flow, 12, UINT64_MAX - 4095);
    CHECK(ivc_bell_open(&bell) == 0);
    bell.channel = argc > 2 && strcmp(argv[2], "channel") == 0;
    CHECK(pthread_create(&sender, NULL, send_all, NULL) == 0);
    for (unsigned long i = 0; i < records;) {
        long got = flow_read(&flow, in, sizeof(in));

        if (got == -EAGAIN) {
            sleep_until_rung();
            continue;
        }
        CHECK(got == (long)make(expected, &random));
        CHECK(memcmp(in, expected, (size_t)got) == 0);
        i++;
    }
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(!ivc_rx_ready(&flow.rx));
    close(bell.fd);
    flow_free(&flow);
    return 0;
}
