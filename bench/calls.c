/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends and receives between two sockets of its own, to have its instructions counted:
 *
 *   calls ADDRESS udp|tcp COUNT
 *
 * counted_sends() makes COUNT calls, then counted_receives() COUNT calls that find something;
 * before that it sends enough, and slowly enough, for the sockets to be where they will stay.
 * bench/instructions.py has the instructions of these two functions counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets.h"

#define SIZE 64
#define WARM 100
#define WARM_PAUSE_US 2000

struct pair {
    int from, to;
    struct sockaddr_in there;
    bool stream;
};

static struct pair joined(const char *ip, int type)
{
    struct sockaddr_in here;
    struct pair p = {.stream = type == SOCK_STREAM};

    p.to = bound(ip, type, &p.there);
    p.from = bound(ip, type, &here);
    if (!p.stream)
        return p;
    need(listen(p.to, 1), "listen");
    need(connect(p.from, (struct sockaddr *)&p.there, sizeof p.there), "connect");
    p.to = accept(p.to, NULL, NULL);
    need(p.to, "accept");
    return p;
}

static void send_one(const struct pair *p)
{
    static const char data[SIZE];
    const struct sockaddr *there = p->stream ? NULL : (const struct sockaddr *)&p->there;

    need((int)sendto(p->from, data, SIZE, 0, there, there ? sizeof p->there : 0), "send");
}

static void receive_one(const struct pair *p)
{
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    char data[SIZE];

    need((int)recvfrom(p->to, data, SIZE, 0, (struct sockaddr *)&from, &size), "receive");
}

__attribute__((noipa)) static void counted_sends(const struct pair *p, int count)
{
    for (int i = 0; i < count; i++)
        send_one(p);
}

__attribute__((noipa)) static void counted_receives(const struct pair *p, int count)
{
    for (int i = 0; i < count; i++)
        receive_one(p);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct pair p = joined(argv[1], strcmp(argv[2], "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM);

    for (int i = 0; i < WARM; i++) {
        send_one(&p);
        usleep(WARM_PAUSE_US);
        receive_one(&p);
    }
    counted_sends(&p, atoi(argv[3]));
    counted_receives(&p, atoi(argv[3]));
    return 0;
}
