/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A preload that counts what programs send on IPv4 and IPv6 sockets, payload bytes, into the
 * file IVC_COUNT_FILE names: one 64-bit number, for all processes together. It knows nothing
 * of IVC and stands before it, so it counts the same whatever carries the bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t *counter;

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("IVC_COUNT_FILE");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    counter = map == MAP_FAILED ? NULL : map;
    (void)close(fd);
}

static bool is_inet(int fd)
{
    int domain = 0, saved = errno;
    socklen_t size = sizeof(domain);
    bool known = syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0;
    errno = saved;
    return known && (domain == AF_INET || domain == AF_INET6);
}

static ssize_t sent(int fd, ssize_t n)
{
    if (counter && n > 0 && is_inet(fd))
        atomic_fetch_add_explicit(counter, (uint64_t)n, memory_order_relaxed);
    return n;
}

/* The next one's function of this name, asked for each time: it is measured, not fast. */
#define NEXT(name, result, ...)                                                                    \
    result (*next)(__VA_ARGS__);                                                                   \
    *(void **)&next = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size)
{
    NEXT("write", ssize_t, int, const void *, size_t);
    return sent(fd, next(fd, data, size));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    NEXT("writev", ssize_t, int, const struct iovec *, int);
    return sent(fd, next(fd, parts, count));
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    NEXT("send", ssize_t, int, const void *, size_t, int);
    return sent(fd, next(fd, data, size, flags));
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, __CONST_SOCKADDR_ARG to,
               socklen_t length)
{
    NEXT("sendto", ssize_t, int, const void *, size_t, int, __CONST_SOCKADDR_ARG, socklen_t);
    return sent(fd, next(fd, data, size, flags, to, length));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT("sendmsg", ssize_t, int, const struct msghdr *, int);
    return sent(fd, next(fd, message, flags));
}

ssize_t sendfile(int fd, int from, off_t *at, size_t size)
{
    NEXT("sendfile", ssize_t, int, int, off_t *, size_t);
    return sent(fd, next(fd, from, at, size));
}

ssize_t sendfile64(int fd, int from, off64_t *at, size_t size)
{
    NEXT("sendfile64", ssize_t, int, int, off64_t *, size_t);
    return sent(fd, next(fd, from, at, size));
}
