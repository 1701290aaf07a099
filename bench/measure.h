/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the measuring programs share: clocks, a processor to stay on, and the one JSON object
 * they print. CPU time is that of both sides: a process's clock can be read by any other.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline double on_clock(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) < 0)
        fail("clock");
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline double now_us(void)
{
    return on_clock(CLOCK_MONOTONIC);
}

/* Time that has passed, and CPU time of this process and of `peer` (0: nobody). */
struct sample {
    double wall_us;
    double cpu_us;
};

static inline struct sample sample(pid_t peer)
{
    struct sample s = {.wall_us = now_us(), .cpu_us = on_clock(CLOCK_PROCESS_CPUTIME_ID)};
    clockid_t clock;

    if (peer > 0 && clock_getcpuclockid(peer, &clock) == 0)
        s.cpu_us += on_clock(clock);
    return s;
}

static inline struct sample since(struct sample begin, pid_t peer)
{
    struct sample end = sample(peer);

    return (struct sample){end.wall_us - begin.wall_us, end.cpu_us - begin.cpu_us};
}

static inline void stay_on(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        fail("cpu");
}

/* `messages` are those that arrived in the time `took`: two in a round trip. */
struct outcome {
    uint32_t sent, received, strange;
    double messages;
    struct sample took;
    double *rtt;
    size_t n;
};

static inline int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static inline void report(const struct outcome *o)
{
    double p[3] = {0}, messages = o->messages > 0 ? o->messages : 1;
    static const unsigned percent[3] = {50, 90, 99};

    if (o->n > 0)
        qsort(o->rtt, o->n, sizeof *o->rtt, compare);
    for (int i = 0; i < 3 && o->n > 0; i++)
        p[i] = o->rtt[o->n * percent[i] / 100];
    printf("{\"sent\": %u, \"received\": %u, \"lost\": %u, \"strange\": %u, "
           "\"rtt_us\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f}, "
           "\"msgs_per_s\": %.0f, \"cpu_us_per_msg\": %.4f}\n",
           o->sent, o->received, o->sent - o->received, o->strange, p[0], p[1], p[2],
           o->messages * 1e6 / o->took.wall_us, o->took.cpu_us / messages);
}

#endif
