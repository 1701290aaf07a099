/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks in ns. */
#ifndef IVC_CLOCK_H
#define IVC_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t ivc_time_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* What all processes of a machine have in common. */
static inline uint64_t ivc_clock_ns(void)
{
    return ivc_time_of(CLOCK_MONOTONIC);
}

#endif
