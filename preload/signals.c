/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "signals.h"

#include <stdatomic.h>
#include <string.h>

#include "real.h"
#include "util.h"

#define KERNEL_SIGSET_SIZE 8u
#define SIGNALS 65

__thread volatile struct signal_mark ivc_signals __attribute__((tls_model("initial-exec")));

/* What the application has asked for; the kernel has on_signal() in its place. */
static struct {
    _Atomic(sighandler_t) handler;
    _Atomic int flags;
} asked[SIGNALS];

static _Atomic uint64_t interrupting; /* siginterrupt(): signal() leaves SA_RESTART out */
static _Atomic bool counting;         /* some handler has us before it */

static void on_signal(int sig, siginfo_t *info, void *context)
{
    sighandler_t address = atomic_load_explicit(&asked[sig].handler, memory_order_acquire);
    void (*handler)(int, siginfo_t *, void *);
    ivc_signals.all++;
    if (!(atomic_load_explicit(&asked[sig].flags, memory_order_relaxed) & SA_RESTART))
        ivc_signals.ending++;
    memcpy(&handler, &address, sizeof(handler));
    handler(sig, info, context); /* one that takes the number alone does not mind more */
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_signal;
}

static bool has_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN && !is_ours(action);
}

static void mask_all(sigset_t *before)
{
    sigset_t all;
    memset(&all, 0xff, sizeof(all));
    (void)ivc_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, KERNEL_SIGSET_SIZE);
}

static void set_mask(const sigset_t *mask)
{
    (void)ivc_sys(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, KERNEL_SIGSET_SIZE);
}

static void ask(int sig, sighandler_t handler, int flags)
{
    atomic_store_explicit(&asked[sig].flags, flags, memory_order_relaxed);
    /* release: who finds the handler finds its flags */
    atomic_store_explicit(&asked[sig].handler, handler, memory_order_release);
}

/* With the count before the handler. All signals are blocked: in this thread the old handler
 * does not run by the new one's rules. */
static int install(int sig, const struct sigaction *action, struct sigaction *old)
{
    sighandler_t handler = atomic_load(&asked[sig].handler);
    int flags = atomic_load(&asked[sig].flags);
    struct sigaction counted = *action;
    ask(sig, action->sa_handler, action->sa_flags);
    counted.sa_sigaction = on_signal;
    counted.sa_flags |= SA_SIGINFO;
    int r = real(sigaction)(sig, &counted, old);
    if (r != 0)
        ask(sig, handler, flags);
    else
        atomic_store_explicit(&counting, true, memory_order_relaxed);
    return r;
}

int signals_action(int sig, const struct sigaction *action, struct sigaction *old, bool count)
{
    struct sigaction before = {0};
    sigset_t mask;
    if (sig <= 0 || sig >= SIGNALS)
        return real(sigaction)(sig, action, old);
    mask_all(&mask);
    sighandler_t handler = atomic_load(&asked[sig].handler);
    int flags = atomic_load(&asked[sig].flags);
    int r = count && action && has_handler(action) ? install(sig, action, &before)
                                                   : real(sigaction)(sig, action, &before);
    set_mask(&mask);
    if (r == 0 && old) {
        /* SA_RESETHAND: the kernel has put SIG_DFL in our place and left our flags. */
        bool fired = before.sa_handler == SIG_DFL && (flags & (int)SA_RESETHAND);
        *old = before;
        if (is_ours(&before))
            old->sa_handler = handler;
        if (is_ours(&before) || fired)
            old->sa_flags = (before.sa_flags & ~SA_SIGINFO) | (flags & SA_SIGINFO);
    }
    return r;
}

sighandler_t signals_signal(int sig, sighandler_t handler, bool count)
{
    struct sigaction action = {.sa_handler = handler}, old;
    if (handler == SIG_ERR || sig <= 0 || sig >= SIGNALS) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (!(atomic_load(&interrupting) >> (sig - 1) & 1))
        action.sa_flags = SA_RESTART;
    (void)sigaddset(&action.sa_mask, sig);
    return signals_action(sig, &action, &old, count) == 0 ? old.sa_handler : SIG_ERR;
}

int signals_interrupt(int sig, int flag)
{
    struct sigaction action;
    int r = signals_action(sig, NULL, &action, true);
    if (r != 0)
        return r;
    uint64_t bit = UINT64_C(1) << (sig - 1);
    if (flag) {
        atomic_fetch_or(&interrupting, bit);
        action.sa_flags &= ~SA_RESTART;
    } else {
        atomic_fetch_and(&interrupting, ~bit);
        action.sa_flags |= SA_RESTART;
    }
    return signals_action(sig, &action, NULL, true);
}

/* ---- waiting ------------------------------------------------------------------ */

/* Handlers we do not count have run: every handler installed must have asked for it. */
static bool all_restart(void)
{
    for (int sig = 1; sig < SIGNALS; sig++) {
        struct sigaction sa;
        if (real(sigaction)(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL &&
            sa.sa_handler != SIG_IGN && !(sa.sa_flags & SA_RESTART))
            return false;
    }
    return true;
}

bool signals_restart(struct signal_mark mark)
{
    return signals_since(mark) ? !signals_ended_since(mark) : all_restart();
}

const sigset_t *signals_hold(struct signal_hold *hold, const sigset_t *mask)
{
    hold->held = atomic_load_explicit(&counting, memory_order_relaxed);
    if (!hold->held)
        return mask;
    memset(&hold->before, 0, sizeof(hold->before));
    mask_all(&hold->before);
    return mask ? mask : &hold->before;
}

void signals_release(struct signal_hold *hold)
{
    if (hold->held)
        set_mask(&hold->before);
}

void signals_swap(const sigset_t *mask, sigset_t *before)
{
    (void)ivc_sys(SYS_rt_sigprocmask, SIG_SETMASK, mask, before, KERNEL_SIGSET_SIZE);
}
