/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ring itself costs: ns per call on one core, and the round trip between
 * two pinned, spinning processes. 64-byte payload. Prints one line per figure.
 *   cc -O2 -Icore tests/core/bench/ring.c core/ring.c -o ring
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

#define ORDER 16
#define ROUNDS 7
#define PER_BATCH 256 /* stays in the ring: 256 * 96 B < 64 KiB */
#define BATCHES 4000
#define TRIPS 200000

struct flow {
    struct ivc_tx tx;
    struct ivc_rx rx;
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct ivc_ctrl *region(size_t size, enum ivc_role role)
{
    struct ivc_ctrl *page =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (page == MAP_FAILED) {
        abort();
    }
    page->magic = IVC_RING_MAGIC;
    page->abi_major = IVC_RING_ABI_MAJOR;
    page->role = (uint8_t)role;
    page->order = ORDER;
    page->epoch = 1;
    return page;
}

static void open_flow(struct flow *flow)
{
    const struct ivc_ring_ident ident = {.epoch = 1, .order = ORDER};
    size_t size = ivc_sender_region_size(ORDER);
    struct ivc_ctrl *sender = region(size, IVC_ROLE_SENDER);
    struct ivc_ctrl *receiver = region(IVC_PAGE, IVC_ROLE_RECEIVER);

    if (ivc_tx_attach(&flow->tx, sender, size, receiver, IVC_PAGE, &ident) != 0 ||
        ivc_rx_attach(&flow->rx, receiver, IVC_PAGE, sender, size, &ident) != 0) {
        abort();
    }
}

static void send_one(struct flow *flow)
{
    static uint8_t payload[64];
    struct ivc_record header = {.kind = IVC_RECORD_DGRAM};
    struct iovec iov = {payload, sizeof(payload)};

    if (ivc_tx_write(&flow->tx, &header, &iov, 1, sizeof(payload)) != 0) {
        abort();
    }
    (void)ivc_tx_publish(&flow->tx);
}

static void receive_one(struct flow *flow)
{
    static uint8_t payload[64];
    struct ivc_record record;
    struct iovec iov = {payload, sizeof(payload)};

    while (!ivc_rx_ready(&flow->rx)) {
        __builtin_ia32_pause();
    }
    if (ivc_rx_peek(&flow->rx, &record) != 1 || ivc_rx_copy(&flow->rx, &record, &iov, 1) != 64) {
        abort();
    }
    ivc_rx_consume(&flow->rx, &record);
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[count / 2];
}

static void calls(void)
{
    double tx[ROUNDS], rx[ROUNDS];
    struct flow flow;

    open_flow(&flow);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t in_tx = 0, in_rx = 0;

        for (int batch = 0; batch < BATCHES; batch++) {
            uint64_t a = now(), b, c;

            for (int i = 0; i < PER_BATCH; i++) {
                send_one(&flow);
            }
            b = now();
            for (int i = 0; i < PER_BATCH; i++) {
                receive_one(&flow);
            }
            c = now();
            (void)ivc_rx_ready(&flow.rx);
            in_tx += b - a;
            in_rx += c - b;
        }
        tx[round] = (double)in_tx / (BATCHES * PER_BATCH);
        rx[round] = (double)in_rx / (BATCHES * PER_BATCH);
    }
    printf("write+publish              %6.1f ns\n", median(tx, ROUNDS));
    printf("ready+peek+copy+consume    %6.1f ns\n", median(rx, ROUNDS));
}

static void round_trips(void)
{
    static double trip[TRIPS];
    struct flow there, back;
    pid_t echo;

    open_flow(&there);
    open_flow(&back);
    echo = fork();
    if (echo == 0) {
        pin(1);
        for (int i = 0; i < TRIPS; i++) {
            receive_one(&there);
            send_one(&back);
        }
        _exit(0);
    }
    pin(0);
    for (int i = 0; i < TRIPS; i++) {
        uint64_t a = now();

        send_one(&there);
        receive_one(&back);
        trip[i] = (double)(now() - a);
    }
    (void)waitpid(echo, NULL, 0);
    printf("round trip p50             %6.0f ns\n", median(trip, TRIPS));
    printf("round trip p99             %6.0f ns\n", trip[TRIPS * 99 / 100]);
}

int main(void)
{
    calls();
    round_trips();
    return 0;
}
