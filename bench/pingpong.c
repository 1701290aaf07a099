/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP or TCP ping-pong in plain C, the way programs wait for sockets: blocking
 * recvfrom, poll, select, epoll (level and edge). It knows nothing of IVC; the
 * same binary is measured with and without the wrapper.
 *
 *   pingpong server ADDRESS PORT [options]
 *   pingpong client ADDRESS PORT SERVER PORT [options]
 *
 *   --wait blocking|poll|select|epoll|epoll-et
 *   --tcp          a connection instead of datagrams
 *   --cpu N        stay on this processor
 *   --count N      round trips, fewer if SIGINT comes before (client)
 *   --pause N      microseconds between two round trips (client)
 *   --size N       payload bytes, at least 8 (client)
 *   --numbered     sizes vary and every byte follows from the number (client)
 *
 * Every payload begins with its number. The client prints one JSON object:
 *   {"sent":..,"received":..,"lost":..,"strange":..,"rtt_us":{"p50":..,"p99":..}}
 * `strange` counts answers that came late, twice or damaged. The first tenth of
 * the round trips, 1000 at most, is for warming up and not in rtt_us.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LARGEST 65507u
#define SMALLEST 8u
#define ANSWER_MS 1000

enum wait { BLOCKING, POLL, SELECT, EPOLL, EPOLL_ET };

static const char *const wait_names[] = {"blocking", "poll", "select", "epoll", "epoll-et"};

struct options {
    enum wait wait;
    int cpu;
    uint32_t count;
    uint32_t pause_us;
    uint32_t size;
    bool numbered;
    bool tcp;
};

struct waiter {
    int fd;
    int epfd;
    enum wait wait;
    bool tcp;
};

static volatile sig_atomic_t told_to_stop;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
        fprintf(stderr, "pingpong: no IPv4 address: %s\n", ip);
        exit(2);
    }
    return a;
}

/* ---- waiting ------------------------------------------------------------- */

static int bound(struct sockaddr_in local, int type)
{
    int fd = socket(AF_INET, type, 0), on = 1;

    if (fd < 0 ||
        (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) ||
        bind(fd, (struct sockaddr *)&local, sizeof local) < 0)
        fail("bind");
    return fd;
}

/* The server's connection with its one client (no `server`), or the client's. */
static int connection(struct sockaddr_in local, const struct sockaddr_in *server)
{
    int fd, on = 1;

    if (server)
        local.sin_port = 0; /* many runs in a row: no port waits for the last one's end */
    fd = bound(local, SOCK_STREAM);
    if (server) {
        if (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0)
            fail("connect");
    } else {
        int listener = fd;

        if (listen(listener, 1) < 0)
            fail("listen");
        puts("ready");
        fflush(stdout);
        fd = accept(listener, NULL, NULL);
        if (fd < 0)
            fail("accept");
        close(listener);
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("connection");
    return fd;
}

static struct waiter waiter_open(struct sockaddr_in local, const struct sockaddr_in *server,
                                 const struct options *o)
{
    enum wait wait = o->wait;
    struct waiter w = {.fd = o->tcp ? connection(local, server) : bound(local, SOCK_DGRAM),
                       .epfd = -1,
                       .wait = wait,
                       .tcp = o->tcp};
    struct epoll_event ev = {.events = EPOLLIN | (wait == EPOLL_ET ? EPOLLET : 0u)};

    if (wait == EPOLL || wait == EPOLL_ET) {
        w.epfd = epoll_create1(EPOLL_CLOEXEC);
        if (w.epfd < 0 || epoll_ctl(w.epfd, EPOLL_CTL_ADD, w.fd, &ev) < 0)
            fail("epoll");
    }
    return w;
}

/* Wait for readiness; false when time is up. */
static bool ready(const struct waiter *w, int timeout_ms)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    struct timeval t = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    struct epoll_event ev;
    fd_set set;

    switch (w->wait) {
    case POLL:
        return poll(&p, 1, timeout_ms) > 0;
    case SELECT:
        FD_ZERO(&set);
        FD_SET(w->fd, &set);
        return select(w->fd + 1, &set, NULL, NULL, timeout_ms < 0 ? NULL : &t) > 0;
    case EPOLL:
    case EPOLL_ET:
        return epoll_wait(w->epfd, &ev, 1, timeout_ms) > 0;
    case BLOCKING:
        break;
    }
    return true;
}

/* Receive one datagram; -1 when time is up. */
static ssize_t receive(const struct waiter *w, void *data, struct sockaddr_in *from, int timeout_ms)
{
    socklen_t length = sizeof *from;
    ssize_t n;

    if (w->wait == BLOCKING)
        return recvfrom(w->fd, data, LARGEST, 0, (struct sockaddr *)from, &length);
    if (w->wait != EPOLL_ET && !ready(w, timeout_ms))
        return -1;
    /* Edge-triggered programs read until EAGAIN before they wait again. */
    while ((n = recvfrom(w->fd, data, LARGEST, MSG_DONTWAIT, (struct sockaddr *)from, &length)) <
           0) {
        if (errno != EAGAIN || !ready(w, timeout_ms))
            return -1;
        length = sizeof *from;
    }
    return n;
}

static void put(const struct waiter *w, const unsigned char *data, size_t size,
                const struct sockaddr_in *to)
{
    while (size > 0) {
        ssize_t n = w->tcp ? send(w->fd, data, size, 0)
                           : sendto(w->fd, data, size, 0, (const struct sockaddr *)to, sizeof *to);
        if (n < 0)
            fail("send");
        data += n;
        size -= (size_t)n;
    }
}

/* Receive one message: a datagram, or `size` bytes of a connection. */
static ssize_t receive_message(const struct waiter *w, unsigned char *data, size_t size)
{
    struct sockaddr_in from;
    size_t got = 0;
    ssize_t n;

    if (!w->tcp)
        return receive(w, data, &from, ANSWER_MS);
    for (; got < size; got += (size_t)n) {
        n = receive(w, data + got, &from, ANSWER_MS);
        if (n <= 0)
            return -1;
    }
    return (ssize_t)got;
}

/* ---- server -------------------------------------------------------------- */

static void serve(struct sockaddr_in local, const struct options *o)
{
    static unsigned char data[LARGEST];
    struct waiter w = waiter_open(local, NULL, o);
    struct sockaddr_in from;
    ssize_t n;

    if (!o->tcp) {
        puts("ready");
        fflush(stdout);
    }
    for (;;) {
        n = receive(&w, data, &from, -1);
        while (n == 0 && o->tcp)
            pause(); /* the connection has ended; what was counted of it is still to be read */
        if (n >= 0)
            put(&w, data, (size_t)n, &from);
        else if (errno != EINTR && errno != EAGAIN)
            fail("receive");
    }
}

/* ---- client -------------------------------------------------------------- */

static uint32_t size_of(uint32_t number, const struct options *o)
{
    return o->numbered ? SMALLEST + number * 7919u % (o->size - SMALLEST + 1) : o->size;
}

static void fill(unsigned char *data, uint32_t number, uint32_t size, const struct options *o)
{
    memcpy(data, &number, sizeof number);
    if (o->numbered)
        for (uint32_t i = sizeof number; i < size; i++)
            data[i] = (unsigned char)(number * 31u + i);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(uint32_t sent, uint32_t received, uint32_t strange, double *rtt, size_t n)
{
    double p50 = 0, p99 = 0;

    if (n > 0) {
        qsort(rtt, n, sizeof *rtt, compare);
        p50 = rtt[n / 2];
        p99 = rtt[n * 99 / 100];
    }
    printf("{\"sent\": %u, \"received\": %u, \"lost\": %u, \"strange\": %u, "
           "\"rtt_us\": {\"p50\": %.3f, \"p99\": %.3f}}\n",
           sent, received, sent - received, strange, p50, p99);
}

/* One round trip; false when its answer did not come. Counts strange answers. */
static bool round_trip(const struct waiter *w, const struct sockaddr_in *server, uint32_t number,
                       uint32_t *strange, const struct options *o)
{
    static unsigned char out[LARGEST], in[LARGEST];
    uint32_t size = size_of(number, o);
    double until = now_us() + ANSWER_MS * 1e3;
    ssize_t n;

    fill(out, number, size, o);
    put(w, out, size, server);
    while ((n = receive_message(w, in, size)) >= 0 || errno == EINTR) {
        if (n == (ssize_t)size && memcmp(in, out, size) == 0)
            return true;
        *strange += n >= 0;
        if (now_us() > until)
            break;
    }
    return false;
}

static void stop(int signal)
{
    (void)signal;
    told_to_stop = 1;
}

static void call(struct sockaddr_in local, struct sockaddr_in server, const struct options *o)
{
    struct waiter w = waiter_open(local, &server, o);
    struct timeval patience = {.tv_sec = ANSWER_MS / 1000};
    uint32_t warm = o->count / 10 < 1000 ? o->count / 10 : 1000, received = 0, strange = 0;
    double *rtt = calloc(o->count, sizeof *rtt);
    struct sigaction interrupt = {.sa_handler = stop, .sa_flags = SA_RESTART};
    uint32_t number;
    double began = now_us();
    size_t n = 0;

    if (!rtt || setsockopt(w.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        sigaction(SIGINT, &interrupt, NULL) < 0)
        fail("client");
    for (number = 0; number < o->count && !told_to_stop; number++) {
        double start;

        if (o->pause_us > 0)
            usleep(o->pause_us);
        start = now_us();
        if (!round_trip(&w, &server, number, &strange, o)) {
            fprintf(stderr, "message %u was not answered, %.1f s after the first\n", number,
                    (start - began) / 1e6);
            continue;
        }
        received++;
        if (number >= warm)
            rtt[n++] = now_us() - start;
    }
    report(number, received, strange, rtt, n);
    free(rtt);
}

/* ---- command line -------------------------------------------------------- */

static enum wait wait_of(const char *name)
{
    for (int i = 0; i <= EPOLL_ET; i++)
        if (strcmp(name, wait_names[i]) == 0)
            return (enum wait)i;
    fprintf(stderr, "pingpong: no way to wait: %s\n", name);
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"wait", required_argument, NULL, 'w'},  {"cpu", required_argument, NULL, 'c'},
        {"count", required_argument, NULL, 'n'}, {"size", required_argument, NULL, 's'},
        {"numbered", no_argument, NULL, 'v'},    {"tcp", no_argument, NULL, 't'},
        {"pause", required_argument, NULL, 'p'}, {NULL, 0, NULL, 0},
    };
    struct options o = {.wait = BLOCKING, .cpu = -1, .count = 10000, .size = 64};
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'w':
            o.wait = wait_of(optarg);
            break;
        case 'c':
            o.cpu = atoi(optarg);
            break;
        case 'n':
            o.count = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            o.pause_us = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            o.size = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            o.numbered = true;
            break;
        case 't':
            o.tcp = true;
            break;
        default:
            exit(2);
        }
    }
    o.size = o.size < SMALLEST ? SMALLEST : o.size > LARGEST ? LARGEST : o.size;
    return o;
}

static void stay_on(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        fail("cpu");
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    char **word = argv + optind; /* getopt_long has moved the options to the front */
    int words = argc - optind;

    stay_on(o.cpu);
    if (words == 3 && strcmp(word[0], "server") == 0) {
        serve(address(word[1], word[2]), &o);
    } else if (words == 5 && strcmp(word[0], "client") == 0) {
        call(address(word[1], word[2]), address(word[3], word[4]), &o);
    } else {
        fputs("usage: pingpong server ADDRESS PORT [options]\n"
              "       pingpong client ADDRESS PORT SERVER PORT [options]\n",
              stderr);
        return 2;
    }
    return 0;
}
