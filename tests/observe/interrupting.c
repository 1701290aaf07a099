/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A preload behind ours: a send of "interrupt" is interrupted on its way to the kernel, once a line
 * has come on standard input, by a signal handler that receives.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char word[] = "interrupt";
static int at;

static void handle(int number)
{
    char data[16];

    (void)number;
    (void)recv(at, data, sizeof(data), MSG_DONTWAIT);
}

static void interrupt(int fd)
{
    static const char inside[] = "inside\n";
    char line[16];

    at = fd;
    signal(SIGUSR1, handle);
    if (write(STDOUT_FILENO, inside, strlen(inside)) > 0 && read(STDIN_FILENO, line, 16) > 0) {
        raise(SIGUSR1);
    }
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*next)(int, const struct msghdr *, int);

    *(void **)&next = dlsym(RTLD_NEXT, "sendmsg");
    if (message->msg_iov->iov_len == strlen(word) &&
        memcmp(message->msg_iov->iov_base, word, strlen(word)) == 0) {
        interrupt(fd);
    }
    return next(fd, message, flags);
}
