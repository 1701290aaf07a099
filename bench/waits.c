/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits for one of its own sockets, to have the instructions of a wait counted:
 *
 *   waits ADDRESS udp|tcp blocking|poll|select|epoll|epoll-et ready|idle SOCKETS USED COUNT
 *
 * counted_wait() is called COUNT times: with a message there (ready), or with none for a
 * millisecond (idle). SOCKETS more, idle datagram sockets, are waited for, too; USED of them have
 * got a few messages before. Before that it waits and receives often enough, and slowly enough,
 * for sockets to be where they will stay. bench/instructions.py has the instructions of this
 * function counted. Its clock stands still while something is ready, or how often it is time to
 * look at this and that would depend on the machine.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "sockets.h"

#define SIZE 64
#define WARM 200
#define WARM_USED 20
#define WARM_IDLE 20
#define WARM_PAUSE_US 1000
#define IDLE_MS 1
#define MOST 4096

struct waiter {
    int from, to, epfd;
    const char *how;
    struct sockaddr_in there;
    bool stream;
    nfds_t n;
    struct pollfd fds[MOST];
};

static bool stands_still;

/* Before libc's for everybody in this process. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now)
{
    static struct timespec then;

    if (!stands_still)
        syscall(SYS_clock_gettime, clock, &then);
    *now = then;
    return 0;
}

static void join(struct waiter *w, const char *ip)
{
    struct sockaddr_in here;
    int type = w->stream ? SOCK_STREAM : SOCK_DGRAM;

    w->to = bound(ip, type, &w->there);
    w->from = bound(ip, type, &here);
    if (!w->stream)
        return;
    need(listen(w->to, 1), "listen");
    need(connect(w->from, (struct sockaddr *)&w->there, sizeof w->there), "connect");
    w->to = accept(w->to, NULL, NULL);
    need(w->to, "accept");
}

static bool by_epoll(const struct waiter *w)
{
    return strncmp(w->how, "epoll", 5) == 0;
}

static void add(struct waiter *w, int fd)
{
    uint32_t edge = strcmp(w->how, "epoll-et") == 0 ? EPOLLET : 0;
    struct epoll_event event = {.events = EPOLLIN | edge, .data.fd = fd};

    if (by_epoll(w))
        need(epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    w->fds[w->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void open_all(struct waiter *w, const char *ip, int idle)
{
    struct rlimit files;
    struct sockaddr_in here;

    need(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
    files.rlim_cur = files.rlim_max;
    need(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    w->epfd = epoll_create1(0);
    join(w, ip);
    add(w, w->to);
    for (int i = 0; i < idle; i++)
        add(w, bound(ip, SOCK_DGRAM, &here));
}

static void send_one(const struct waiter *w)
{
    static const char data[SIZE];
    const struct sockaddr *there = w->stream ? NULL : (const struct sockaddr *)&w->there;

    need((int)sendto(w->from, data, SIZE, 0, there, there ? sizeof w->there : 0), "send");
}

static int receive_one(const struct waiter *w, int flags)
{
    char data[SIZE];

    return (int)recv(w->to, data, SIZE, flags);
}

/* Send to some that will be idle, each often enough to be where it stays. */
static void use(const struct waiter *w, int used)
{
    struct sockaddr_in there;
    socklen_t size = sizeof there;
    char data[SIZE] = {0};

    for (int i = 0; i < used * WARM_USED; i++) {
        int to = w->fds[1 + i % used].fd, from = w->fds[1 + (i + 1) % used].fd;
        need(getsockname(to, (struct sockaddr *)&there, &size), "getsockname");
        need((int)sendto(from, data, SIZE, 0, (struct sockaddr *)&there, sizeof there), "send");
        usleep(WARM_PAUSE_US / 2);
        need((int)recv(to, data, SIZE, 0), "receive");
    }
}

static int by_select(struct waiter *w, int ms)
{
    struct timeval t = {.tv_usec = 1000 * ms};
    fd_set set;
    int most = 0;

    FD_ZERO(&set);
    for (nfds_t i = 0; i < w->n; i++) {
        FD_SET(w->fds[i].fd, &set);
        most = w->fds[i].fd > most ? w->fds[i].fd : most;
    }
    return select(most + 1, &set, NULL, NULL, &t);
}

/* How many are ready; a blocking receive makes it none. */
static int wait_once(struct waiter *w, int ms)
{
    struct epoll_event event;

    if (by_epoll(w))
        return epoll_wait(w->epfd, &event, 1, ms);
    if (strcmp(w->how, "poll") == 0)
        return poll(w->fds, w->n, ms);
    if (strcmp(w->how, "select") == 0)
        return by_select(w, ms);
    return receive_one(w, 0) < 0 && errno == EAGAIN ? 0 : 1;
}

__attribute__((noipa)) static int counted_wait(struct waiter *w)
{
    return wait_once(w, IDLE_MS);
}

static void expect(const struct waiter *w, int found, bool ready)
{
    if (found != ready) {
        fprintf(stderr, "waits: %d ready, expected %d\n", found, ready);
        exit(1);
    }
    if (ready && strcmp(w->how, "blocking") != 0)
        need(receive_one(w, MSG_DONTWAIT), "receive");
}

int main(int argc, char **argv)
{
    static struct waiter w;
    struct timeval limit = {.tv_usec = 1000 * IDLE_MS};

    if (argc != 8)
        return 2;
    w.stream = strcmp(argv[2], "tcp") == 0;
    w.how = argv[3];
    open_all(&w, argv[1], atoi(argv[5]));
    need(setsockopt(w.to, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "setsockopt");
    use(&w, atoi(argv[6]));
    for (int i = 0; i < WARM_IDLE; i++) /* bells that have rung for these are cleared by sleeping */
        expect(&w, wait_once(&w, IDLE_MS), false);
    for (int i = 0; i < WARM; i++) {
        send_one(&w);
        usleep(WARM_PAUSE_US);
        expect(&w, wait_once(&w, 1000 * IDLE_MS), true);
    }
    bool ready = strcmp(argv[4], "ready") == 0;
    for (int i = 0; i < atoi(argv[7]); i++) {
        if (ready)
            send_one(&w);
        stands_still = ready && i > 0; /* by then the kernel has been looked at */
        expect(&w, counted_wait(&w), ready);
    }
    return 0;
}
