/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages over UDP, TCP or AF_UNIX in plain C, the way programs wait for sockets: blocking
 * recvfrom, poll, select, epoll (level and edge). It knows nothing of IVC; the
 * same binary is measured with and without the wrapper.
 *
 *   pingpong server ADDRESS PORT [options]
 *   pingpong client ADDRESS PORT SERVER PORT [options]
 *
 * ADDRESS is an IPv4 address, or a folder: then the sockets are AF_UNIX, PORT in that folder.
 *
 *   --wait blocking|poll|select|epoll|epoll-et
 *   --tcp          a connection instead of datagrams
 *   --cpu N        stay on this processor
 *   --one-way      the server counts instead of answering
 *   --batch        one way, many a system call: sendmmsg and recvmmsg (datagrams)
 *   --warm N       so many round trips before all else
 *   --sockets N    so many more sockets, idle, in the epoll set
 *   --busy N       so many sockets on either side, at ports in a row, used in turn (UDP, epoll)
 *   --begin-at S   after warming up wait for this time of CLOCK_MONOTONIC (client)
 *   --count N      round trips or messages, fewer round trips if SIGINT comes before (client)
 *   --rate N       one way, so many a second, in batches (client; 0, the default: as fast as it goes)
 *   --pause N      microseconds between two round trips (client)
 *   --size N       payload bytes, at least 8 (client; a server that counts is told, too)
 *   --numbered     sizes vary and every byte follows from the number (client)
 *   --peer PID     the server: its CPU time is counted, too (client)
 *
 * Every payload begins with its number. The client prints one JSON object:
 *   {"sent":..,"received":..,"lost":..,"strange":..,"rtt_us":{"p50":..,"p90":..,"p99":..},
 *    "msgs_per_s":..,"cpu_us_per_msg":..}
 * `strange` counts answers that came late, twice or damaged. A round trip is two messages.
 * Without --warm the first tenth of the round trips, 1000 at most, is for warming up and not in
 * the figures.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "measure.h"

#define LARGEST_DATAGRAM 65507u
#define LARGEST 65536u
#define SMALLEST 8u
#define ANSWER_MS 1000
#define BATCH 32u
#define BUSY_MOST 64u
#define END_SIZE 1u /* of the datagram that asks how many came */
#define END_PAUSE_US 100

enum wait { BLOCKING, POLL, SELECT, EPOLL, EPOLL_ET };

static const char *const wait_names[] = {"blocking", "poll", "select", "epoll", "epoll-et"};

struct options {
    enum wait wait;
    int cpu;
    uint32_t count;
    uint32_t pause_us;
    uint32_t size;
    uint32_t warm;
    uint32_t sockets;
    uint32_t busy;
    uint32_t rate;
    double begin_at;
    pid_t peer;
    bool numbered;
    bool tcp;
    bool one_way;
    bool batch;
};

/* Where a socket is. */
struct place {
    union {
        struct sockaddr any;
        struct sockaddr_in inet;
        struct sockaddr_un local;
    };
    socklen_t size;
};

/* `fd` is the socket in use, of those that are used in turn. */
struct waiter {
    int fd;
    int fds[BUSY_MOST];
    uint32_t busy;
    int epfd;
    enum wait wait;
    bool tcp;
};

static volatile sig_atomic_t told_to_stop;

static struct place address(const char *ip, const char *port)
{
    struct place a = {.inet = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))},
                      .size = sizeof a.inet};

    if (ip[0] == '/') {
        a = (struct place){.local = {.sun_family = AF_UNIX}, .size = sizeof a.local};
        if (snprintf(a.local.sun_path, sizeof a.local.sun_path, "%s/%s", ip, port) <
            (int)sizeof a.local.sun_path)
            return a;
    } else if (inet_pton(AF_INET, ip, &a.inet.sin_addr) == 1) {
        return a;
    }
    fprintf(stderr, "pingpong: no IPv4 address, and no folder with a short name: %s\n", ip);
    exit(2);
}

/* ---- waiting ------------------------------------------------------------- */

static int bound(const struct place *local, int type)
{
    int fd = socket(local->any.sa_family, type, 0), on = 1;

    if (local->any.sa_family == AF_UNIX)
        (void)unlink(local->local.sun_path);
    if (fd < 0 ||
        (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) ||
        bind(fd, &local->any, local->size) < 0)
        fail("bind");
    return fd;
}

static int accepted(int listener)
{
    int fd;

    if (listen(listener, 1) < 0)
        fail("listen");
    puts("ready");
    fflush(stdout);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        fail("accept");
    close(listener);
    return fd;
}

/* The server's connection with its one client (no `server`), or the client's. */
static int connection(struct place local, const struct place *server)
{
    bool inet = local.any.sa_family == AF_INET;
    int fd, on = 1;

    if (server && inet)
        local.inet.sin_port = 0; /* many runs in a row: no port waits for the last one's end */
    fd = bound(&local, SOCK_STREAM);
    if (!server)
        fd = accepted(fd);
    else if (connect(fd, &server->any, server->size) < 0)
        fail("connect");
    if (inet && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("connection");
    return fd;
}

static void add(struct waiter *w, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN | (w->wait == EPOLL_ET ? EPOLLET : 0u),
                             .data.fd = fd};

    if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
        fail("epoll");
}

static void add_idle(struct waiter *w, struct place local, uint32_t sockets)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        fail("limit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        fail("limit");
    local.inet.sin_port = 0;
    for (uint32_t i = 0; i < sockets; i++)
        add(w, bound(&local, SOCK_DGRAM));
}

/* The one at port number `i`, counted from that of `first`. */
static struct place further(const struct place *first, uint32_t i)
{
    struct place p = *first;

    if (p.any.sa_family == AF_INET)
        p.inet.sin_port = htons((uint16_t)(ntohs(p.inet.sin_port) + i));
    return p;
}

static void add_busy(struct waiter *w, const struct place *local)
{
    for (uint32_t i = 1; i < w->busy; i++) {
        struct place next = further(local, i);

        w->fds[i] = bound(&next, SOCK_DGRAM);
        add(w, w->fds[i]);
    }
}

static struct waiter waiter_open(struct place local, const struct place *server,
                                 const struct options *o)
{
    struct waiter w = {.fd = o->tcp ? connection(local, server) : bound(&local, SOCK_DGRAM),
                       .busy = o->busy,
                       .epfd = -1,
                       .wait = o->wait,
                       .tcp = o->tcp};

    w.fds[0] = w.fd;
    if (w.wait != EPOLL && w.wait != EPOLL_ET)
        return w;
    w.epfd = epoll_create1(EPOLL_CLOEXEC);
    if (w.epfd < 0)
        fail("epoll");
    add(&w, w.fd);
    add_busy(&w, &local);
    if (o->sockets > 0)
        add_idle(&w, local, o->sockets);
    return w;
}

/* Wait for readiness; false when time is up. */
static bool ready(struct waiter *w, int timeout_ms)
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
        if (epoll_wait(w->epfd, &ev, 1, timeout_ms) <= 0)
            return false;
        w->fd = ev.data.fd;
        return true;
    case BLOCKING:
        break;
    }
    return true;
}

/* Receive one datagram; -1 when time is up. */
static ssize_t receive(struct waiter *w, void *data, struct place *from, int timeout_ms)
{
    ssize_t n;

    from->size = sizeof from->local;
    if (w->wait == BLOCKING)
        return recvfrom(w->fd, data, LARGEST, 0, &from->any, &from->size);
    if (w->wait != EPOLL_ET && !ready(w, timeout_ms))
        return -1;
    /* Edge-triggered programs read until EAGAIN before they wait again. */
    while ((n = recvfrom(w->fd, data, LARGEST, MSG_DONTWAIT, &from->any, &from->size)) < 0) {
        if (errno != EAGAIN || !ready(w, timeout_ms))
            return -1;
        from->size = sizeof from->local;
    }
    return n;
}

static void put(struct waiter *w, const unsigned char *data, size_t size,
                const struct place *to)
{
    while (size > 0) {
        ssize_t n = w->tcp ? send(w->fd, data, size, 0)
                           : sendto(w->fd, data, size, 0, &to->any, to->size);
        if (n < 0)
            fail("send");
        data += n;
        size -= (size_t)n;
    }
}

/* Receive one message: a datagram, or `size` bytes of a connection. */
static ssize_t receive_message(struct waiter *w, unsigned char *data, size_t size,
                               struct place *from, int timeout_ms)
{
    size_t got = 0;
    ssize_t n;

    if (!w->tcp)
        return receive(w, data, from, timeout_ms);
    for (; got < size; got += (size_t)n) {
        n = receive(w, data + got, from, timeout_ms);
        if (n <= 0)
            return -1;
    }
    return (ssize_t)got;
}

/* ---- server -------------------------------------------------------------- */

/* The connection has ended; what was counted of it is still to be read. */
static void stay(void)
{
    for (;;)
        pause();
}

static void failed_to_receive(void)
{
    if (errno != EINTR && errno != EAGAIN)
        fail("receive");
}

static void echo(struct waiter *w, unsigned char *data)
{
    struct place from;
    ssize_t n = receive(w, data, &from, -1);

    if (n == 0 && w->tcp)
        stay();
    else if (n >= 0)
        put(w, data, (size_t)n, &from);
    else
        failed_to_receive();
}

/* Answer the first messages, which are to find everything set up. */
static void answer_first(struct waiter *w, unsigned char *data, const struct options *o)
{
    struct place from;

    for (uint32_t i = 0; i < o->warm; i++) {
        ssize_t n = receive_message(w, data, o->size, &from, -1);
        if (n > 0)
            put(w, data, (size_t)n, &from);
    }
}

static void tell(struct waiter *w, uint64_t seen, const struct place *to)
{
    unsigned char answer[sizeof seen];

    memcpy(answer, &seen, sizeof seen);
    put(w, answer, sizeof answer, to);
}

/* Count datagrams, or bytes of a connection, and tell at its end. */
static void count(struct waiter *w, unsigned char *data)
{
    struct place from;
    uint64_t seen = 0;

    for (;;) {
        ssize_t n = receive(w, data, &from, -1);
        if (n == (w->tcp ? 0 : END_SIZE)) {
            tell(w, seen, &from);
            if (w->tcp)
                stay();
        } else if (n > 0) {
            seen += w->tcp ? (uint64_t)n : 1;
        } else {
            failed_to_receive();
        }
    }
}

static void count_batches(struct waiter *w)
{
    static unsigned char data[BATCH][2048];
    struct place from[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr batch[BATCH];
    uint64_t seen = 0;

    for (;;) {
        for (unsigned i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){data[i], sizeof data[i]};
            batch[i].msg_hdr = (struct msghdr){.msg_name = &from[i].any,
                                               .msg_namelen = sizeof from[i].local,
                                               .msg_iov = &parts[i],
                                               .msg_iovlen = 1};
        }
        int n = recvmmsg(w->fd, batch, BATCH, MSG_WAITFORONE, NULL);
        if (n < 0)
            failed_to_receive();
        for (int i = 0; i < n; i++) {
            from[i].size = batch[i].msg_hdr.msg_namelen;
            if (batch[i].msg_len == END_SIZE)
                tell(w, seen, &from[i]);
            else
                seen++;
        }
    }
}

static void serve(struct place local, const struct options *o)
{
    static unsigned char data[LARGEST];
    struct waiter w = waiter_open(local, NULL, o);

    if (!o->tcp) {
        puts("ready");
        fflush(stdout);
    }
    if (o->one_way || o->batch)
        answer_first(&w, data, o);
    if (o->batch)
        count_batches(&w);
    if (o->one_way)
        count(&w, data);
    for (;;)
        echo(&w, data);
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

/* One round trip; false when its answer did not come. Counts strange answers. */
static bool round_trip(struct waiter *w, const struct place *server, uint32_t number,
                       uint32_t *strange, const struct options *o)
{
    struct place from;
    static unsigned char out[LARGEST], in[LARGEST];
    uint32_t size = size_of(number, o);
    struct place to = further(server, number % w->busy);
    double until = now_us() + ANSWER_MS * 1e3;
    ssize_t n;

    fill(out, number, size, o);
    w->fd = w->fds[number % w->busy];
    put(w, out, size, &to);
    while ((n = receive_message(w, in, size, &from, ANSWER_MS)) >= 0 || errno == EINTR) {
        if (n == (ssize_t)size && memcmp(in, out, size) == 0)
            return true;
        *strange += n >= 0;
        if (now_us() > until)
            break;
    }
    return false;
}

static void ping_pong(struct waiter *w, const struct place *server, const struct options *o,
                      struct outcome *out)
{
    uint32_t tenth = o->count / 10 < 1000 ? o->count / 10 : 1000, skip = o->warm > 0 ? 0 : tenth;
    struct sample begin = sample(o->peer);
    double first = now_us();

    for (; out->sent < o->count && !told_to_stop; out->sent++) {
        double start;

        if (out->sent == skip)
            begin = sample(o->peer);
        if (o->pause_us > 0)
            usleep(o->pause_us);
        start = now_us();
        if (!round_trip(w, server, out->sent, &out->strange, o)) {
            fprintf(stderr, "message %u was not answered, %.1f s after the first\n", out->sent,
                    (start - first) / 1e6);
            continue;
        }
        out->received++;
        if (out->sent >= skip)
            out->rtt[out->n++] = now_us() - start;
    }
    out->took = since(begin, o->peer);
    out->messages = 2 * (double)out->n;
}

static void put_batch(struct waiter *w, unsigned char *data, struct place *server,
                      const struct options *o, uint32_t n)
{
    struct iovec part = {data, o->size};
    struct mmsghdr batch[BATCH];

    for (uint32_t i = 0; i < n; i++)
        batch[i].msg_hdr = (struct msghdr){.msg_name = &server->any,
                                           .msg_namelen = server->size,
                                           .msg_iov = &part,
                                           .msg_iovlen = 1};
    for (uint32_t i = 0; i < n;) {
        int sent = sendmmsg(w->fd, batch + i, n - i, 0);
        if (sent < 0)
            fail("sendmmsg");
        i += (uint32_t)sent;
    }
}

/* What the server has counted. The end of datagrams may be lost as they may: it is said again. */
static uint64_t counted(struct waiter *w, const struct place *server)
{
    static const unsigned char end[END_SIZE];
    unsigned char answer[2 * sizeof(uint64_t)]; /* more than it takes: all else is longer */
    double until = now_us() + ANSWER_MS * 1e3;
    uint64_t seen = 0;

    if (w->tcp && shutdown(w->fd, SHUT_WR) < 0)
        fail("shutdown");
    do {
        if (!w->tcp) {
            put(w, end, sizeof end, server);
            usleep(END_PAUSE_US);
        }
        if (recv(w->fd, answer, sizeof answer, w->tcp ? 0 : MSG_DONTWAIT) == sizeof seen) {
            memcpy(&seen, answer, sizeof seen);
            return seen;
        }
    } while (now_us() < until);
    return 0;
}

/* Whoever sends at a rate sends BATCH of them, and then rests until the next are due. */
static void keep_rate(const struct options *o, uint32_t sent, double begin_us)
{
    if (o->rate == 0 || sent % BATCH != 0)
        return;
    double rest_us = begin_us + sent * 1e6 / o->rate - now_us();
    if (rest_us >= 1)
        usleep((useconds_t)rest_us);
}

static void one_way(struct waiter *w, struct place *server, const struct options *o,
                    struct outcome *out)
{
    static unsigned char data[LARGEST];
    struct sample begin = sample(o->peer);
    double begin_us = now_us();
    uint64_t seen;

    while (out->sent < o->count) {
        uint32_t left = o->count - out->sent, n = !o->batch ? 1 : left < BATCH ? left : BATCH;

        fill(data, out->sent, o->size, o);
        if (o->batch)
            put_batch(w, data, server, o, n);
        else
            put(w, data, o->size, server);
        out->sent += n;
        keep_rate(o, out->sent, begin_us);
    }
    seen = counted(w, server);
    out->took = since(begin, o->peer);
    out->received = (uint32_t)(w->tcp ? seen / o->size : seen);
    out->messages = out->received;
}

static void wait_for(double seconds)
{
    double rest_us = seconds * 1e6 - now_us();

    if (rest_us > 0)
        usleep((useconds_t)rest_us);
}

static void stop(int signal)
{
    (void)signal;
    told_to_stop = 1;
}

static void call(struct place local, struct place server, const struct options *o)
{
    struct waiter w = waiter_open(local, &server, o);
    struct timeval patience = {.tv_sec = ANSWER_MS / 1000};
    struct outcome out = {.rtt = calloc(o->count, sizeof *out.rtt)};
    struct sigaction interrupt = {.sa_handler = stop, .sa_flags = SA_RESTART};

    if (!out.rtt || setsockopt(w.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        sigaction(SIGINT, &interrupt, NULL) < 0)
        fail("client");
    for (uint32_t i = 0; i < o->warm; i++)
        (void)round_trip(&w, &server, i, &out.strange, o);
    wait_for(o->begin_at);
    if (o->one_way || o->batch)
        one_way(&w, &server, o, &out);
    else
        ping_pong(&w, &server, o, &out);
    report(&out);
    free(out.rtt);
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
        {"pause", required_argument, NULL, 'p'}, {"warm", required_argument, NULL, 'W'},
        {"sockets", required_argument, NULL, 'k'}, {"peer", required_argument, NULL, 'P'},
        {"one-way", no_argument, NULL, 'o'},     {"batch", no_argument, NULL, 'b'},
        {"busy", required_argument, NULL, 'B'},  {"begin-at", required_argument, NULL, 'a'},
        {"rate", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.wait = BLOCKING, .cpu = -1, .count = 10000, .size = 64, .busy = 1};
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
        case 'o':
            o.one_way = true;
            break;
        case 'b':
            o.batch = true;
            break;
        case 'W':
            o.warm = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            o.sockets = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'B':
            o.busy = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            o.rate = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'a':
            o.begin_at = strtod(optarg, NULL);
            break;
        case 'P':
            o.peer = atoi(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (o.busy < 1 || o.busy > BUSY_MOST) {
        fprintf(stderr, "pingpong: --busy: found %u, expected 1 to %u\n", o.busy, BUSY_MOST);
        exit(2);
    }
    uint32_t most = o.tcp ? LARGEST : LARGEST_DATAGRAM;
    o.size = o.size < SMALLEST ? SMALLEST : o.size > most ? most : o.size;
    return o;
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
