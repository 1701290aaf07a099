/* SPDX-License-Identifier: Apache-2.0 */
/* A bell is readable after a ring until consumed; as a channel, one edge only. */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "harness.h"

static bool readable(const struct ivc_bell *bell)
{
    struct pollfd look = {.fd = bell->fd, .events = POLLIN};

    return poll(&look, 1, 0) == 1;
}

static int edges(int epfd)
{
    struct epoll_event event;

    return epoll_wait(epfd, &event, 1, 0);
}

/* Edges an edge-triggered waiter sees for a second ring before the consume. */
static int second_edge(bool channel)
{
    struct ivc_bell bell;
    struct epoll_event interest = {.events = EPOLLIN | EPOLLET};
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    int second;

    CHECK(epfd >= 0 && ivc_bell_open(&bell) == 0);
    bell.channel = channel;
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, bell.fd, &interest) == 0);
    ivc_bell_ring(&bell);
    CHECK(edges(epfd) == 1);
    ivc_bell_ring(&bell);
    second = edges(epfd);
    CHECK(ivc_bell_consume(&bell) && !readable(&bell) && !ivc_bell_consume(&bell));
    ivc_bell_ring(&bell);
    CHECK(edges(epfd) == 1); /* consumed first: a new ring is a new edge */
    close(epfd);
    close(bell.fd);
    return second;
}

int main(void)
{
    struct ivc_bell none = {.fd = -1};
    struct ivc_bell bell, other;

    CHECK(ivc_bell_open(&bell) == 0);
    CHECK((fcntl(bell.fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(bell.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(!readable(&bell) && !ivc_bell_consume(&bell));
    ivc_bell_adopt(&other, bell.fd);
    ivc_bell_ring(&other);
    ivc_bell_ring(&other);
    CHECK(readable(&bell) && ivc_bell_consume(&bell) && !readable(&bell));

    errno = 4711; /* a bell is rung inside other calls: errno is theirs */
    ivc_bell_ring(&none);
    CHECK(!ivc_bell_consume(&none));
    CHECK(!ivc_bell_consume(&bell));
    close(bell.fd);
    ivc_bell_ring(&bell);
    CHECK(errno == 4711);

    CHECK(second_edge(false) == 1);
    CHECK(second_edge(true) == 0);
    return 0;
}
