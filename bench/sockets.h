/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of programs that measure themselves: what fails ends the program. */
#ifndef IVC_BENCH_SOCKETS_H
#define IVC_BENCH_SOCKETS_H

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void need(int result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

static int bound(const char *ip, int type, struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, type, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET};
    if (inet_pton(AF_INET, ip, &address->sin_addr) != 1)
        exit(2);
    need(bind(fd, (struct sockaddr *)address, sizeof *address), "bind");
    need(getsockname(fd, (struct sockaddr *)address, &size), "getsockname");
    return fd;
}

#endif
