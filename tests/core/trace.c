/* SPDX-License-Identifier: Apache-2.0 */
/* Trace ring: any number of threads write, nobody waits, and nothing is lost but what is counted. */
#define _GNU_SOURCE
#include <pthread.h>

#include "harness.h"
#include "layout.h"
#include "trace.h"

#define ORDER IVC_TRACE_ORDER_MIN
#define THREADS 4
#define SNAP 1500

struct field {
    size_t size;
    uint8_t *writer, *reader;
    struct ivc_trace trace;
    struct ivc_trace_reader from;
};

static void make(struct field *field)
{
    field->size = ivc_trace_region_size(ORDER);
    field->writer = aligned_alloc(IVC_PAGE, field->size);
    field->reader = aligned_alloc(IVC_PAGE, IVC_TRACE_PAGE);
    CHECK(field->writer != NULL && field->reader != NULL);
    memset(field->writer, 0, field->size);
    memset(field->reader, 0, IVC_TRACE_PAGE);
    const struct ivc_trace_ctrl line = {
        .magic = IVC_TRACE_MAGIC, .abi = IVC_TRACE_ABI, .order = ORDER};
    memcpy(field->writer, &line, sizeof(line));
    memcpy(field->reader, &line, sizeof(line));
    CHECK(ivc_trace_attach(&field->trace, field->writer, field->size, field->reader,
                           IVC_TRACE_PAGE, SNAP) == 0);
    CHECK(ivc_trace_reader_attach(&field->from, field->reader, IVC_TRACE_PAGE, field->writer,
                                  field->size) == 0);
}

static void unmake(struct field *field)
{
    free(field->writer);
    free(field->reader);
}

/* Payload whose bytes all follow from its writer and number. */
static bool put(struct field *field, uint32_t thread, uint32_t number, uint32_t length)
{
    uint8_t payload[4096];
    const struct iovec iov[] = {{payload, length / 3}, {payload + length / 3, length - length / 3}};
    const struct ivc_trace_record record = {
        .time = number, .length = length, .flow = thread, .kind = IVC_RECORD_DGRAM};

    memset(payload, (int)((thread * 31 + number) & 0xff), length);
    return ivc_trace_put(&field->trace, &record, iov, 2);
}

static bool get(struct field *field, struct ivc_trace_record *record)
{
    uint8_t payload[4096];
    int rc = ivc_trace_peek(&field->from, record);

    CHECK(rc >= 0);
    if (rc == 0) {
        return false;
    }
    CHECK(record->captured == (record->length < SNAP ? record->length : SNAP));
    ivc_trace_copy(&field->from, payload, record->captured);
    for (uint32_t i = 0; i < record->captured; i++) {
        CHECK(payload[i] == (uint8_t)(record->flow * 31 + record->time));
    }
    ivc_trace_consume(&field->from, record);
    ivc_trace_publish(&field->from);
    return true;
}

static void what_is_put_is_got_also_across_the_end(void)
{
    struct field field;
    struct ivc_trace_record record;

    make(&field);
    for (uint32_t i = 0; i < 5000; i++) {
        CHECK(put(&field, 7, i, i % 2000));
        CHECK(get(&field, &record));
        CHECK(record.time == i && record.flow == 7 && record.length == i % 2000);
        CHECK(!get(&field, &record));
    }
    unmake(&field);
}

static void what_finds_no_room_is_counted(void)
{
    struct field field;
    struct ivc_trace_record record;
    uint32_t put_in = 0;

    make(&field);
    while (put(&field, 1, put_in, 1000)) {
        put_in++;
    }
    CHECK(put_in == (1u << ORDER) / 1056);
    CHECK(!put(&field, 1, put_in, 1000));
    CHECK(ivc_trace_lost(&field.from) == 2);
    for (uint32_t i = 0; i < put_in; i++) {
        CHECK(get(&field, &record) && record.time == i);
    }
    CHECK(!get(&field, &record));
    CHECK(put(&field, 1, 0, 1000));
    unmake(&field);
}

static void a_head_that_cannot_be_leaves_no_room(void)
{
    struct field field;

    make(&field);
    struct ivc_trace_ctrl *page = (void *)field.reader;
    CHECK(put(&field, 1, 1, 10));
    atomic_store(&page->index, UINT64_C(1) << 40);
    for (uint32_t i = 0; i < 3000; i++) {
        (void)put(&field, 1, i, 1000);
    }
    CHECK(ivc_trace_lost(&field.from) > 0);
    unmake(&field);
}

static void a_record_larger_than_it_says_poisons(void)
{
    struct field field;
    struct ivc_trace_record record;

    make(&field);
    CHECK(put(&field, 1, 1, 10));
    struct ivc_trace_record *there = (void *)field.trace.data;
    there->captured = there->length = 1u << ORDER;
    CHECK(ivc_trace_peek(&field.from, &record) == -EPROTO);
    there->captured = there->length = 10;
    CHECK(ivc_trace_peek(&field.from, &record) == -EPROTO); /* for good */
    unmake(&field);
}

static void a_region_too_small_or_of_another_is_refused(void)
{
    struct field field;

    make(&field);
    CHECK(ivc_trace_attach(&field.trace, field.writer, field.size - 1, field.reader,
                           IVC_TRACE_PAGE, SNAP) == -EINVAL);
    ((struct ivc_trace_ctrl *)(void *)field.writer)->order = ORDER + 1;
    CHECK(ivc_trace_reader_attach(&field.from, field.reader, IVC_TRACE_PAGE, field.writer,
                                  field.size) == -EINVAL);
    unmake(&field);
}

/* ---- threads ------------------------------------------------------------------ */

static struct field shared;
static uint32_t rounds = 20000;
static _Atomic uint32_t turned_away[THREADS];

static void *write_all(void *arg)
{
    uint32_t thread = *(uint32_t *)arg;

    for (uint32_t i = 0; i < rounds; i++) {
        if (!put(&shared, thread, i, (i * 37 + thread) % 300)) {
            atomic_fetch_add(&turned_away[thread], 1);
            sched_yield();
        }
    }
    return NULL;
}

/* Records of one thread stay in order; what is missing is what was turned away. */
static void threads_lose_nothing_but_what_is_counted(void)
{
    pthread_t threads[THREADS];
    uint32_t numbers[THREADS], got[THREADS] = {0}, total = 0, away = 0;
    int64_t last[THREADS];
    struct ivc_trace_record record;

    make(&shared);
    for (uint32_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        last[i] = -1;
        CHECK(pthread_create(&threads[i], NULL, write_all, &numbers[i]) == 0);
    }
    while (total + away < THREADS * rounds) {
        while (get(&shared, &record)) {
            CHECK(record.flow < THREADS && (int64_t)record.time > last[record.flow]);
            last[record.flow] = (int64_t)record.time;
            got[record.flow]++;
            total++;
        }
        away = 0;
        for (uint32_t i = 0; i < THREADS; i++) {
            away += atomic_load(&turned_away[i]);
        }
        sched_yield();
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(got[i] + atomic_load(&turned_away[i]) == rounds);
    }
    CHECK(ivc_trace_lost(&shared.from) == away);
    unmake(&shared);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        rounds = (uint32_t)strtoul(argv[1], NULL, 10);
    }
    what_is_put_is_got_also_across_the_end();
    what_finds_no_room_is_counted();
    a_head_that_cannot_be_leaves_no_room();
    a_record_larger_than_it_says_poisons();
    a_region_too_small_or_of_another_is_refused();
    threads_lose_nothing_but_what_is_counted();
    return 0;
}
