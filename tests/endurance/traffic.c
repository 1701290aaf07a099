/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbered UDP traffic: every datagram says who sent it, to which destination
 * and the how manieth it is, so that loss, repetition, disorder and damage are
 * seen by the receiving application itself. It knows nothing of IVC, except
 * that `scribble` spoils whatever shared memory it finds in its own process.
 *
 *   traffic --bind IP:PORT [--to IP:PORT]... [--join GROUP]... [--rate N]
 *           [--size MIN-MAX] [--large N] [--wait block|poll|epoll|epoll-et]
 *           [--echo] [--cpu N] [--deaf]
 *
 * Standard input: go, pause, report, scribble SEED; its end ends the program.
 * Standard output: "ready", and one JSON line per `report`. Three threads: one
 * receives (not with --deaf), one sends, one reads standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DESTS_MAX 4
#define STREAMS_MAX 512
#define LARGEST 60000u
#define MAGIC 0x6e756d62u
#define RECEIVE_BUFFER (8 << 20)

/* A SOME/IP header, so that a relay can route it, then what we count by. */
struct message {
    uint16_t service, method;
    uint32_t length;
    uint16_t client, session;
    uint8_t protocol, interface, type, code;
    uint32_t magic;
    uint32_t run; /* random per process: a restart begins anew */
    uint32_t dest;
    uint32_t number;
    uint32_t size;
};

/* What came from one run of one sender by one of its destinations. */
struct stream {
    uint32_t ip, run, dest;
    uint16_t port;
    uint64_t received, twice, disorder, damaged;
    uint32_t first, highest;
    uint8_t *seen; /* a bit per number */
    size_t seen_bytes;
};

static struct {
    int fd;
    struct sockaddr_in to[DESTS_MAX];
    unsigned dests;
    unsigned rate, size_min, size_max, large;
    const char *wait;
    bool echo, deaf;
    uint32_t run;
    _Atomic bool sending;
    _Atomic uint64_t sent[DESTS_MAX], failed;
    pthread_mutex_t lock; /* streams */
    struct stream streams[STREAMS_MAX];
    unsigned stream_count;
    uint64_t strange;
} program = {.fd = -1, .rate = 1000, .size_min = 64, .size_max = 200, .wait = "poll",
             .lock = PTHREAD_MUTEX_INITIALIZER};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in endpoint(const char *text)
{
    char ip[32] = "";
    unsigned port = 0;
    struct sockaddr_in in = {.sin_family = AF_INET};
    if (sscanf(text, "%31[0-9.]:%u", ip, &port) < 1 || inet_aton(ip, &in.sin_addr) == 0)
        die(text);
    in.sin_port = htons((uint16_t)port);
    return in;
}

static uint8_t filler(uint32_t number, size_t at)
{
    return (uint8_t)(number * 31 + at);
}

/* ---- receiving ------------------------------------------------------------- */

static struct stream *stream_of(const struct sockaddr_in *from, const struct message *m)
{
    for (unsigned i = 0; i < program.stream_count; i++) {
        struct stream *s = &program.streams[i];
        if (s->ip == ntohl(from->sin_addr.s_addr) && s->port == ntohs(from->sin_port) &&
            s->run == m->run && s->dest == m->dest)
            return s;
    }
    if (program.stream_count == STREAMS_MAX)
        return NULL;
    struct stream *s = &program.streams[program.stream_count++];
    *s = (struct stream){.ip = ntohl(from->sin_addr.s_addr),
                         .port = ntohs(from->sin_port),
                         .run = m->run,
                         .dest = m->dest,
                         .first = m->number};
    return s;
}

/* Marks a number; true if it was marked before. */
static bool mark(struct stream *s, uint32_t number)
{
    size_t at = number / 8;
    if (at >= s->seen_bytes) {
        size_t bytes = 2 * at + 4096;
        s->seen = realloc(s->seen, bytes);
        if (!s->seen)
            die("realloc");
        memset(s->seen + s->seen_bytes, 0, bytes - s->seen_bytes);
        s->seen_bytes = bytes;
    }
    uint8_t bit = (uint8_t)(1u << (number % 8));
    bool before = (s->seen[at] & bit) != 0;
    s->seen[at] |= bit;
    return before;
}

static void account(const uint8_t *data, size_t length, const struct sockaddr_in *from)
{
    struct message m;
    if (length < sizeof(m)) {
        program.strange++;
        return;
    }
    memcpy(&m, data, sizeof(m));
    struct stream *s = m.magic == MAGIC ? stream_of(from, &m) : NULL;
    if (!s) {
        program.strange++;
        return;
    }
    bool damaged = m.size != length;
    for (size_t i = sizeof(m); i < length && !damaged; i++)
        damaged = data[i] != filler(m.number, i);
    s->damaged += damaged;
    if (mark(s, m.number)) {
        s->twice++;
        return;
    }
    if (s->received && m.number < s->highest) {
        s->disorder++;
        if (s->disorder < 4)
            fprintf(stderr, "disorder: %" PRIu32 " after %" PRIu32 " (dest %" PRIu32 ")\n",
                    m.number, s->highest, m.dest);
    }
    if (m.number > s->highest)
        s->highest = m.number;
    s->received++;
}

static void receive_one(int flags)
{
    static uint8_t data[65536];
    struct sockaddr_in from;
    socklen_t length = sizeof(from);
    ssize_t n = recvfrom(program.fd, data, sizeof(data), flags, (struct sockaddr *)&from, &length);
    if (n < 0)
        return;
    pthread_mutex_lock(&program.lock);
    account(data, (size_t)n, &from);
    pthread_mutex_unlock(&program.lock);
    if (program.echo)
        (void)sendto(program.fd, data, (size_t)n, 0, (struct sockaddr *)&from, length);
}

static void *receiver(void *unused)
{
    (void)unused;
    bool edge = strcmp(program.wait, "epoll-et") == 0;
    int set = -1;
    if (strncmp(program.wait, "epoll", 5) == 0) {
        struct epoll_event event = {.events = EPOLLIN | (edge ? (uint32_t)EPOLLET : 0)};
        set = epoll_create1(EPOLL_CLOEXEC);
        if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, program.fd, &event) != 0)
            die("epoll");
    }
    for (;;) {
        struct pollfd p = {.fd = program.fd, .events = POLLIN};
        struct epoll_event event;
        if (strcmp(program.wait, "block") == 0)
            receive_one(0);
        else if ((set >= 0 ? epoll_wait(set, &event, 1, -1) : poll(&p, 1, -1)) == 1)
            do {
                errno = 0;
                receive_one(MSG_DONTWAIT);
            } while (edge && errno == 0);
    }
    return NULL;
}

/* ---- sending --------------------------------------------------------------- */

static void send_one(unsigned dest, unsigned *seed)
{
    static uint8_t data[LARGEST];
    uint32_t number = (uint32_t)atomic_load(&program.sent[dest]);
    uint32_t span = program.size_max - program.size_min + 1;
    uint32_t size = program.size_min + (uint32_t)rand_r(seed) % span;
    if (program.large && number % program.large == program.large - 1)
        size = LARGEST - (uint32_t)rand_r(seed) % 1000;
    struct message m = {.service = htons(0x1234),
                        .method = htons(0x8001),
                        .length = htonl(size - 8),
                        .protocol = 1,
                        .interface = 1,
                        .type = 2,
                        .magic = MAGIC,
                        .run = program.run,
                        .dest = dest,
                        .number = number,
                        .size = size};
    memcpy(data, &m, sizeof(m));
    for (size_t i = sizeof(m); i < size; i++)
        data[i] = filler(number, i);
    const struct sockaddr *to = (const struct sockaddr *)&program.to[dest];
    if (sendto(program.fd, data, size, 0, to, sizeof(program.to[dest])) == (ssize_t)size)
        atomic_fetch_add(&program.sent[dest], 1);
    else
        atomic_fetch_add(&program.failed, 1);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* In step with the clock; what a stall has cost is not made up for in a burst. */
static void *sender(void *unused)
{
    (void)unused;
    unsigned seed = program.run;
    double due = seconds(), tick = program.rate ? 1.0 / program.rate : 0;
    for (;;) {
        double now = seconds();
        if (!atomic_load(&program.sending) || (tick > 0 && now < due)) {
            double rest = atomic_load(&program.sending) ? due - now : 0.002;
            struct timespec nap = {.tv_nsec = (long)(1e9 * (rest < 0.5 ? rest : 0.5)) + 1};
            nanosleep(&nap, NULL);
            continue;
        }
        due = now - due > 0.01 ? now : due + tick;
        for (unsigned i = 0; i < program.dests; i++)
            send_one(i, &seed);
    }
    return NULL;
}

/* ---- being told ------------------------------------------------------------ */

static void report(void)
{
    printf("{\"run\": %" PRIu32 ", \"sent\": [", program.run);
    for (unsigned i = 0; i < program.dests; i++)
        printf("%s%" PRIu64, i ? ", " : "", atomic_load(&program.sent[i]));
    printf("], \"failed\": %" PRIu64 ", \"streams\": [", atomic_load(&program.failed));
    pthread_mutex_lock(&program.lock);
    for (unsigned i = 0; i < program.stream_count; i++) {
        const struct stream *s = &program.streams[i];
        struct in_addr ip = {.s_addr = htonl(s->ip)};
        printf("%s{\"from\": \"%s:%u\", \"run\": %" PRIu32 ", \"dest\": %" PRIu32
               ", \"received\": %" PRIu64 ", \"twice\": %" PRIu64 ", \"disorder\": %" PRIu64
               ", \"damaged\": %" PRIu64 ", \"first\": %" PRIu32 ", \"highest\": %" PRIu32 "}",
               i ? ", " : "", inet_ntoa(ip), s->port, s->run, s->dest, s->received, s->twice,
               s->disorder, s->damaged, s->first, s->highest);
    }
    printf("], \"strange\": %" PRIu64 "}\n", program.strange);
    pthread_mutex_unlock(&program.lock);
    fflush(stdout);
}

/* Random bytes over every shared page that this process may write. By the file,
 * because the wrapper may unmap them meanwhile. */
static void scribble(unsigned seed)
{
    char line[512];
    unsigned regions = 0;
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof(line), maps)) {
        uintptr_t begin, end;
        char mode[8];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &begin, &end, mode) != 3 ||
            strcmp(mode, "rw-s") != 0 || !strstr(line, "/memfd:ivc-"))
            continue;
        regions++;
        for (; begin < end; begin += sizeof(line)) {
            for (size_t i = 0; i < sizeof(line); i++)
                line[i] = (char)rand_r(&seed);
            (void)!pwrite(memory, line, sizeof(line), (off_t)begin);
        }
    }
    if (maps)
        fclose(maps);
    close(memory);
    printf("{\"regions\": %u}\n", regions);
    fflush(stdout);
}

static void listen_to_orders(void)
{
    char line[64];
    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "go\n") == 0)
            atomic_store(&program.sending, true);
        else if (strcmp(line, "pause\n") == 0)
            atomic_store(&program.sending, false);
        else if (strcmp(line, "report\n") == 0)
            report();
        else if (strncmp(line, "scribble ", 9) == 0)
            scribble((unsigned)strtoul(line + 9, NULL, 10));
    }
}

static void join(const char *group)
{
    struct ip_mreqn request = {.imr_multiaddr = endpoint(group).sin_addr};
    if (setsockopt(program.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) != 0)
        die(group);
}

static void pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static void set_up(int argc, char **argv)
{
    int size = RECEIVE_BUFFER;
    program.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* A stall of the machine must not look like a loss of ours. */
    if (setsockopt(program.fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
        (void)setsockopt(program.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--echo") == 0) {
            program.echo = true;
            continue;
        }
        if (strcmp(argv[i], "--deaf") == 0) {
            program.deaf = true;
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--bind") == 0) {
            struct sockaddr_in here = endpoint(value);
            if (bind(program.fd, (struct sockaddr *)&here, sizeof(here)) != 0)
                die(value);
        } else if (strcmp(argv[i - 1], "--to") == 0 && program.dests < DESTS_MAX) {
            program.to[program.dests++] = endpoint(value);
        } else if (strcmp(argv[i - 1], "--join") == 0) {
            join(value);
        } else if (strcmp(argv[i - 1], "--rate") == 0) {
            program.rate = (unsigned)atoi(value);
        } else if (strcmp(argv[i - 1], "--size") == 0) {
            if (sscanf(value, "%u-%u", &program.size_min, &program.size_max) != 2)
                die(value);
        } else if (strcmp(argv[i - 1], "--large") == 0) {
            program.large = (unsigned)atoi(value);
        } else if (strcmp(argv[i - 1], "--wait") == 0) {
            program.wait = value;
        } else if (strcmp(argv[i - 1], "--cpu") == 0) {
            pin((unsigned)atoi(value));
        } else {
            die(argv[i - 1]);
        }
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;
    set_up(argc, argv);
    if (getrandom(&program.run, sizeof(program.run), 0) != sizeof(program.run))
        die("getrandom");
    if ((!program.deaf && pthread_create(&thread, NULL, receiver, NULL) != 0) ||
        pthread_create(&thread, NULL, sender, NULL) != 0)
        die("pthread_create");
    printf("ready\n");
    fflush(stdout);
    listen_to_orders();
    return 0;
}
