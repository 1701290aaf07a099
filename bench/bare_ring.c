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
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "direction.h"
#include "measure.h"

#define BATCH 32u

struct options {
    uint32_t count, size, pause_us;
    int cpu, server_cpu;
    bool one_way, batch;
};

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
