/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP within one host through the calls the wrapper interposes. It says what each
 * gave, one line a step, nothing that differs from run to run: with and without
 * the wrapper the lines must be equal. The first line tells which of the two.
 * Argument: the host's address, 127.0.0.1 unless told. It begins when its input
 * ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int a, b; /* two bound sockets */
static struct sockaddr_in at_a, at_b;
static struct in_addr host;
static char in[64];

static void said(const char *step, long result)
{
    if (result < 0)
        printf("%s failed: %s\n", step, strerror(errno));
    else
        printf("%s %ld\n", step, result);
}

static void got(const char *step, long length)
{
    said(step, length);
    if (length > 0)
        printf("%s \"%.*s\"\n", step, (int)length, in);
    memset(in, 0, sizeof(in));
}

static struct sockaddr *name(struct sockaddr_in *address)
{
    return (struct sockaddr *)address;
}

static int bound(struct sockaddr_in *address)
{
    socklen_t length = sizeof(*address);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = host};
    said("bind", bind(fd, name(address), length));
    said("getsockname", getsockname(fd, name(address), &length));
    return fd;
}

static void to_b(const char *text)
{
    said("sendto", sendto(a, text, strlen(text), 0, name(&at_b), sizeof(at_b)));
}

static void by_address(void)
{
    struct sockaddr_in from = {0};
    socklen_t length = sizeof(from);
    said("recv of nothing", recv(b, in, sizeof(in), MSG_DONTWAIT));
    to_b("hello");
    got("peek", recv(b, in, sizeof(in), MSG_PEEK));
    int waiting = 0;
    said("FIONREAD", ioctl(b, FIONREAD, &waiting));
    said("waiting", waiting);
    got("recvfrom", recvfrom(b, in, sizeof(in), 0, name(&from), &length));
    said("from a", from.sin_port == at_a.sin_port && length == sizeof(from));
    to_b("longer than the buffer");
    got("truncated", recv(b, in, 6, MSG_TRUNC) > 6 ? 6 : -1);
    to_b("");
    got("empty", recv(b, in, sizeof(in), 0));
}

static void by_vector(void)
{
    struct iovec out[3] = {{(void *)(uintptr_t)"one", 3}, {NULL, 0}, {(void *)(uintptr_t)"two", 3}};
    struct iovec parts[2] = {{in, 2}, {in + 2, 60}};
    _Alignas(struct cmsghdr) char control[128];
    struct msghdr msg = {.msg_name = &at_b,
                         .msg_namelen = sizeof(at_b),
                         .msg_iov = out,
                         .msg_iovlen = 3};
    int on = 1;
    said("IP_PKTINFO", setsockopt(b, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));
    said("sendmsg", sendmsg(a, &msg, 0));
    msg = (struct msghdr){.msg_iov = parts,
                          .msg_iovlen = 2,
                          .msg_control = control,
                          .msg_controllen = sizeof(control)};
    got("recvmsg", recvmsg(b, &msg, 0));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        printf("control %d %d %zu\n", c->cmsg_level, c->cmsg_type, c->cmsg_len);
    on = 0;
    said("no IP_PKTINFO", setsockopt(b, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));

    struct mmsghdr vec[3];
    for (int i = 0; i < 3; i++)
        vec[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &at_b,
                                              .msg_namelen = sizeof(at_b),
                                              .msg_iov = &out[0],
                                              .msg_iovlen = 1}};
    said("sendmmsg", sendmmsg(a, vec, 3, 0));
    for (int i = 0; i < 3; i++)
        vec[i].msg_hdr = (struct msghdr){.msg_iov = &parts[1], .msg_iovlen = 1};
    struct timespec timeout = {.tv_sec = 5};
    said("recvmmsg", recvmmsg(b, vec, 2, 0, &timeout));
    said("length", vec[1].msg_len);
    said("recvmmsg of the rest", recvmmsg(b, vec, 3, MSG_WAITFORONE, NULL));
    memset(in, 0, sizeof(in));
}

static void connected(void)
{
    struct iovec parts[2] = {{in, 3}, {in + 3, 60}};
    struct iovec out[2] = {{(void *)(uintptr_t)"wri", 3}, {(void *)(uintptr_t)"tev", 3}};
    struct sockaddr_in at_c, at_d;
    int c = bound(&at_c), d = bound(&at_d);
    said("connect", connect(c, name(&at_d), sizeof(at_d)));
    said("connect", connect(d, name(&at_c), sizeof(at_c)));
    said("send", send(c, "sent", 4, 0));
    got("read", read(d, in, sizeof(in)));
    said("write", write(d, "written", 7));
    got("recv", recv(c, in, sizeof(in), 0));
    said("writev", writev(c, out, 2));
    got("readv", readv(d, parts, 2));
    to_b("a stranger's");
    said("sendto a connected one", sendto(a, "no", 2, 0, name(&at_d), sizeof(at_d)));
    said("recv of a stranger's", recv(d, in, sizeof(in), MSG_DONTWAIT));
    got("recv", recv(b, in, sizeof(in), 0));
    close(c);
    close(d);
}

static void by_poll(void)
{
    struct pollfd fds[2] = {{.fd = a, .events = POLLIN | POLLOUT}, {.fd = b, .events = POLLIN}};
    struct timespec wait = {.tv_nsec = 1000000};
    said("poll", poll(fds, 2, 0));
    printf("revents %#hx %#hx\n", fds[0].revents, fds[1].revents);
    said("poll that waits", poll(&fds[1], 1, 5));
    said("ppoll that waits", ppoll(&fds[1], 1, &wait, NULL));
    to_b("poll");
    said("ppoll", ppoll(fds, 2, NULL, NULL));
    printf("revents %#hx %#hx\n", fds[0].revents, fds[1].revents);

    fd_set set;
    struct timeval tv = {.tv_usec = 1000};
    FD_ZERO(&set);
    FD_SET(b, &set);
    said("select", select(b + 1, &set, NULL, NULL, NULL));
    got("selected", FD_ISSET(b, &set) ? recv(b, in, sizeof(in), 0) : -1);
    said("select that waits", select(b + 1, &set, NULL, NULL, &tv));
    said("is set", FD_ISSET(b, &set));
    FD_SET(b, &set);
    said("pselect that waits", pselect(b + 1, &set, NULL, NULL, &wait, NULL));
}

static void waited(const char *step, int epfd, int ms)
{
    struct epoll_event events[4] = {0};
    int n = epoll_wait(epfd, events, 4, ms);
    said(step, n);
    for (int i = 0; i < n; i++)
        printf("%s: events %#x data %#llx\n", step, events[i].events,
               (unsigned long long)events[i].data.u64);
}

static void by_epoll(uint32_t how, const char *title)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | how, .data.u64 = 0x123456789abcdef0};
    printf("%s\n", title);
    said("add", epoll_ctl(epfd, EPOLL_CTL_ADD, b, &event));
    said("add again", epoll_ctl(epfd, EPOLL_CTL_ADD, b, &event));
    waited("nothing", epfd, 1);
    to_b("epoll");
    waited("first", epfd, -1);
    waited("unread", epfd, 0);
    event.data.u64 = 7;
    said("mod", epoll_ctl(epfd, EPOLL_CTL_MOD, b, &event));
    waited("after mod", epfd, 0);
    got("read", recv(b, in, sizeof(in), 0));
    waited("drained", epfd, 0);
    to_b("again");
    waited("again", epfd, 0);
    said("del", epoll_ctl(epfd, EPOLL_CTL_DEL, b, NULL));
    waited("deleted", epfd, 0);
    got("read", recv(b, in, sizeof(in), 0));
    close(epfd);
}

static void descriptors(void)
{
    int flags = fcntl(b, F_GETFL);
    said("fcntl", fcntl(b, F_SETFL, flags | O_NONBLOCK));
    said("recv without data", recv(b, in, sizeof(in), 0));
    said("fcntl back", fcntl(b, F_SETFL, flags));
    int copy = dup(b);
    to_b("dup");
    got("from the copy", recv(copy, in, sizeof(in), 0));
    said("dup2", dup2(a, copy) == copy);
    said("close", close(copy));
    said("closed", close(copy));

    struct timeval limit = {.tv_usec = 20000};
    struct timespec begin, end;
    said("SO_RCVTIMEO", setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
    clock_gettime(CLOCK_MONOTONIC, &begin);
    said("recv with a limit", recv(b, in, sizeof(in), 0));
    clock_gettime(CLOCK_MONOTONIC, &end);
    long took = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
    said("waited", took >= 19);
    limit.tv_usec = 0;
    said("no SO_RCVTIMEO", setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
}

static void errors(void)
{
    struct sockaddr_in closed;
    int fd = bound(&closed);
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    said("connect to nobody", connect(fd, name(&closed), sizeof(closed)));
    said("send to nobody", send(fd, "x", 1, 0));
    said("nobody's answer", recv(fd, in, sizeof(in), 0));
    said("send without address", send(b, "x", 1, 0));
    said("too long", sendto(b, in, 70000, 0, name(&at_a), sizeof(at_a)));
    said("close", close(fd));
    said("recv on a closed one", recv(fd, in, sizeof(in), 0));
}

static void *receive(void *length)
{
    *(long *)length = recv(b, in, sizeof(in), 0);
    return NULL;
}

static void threads_and_children(void)
{
    pthread_t thread;
    long length = -1;
    said("thread", pthread_create(&thread, NULL, receive, &length));
    const struct timespec moment = {.tv_nsec = 20000000};
    nanosleep(&moment, NULL);
    to_b("to a sleeper");
    pthread_join(thread, NULL);
    got("in the thread", length);

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        ssize_t n = sendto(a, "from the child", 14, 0, name(&at_b), sizeof(at_b));
        _exit(n == 14 ? 3 : 4);
    }
    int status = 0;
    got("from the child", recv(b, in, sizeof(in), 0));
    said("child", waitpid(child, &status, 0) == child);
    said("its status", WEXITSTATUS(status));
}

/* In a wait on one of the sockets, as somebody who may be asked about it meanwhile. */
static void wait_for_the_start(void)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    while (!fds[0].revents)
        (void)poll(fds, 2, -1);
}

int main(int argc, char **argv)
{
    if (inet_pton(AF_INET, argc > 1 ? argv[1] : "127.0.0.1", &host) != 1)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    said("wrapper", dlsym(RTLD_DEFAULT, "ivcsock_present") != NULL);
    a = bound(&at_a);
    b = bound(&at_b);
    wait_for_the_start();
    by_address();
    by_vector();
    connected();
    by_poll();
    by_epoll(0, "epoll, level");
    by_epoll(EPOLLET, "epoll, edge");
    by_epoll(EPOLLONESHOT, "epoll, once");
    descriptors();
    errors();
    threads_and_children();
    said("shutdown", shutdown(b, SHUT_RD));
    return 0;
}
