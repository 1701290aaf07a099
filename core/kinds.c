/* SPDX-License-Identifier: Apache-2.0 */
#include "kinds.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define LENGTH_COVERS 8u /* bytes of the header the length field counts */
#define PROTOCOL_VERSION 1u

static_assert(IVC_KINDS_SLOTS == 1u << IVC_KINDS_BITS, "slots");

static uint64_t big_endian(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

size_t ivc_someip_key(const uint8_t *data, size_t size, uint64_t *key)
{
    uint64_t length;

    *key = 0;
    if (size < IVC_SOMEIP_HEADER || data[12] != PROTOCOL_VERSION) {
        return size;
    }
    length = big_endian(data + 4, 4);
    if (length < LENGTH_COVERS || length > size - (IVC_SOMEIP_HEADER - LENGTH_COVERS)) {
        return size;
    }
    *key = big_endian(data, 4) << 32 | big_endian(data + 8, 2) << 16 |
           (uint64_t)data[12] << 8 | data[14];
    return (size_t)length + IVC_SOMEIP_HEADER - LENGTH_COVERS;
}

void ivc_kinds_init(struct ivc_kinds *kinds, uint64_t seed)
{
    memset(kinds, 0, sizeof(*kinds));
    kinds->seed = seed | 1;
}

static bool is_of(const struct ivc_kind *kind, uint32_t way, uint64_t key)
{
    return kind->key == key && kind->way == way;
}

/* The slot of a kind, or the empty one where it would go. */
static struct ivc_kind *slot_of(struct ivc_kinds *kinds, uint32_t way, uint64_t key)
{
    /* The top bits of a product are those all bits of its factor have a part in. What ways add is
     * secret too: nobody can choose keys of one that collide with those of another. */
    uint64_t salt = way * (kinds->seed << 32 | kinds->seed >> 32);
    uint64_t at = (key * kinds->seed + salt) >> (64 - IVC_KINDS_BITS);

    while (kinds->slots[at % IVC_KINDS_SLOTS].way != 0 &&
           !is_of(&kinds->slots[at % IVC_KINDS_SLOTS], way, key)) {
        at++;
    }
    return &kinds->slots[at % IVC_KINDS_SLOTS];
}

struct ivc_kind *ivc_kinds_find(struct ivc_kinds *kinds, uint32_t way, uint64_t key)
{
    struct ivc_kind *kind = slot_of(kinds, way, key);

    return kind->way != 0 ? kind : NULL;
}

struct ivc_kind *ivc_kinds_put(struct ivc_kinds *kinds, uint32_t way, uint64_t key,
                               uint16_t action, uint64_t detail)
{
    struct ivc_kind *kind = slot_of(kinds, way, key);

    if (kind->way == 0) {
        if (kinds->count == IVC_KINDS_MOST) {
            return NULL;
        }
        kinds->count++;
        kind->key = key;
        kind->way = way;
    }
    kind->action = action;
    kind->detail = detail;
    return kind;
}

void ivc_kinds_ask_again(struct ivc_kinds *kinds)
{
    for (size_t i = 0; i < IVC_KINDS_SLOTS; i++) {
        kinds->slots[i].action = IVC_ACTION_ASK;
    }
}

static void clear(struct ivc_kinds *kinds, struct ivc_kind *kind)
{
    ivc_count(&kinds->cleared.messages, kind->messages);
    ivc_count(&kinds->cleared.bytes, kind->bytes);
    ivc_count(&kinds->cleared.denied, kind->denied);
    ivc_count(&kinds->cleared.audited, kind->audited);
    ivc_count(&kinds->cleared.copied, kind->copied);
    ivc_count(&kinds->cleared.uncopied, kind->uncopied);
    memset(kind, 0, sizeof(*kind));
}

void ivc_kinds_clear(struct ivc_kinds *kinds)
{
    for (size_t i = 0; i < IVC_KINDS_SLOTS; i++) {
        clear(kinds, &kinds->slots[i]);
    }
    kinds->count = 0;
}

void ivc_kind_count(struct ivc_kind *kind, size_t bytes, bool dropped)
{
    ivc_count(&kind->messages, 1);
    ivc_count(&kind->bytes, bytes);
    if (kind->action == IVC_ACTION_DENY) {
        ivc_count(&kind->denied, 1);
    } else if (kind->action == IVC_ACTION_AUDIT && !dropped) {
        ivc_count(&kind->audited, 1);
    }
}
