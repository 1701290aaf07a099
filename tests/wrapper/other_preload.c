/* SPDX-License-Identifier: Apache-2.0 */
/* Another preload, as there are: it counts what passes by, and says so at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>

static unsigned sends, receives;

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ssize_t (*next)(int, const void *, size_t, int);
    *(void **)&next = dlsym(RTLD_NEXT, "send");
    sends++;
    return next(fd, data, size, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    ssize_t (*next)(int, void *, size_t, int);
    *(void **)&next = dlsym(RTLD_NEXT, "recv");
    receives++;
    return next(fd, data, size, flags);
}

__attribute__((destructor)) static void end(void)
{
    printf("the other preload: %d\n", sends > 800 && receives > 800);
}
