/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echoes a connection: the first half of it by read() and write(), then answers
 * by io_uring and reads by read(), in turns. Arguments: address and port to
 * connect to; "first" or "later": when its io_uring is made.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BEFORE 1000 /* echoes until io_uring is used */

static struct {
    int fd;
    uint8_t *sq, *cq;
    struct io_uring_sqe *sqes;
    struct io_uring_params p;
} ring;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Not by syscall(), which a preload may know. */
static long past(long number, long a, long b, long c, long d, long e, long f)
{
#ifdef __x86_64__
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    return syscall(number, a, b, c, d, e, f);
#endif
}

static void *map(size_t size, off_t offset)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, offset);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void make_ring(void)
{
    ring.fd = (int)past(SYS_io_uring_setup, 4, (long)&ring.p, 0, 0, 0, 0);
    if (ring.fd < 0) {
        errno = -ring.fd;
        fail("io_uring_setup");
    }
    ring.sq = map(ring.p.sq_off.array + 4 * sizeof(uint32_t), IORING_OFF_SQ_RING);
    ring.cq = map(ring.p.cq_off.cqes + ring.p.cq_entries * sizeof(struct io_uring_cqe),
                  IORING_OFF_CQ_RING);
    ring.sqes = map(4 * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
}

static uint32_t *word(uint8_t *base, uint32_t offset)
{
    return (uint32_t *)(void *)(base + offset);
}

static int by_ring(uint8_t opcode, int fd, void *data, size_t size)
{
    uint32_t *tail = word(ring.sq, ring.p.sq_off.tail);
    uint32_t slot = *tail & *word(ring.sq, ring.p.sq_off.ring_mask);
    ring.sqes[slot] = (struct io_uring_sqe){
        .opcode = opcode, .fd = fd, .addr = (uintptr_t)data, .len = (uint32_t)size};
    word(ring.sq, ring.p.sq_off.array)[slot] = slot;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (past(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
        fail("io_uring_enter");
    uint32_t *head = word(ring.cq, ring.p.cq_off.head);
    struct io_uring_cqe *cqes = (struct io_uring_cqe *)(void *)(ring.cq + ring.p.cq_off.cqes);
    int result = cqes[*head & *word(ring.cq, ring.p.cq_off.ring_mask)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    uint8_t data[4096];
    if (argc != 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
        return 2;
    to.sin_port = htons((uint16_t)atoi(argv[2]));
    if (strcmp(argv[3], "first") == 0)
        make_ring();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        fail("connect");
    for (int n = 0;; n++) {
        if (n == BEFORE && !ring.sq)
            make_ring();
        ssize_t got = read(fd, data, sizeof(data));
        if (got <= 0)
            break;
        ssize_t put = n < BEFORE || n % 3 == 0 ? write(fd, data, (size_t)got)
                                               : by_ring(IORING_OP_SEND, fd, data, (size_t)got);
        if (put != got)
            fail("echo");
    }
    puts("done");
    return 0;
}
