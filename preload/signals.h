/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which signal handlers have run in this thread: a call that spins, or is about to
 * sleep, ends by one as the kernel's would. Handlers are installed with a function
 * of ours before them that counts. What is installed past libc's sigaction() and
 * signal() is not counted.
 */
#ifndef IVC_SIGNALS_H
#define IVC_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Handlers run so far, and those among them without SA_RESTART. */
struct signal_mark {
    uint32_t all, ending;
};

extern __thread volatile struct signal_mark ivc_signals __attribute__((tls_model("initial-exec")));

static inline struct signal_mark signals_mark(void)
{
    return (struct signal_mark){ivc_signals.all, ivc_signals.ending};
}

/* Has one run since? For calls that end by any: poll, and whatever has a timeout. */
static inline bool signals_since(struct signal_mark mark)
{
    return ivc_signals.all != mark.all;
}

/* Has one run that does not ask for calls to be restarted? */
static inline bool signals_ended_since(struct signal_mark mark)
{
    return ivc_signals.ending != mark.ending;
}

/* The call behind us has said EINTR. True: no handler that has run since wants the call to end. */
bool signals_restart(struct signal_mark mark);

/*
 * Around a sleep: handlers run only inside the system call that is given the result as its mask,
 * so that none runs between a last look at the marks and the sleep. NULL: nothing to hold.
 */
struct signal_hold {
    sigset_t before;
    bool held;
};

const sigset_t *signals_hold(struct signal_hold *hold, const sigset_t *mask);
void signals_release(struct signal_hold *hold);

/* The mask an application has given to its wait also counts while we spin for it. */
void signals_swap(const sigset_t *mask, sigset_t *before);

/* libc's functions. `count` is false in a vfork child, whose handlers are not for our memory. */
int signals_action(int sig, const struct sigaction *action, struct sigaction *old, bool count);
sighandler_t signals_signal(int sig, sighandler_t handler, bool count);
int signals_interrupt(int sig, int flag);

#endif
