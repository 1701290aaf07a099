/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of dom0's side. The wrapper has one of its own (preload/util.h). */
#ifndef IVC_CLOCK_H
#define IVC_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC, in ns. */
static inline uint64_t ivc_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
