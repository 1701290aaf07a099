/* SPDX-License-Identifier: Apache-2.0 */
#include "faults.h"

#define SECOND_NS UINT64_C(1000000000)
#define HEADER 16u
#define LENGTH_AT 4u
#define SESSION_AT 10u

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). */
uint64_t ivc_fault_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool happens(struct ivc_fault *fault)
{
    return ivc_fault_random(&fault->random) >> 11 < fault->chance;
}

static bool is_over_rate(struct ivc_fault *fault, uint64_t now)
{
    if (fault->since == 0 || now - fault->since >= SECOND_NS) {
        fault->since = now;
        fault->passed = 0;
    }
    if (fault->passed == fault->number) {
        return true;
    }
    fault->passed++;
    return false;
}

/* Change the `bytes` bytes at `at`, so that they differ from before for certain. */
static void garble(struct ivc_fault *fault, uint8_t *at, unsigned bytes)
{
    uint64_t most = (UINT64_C(1) << (8 * bytes)) - 1;
    uint64_t change = 1 + ivc_fault_random(&fault->random) % most;

    for (unsigned i = bytes; i > 0; i--, change >>= 8) {
        at[i - 1] ^= (uint8_t)change;
    }
}

/* False: there is nothing of that kind in it. */
static bool corrupt(struct ivc_fault *fault, uint8_t *data, size_t size)
{
    if (size == 0) {
        return false;
    }
    if (fault->what == IVC_FAULT_BYTE) {
        garble(fault, data + ivc_fault_random(&fault->random) % size, 1);
    } else if (fault->what == IVC_FAULT_BIT) {
        uint64_t bit = ivc_fault_random(&fault->random) % (8 * (uint64_t)size);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    } else if (size < HEADER) {
        return false;
    } else if (fault->what == IVC_FAULT_LENGTH) {
        garble(fault, data + LENGTH_AT, 4);
    } else {
        garble(fault, data + SESSION_AT, 2);
    }
    return true;
}

static bool act(struct ivc_fault *fault, uint8_t *data, size_t size, uint64_t now,
                struct ivc_fate *fate)
{
    switch (fault->effect) {
    case IVC_FAULT_DROP:
        return fate->dropped = happens(fault);
    case IVC_FAULT_DROP_NTH:
        return fate->dropped = fault->matched % fault->number == 0;
    case IVC_FAULT_RATE:
        return fate->dropped = is_over_rate(fault, now);
    case IVC_FAULT_CUT:
        return fate->dropped = now < fault->until;
    case IVC_FAULT_DELAY:
        fate->delay += fault->delay + ivc_fault_random(&fault->random) % (fault->jitter + 1);
        return true;
    case IVC_FAULT_DUPLICATE:
        if (!happens(fault)) {
            return false;
        }
        fate->twice = true;
        return true;
    case IVC_FAULT_CORRUPT:
        return happens(fault) && corrupt(fault, data, size);
    default:
        return false;
    }
}

void ivc_fault_apply(struct ivc_fault *fault, uint8_t *data, size_t size, uint64_t now,
                     struct ivc_fate *fate)
{
    fault->matched++;
    if (act(fault, data, size, now, fate)) {
        fault->acted++;
        fate->effects |= (uint16_t)(1u << fault->effect);
    }
}
