/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that come while a call waits on a socket whose peer echoes. Arguments:
 * udp or tcp; own address; the peer's address and port; recv, poll, select,
 * epoll, ppoll, epoll_pwait, timeout, restart or peek; rounds. It says how many alarms
 * that came inside the call have not ended it, and waits for its input to end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WARM 400
#define PHASE_US 80   /* the first alarm comes within */
#define REPEAT_US 2000 /* should the first have come too early */
#define RESTARTS 3    /* alarms a restarted call lives through */

static int fd, epfd;
static volatile sig_atomic_t inside, alarms;
static int restarts;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* With SA_RESTART only an answer ends the call, and this asks for it. */
static void on_alarm(int sig)
{
    int saved = errno;
    (void)sig;
    if (inside && ++alarms == RESTARTS && restarts)
        (void)send(fd, "asked for", 9, MSG_DONTWAIT);
    errno = saved;
}

static int by_recv(void)
{
    char data[100];
    return (int)recv(fd, data, sizeof(data), 0);
}

/* For more than the peer has sent. */
static int by_peek(void)
{
    char data[100];
    return (int)recv(fd, data, sizeof(data), MSG_PEEK | MSG_WAITALL);
}

static int by_poll(void)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, -1);
}

static int by_ppoll(void)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&one, 1, NULL, &none);
}

static int by_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, NULL);
}

static int by_epoll(void)
{
    struct epoll_event event;
    return epoll_wait(epfd, &event, 1, -1);
}

static int by_epoll_pwait(void)
{
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait(epfd, &event, 1, -1, &none);
}

static const struct {
    const char *name;
    int (*call)(void);
    int blocked; /* the alarm is, outside the call */
} CALLS[] = {
    {"recv", by_recv, 0},   {"timeout", by_recv, 0}, {"restart", by_recv, 0},
    {"poll", by_poll, 0},   {"ppoll", by_ppoll, 1},  {"select", by_select, 0},
    {"epoll", by_epoll, 0}, {"epoll_pwait", by_epoll_pwait, 1}, {"peek", by_peek, 0},
};

static void set_timer(long first, long next)
{
    const struct itimerval timer = {.it_value.tv_usec = first, .it_interval.tv_usec = next};
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0)
        fail("setitimer");
}

static void connect_to(const char *protocol, const char *own, const char *host, const char *port)
{
    int type = strcmp(protocol, "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM;
    struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET};
    inet_pton(AF_INET, own, &here.sin_addr);
    inet_pton(AF_INET, host, &there.sin_addr);
    there.sin_port = htons((unsigned short)atoi(port));
    fd = socket(AF_INET, type, 0);
    if (bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        connect(fd, (struct sockaddr *)&there, sizeof(there)) != 0)
        fail("connect");
    struct epoll_event event = {.events = EPOLLIN};
    epfd = epoll_create1(0);
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
    for (int i = 0; i < WARM; i++) {
        if (send(fd, "warm", 4, 0) != 4 || by_recv() != 4)
            fail("warm");
        if (i % 10 == 0)
            usleep(1000);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    size_t which = 0;
    while (strcmp(CALLS[which].name, argv[5]) != 0)
        which++;
    restarts = strcmp(argv[5], "restart") == 0;
    connect_to(argv[1], argv[2], argv[3], argv[4]);
    const struct timeval limit = {.tv_sec = 5};
    const int timeout = strcmp(argv[5], "timeout") == 0;
    if (timeout)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    struct sigaction action = {.sa_handler = on_alarm,
                               .sa_flags = restarts || timeout ? SA_RESTART : 0};
    sigaction(SIGALRM, &action, NULL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    if (CALLS[which].blocked)
        sigprocmask(SIG_BLOCK, &alarm_only, NULL);

    const int peek = strcmp(argv[5], "peek") == 0;
    char part[4];
    if (peek && (send(fd, "part", 4, 0) != 4 || recv(fd, part, 4, MSG_PEEK | MSG_WAITALL) != 4))
        fail("part");

    int rounds = atoi(argv[6]), missed = 0, strange = 0;
    for (int i = 0; i < rounds; i++) {
        alarms = 0;
        set_timer(1 + rand() % PHASE_US, REPEAT_US);
        inside = 1;
        int r = CALLS[which].call();
        int error = errno;
        inside = 0;
        set_timer(0, 0);
        missed += !restarts && alarms > 1;
        if (peek)
            strange += r != 4;
        else
            strange += restarts ? r != 9 || alarms < RESTARTS : r != -1 || error != EINTR;
    }
    printf("%d missed, %d strange\n", missed, strange);
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
}
