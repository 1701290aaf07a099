/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signal handlers as programs install and inspect them. It says what each call
 * gave, one line a step: with and without the wrapper the lines must be equal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* siginterrupt */

static sigjmp_buf out;

static void plain(int sig)
{
    printf("plain handler of %d\n", sig);
}

static void other(int sig)
{
    printf("other handler of %d\n", sig);
}

static void with_info(int sig, siginfo_t *info, void *context)
{
    printf("informed handler of %d: value %d, context %d\n", sig, info->si_value.sival_int,
           context != NULL);
}

static void jumps(int sig)
{
    siglongjmp(out, sig);
}

static const char *name(sighandler_t handler)
{
    return handler == SIG_DFL   ? "default"
           : handler == SIG_IGN ? "ignored"
           : handler == plain   ? "plain"
           : handler == other   ? "other"
           : handler == jumps   ? "jumps"
                                : "something else";
}

static void show(const char *step, int sig)
{
    struct sigaction now;
    if (sigaction(sig, NULL, &now) != 0)
        printf("%s failed: %s\n", step, strerror(errno));
    else if (now.sa_flags & SA_SIGINFO)
        printf("%s: informed %d, flags %x\n", step, now.sa_sigaction == with_info,
               (unsigned)now.sa_flags);
    else
        printf("%s: %s, flags %x, blocks itself %d, blocks INT %d\n", step, name(now.sa_handler),
               (unsigned)now.sa_flags, sigismember(&now.sa_mask, sig),
               sigismember(&now.sa_mask, SIGINT));
}

static void by_sigaction(void)
{
    struct sigaction action = {.sa_handler = plain, .sa_flags = SA_RESTART}, old;
    sigaddset(&action.sa_mask, SIGINT);
    show("at first", SIGUSR1);
    printf("install %d\n", sigaction(SIGUSR1, &action, &old));
    printf("before it was %s\n", name(old.sa_handler));
    show("installed", SIGUSR1);
    raise(SIGUSR1);
    action.sa_handler = other;
    action.sa_flags = (int)SA_RESETHAND;
    printf("replace %d\n", sigaction(SIGUSR1, &action, &old));
    printf("before it was %s, flags %x\n", name(old.sa_handler), (unsigned)old.sa_flags);
    raise(SIGUSR1);
    show("fired once", SIGUSR1);
    action = (struct sigaction){.sa_sigaction = with_info, .sa_flags = SA_SIGINFO};
    printf("informed %d\n", sigaction(SIGUSR1, &action, NULL));
    show("informed", SIGUSR1);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42});
    printf("put back %d\n", sigaction(SIGUSR1, &old, &action));
    printf("before it was informed %d\n", action.sa_sigaction == with_info);
    raise(SIGUSR1);
    show("put back", SIGUSR1);
}

static void by_signal(void)
{
    printf("signal: %s\n", name(signal(SIGUSR2, plain)));
    show("by signal", SIGUSR2);
    printf("siginterrupt %d\n", siginterrupt(SIGUSR2, 1));
    show("interrupting", SIGUSR2);
    printf("signal: %s\n", name(signal(SIGUSR2, other)));
    show("signal remembers", SIGUSR2);
    printf("siginterrupt %d\n", siginterrupt(SIGUSR2, 0));
    show("restarting", SIGUSR2);
    raise(SIGUSR2);
    printf("ignore: %s\n", name(signal(SIGUSR2, SIG_IGN)));
    raise(SIGUSR2);
    printf("default: %s\n", name(signal(SIGUSR2, SIG_DFL)));
    show("default", SIGUSR2);
}

static void impossible(void)
{
    struct sigaction action = {.sa_handler = plain};
    static const int SIGNALS[] = {SIGKILL, SIGSTOP, 0, -1, 65, 1000};
    for (size_t i = 0; i < sizeof(SIGNALS) / sizeof(*SIGNALS); i++) {
        printf("%d: %d ", SIGNALS[i], sigaction(SIGNALS[i], &action, NULL));
        printf("%s, ", strerror(errno));
        printf("%d %s\n", signal(SIGNALS[i], plain) == SIG_ERR, strerror(errno));
    }
    show("kill", SIGKILL);
}

static void in_children(void)
{
    signal(SIGUSR1, jumps);
    if (sigsetjmp(out, 1) == 0)
        raise(SIGUSR1);
    else
        puts("jumped out");
    signal(SIGUSR1, plain);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        show("in the child", SIGUSR1);
        raise(SIGUSR1);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    child = vfork();
    if (child == 0) {
        signal(SIGUSR1, other);
        signal(SIGUSR1, SIG_DFL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    show("after a vfork", SIGUSR1);
    raise(SIGUSR1);
    printf("system %d\n", system("exit 3") >> 8);
    show("after system", SIGUSR1);
}

int main(void)
{
    by_sigaction();
    by_signal();
    impossible();
    in_children();
    return 0;
}
