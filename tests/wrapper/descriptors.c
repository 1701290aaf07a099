/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways a descriptor of a socket lives and dies. Arguments: udp or tcp; own
 * address; address and port of a peer that echoes; the case. It connects, talks
 * as long as it is told "more", then does the case, and says what each step gave: natively and wrapped the
 * same lines.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM 300
#define HIGH 300 /* a number nothing else has */

extern char **environ;

static const char *protocol, *own;
static struct sockaddr_in peer;
static char **arguments;
static int fd;

static int stream(void)
{
    return strcmp(protocol, "tcp") == 0;
}

static void said(const char *step, long result)
{
    if (result < 0)
        printf("%s: %s\n", step, strerror(errno));
    else
        printf("%s: %ld\n", step, result);
    fflush(stdout);
}

/* Sent and echoed? */
static int exchange(int at)
{
    static int number;
    char out[64], in[64] = "";
    size_t n = (size_t)snprintf(out, sizeof(out), "message %d of %d", number++, (int)getpid());
    struct pollfd one = {.fd = at, .events = POLLIN};
    if (send(at, out, n, MSG_NOSIGNAL) != (ssize_t)n || poll(&one, 1, 4000) != 1)
        return -1;
    ssize_t got = recv(at, in, sizeof(in), 0);
    if (got < 0)
        return -1;
    errno = EPROTO;
    return got == (ssize_t)n && memcmp(in, out, n) == 0 ? 1 : -1;
}

static void talk(const char *step, int at)
{
    said(step, exchange(at));
}

static int connected(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int made = socket(AF_INET, stream() ? SOCK_STREAM : SOCK_DGRAM, 0);
    inet_pton(AF_INET, own, &here.sin_addr);
    if (bind(made, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        connect(made, (struct sockaddr *)&peer, sizeof(peer)) != 0) {
        perror("connect");
        exit(1);
    }
    return made;
}

static void talk_often(int at)
{
    for (int i = 0; i < WARM; i++) {
        if (exchange(at) != 1) {
            perror("warm");
            exit(1);
        }
        if (i % 10 == 0)
            usleep(1000);
    }
}

static int warm(void)
{
    int made = connected();
    talk_often(made);
    return made;
}

static void closed(const char *step, int at)
{
    char byte;
    said(step, recv(at, &byte, 1, MSG_DONTWAIT));
}

/* ---- copies ------------------------------------------------------------------- */

static void copy_of(int copy)
{
    talk("the copy", copy);
    talk("the original", fd);
    said("close", close(fd));
    closed("the original", fd);
    talk("the copy", copy);
    said("close", close(copy));
    closed("the copy", copy);
}

static void by_dup(void)
{
    copy_of(dup(fd));
}

static void by_dup2(void)
{
    said("over itself", dup2(fd, fd) == fd);
    talk("then", fd);
    said("nothing over itself", dup2(HIGH, HIGH));
    said("nothing over it", dup2(HIGH, fd));
    talk("then", fd);
    copy_of(dup2(fd, HIGH));
}

static void by_dup3(void)
{
    said("over itself", dup3(fd, fd, 0));
    int copy = dup3(fd, HIGH, O_CLOEXEC);
    said("close on exec", fcntl(copy, F_GETFD));
    copy_of(copy);
}

static void by_fcntl(void)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    said("close on exec", fcntl(copy, F_GETFD));
    talk("the first", copy);
    said("close", close(copy));
    copy_of(fcntl(fd, F_DUPFD, HIGH));
}

static void over_a_live_one(void)
{
    int other = warm();
    talk("the other", other);
    said("over it", dup2(fd, other) == other);
    talk("the copy", other);
    said("over it again", dup2(fd, other) == other);
    copy_of(other);
    other = warm();
    fd = warm();
    said("a file over it", dup2(0, other) == other);
    said("its kind", fcntl(other, F_GETFL) == fcntl(0, F_GETFL));
    talk("beside it", fd);
}

/* ---- deaths ---------------------------------------------------------------------- */

static void again(const char *step)
{
    fd = warm();
    talk(step, fd);
}

/* A pipe may get the number. */
static void reused(const char *step, int number)
{
    int ends[2];
    char byte = 'x';
    if (pipe2(ends, O_NONBLOCK) != 0)
        exit(1);
    said(step, ends[0] == number);
    said("an empty pipe", read(ends[0], &byte, 1));
    said("a byte into it", write(ends[1], &byte, 1));
    said("and out", read(ends[0], &byte, 1));
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    said("nothing there", poll(&one, 1, 0));
    close(ends[0]);
    close(ends[1]);
}

static void by_close(void)
{
    said("close", close(fd));
    closed("closed", fd);
    said("close", close(fd));
    reused("its number is a pipe's", fd);
    again("a new one");
}

static void by_fclose(void)
{
    char line[64];
    FILE *file = fdopen(fd, "r+");
    fputs("a line\n", file);
    fflush(file);
    fseek(file, 0, SEEK_CUR);
    said("line", fgets(line, sizeof(line), file) != NULL && strcmp(line, "a line\n") == 0);
    said("fclose", fclose(file));
    closed("closed", fd);
    reused("its number is a pipe's", fd);
    again("a new one");
}

static void by_close_range(void)
{
    int copy = dup2(fd, HIGH);
    said("marked", close_range(HIGH, HIGH + 5, CLOSE_RANGE_CLOEXEC));
    said("close on exec", fcntl(copy, F_GETFD));
    talk("the copy", copy);
    said("the copy closed", close_range(HIGH, HIGH + 5, 0));
    closed("the copy", copy);
    talk("the original", fd);
    said("all closed", close_range((unsigned)fd, ~0U, 0));
    closed("the original", fd);
    reused("its number is a pipe's", fd);
    again("a new one");
}

static void by_closefrom(void)
{
    dup2(fd, HIGH);
    closefrom(fd);
    closed("the copy", HIGH);
    closed("the original", fd);
    reused("its number is a pipe's", fd);
    again("a new one");
}

static void by_raw_close(void)
{
    said("close", syscall(SYS_close, fd));
    closed("closed", fd);
    reused("its number is a pipe's", fd);
    again("a new one");
    int before = fd;
    said("close", syscall(SYS_close, fd));
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    said("its number is a socket's", fd == before);
    said("not connected", send(fd, "x", 1, 0));
    again("a new one");
}

static void many_times(void)
{
    int good = 0, same = 1, number = fd;
    close(fd);
    for (int i = 0; i < 60; i++) {
        fd = connected();
        same = same && fd == number;
        good += exchange(fd) == 1;
        close(fd);
    }
    said("good", good);
    said("the same number", same);
    again("at last");
}

/* ---- other programs ----------------------------------------------------------------- */

static void become_another(int cloexec)
{
    char number[16], *told[9];
    snprintf(number, sizeof(number), "%d", fd);
    memcpy(told, arguments, 5 * sizeof(*told));
    told[5] = (char[]){"continue"};
    told[6] = number;
    told[7] = arguments[5];
    told[8] = NULL;
    fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0);
    execve("/proc/self/exe", told, environ);
    said("execve", -1);
}

static void by_exec(void)
{
    become_another(0);
}

static void by_exec_cloexec(void)
{
    become_another(1);
}

/* With an echo already on its way. */
static void by_exec_unread(void)
{
    said("sent", send(fd, "unread", 6, 0));
    usleep(50000);
    become_another(0);
}

static void after_exec(void)
{
    char in[64] = "";
    if (strcmp(arguments[7], "exec with an echo unread") == 0) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        said("there", poll(&one, 1, 2000));
        said("unread", recv(fd, in, sizeof(in), MSG_DONTWAIT));
        puts(in);
    }
    if (fcntl(fd, F_GETFD) >= 0)
        talk("after exec", fd);
    else
        said("after exec", -1);
    again("a new one");
}

static void await(const char *step, pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    said(step, WEXITSTATUS(status));
}

static void by_fork(void)
{
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(exchange(fd) == 1 ? 7 : 8);
        await("the child", child);
        talk("the parent", fd);
    }
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        again("a new one of the child's");
        _exit(7);
    }
    await("the child", child);
    talk("the parent", fd);
    again("a new one");
}

/* The echo of what the parent has sent comes while there are two. */
static void by_fork_unread(void)
{
    char in[64] = "";
    said("sent", send(fd, "unread", 6, 0));
    usleep(50000);
    pid_t child = fork();
    if (child == 0)
        _exit((int)recv(fd, in, sizeof(in), 0));
    await("the child has read", child);
    talk("the parent", fd);
}

static void by_vfork(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = vfork();
        if (child == 0) {
            close(fd);
            dup2(0, HIGH);
            execl("/bin/true", "true", NULL);
            _exit(9);
        }
        int status;
        waitpid(child, &status, 0);
        if (status != 0 || exchange(fd) != 1)
            said("vfork", i);
    }
    talk("after vforks", fd);
}

static void by_spawn(void)
{
    posix_spawn_file_actions_t actions;
    char *told[] = {(char[]){"true"}, NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, HIGH);
    posix_spawn_file_actions_addclose(&actions, fd);
    for (int i = 0; i < 20; i++) {
        pid_t child;
        int status = -1;
        if (posix_spawn(&child, "/bin/true", &actions, NULL, told, environ) != 0)
            said("posix_spawn", -1);
        waitpid(child, &status, 0);
        if (status != 0 || exchange(fd) != 1)
            said("posix_spawn", i);
    }
    posix_spawn_file_actions_destroy(&actions);
    said("system", system("exit 3") >> 8);
    talk("after spawns", fd);
}

static void pass(int over, int what)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {(char[]){"x"}, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
                         .msg_controllen = sizeof(room)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &what, sizeof(int));
    if (sendmsg(over, &msg, 0) != 1)
        perror("sendmsg");
}

static int passed(int over)
{
    char room[CMSG_SPACE(sizeof(int))], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
                         .msg_controllen = sizeof(room)};
    int got = -1;
    if (recvmsg(over, &msg, 0) == 1 && msg.msg_controllen)
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    return got;
}

/* Before the connection is made there is a child, which gets it. */
static void scm_out(void)
{
    int over[2], back[2];
    char in[64] = "", answer;
    socketpair(AF_UNIX, SOCK_STREAM, 0, over);
    socketpair(AF_UNIX, SOCK_STREAM, 0, back);
    pid_t child = fork();
    if (child == 0) {
        int got = passed(over[1]);
        answer = recv(got, in, sizeof(in), 0) == 6 && strcmp(in, "unread") == 0 ? 'y' : 'n';
        (void)!write(back[1], &answer, 1);
        (void)passed(over[1]);
        _exit(exchange(got) == 1 ? 7 : 8);
    }
    close(fd);
    fd = warm();
    said("sent", send(fd, "unread", 6, 0));
    usleep(50000);
    pass(over[0], fd);
    said("answer", read(back[0], &answer, 1));
    said("the child got what was unread", answer == 'y');
    talk("the parent", fd);
    pass(over[0], 0);
    await("the child", child);
    talk("the parent", fd);
    again("a new one");
}

static void scm_in(void)
{
    int over[2];
    char byte = 'x';
    socketpair(AF_UNIX, SOCK_STREAM, 0, over);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        fd = warm();
        pass(over[1], fd);
        (void)!read(over[1], &byte, 1);
        _exit(exchange(fd) == 1 ? 7 : 8);
    }
    int got = passed(over[0]);
    talk("the one passed", got);
    said("go on", write(over[0], &byte, 1));
    await("the child", child);
    talk("the one passed", got);
    close(got);
    talk("the own one", fd);
}

/* ---- threads and handlers ------------------------------------------------------------- */

static int epfd;

static void *waits_in_epoll(void *unused)
{
    struct epoll_event event = {0};
    (void)unused;
    int n = epoll_wait(epfd, &event, 1, 4000);
    return (void *)(long)(n == 1 ? event.data.u32 : 0);
}

static void closed_under_epoll_wait(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 1};
    pthread_t thread;
    void *told;
    epfd = epoll_create1(0);
    said("add", epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
    pthread_create(&thread, NULL, waits_in_epoll, NULL);
    usleep(50000);
    said("close", close(fd));
    fd = warm();
    event.data.u32 = 2;
    said("add", epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
    said("sent", send(fd, "wakes", 5, 0));
    pthread_join(thread, &told);
    said("told of", (long)told);
    char in[64];
    said("received", recv(fd, in, sizeof(in), 0));
}

static void *waits_in_recv(void *at)
{
    char in[64];
    (void)recv(*(int *)at, in, sizeof(in), 0);
    return NULL;
}

/* Whether the sleeper sleeps on is its own affair. */
static void closed_under_recv(void)
{
    pthread_t thread;
    int before = fd;
    pthread_create(&thread, NULL, waits_in_recv, &before);
    usleep(50000);
    said("close", close(fd));
    fd = warm();
    said("the same number", fd == before);
    talk("the new one", fd);
    pthread_detach(thread);
}

static int other = -1;
static volatile sig_atomic_t handled;

/* Everything a handler may do, whatever it interrupts. */
static void on_alarm(int sig)
{
    char in[64];
    int saved = errno;
    struct sockaddr_in here = {.sin_family = AF_INET};
    (void)sig;
    handled++;
    inet_pton(AF_INET, own, &here.sin_addr);
    (void)send(other, "handler", 7, MSG_DONTWAIT);
    (void)recv(other, in, sizeof(in), MSG_DONTWAIT);
    (void)recv(fd, in, sizeof(in), MSG_DONTWAIT | MSG_PEEK);
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    (void)bind(made, (struct sockaddr *)&here, sizeof(here));
    int copy = dup(fd);
    close(made);
    close(copy);
    errno = saved;
}

static void in_handlers(void)
{
    const struct itimerval often = {.it_value.tv_usec = 100, .it_interval.tv_usec = 331}, never = {0};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    int good = 0;
    other = warm();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 2000 || handled < 1000; i++) {
        char out[64], in[64];
        int n = snprintf(out, sizeof(out), "number %d", i);
        ssize_t put = send(fd, out, (size_t)n, 0);
        ssize_t got = put == n ? recv(fd, in, sizeof(in), 0) : -1;
        good += got == n && memcmp(in, out, (size_t)n) == 0;
        if (got != n)
            said("went wrong", put < 0 || got < 0 ? -1 : i);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    said("good", good >= 2000);
    talk("then", fd);
}

/* One handler closes what main receives from. */
static void on_close(int sig)
{
    (void)sig;
    close(fd);
}

static void closed_by_a_handler(void)
{
    struct sigaction action = {.sa_handler = on_close};
    const struct itimerval soon = {.it_value.tv_usec = 20000};
    char in[64];
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    said("received", recv(fd, in, sizeof(in), 0));
    closed("closed", fd);
    again("a new one");
}

/* ---- calls ------------------------------------------------------------------------------ */

/* All that was echoed of `most` bytes, however it came. */
static void drained(const char *step, long most)
{
    char in[64];
    long got = 0;
    struct pollfd one = {.fd = fd, .events = POLLIN};
    while (got < most && poll(&one, 1, 2000) == 1)
        got += recv(fd, in, sizeof(in), 0);
    said(step, got);
}

static void many_messages(void)
{
    char in[3][64] = {""};
    struct iovec out_iov[3] = {{(char[]){"one"}, 3}, {(char[]){"two"}, 3}, {(char[]){"three"}, 5}};
    struct iovec in_iov[3];
    struct mmsghdr out[3] = {0}, into[3] = {0};
    for (int i = 0; i < 3; i++) {
        in_iov[i] = (struct iovec){in[i], i < 2 ? 3 : 5};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_iov[i], .msg_iovlen = 1};
        into[i].msg_hdr = (struct msghdr){.msg_iov = &in_iov[i], .msg_iovlen = 1};
    }
    said("sendmmsg", sendmmsg(fd, out, 3, 0));
    usleep(50000);
    said("recvmmsg", recvmmsg(fd, into, 3, MSG_WAITALL, NULL));
    printf("%s %s %s, %u %u %u\n", in[0], in[1], in[2], into[0].msg_len, into[1].msg_len,
           into[2].msg_len);
    struct timespec none = {0};
    said("nothing there", recvmmsg(fd, into, 3, MSG_DONTWAIT, &none));
    said("sendmmsg", sendmmsg(fd, out, 1, 0));
    said("recvmmsg", recvmmsg(fd, into, 3, MSG_WAITFORONE, NULL));
    said("its length", into[0].msg_len);
    said("none", sendmmsg(fd, out, 0, 0));
}

static void vectors(void)
{
    char a[4] = "", b[60] = "";
    struct iovec out[3] = {{(char[]){"ab"}, 2}, {NULL, 0}, {(char[]){"cdef"}, 4}};
    struct iovec in[2] = {{a, 3}, {b, sizeof(b)}};
    said("writev", writev(fd, out, 3));
    usleep(50000);
    said("readv", readv(fd, in, 2));
    printf("%s %s\n", a, b);
    volatile int most = 100000, least = -1;
    said("too few", writev(fd, out, least));
    said("too many", readv(fd, in, most));
    said("too many", writev(fd, out, most));
    struct msghdr msg = {.msg_iov = out, .msg_iovlen = (size_t)most};
    said("too many", sendmsg(fd, &msg, 0));
    said("too many", recvmsg(fd, &msg, 0));
    said("none", writev(fd, out, 0));
    talk("then", fd);
}

static void on_usr1(int sig)
{
    printf("handler of %d\n", sig);
}

static void masked_waits(void)
{
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    struct pollfd one = {.fd = fd, .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t usr1, none;
    fd_set set;
    const struct timespec now = {0}, soon = {.tv_nsec = 30000000}, wrong = {.tv_nsec = -1};
    int at = epoll_create1(0);
    epoll_ctl(at, EPOLL_CTL_ADD, fd, &event);
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    FD_ZERO(&set);
    for (int there = 0; there < 2; there++) {
        if (there) {
            said("sent", send(fd, "there", 5, 0));
            drained("nothing yet", 0);
            usleep(50000);
        }
        FD_SET(fd, &set);
        said("pselect", pselect(fd + 1, &set, NULL, NULL, &soon, &none));
        said("its bit", FD_ISSET(fd, &set) != 0);
        said("ppoll", ppoll(&one, 1, &soon, &none));
        said("epoll_pwait", epoll_pwait(at, &event, 1, 30, &none));
        said("epoll_pwait2", epoll_pwait2(at, &event, 1, &soon, &none));
        said("at once", ppoll(&one, 1, &now, &none));
        said("at once", epoll_pwait2(at, &event, 1, &now, NULL));
        said("impossible", ppoll(&one, 1, &wrong, &none));
        said("impossible", epoll_pwait2(at, &event, 1, &wrong, &none));
    }
    drained("drained", 5);
    raise(SIGUSR1);
    said("pselect", pselect(fd + 1, &set, NULL, NULL, NULL, &none));
    raise(SIGUSR1);
    said("ppoll", ppoll(&one, 1, NULL, &none));
    raise(SIGUSR1);
    said("epoll_pwait", epoll_pwait(at, &event, 1, -1, &none));
    raise(SIGUSR1);
    said("epoll_pwait2", epoll_pwait2(at, &event, 1, NULL, &none));
    raise(SIGUSR1);
    said("still blocked", ppoll(&one, 1, &soon, &usr1));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    talk("then", fd);
}

static void nested_sets(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5}, got = {0};
    int inner = epoll_create1(0), outer = epoll_create1(0), second = epoll_create1(0);
    epoll_ctl(inner, EPOLL_CTL_ADD, fd, &event);
    epoll_ctl(second, EPOLL_CTL_ADD, fd, &event);
    event.data.u32 = 6;
    said("nested", epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event));
    said("nothing", epoll_wait(outer, &got, 1, 20));
    said("sent", send(fd, "there", 5, 0));
    said("outer", epoll_wait(outer, &got, 1, 2000));
    said("its data", got.data.u32);
    said("inner", epoll_wait(inner, &got, 1, 2000));
    said("its data", got.data.u32);
    said("the second", epoll_wait(second, &got, 1, 2000));
    struct pollfd one = {.fd = inner, .events = POLLIN};
    said("polled", poll(&one, 1, 2000));
    drained("drained", 5);
    said("outer", epoll_wait(outer, &got, 1, 20));
    said("polled", poll(&one, 1, 20));
    talk("then", fd);
}

static void several_sets(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5}, got = {0};
    int level = epoll_create1(0), edge = epoll_create1(0), once = epoll_create1(0);
    epoll_ctl(level, EPOLL_CTL_ADD, fd, &event);
    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(edge, EPOLL_CTL_ADD, fd, &event);
    event.events = EPOLLIN | EPOLLONESHOT;
    epoll_ctl(once, EPOLL_CTL_ADD, fd, &event);
    for (int round = 0; round < 2; round++) {
        said("sent", send(fd, "there", 5, 0));
        said("level", epoll_wait(level, &got, 1, 2000));
        said("level", epoll_wait(level, &got, 1, 2000));
        said("edge", epoll_wait(edge, &got, 1, 2000));
        said("edge", epoll_wait(edge, &got, 1, 20));
        said("once", epoll_wait(once, &got, 1, round ? 20 : 2000));
        said("once", epoll_wait(once, &got, 1, 20));
        drained("drained", 5);
        said("level", epoll_wait(level, &got, 1, 20));
    }
}

/* Built with _FORTIFY_SOURCE: a length the compiler does not know, a buffer it does. */
static void fortified(void)
{
    char in[64];
    struct pollfd one[4] = {{.fd = fd, .events = POLLIN}};
    volatile size_t length = sizeof(in);
    volatile nfds_t count = 1;
    const struct timespec second = {.tv_sec = 2};
    said("sent", send(fd, "there", 5, 0));
    said("poll", poll(one, count, 2000));
    said("recv", recv(fd, in, length, 0));
    said("sent", send(fd, "there", 5, 0));
    said("ppoll", ppoll(one, count, &second, NULL));
    said("recvfrom", recvfrom(fd, in, length, 0, NULL, NULL));
    said("sent", send(fd, "there", 5, 0));
    said("ppoll", ppoll(one, count, &second, NULL));
    said("read", read(fd, in, length));
}

static void only_talks(void)
{
    for (int i = 0; i < 500; i++)
        if (exchange(fd) != 1)
            said("talk", -1);
    void *room = malloc(1 << 20);
    free(room);
    talk("at last", fd);
}

static const struct {
    const char *name;
    void (*act)(void);
} CASES[] = {
    {"dup", by_dup},
    {"dup2", by_dup2},
    {"dup3", by_dup3},
    {"fcntl", by_fcntl},
    {"dup2 over a live one", over_a_live_one},
    {"close", by_close},
    {"fclose", by_fclose},
    {"close_range", by_close_range},
    {"closefrom", by_closefrom},
    {"raw close", by_raw_close},
    {"reused at once", many_times},
    {"exec", by_exec},
    {"exec with CLOEXEC", by_exec_cloexec},
    {"exec with an echo unread", by_exec_unread},
    {"fork", by_fork},
    {"fork with an echo unread", by_fork_unread},
    {"vfork", by_vfork},
    {"posix_spawn", by_spawn},
    {"SCM_RIGHTS out", scm_out},
    {"SCM_RIGHTS in", scm_in},
    {"closed under epoll_wait", closed_under_epoll_wait},
    {"closed under recv", closed_under_recv},
    {"handlers", in_handlers},
    {"closed by a handler", closed_by_a_handler},
    {"mmsg", many_messages},
    {"vectors", vectors},
    {"masked waits", masked_waits},
    {"nested sets", nested_sets},
    {"several sets", several_sets},
    {"fortified", fortified},
    {"talk", only_talks},
};

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    arguments = argv;
    protocol = argv[1];
    own = argv[2];
    peer.sin_family = AF_INET;
    inet_pton(AF_INET, argv[3], &peer.sin_addr);
    peer.sin_port = htons((unsigned short)atoi(argv[4]));
    if (strcmp(argv[5], "continue") == 0) {
        fd = atoi(argv[6]);
        after_exec();
        return 0;
    }
    fd = connected();
    char line[16] = "more\n";
    while (strcmp(line, "more\n") == 0) {
        talk_often(fd);
        puts("warm");
        fflush(stdout);
        if (!fgets(line, sizeof(line), stdin))
            return 2;
    }
    for (size_t i = 0; i < sizeof(CASES) / sizeof(*CASES); i++)
        if (strcmp(CASES[i].name, argv[5]) == 0)
            CASES[i].act();
    return 0;
}
