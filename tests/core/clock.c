/* SPDX-License-Identifier: Apache-2.0 */
/* What clocks tell a trace, when whoever asks them is stopped in between. The clocks are ours. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>

#include "capture.h"
#include "harness.h"

#define ORDER IVC_TRACE_ORDER_MIN
#define MS UINT64_C(1000000)
#define REAL_AHEAD (UINT64_C(1700000000) * 1000 * MS)

static uint64_t now;
static uint64_t stops[8]; /* before each time a clock is asked */
static unsigned asked;

int clock_gettime(clockid_t clock, struct timespec *out)
{
    now += asked < sizeof(stops) / sizeof(*stops) ? stops[asked] : 0;
    asked++;
    uint64_t time = clock == CLOCK_REALTIME ? now + REAL_AHEAD : now;
    *out = (struct timespec){.tv_sec = (time_t)(time / 1000000000),
                             .tv_nsec = (long)(time % 1000000000)};
    return 0;
}

static void begin(void)
{
    now = 1000 * MS;
    asked = 0;
    memset(stops, 0, sizeof(stops));
}

/* Both pages say the same. */
static void *region(size_t size)
{
    struct ivc_trace_ctrl *line = aligned_alloc(IVC_TRACE_PAGE, size);

    CHECK(line != NULL);
    memset(line, 0, size);
    line->magic = IVC_TRACE_MAGIC;
    line->abi = IVC_TRACE_ABI;
    line->order = ORDER;
    return line;
}

/* The time told of a record of that time, if the pass that reads it is stopped for so long. */
static uint64_t told(uint64_t time, uint64_t stopped)
{
    size_t size = ivc_trace_region_size(ORDER);
    void *writer = region(size), *reader = region(IVC_TRACE_PAGE);
    struct ivc_trace trace;
    struct ivc_trace_reader ring;
    struct ivc_capture *capture = ivc_capture_make(1, 0);
    const struct ivc_trace_record record = {.time = time, .event = IVC_TRACE_SENT};

    CHECK(ivc_trace_attach(&trace, writer, size, reader, IVC_TRACE_PAGE, 0) == 0);
    CHECK(ivc_trace_reader_attach(&ring, reader, IVC_TRACE_PAGE, writer, size) == 0);
    CHECK(ivc_capture_add(capture, &ring) == 0);
    CHECK(ivc_trace_put(&trace, &record, NULL, 0));
    stops[1] = stopped;
    CHECK(ivc_capture_next(capture, UINT64_MAX) == IVC_CAPTURE_ASKS_FLOW);
    uint64_t found = ivc_capture_at(capture)->record.time;
    ivc_capture_free(capture);
    free(writer);
    free(reader);
    return found;
}

static void what_was_written_while_a_pass_was_stopped_has_its_time(void)
{
    begin();
    CHECK(told(now + 500 * MS, 500 * MS) == 1500 * MS);
}

static void what_is_from_the_future_was_written_by_a_clock_that_is_ahead(void)
{
    begin();
    CHECK(told(now + 500 * MS, 0) == 1010 * MS);
}

static void of_several_looks_at_both_clocks_the_one_that_was_not_stopped_counts(void)
{
    for (unsigned stop = 0; stop < 3; stop++) {
        begin();
        stops[stop] = 100 * MS;
        stops[3 + stop] = 200 * MS;
        CHECK(ivc_real_ahead() == (int64_t)REAL_AHEAD);
    }
}

int main(void)
{
    what_was_written_while_a_pass_was_stopped_has_its_time();
    what_is_from_the_future_was_written_by_a_clock_that_is_ahead();
    of_several_looks_at_both_clocks_the_one_that_was_not_stopped_counts();
    return 0;
}
