/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults for the validation of ECUs: what is done to messages on purpose, by their kind.
 *
 * Each fault draws from a generator of its own (splitmix64), once for each message it matches
 * and once more for what it then does: same seed and same messages, same faults.
 * Memory only: no system calls, no allocation, no locks.
 */
#ifndef IVC_FAULTS_H
#define IVC_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVC_FAULTS_MOST 64u /* at a time: a bit each */
#define IVC_FAULT_ALWAYS 0x20000000000000 /* 2^53, a chance of 1 */

enum ivc_fault_effect {
    IVC_FAULT_NONE = 0,
    IVC_FAULT_DROP = 1,
    IVC_FAULT_DROP_NTH = 2, /* every `number`-th */
    IVC_FAULT_DELAY = 3,
    IVC_FAULT_DUPLICATE = 4,
    IVC_FAULT_CORRUPT = 5,
    IVC_FAULT_RATE = 6, /* more than `number` within a second are dropped */
    IVC_FAULT_CUT = 7,  /* everything is dropped until `until` */
};

enum ivc_fault_what {
    IVC_FAULT_BYTE = 0,
    IVC_FAULT_BIT = 1,
    IVC_FAULT_LENGTH = 2, /* the length field of the header */
    IVC_FAULT_SESSION = 3,
};

struct ivc_fault {
    uint32_t effect; /* enum ivc_fault_effect */
    uint32_t what;   /* enum ivc_fault_what: of CORRUPT */
    uint64_t random; /* the generator's state; at first the seed */
    uint64_t chance; /* of IVC_FAULT_ALWAYS: of DROP, DUPLICATE and CORRUPT */
    uint64_t number; /* of DROP_NTH and RATE */
    uint64_t delay;  /* ns, of DELAY, */
    uint64_t jitter; /* and up to how many more */
    uint64_t until;  /* ns of CLOCK_MONOTONIC: of CUT */
    uint64_t since;  /* of RATE: when its second began, */
    uint64_t passed; /* and how many it has let through since */
    uint64_t matched; /* messages it was asked about, */
    uint64_t acted;   /* and those it has done something to */
};

/* What becomes of one message. */
struct ivc_fate {
    bool dropped;
    bool twice;
    uint64_t delay; /* ns */
    uint16_t effects; /* what has been done to it: a bit for each enum ivc_fault_effect */
};

/* The next number of a generator. */
uint64_t ivc_fault_random(uint64_t *state);

/* Let a fault have its way with the message of `size` bytes at `data`, at the time `now` (ns). */
void ivc_fault_apply(struct ivc_fault *fault, uint8_t *data, size_t size, uint64_t now,
                     struct ivc_fate *fate);

#endif
