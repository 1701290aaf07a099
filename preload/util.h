/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small tools that work inside any host process at any time: no malloc, no
 * stdio, no errno left behind. System calls on our own descriptors go straight
 * to the kernel, so that we never meet our own hooks.
 */
#ifndef IVC_UTIL_H
#define IVC_UTIL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../core/clock.h"
#include "real.h"

#define IVC_NS_PER_US UINT64_C(1000)
#define IVC_NS_PER_MS UINT64_C(1000000)
#define IVC_NS_PER_S UINT64_C(1000000000)

/* Monotonic clock in nanoseconds (vdso, no system call). */
static inline uint64_t ivc_now(void)
{
    return ivc_clock_ns();
}

/*
 * The same for what paces looks at the kernel: a tick late does no harm there, but
 * in a guest whose vdso has no clock every exact time costs a system call.
 */
extern clockid_t ivc_pace_clock;
static inline uint64_t ivc_pace(void)
{
    return ivc_time_of(ivc_pace_clock);
}

/* A caller's timeout in nanoseconds, UINT64_MAX = for ever. False where the kernel says EINVAL. */
static inline bool ivc_timeout(const struct timespec *ts, uint64_t *ns)
{
    *ns = UINT64_MAX;
    if (!ts)
        return true;
    if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= (long)IVC_NS_PER_S)
        return false;
    /* Some say "for ever" with the largest number there is. */
    if ((uint64_t)ts->tv_sec < UINT64_MAX / IVC_NS_PER_S)
        *ns = (uint64_t)ts->tv_sec * IVC_NS_PER_S + (uint64_t)ts->tv_nsec;
    return true;
}

/* How long a call may wait, in ns (0 = not, UINT64_MAX = for ever), and when that ends; 0 = nobody
 * has asked yet. What is there at once is given out without a look at the clock. */
struct ivc_limit {
    uint64_t timeout, end;
};

static inline uint64_t ivc_limit_end(struct ivc_limit *limit, uint64_t now)
{
    if (limit->end == 0)
        limit->end = limit->timeout < UINT64_MAX - now ? now + limit->timeout : UINT64_MAX;
    return limit->end;
}

static inline void ivc_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/*
 * Raw system call, -errno on failure, errno untouched. Also for what is young in
 * glibc, or has a new symbol version there (stat, fstat: 2.33): the library runs
 * with 2.31, wherever it was built.
 */
#define ivc_sys(...) ivc_sys_result(errno, real(syscall)(__VA_ARGS__))
static inline long ivc_sys_result(int saved, long result)
{
    if (result < 0) {
        result = -errno;
        errno = saved;
    }
    return result;
}

/*
 * Lock that knows its owner: a signal handler that comes in while its own
 * thread holds it is told so (false) instead of dead-locking.
 */
struct ivc_lock {
    _Atomic uint32_t word; /* 0 free, tid, tid | WAITERS */
};

#define IVC_LOCK_WAITERS UINT32_C(0x80000000)

bool ivc_lock_slow(struct ivc_lock *lock);
void ivc_lock_wake(struct ivc_lock *lock);
bool ivc_lock_mine(struct ivc_lock *lock); /* held by the code this handler has interrupted */

/* Thread id, cached; 0: not asked for yet, or in a new child. */
extern __thread uint32_t ivc_tid_known __attribute__((tls_model("initial-exec")));
uint32_t ivc_tid_ask(void);

static inline uint32_t ivc_tid(void)
{
    return __builtin_expect(ivc_tid_known != 0, 1) ? ivc_tid_known : ivc_tid_ask();
}

static inline bool ivc_trylock(struct ivc_lock *lock)
{
    uint32_t expected = 0;
    /* acquire: pairs with the release in ivc_unlock */
    return atomic_compare_exchange_strong_explicit(&lock->word, &expected, ivc_tid(),
                                                   memory_order_acquire, memory_order_relaxed);
}

static inline bool ivc_lock(struct ivc_lock *lock)
{
    return __builtin_expect(ivc_trylock(lock), 1) || ivc_lock_slow(lock);
}

static inline void ivc_unlock(struct ivc_lock *lock)
{
    /* release: what was done under the lock is seen by the next owner */
    uint32_t old = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
    if (__builtin_expect((old & IVC_LOCK_WAITERS) != 0, 0))
        ivc_lock_wake(lock);
}

/*
 * Type-stable records: memory of a slab never goes back and never becomes
 * another type, so that a thread holding a stale pointer still finds a lock
 * and a liveness word where it expects them.
 */
struct ivc_slab {
    struct ivc_lock lock;
    size_t size;
    size_t keep; /* first bytes of a record (link, locks) survive re-use */
    void *free;
    uint8_t *chunk;
    size_t chunk_left;
};

void *ivc_slab_get(struct ivc_slab *slab); /* zeroed behind `keep`, or NULL */
void ivc_slab_put(struct ivc_slab *slab, void *record);
void ivc_slab_after_fork(struct ivc_slab *slab); /* its owner may be gone */

/* 64-bit hash of a datagram given as two pieces (a ring may wrap). */
uint64_t ivc_hash(const void *a, size_t alen, const void *b, size_t blen);

#endif
