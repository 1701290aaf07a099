/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds of SOME/IP messages, and what is to become of each: the table the first
 * message of a kind enters and all others go by. The same message is of another
 * kind on another way: between other nodes, or other services' endpoints.
 *
 * Memory only: no system calls, no allocation, no locks. The message is looked
 * at where it lies, so it has to lie where nobody else can change it.
 */
#ifndef IVC_KINDS_H
#define IVC_KINDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVC_KINDS_MOST 4096u
#define IVC_KINDS_BITS 13u
#define IVC_KINDS_SLOTS 8192u /* 2^13, more than IVC_KINDS_MOST: a search ends */
#define IVC_SOMEIP_HEADER 16u

enum ivc_action {
    IVC_ACTION_ASK = 0, /* not decided yet */
    IVC_ACTION_RELAY = 1,
    IVC_ACTION_DENY = 2, /* count it, and no more */
    IVC_ACTION_AUDIT = 3, /* count it, and pass it on */
    IVC_ACTION_MIRROR = 4, /* pass it on, and send a copy of it */
    IVC_ACTION_WATCH = 5, /* the same, but nobody is told: the copy is the controller's own */
};

/* Counted by one thread; whoever else reads the counts sees them a little late. */
struct ivc_kind {
    uint64_t key;    /* ivc_someip_key; 0: what is no SOME/IP message */
    uint32_t way;    /* the controller's number of the way; 0: no entry */
    uint16_t action; /* enum ivc_action */
    uint16_t reserved;
    uint64_t detail; /* of DENY: the return code requests are answered with, 0: none;
                        of MIRROR: the endpoint copies go to, address << 16 | port, 0: the
                        trace; of WATCH: the endpoint */
    uint64_t faults; /* a bit for each that may act on it (core/faults.h) */
    _Atomic uint64_t messages;
    _Atomic uint64_t bytes;
    _Atomic uint64_t denied;  /* of the messages */
    _Atomic uint64_t audited; /* of the others, and passed on */
    _Atomic uint64_t copied;   /* of those, too: a copy was sent, */
    _Atomic uint64_t uncopied; /* or could not be */
};

struct ivc_kinds {
    uint64_t seed; /* odd and secret, so that nobody can make keys that collide */
    uint32_t count;
    uint32_t reserved;
    struct ivc_kind cleared; /* the counts of all there were before ivc_kinds_clear */
    struct ivc_kind slots[IVC_KINDS_SLOTS];
};

/*
 * The message at the start of `size` bytes of a datagram: returns how many of them
 * it takes. *key gets its kind: service, method, client, protocol version and
 * message type (with the TP flag), 16 + 16 + 16 + 8 + 8 bits from the top. What is
 * no message of protocol version 1 has key 0 and takes all bytes (Open SOME/IP
 * 77, 798).
 */
size_t ivc_someip_key(const uint8_t *data, size_t size, uint64_t *key);

/* An empty table; `seed` is any random number. */
void ivc_kinds_init(struct ivc_kinds *kinds, uint64_t seed);

/* The entry of a kind; NULL if it has none. `way` is not 0. */
struct ivc_kind *ivc_kinds_find(struct ivc_kinds *kinds, uint32_t way, uint64_t key);

/* Decide on a kind, new or not; NULL if the table is full. The entry stays where it is. */
struct ivc_kind *ivc_kinds_put(struct ivc_kinds *kinds, uint32_t way, uint64_t key,
                               uint16_t action, uint64_t detail);

/* Ask again about each kind; counts go on. */
void ivc_kinds_ask_again(struct ivc_kinds *kinds);

/* Make room: forget all entries; their counts are added to `cleared`. */
void ivc_kinds_clear(struct ivc_kinds *kinds);

/* Add to a counter that one thread at a time writes and anybody reads: no read-modify-write is
 * needed, only that no reader sees half of it. */
static inline void ivc_count(_Atomic uint64_t *counter, uint64_t more)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

/* One message of a kind, its bytes, and whether it is denied, or audited: not if a fault has
 * dropped it, for that says it has passed. */
void ivc_kind_count(struct ivc_kind *kind, size_t bytes, bool dropped);

#endif
