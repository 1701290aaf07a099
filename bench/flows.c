/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs with many flows, to measure how they are set up and what they cost when idle:
 *
 *   flows listen ADDRESS PORT COUNT           COUNT sockets at PORT and behind; never answers
 *   flows hold ADDRESS SERVER:PORT...         a socket for each; after a line of input they send
 *                                             until all go by ring, then all is quiet for ever
 *   flows time ADDRESS SERVER:PORT COUNT US   COUNT sockets one after the other, each so long after
 *                                             it is bound, and again after it is closed
 *
 * All say "ready" when their sockets are bound, hold says {"seconds": ..} when its flows are there.
 * `time` prints {"sent": .., "failed": .., "us": {"p50": .., "p90": .., "p99": ..}}: from the first
 * send on a socket until one goes by ring.
 *
 * Whether it did no socket call tells: the wrapper's own counters do (core/pages.h).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"
#include "pages.h"

#define LOOK_US 50
#define SELDOM_US 100000
#define PATIENCE_US 5e6
#define FLOWS_MOST 256 /* the wrapper counts for 255 sockets of a process */

static struct sockaddr_in endpoint(const char *ip, unsigned port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    if (inet_pton(AF_INET, ip, &a.sin_addr) == 1)
        return a;
    fprintf(stderr, "flows: no IPv4 address: %s\n", ip);
    exit(2);
}

/* "10.0.0.1:30509" */
static struct sockaddr_in destination(const char *text)
{
    char ip[INET_ADDRSTRLEN] = "";
    const char *colon = strchr(text, ':');

    if (colon && (size_t)(colon - text) < sizeof ip)
        memcpy(ip, text, (size_t)(colon - text));
    return endpoint(ip, colon ? (unsigned)atoi(colon + 1) : 0);
}

static int bound(struct sockaddr_in local)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&local, sizeof local) < 0)
        fail("bind");
    return fd;
}

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

/* ---- what the wrapper has counted -------------------------------------------- */

/* Where the wrapper has mapped its counters; NULL: not yet, or there is no wrapper. */
static const struct ivc_stats_header *counters(void)
{
    static const struct ivc_stats_header *page;
    static double looked;
    double now = now_us();
    char line[256];
    FILE *maps;

    if (page || now < looked + SELDOM_US)
        return page;
    looked = now;
    maps = fopen("/proc/self/maps", "re");

    while (maps && !page && fgets(line, sizeof line, maps))
        if (strstr(line, "ivc-statistics"))
            page = (const struct ivc_stats_header *)(uintptr_t)strtoull(line, NULL, 16);
    if (maps)
        fclose(maps);
    return page;
}

static bool goes_by_ring(int fd)
{
    const struct ivc_stats_header *page = counters();
    const struct ivc_stats_slot *slot;

    if (!page)
        return false;
    slot = (const struct ivc_stats_slot *)(const void *)(page + 1);
    for (unsigned i = 0; i < IVC_STATS_SLOTS; i++)
        if (atomic_load(&slot[i].socket) != 0 && slot[i].fd == (uint32_t)fd)
            return atomic_load(&slot[i].tx_ring_msgs) > 0;
    return false;
}

/* Send what is equal to nothing sent before: equals would not tell which way they came. */
static void send_one(int fd, const struct sockaddr_in *to)
{
    static uint64_t number;

    number++;
    if (sendto(fd, &number, sizeof number, 0, (const struct sockaddr *)to, sizeof *to) < 0)
        fail("send");
}

/* Sleep a little, listening: that is when a wrapper hears its controller. */
static void listen_for(int fd, long us)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec t = {.tv_nsec = us * 1000};

    (void)ppoll(&p, 1, &t, NULL);
}

/* ---- the three programs -------------------------------------------------------- */

/* Read and forget what comes, for ever. */
static void stay(const int *fds, int count)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    char data[64];

    for (int i = 0; i < count; i++) {
        ev.data.fd = fds[i];
        if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev) < 0)
            fail("epoll");
    }
    for (;;)
        if (epoll_wait(epfd, &ev, 1, -1) > 0)
            (void)recv(ev.data.fd, data, sizeof data, MSG_DONTWAIT);
}

static void serve(const char *ip, unsigned port, int count)
{
    int fds[FLOWS_MOST];

    for (int i = 0; i < count; i++)
        fds[i] = bound(endpoint(ip, port + (unsigned)i));
    say("ready");
    stay(fds, count);
}

/* Send on every socket until it goes by ring; seldom, so as not to take the time of those who
 * set it up. */
static void join_all(const int *fds, char **destinations, int count)
{
    double until = now_us() + PATIENCE_US * 6;
    int left;

    do {
        left = 0;
        for (int i = 0; i < count; i++) {
            struct sockaddr_in to = destination(destinations[i]);

            if (goes_by_ring(fds[i]))
                continue;
            send_one(fds[i], &to);
            left++;
        }
        listen_for(fds[0], SELDOM_US);
    } while (left > 0 && now_us() < until);
    if (left > 0) {
        fprintf(stderr, "flows: %d of %d never went by ring\n", left, count);
        exit(1);
    }
}

static void hold(const char *ip, char **destinations, int count)
{
    int fds[FLOWS_MOST];
    double begin;
    char line[16];

    for (int i = 0; i < count; i++)
        fds[i] = bound(endpoint(ip, 0));
    say("ready");
    if (!fgets(line, sizeof line, stdin))
        exit(1);
    begin = now_us();
    join_all(fds, destinations, count);
    printf("{\"seconds\": %.6f}\n", (now_us() - begin) / 1e6);
    fflush(stdout);
    stay(fds, count);
}

/* How long until a new socket's datagrams go by ring; negative: they never do. */
static double set_up(const char *ip, const struct sockaddr_in *to, unsigned pause_us)
{
    int fd = bound(endpoint(ip, 0));
    double begin, took = -1;

    usleep(pause_us);
    begin = now_us();
    while (took < 0 && now_us() < begin + PATIENCE_US) {
        send_one(fd, to);
        if (goes_by_ring(fd))
            took = now_us() - begin;
        else
            listen_for(fd, LOOK_US);
    }
    close(fd);
    usleep(pause_us);
    return took;
}

static void time_all(const char *ip, const char *server, unsigned count, unsigned pause_us)
{
    struct sockaddr_in to = destination(server);
    double *took = calloc(count, sizeof *took);
    unsigned n = 0;

    if (!took || count == 0)
        fail("count");
    say("ready");
    (void)set_up(ip, &to, pause_us); /* only then is the controller known */
    for (unsigned i = 0; i < count; i++) {
        double one = set_up(ip, &to, pause_us);
        if (one >= 0)
            took[n++] = one;
    }
    qsort(took, n, sizeof *took, compare);
    printf("{\"sent\": %u, \"failed\": %u, \"us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f}}\n",
           count, count - n, took[n * 50 / 100], took[n * 90 / 100], took[n * 99 / 100]);
    free(took);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "listen") == 0 && atoi(argv[4]) <= FLOWS_MOST) {
        serve(argv[2], (unsigned)atoi(argv[3]), atoi(argv[4]));
    } else if (argc >= 4 && strcmp(argv[1], "hold") == 0 && argc - 3 <= FLOWS_MOST) {
        hold(argv[2], argv + 3, argc - 3);
    } else if (argc == 6 && strcmp(argv[1], "time") == 0) {
        time_all(argv[2], argv[3], (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
    } else {
        fputs("usage: flows listen ADDRESS PORT COUNT\n"
              "       flows hold ADDRESS SERVER:PORT...\n"
              "       flows time ADDRESS SERVER:PORT COUNT MICROSECONDS\n",
              stderr);
        return 2;
    }
    return 0;
}
