/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring alone: two processes that spin on two rings of core/ring.c, without sockets, wrapper
 * or controller. What anything that goes by ring can be measured against. Nothing is lost: who
 * finds the ring full spins, too.
 *
 *   bare_ring [--one-way|--batch] [--count N] [--size N] [--pause US] [--cpu N] [--server-cpu N]
 *
 * Prints what pingpong prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "measure.h"
#include "ring.h"

#define ORDER 18u /* as bench/pingpong.py has rings made */
#define EPOCH 7u
#define LARGEST 65536u
#define BATCH 32u

/* The regions of one direction, and both ends. */
struct direction {
    void *sender, *receiver;
    struct ivc_tx tx;
    struct ivc_rx rx;
};

struct options {
    uint32_t count, size, pause_us;
    int cpu, server_cpu;
    bool one_way, batch;
};

static void need(int result, const char *what)
{
    if (result < 0) {
        errno = -result;
        fail(what);
    }
}

/* ---- rings --------------------------------------------------------------- */

static void *region(size_t size, uint8_t role)
{
    struct ivc_ctrl *ctrl = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (ctrl == MAP_FAILED)
        fail("mmap");
    ctrl->magic = IVC_RING_MAGIC;
    ctrl->abi_major = IVC_RING_ABI_MAJOR;
    ctrl->role = role;
    ctrl->order = ORDER;
    ctrl->flow_id = 1;
    ctrl->epoch = EPOCH;
    return ctrl;
}

static void direction_open(struct direction *d)
{
    struct ivc_ring_ident ident = {.flow_id = 1, .epoch = EPOCH, .order = ORDER};
    size_t size = ivc_sender_region_size(ORDER), page = IVC_RECEIVER_REGION_SIZE;

    d->sender = region(size, IVC_ROLE_SENDER);
    d->receiver = region(page, IVC_ROLE_RECEIVER);
    need(ivc_tx_attach(&d->tx, d->sender, size, d->receiver, page, &ident), "attach sender");
    need(ivc_rx_attach(&d->rx, d->receiver, page, d->sender, size, &ident), "attach receiver");
}

/* Behind what was written before; the receiver sees it when it is published. */
static void write_one(struct ivc_tx *tx, const void *data, size_t size)
{
    struct ivc_record record = {.kind = IVC_RECORD_DGRAM};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    int result;

    while ((result = ivc_tx_write(tx, &record, &part, 1, size)) == -ENOBUFS)
        (void)ivc_tx_publish(tx);
    need(result, "write");
}

static void put(struct ivc_tx *tx, const void *data, size_t size)
{
    write_one(tx, data, size);
    (void)ivc_tx_publish(tx); /* nobody sleeps */
}

static size_t get(struct ivc_rx *rx, void *data)
{
    struct ivc_record record;
    struct iovec part = {.iov_base = data, .iov_len = LARGEST};

    while (!ivc_rx_ready(rx))
        continue;
    need(ivc_rx_peek(rx, &record), "peek");
    (void)ivc_rx_copy(rx, &record, &part, 1);
    ivc_rx_consume(rx, &record);
    return record.length;
}

/* ---- both sides ---------------------------------------------------------- */

/* Answers, or counts until an empty record asks for the number. */
static void serve(struct ivc_rx *rx, struct ivc_tx *tx, const struct options *o)
{
    static uint8_t data[LARGEST];
    uint64_t seen = 0;

    for (;;) {
        size_t n = get(rx, data);
        if (n == 0)
            put(tx, &seen, sizeof seen);
        else if (o->one_way || o->batch)
            seen++;
        else
            put(tx, data, n);
    }
}

static void ping_pong(struct ivc_tx *tx, struct ivc_rx *rx, const struct options *o,
                      struct outcome *out)
{
    static uint8_t data[LARGEST], answer[LARGEST];

    for (; out->sent < o->count; out->sent++) {
        double start;

        if (o->pause_us > 0)
            usleep(o->pause_us);
        memcpy(data, &out->sent, sizeof out->sent);
        start = now_us();
        put(tx, data, o->size);
        out->strange += get(rx, answer) != o->size || memcmp(data, answer, o->size) != 0;
        out->rtt[out->n++] = now_us() - start;
    }
    out->received = out->sent;
    out->messages = 2 * (double)out->n;
}

static void one_way(struct ivc_tx *tx, struct ivc_rx *rx, const struct options *o,
                    struct outcome *out)
{
    static uint8_t data[LARGEST];
    uint64_t seen = 0;

    for (; out->sent < o->count; out->sent++) {
        memcpy(data, &out->sent, sizeof out->sent);
        write_one(tx, data, o->size);
        if (!o->batch || out->sent % BATCH == BATCH - 1)
            (void)ivc_tx_publish(tx);
    }
    put(tx, NULL, 0);
    (void)get(rx, &seen);
    out->received = (uint32_t)seen;
    out->messages = out->received;
}

static pid_t server_start(struct direction *to, struct direction *back, const struct options *o)
{
    pid_t parent = getpid(), server = fork();

    if (server < 0)
        fail("fork");
    if (server > 0)
        return server;
    /* It would spin for ever: it ends with its parent, whatever ends that. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        fail("server");
    stay_on(o->server_cpu);
    serve(&to->rx, &back->tx, o);
    return 0;
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"count", required_argument, NULL, 'n'}, {"size", required_argument, NULL, 's'},
        {"pause", required_argument, NULL, 'p'}, {"cpu", required_argument, NULL, 'c'},
        {"one-way", no_argument, NULL, 'o'},     {"server-cpu", required_argument, NULL, 'C'},
        {"batch", no_argument, NULL, 'b'},       {NULL, 0, NULL, 0},
    };
    struct options o = {.count = 10000, .size = 64, .cpu = -1, .server_cpu = -1};
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        uint32_t value = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'n':
            o.count = value;
            break;
        case 's':
            o.size = value;
            break;
        case 'p':
            o.pause_us = value;
            break;
        case 'c':
            o.cpu = (int)value;
            break;
        case 'C':
            o.server_cpu = (int)value;
            break;
        case 'o':
            o.one_way = true;
            break;
        case 'b':
            o.batch = true;
            break;
        default:
            exit(2);
        }
    }
    o.size = o.size < sizeof o.count ? sizeof o.count : o.size > LARGEST ? LARGEST : o.size;
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct outcome out = {.rtt = calloc(o.count, sizeof *out.rtt)};
    struct direction to, back;
    struct sample begin;
    pid_t server;

    if (!out.rtt)
        fail("memory");
    direction_open(&to);
    direction_open(&back);
    server = server_start(&to, &back, &o);
    stay_on(o.cpu);
    put(&to.tx, NULL, 0); /* an answer: it runs */
    (void)get(&back.rx, out.rtt);
    begin = sample(server);
    if (o.one_way || o.batch)
        one_way(&to.tx, &back.rx, &o, &out);
    else
        ping_pong(&to.tx, &back.rx, &o, &out);
    out.took = since(begin, server);
    report(&out);
    return 0;
}
