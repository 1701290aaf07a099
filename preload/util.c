/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "util.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>

clockid_t ivc_pace_clock = CLOCK_MONOTONIC;

#define LOCK_SPINS 100

__thread uint32_t ivc_tid_known __attribute__((tls_model("initial-exec")));

uint32_t ivc_tid_ask(void)
{
    return ivc_tid_known = (uint32_t)ivc_sys(SYS_gettid);
}

static void lock_sleep(struct ivc_lock *lock, uint32_t seen)
{
    if (!(seen & IVC_LOCK_WAITERS) &&
        !atomic_compare_exchange_strong_explicit(&lock->word, &seen, seen | IVC_LOCK_WAITERS,
                                                 memory_order_relaxed, memory_order_relaxed))
        return;
    (void)ivc_sys(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, seen | IVC_LOCK_WAITERS, NULL, NULL, 0);
}

bool ivc_lock_slow(struct ivc_lock *lock)
{
    uint32_t tid = ivc_tid();
    uint32_t mine = tid;
    for (unsigned spins = 0;;) {
        uint32_t seen = atomic_load_explicit(&lock->word, memory_order_relaxed);
        if ((seen & ~IVC_LOCK_WAITERS) == tid)
            return false;
        if (seen == 0) {
            if (atomic_compare_exchange_weak_explicit(&lock->word, &seen, mine,
                                                      memory_order_acquire, memory_order_relaxed))
                return true;
            continue;
        }
        if (spins++ < LOCK_SPINS) {
            ivc_pause();
            continue;
        }
        lock_sleep(lock, seen);
        mine = tid | IVC_LOCK_WAITERS; /* others may sleep still: wake them when we leave */
    }
}

bool ivc_lock_mine(struct ivc_lock *lock)
{
    return (atomic_load_explicit(&lock->word, memory_order_relaxed) & ~IVC_LOCK_WAITERS) == ivc_tid();
}

void ivc_lock_wake(struct ivc_lock *lock)
{
    (void)ivc_sys(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#define SLAB_CHUNK ((size_t)256 * 1024)

static void *slab_carve(struct ivc_slab *slab)
{
    size_t size = (slab->size + 63) & ~(size_t)63;
    if (slab->chunk_left < size) {
        void *chunk = mmap(NULL, SLAB_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
        if (chunk == MAP_FAILED)
            return NULL;
        slab->chunk = chunk;
        slab->chunk_left = SLAB_CHUNK;
    }
    void *record = slab->chunk;
    slab->chunk += size;
    slab->chunk_left -= size;
    return record;
}

void *ivc_slab_get(struct ivc_slab *slab)
{
    int saved = errno;
    if (!ivc_lock(&slab->lock))
        return NULL;
    void *record = slab->free;
    if (record) {
        memcpy(&slab->free, record, sizeof(void *));
        memset((uint8_t *)record + slab->keep, 0, slab->size - slab->keep);
    } else {
        record = slab_carve(slab);
    }
    ivc_unlock(&slab->lock);
    errno = saved;
    return record;
}

void ivc_slab_put(struct ivc_slab *slab, void *record)
{
    if (!ivc_lock(&slab->lock))
        return; /* leaks one record; better than a dead-lock in a signal handler */
    memcpy(record, &slab->free, sizeof(void *));
    slab->free = record;
    ivc_unlock(&slab->lock);
}

void ivc_slab_after_fork(struct ivc_slab *slab)
{
    atomic_store(&slab->lock.word, 0);
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h ^= word * UINT64_C(0x9e3779b97f4a7c15);
    h = (h << 27) | (h >> 37);
    return h * UINT64_C(0xbf58476d1ce4e5b9) + 1;
}

/* Byte order of pieces must not matter, so a word may span the seam. */
uint64_t ivc_hash(const void *a, size_t alen, const void *b, size_t blen)
{
    const uint8_t *pa = a, *pb = b;
    uint64_t h = mix(0, alen + blen);
    while (alen >= 8) {
        uint64_t word;
        memcpy(&word, pa, 8);
        h = mix(h, word);
        pa += 8;
        alen -= 8;
    }
    while (alen + blen > 0) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 8 && alen + blen > 0; i++) {
            uint8_t byte;
            if (alen > 0) {
                byte = *pa++;
                alen--;
            } else {
                byte = *pb++;
                blen--;
            }
            word |= (uint64_t)byte << (8 * i);
        }
        h = mix(h, word);
    }
    return h;
}
