/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kinds: what a message is of, and what has been decided on it. */
#include <unistd.h>

#include "harness.h"
#include "kinds.h"

#define SEED UINT64_C(0x123456789abcdef)
#define LONGEST 5 /* seconds: a search that does not end fails as well */

static struct ivc_kinds kinds;

/* Service 0x1234, method 0x0421, client 0x0102, an event; the length field says `covered`. */
static void write_header(uint8_t *at, uint32_t covered)
{
    const uint8_t header[IVC_SOMEIP_HEADER] = {
        0x12, 0x34, 0x04, 0x21, (uint8_t)(covered >> 24), (uint8_t)(covered >> 16),
        (uint8_t)(covered >> 8), (uint8_t)covered, 1, 2, 3, 4, 1, 7, 2, 0};

    memcpy(at, header, sizeof(header));
}

static void a_message_has_its_kind_and_its_length(void)
{
    uint8_t data[40] = {0};
    uint64_t key;

    write_header(data, 8);
    CHECK(ivc_someip_key(data, 16, &key) == 16 && key == UINT64_C(0x1234042101020102));
    write_header(data, 20);
    CHECK(ivc_someip_key(data, 40, &key) == 28 && key == UINT64_C(0x1234042101020102));
    CHECK(ivc_someip_key(data, 28, &key) == 28 && key != 0);
}

static void what_is_no_message_has_no_kind_and_takes_all(void)
{
    uint8_t data[40] = {0};
    uint64_t key = 1;

    write_header(data, 8);
    CHECK(ivc_someip_key(data, 15, &key) == 15 && key == 0);
    key = 1;
    CHECK(ivc_someip_key(data, 7, &key) == 7 && key == 0);
    key = 1;
    write_header(data, 7);
    CHECK(ivc_someip_key(data, 40, &key) == 40 && key == 0);
    key = 1;
    write_header(data, 33);
    CHECK(ivc_someip_key(data, 40, &key) == 40 && key == 0);
    key = 1;
    write_header(data, UINT32_MAX);
    CHECK(ivc_someip_key(data, 40, &key) == 40 && key == 0);
    key = 1;
    write_header(data, 8);
    data[12] = 2;
    CHECK(ivc_someip_key(data, 40, &key) == 40 && key == 0);
}

/* Also of those ways whose kinds are looked for at the same place. */
static void a_kind_is_of_one_way(void)
{
    ivc_kinds_init(&kinds, SEED);
    CHECK(ivc_kinds_put(&kinds, 1, 5, IVC_ACTION_DENY, 0) != NULL);
    for (uint32_t way = 2; way < 10 * IVC_KINDS_SLOTS; way++) {
        CHECK(ivc_kinds_find(&kinds, way, 5) == NULL);
    }
}

/* Half of the slots taken: many searches pass those of others. */
static void every_kind_is_found_as_decided_until_the_table_is_full(void)
{
    const uint32_t ways = 3;

    ivc_kinds_init(&kinds, SEED);
    for (uint32_t i = 0; i < IVC_KINDS_MOST; i++) {
        CHECK(ivc_kinds_find(&kinds, 1 + i % ways, i / ways) == NULL);
        CHECK(ivc_kinds_put(&kinds, 1 + i % ways, i / ways, IVC_ACTION_RELAY, i) != NULL);
    }
    CHECK(ivc_kinds_put(&kinds, 1, UINT64_MAX, IVC_ACTION_RELAY, 0) == NULL);
    CHECK(ivc_kinds_find(&kinds, 1, UINT64_MAX) == NULL);
    for (uint32_t i = 0; i < IVC_KINDS_MOST; i++) {
        struct ivc_kind *kind = ivc_kinds_find(&kinds, 1 + i % ways, i / ways);

        CHECK(kind != NULL && kind->detail == i && kind->action == IVC_ACTION_RELAY);
        CHECK(ivc_kinds_put(&kinds, 1 + i % ways, i / ways, IVC_ACTION_DENY, 7) == kind);
        CHECK(kind->detail == 7 && kind->action == IVC_ACTION_DENY);
    }
}

static void each_message_is_counted_as_what_became_of_it(void)
{
    ivc_kinds_init(&kinds, SEED);
    struct ivc_kind *kind = ivc_kinds_put(&kinds, 1, 1, IVC_ACTION_RELAY, 0);

    ivc_kind_count(kind, 10, false);
    CHECK(kind->messages == 1 && kind->bytes == 10 && kind->denied == 0 && kind->audited == 0);
    (void)ivc_kinds_put(&kinds, 1, 1, IVC_ACTION_DENY, 0);
    ivc_kind_count(kind, 10, true);
    CHECK(kind->messages == 2 && kind->denied == 1 && kind->audited == 0);
    (void)ivc_kinds_put(&kinds, 1, 1, IVC_ACTION_AUDIT, 0);
    ivc_kind_count(kind, 10, false);
    CHECK(kind->messages == 3 && kind->denied == 1 && kind->audited == 1);
    ivc_kind_count(kind, 10, true); /* a fault has dropped it */
    CHECK(kind->messages == 4 && kind->denied == 1 && kind->audited == 1);
    (void)ivc_kinds_put(&kinds, 1, 1, IVC_ACTION_MIRROR, 0);
    ivc_kind_count(kind, 10, false);
    CHECK(kind->denied == 1 && kind->audited == 1);
}

static void asked_again_each_is_undecided_and_keeps_its_counts(void)
{
    ivc_kinds_init(&kinds, SEED);
    struct ivc_kind *kind = ivc_kinds_put(&kinds, 1, 1, IVC_ACTION_DENY, 5);

    ivc_kind_count(kind, 10, true);
    ivc_kinds_ask_again(&kinds);
    CHECK(ivc_kinds_find(&kinds, 1, 1) == kind && kind->action == IVC_ACTION_ASK);
    CHECK(kind->denied == 1);
}

static void cleared_all_are_forgotten_but_what_they_counted(void)
{
    ivc_kinds_init(&kinds, SEED);
    for (uint64_t i = 0; i < IVC_KINDS_MOST; i++) {
        ivc_kind_count(ivc_kinds_put(&kinds, 1, i, IVC_ACTION_DENY, 0), 2, true);
    }
    ivc_kinds_clear(&kinds);
    for (uint64_t i = 0; i < IVC_KINDS_MOST; i++) {
        CHECK(ivc_kinds_find(&kinds, 1, i) == NULL);
        CHECK(ivc_kinds_put(&kinds, 2, i, IVC_ACTION_RELAY, 0) != NULL);
    }
    CHECK(kinds.cleared.messages == IVC_KINDS_MOST && kinds.cleared.denied == IVC_KINDS_MOST);
    CHECK(kinds.cleared.bytes == 2 * IVC_KINDS_MOST);
}

int main(void)
{
    alarm(LONGEST);
    a_message_has_its_kind_and_its_length();
    what_is_no_message_has_no_kind_and_takes_all();
    a_kind_is_of_one_way();
    every_kind_is_found_as_decided_until_the_table_is_full();
    each_message_is_counted_as_what_became_of_it();
    asked_again_each_is_undecided_and_keeps_its_counts();
    cleared_all_are_forgotten_but_what_they_counted();
    return 0;
}
