/* SPDX-License-Identifier: Apache-2.0 */
/* The capture of core/capture.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime() */
#endif
#include "capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "faults.h"
#include "layout.h"

#define SLOTS (2 * IVC_CAPTURE_FLOWS) /* a search ends */
#define PUBLISH_EVERY 64u             /* records read of a ring before its writers may know */
#define AHEAD_MOST ((size_t)64 << 20) /* bytes of a ring read and not given out yet */
#define AHEAD_NS 10000000             /* as much a clock may be ahead of ours */
#define NUMBERS 65536u
#define RECEIPTS 65536u
#define PASSED_OVER_MOST (1u << 20)   /* before others get their turn */

#define IP_HEADER 20u
#define UDP_HEADER 8u
#define TCP_HEADER 20u
#define IP_MOST 65535u
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17

/* pcapng: the block of a packet, and options of it */
#define EPB_TYPE 6u
#define EPB_FIXED 28u
#define OPT_COMMENT 1u
#define OPT_DROPCOUNT 4u

enum { WANTED = IVC_ACTION_RELAY, UNWANTED = IVC_ACTION_DENY };

/* A record that was read, until it is given out. */
struct queued {
    struct queued *next;
    uint64_t latency;
    size_t bytes;
    struct ivc_trace_record record;
    uint8_t data[];
};

struct ring {
    struct ivc_trace_reader *reader; /* NULL: removed, and what was read is still given out */
    struct queued *first; /* in the order they were written */
    struct queued *last;
    size_t bytes;
    uint64_t ahead; /* what its clock is ahead of ours beyond AHEAD_NS, as far as it has shown */
};

/* Who took which record when. `again`: looked for in vain once. */
struct receipt {
    uint64_t time;
    uint32_t flow;
    uint32_t number;
    bool again;
};

struct ivc_capture {
    int64_t real;
    uint64_t horizon;
    uint32_t rings_end;
    uint32_t flow_count;
    bool filtered;
    bool at_hand;
    bool between; /* two passes */
    bool limited; /* in this pass not everything could be read */
    struct queued *hand;
    uint32_t receipt_count;
    struct receipt receipts[RECEIPTS];
    struct queued *numbers[NUMBERS]; /* who was read last of those whose number belongs there */
    struct ring rings[IVC_CAPTURE_RINGS];
    struct ivc_captured_flow flows[IVC_CAPTURE_FLOWS];
    uint16_t slots[SLOTS]; /* place of a flow and 1; 0: none */
    struct ivc_captured at;
    struct ivc_kinds kinds;
};

/* ---- life --------------------------------------------------------------------- */

struct ivc_capture *ivc_capture_make(uint64_t seed, int64_t real)
{
    struct ivc_capture *capture = calloc(1, sizeof(*capture));

    if (capture != NULL) {
        capture->real = real;
        capture->flows[0].interface = IVC_CAPTURE_UNNAMED;
        capture->flow_count = 1;
        capture->between = true;
        ivc_kinds_init(&capture->kinds, seed);
    }
    return capture;
}

static void clear(struct ring *ring)
{
    while (ring->first != NULL) {
        struct queued *next = ring->first->next;

        free(ring->first);
        ring->first = next;
    }
    *ring = (struct ring){0};
}

void ivc_capture_free(struct ivc_capture *capture)
{
    if (capture == NULL) {
        return;
    }
    for (uint32_t i = 0; i < capture->rings_end; i++) {
        clear(&capture->rings[i]);
    }
    free(capture->hand);
    free(capture);
}

int ivc_capture_add(struct ivc_capture *capture, struct ivc_trace_reader *reader)
{
    for (uint32_t i = 0; i < IVC_CAPTURE_RINGS; i++) {
        if (capture->rings[i].reader == NULL && capture->rings[i].first == NULL) {
            capture->rings[i] = (struct ring){.reader = reader};
            if (i >= capture->rings_end) {
                capture->rings_end = i + 1;
            }
            return (int)i;
        }
    }
    return -ENOSPC;
}

bool ivc_capture_is_poisoned(const struct ivc_capture *capture, int place)
{
    return capture->rings[place].reader->poisoned;
}

void ivc_capture_filter(struct ivc_capture *capture)
{
    capture->filtered = true;
}

/* ---- flows -------------------------------------------------------------------- */

static uint8_t path_of(uint8_t event)
{
    switch (event) {
    case IVC_TRACE_SENT:
        return IVC_PATH_DIRECT;
    case IVC_TRACE_NETWORK:
        return IVC_PATH_NETWORK;
    default:
        return IVC_PATH_RELAY;
    }
}

/* Only what tells flows apart is filled in: both ways of a connection by addresses alone. */
static struct ivc_captured_flow name_of(const struct ivc_trace_record *record)
{
    bool stream = record->kind == IVC_RECORD_STREAM;

    return (struct ivc_captured_flow){
        .interface = IVC_CAPTURE_UNNAMED,
        .flow = stream ? 0 : record->flow,
        .src_ip = record->src_ip,
        .dst_ip = record->dst_ip,
        .src_port = record->src_port,
        .dst_port = record->dst_port,
        .kind = record->kind,
        .path = stream ? IVC_PATH_DIRECT : path_of(record->event),
        .next = 1,
    };
}

static bool same_flow(const struct ivc_captured_flow *a, const struct ivc_captured_flow *b)
{
    return a->flow == b->flow && a->src_ip == b->src_ip && a->dst_ip == b->dst_ip &&
           a->src_port == b->src_port && a->dst_port == b->dst_port && a->kind == b->kind &&
           a->path == b->path;
}

static uint32_t hash_of(const struct ivc_captured_flow *name)
{
    uint64_t h = ((uint64_t)name->src_ip << 32 | name->dst_ip) * UINT64_C(0x9e3779b97f4a7c15);

    h ^= ((uint64_t)name->src_port << 48 | (uint64_t)name->dst_port << 32 | name->flow) +
         name->path + name->kind;
    return (uint32_t)((h * UINT64_C(0xbf58476d1ce4e5b9)) >> 32) % SLOTS;
}

/* The place of a flow, -1: it has none. *slot: where it is, or would be. */
static int find_flow(const struct ivc_capture *capture, const struct ivc_captured_flow *name,
                     uint32_t *slot)
{
    for (*slot = hash_of(name); capture->slots[*slot] != 0; *slot = (*slot + 1) % SLOTS) {
        int place = capture->slots[*slot] - 1;

        if (same_flow(&capture->flows[place], name)) {
            return place;
        }
    }
    return -1;
}

static uint32_t place_of_flow(struct ivc_capture *capture, const struct ivc_trace_record *record)
{
    struct ivc_captured_flow name = name_of(record);
    uint32_t slot;
    int place = find_flow(capture, &name, &slot);

    if (place >= 0) {
        return (uint32_t)place;
    }
    if (capture->flow_count == IVC_CAPTURE_FLOWS) {
        return 0;
    }
    name.begin = record->position - 1;
    capture->flows[capture->flow_count] = name;
    capture->slots[slot] = (uint16_t)(capture->flow_count + 1);
    return capture->flow_count++;
}

const struct ivc_captured_flow *ivc_capture_flow(const struct ivc_capture *capture,
                                                 uint32_t place)
{
    return place < capture->flow_count ? &capture->flows[place] : NULL;
}

void ivc_capture_name_flow(struct ivc_capture *capture, uint32_t interface)
{
    capture->flows[capture->at.flow].interface = interface;
}

/* What comes back on a connection has been read so far, as far as anybody can tell. */
static uint32_t acknowledged(const struct ivc_capture *capture,
                             const struct ivc_captured_flow *flow)
{
    struct ivc_captured_flow back = *flow;
    uint32_t slot;

    back.src_ip = flow->dst_ip;
    back.dst_ip = flow->src_ip;
    back.src_port = flow->dst_port;
    back.dst_port = flow->src_port;
    int place = find_flow(capture, &back, &slot);
    return place >= 0 ? capture->flows[place].next : 1;
}

/* ---- reading ahead -------------------------------------------------------------- */

static struct queued **place_of_number(struct ivc_capture *capture, uint32_t flow, uint32_t number)
{
    return &capture->numbers[(flow * 2654435761u + number) % NUMBERS];
}

static bool is_number(const struct queued *queued, uint32_t flow, uint32_t number)
{
    return queued != NULL && queued->record.flow == flow && queued->record.number == number;
}

/* A record may have been read after the receipt for it, which is in another ring: then it is found
 * in the next pass. */
static void match_receipts(struct ivc_capture *capture)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < capture->receipt_count; i++) {
        struct receipt *receipt = &capture->receipts[i];
        struct queued *queued = *place_of_number(capture, receipt->flow, receipt->number);

        if (is_number(queued, receipt->flow, receipt->number)) {
            queued->latency = receipt->time - queued->record.time;
        } else if (!receipt->again) {
            receipt->again = true;
            capture->receipts[kept++] = *receipt;
        }
    }
    capture->receipt_count = kept;
}

static void take_receipt(struct ivc_capture *capture, const struct ivc_trace_record *record)
{
    if (capture->receipt_count < RECEIPTS) {
        capture->receipts[capture->receipt_count++] = (struct receipt){
            .time = record->time, .flow = record->flow, .number = record->number};
    }
}

/* Does its receiver get to take it? */
static bool arrives(uint8_t event)
{
    return event == IVC_TRACE_SENT || event == IVC_TRACE_PASSED || event == IVC_TRACE_AUDITED ||
           event == IVC_TRACE_MIRRORED || event == IVC_TRACE_ANSWER;
}

/* False: there is no memory, or a ring has as much here as it may. */
static bool enqueue(struct ivc_capture *capture, struct ring *ring,
                    const struct ivc_trace_record *record)
{
    size_t bytes = sizeof(struct queued) + record->captured;
    struct queued *queued = ring->bytes + bytes <= AHEAD_MOST ? malloc(bytes) : NULL;

    if (queued == NULL) {
        return false;
    }
    *queued = (struct queued){.record = *record, .bytes = bytes, .latency = IVC_CAPTURE_UNKNOWN};
    if (record->length > IVC_CAPTURE_PAYLOAD) { /* no datagram, nor what we write of a stream */
        queued->record.length = IVC_CAPTURE_PAYLOAD;
    }
    if (record->captured > queued->record.length) {
        queued->record.captured = queued->record.length;
    }
    ivc_trace_copy(ring->reader, queued->data, queued->record.captured);
    *(ring->last != NULL ? &ring->last->next : &ring->first) = queued;
    ring->last = queued;
    ring->bytes += bytes;
    if (arrives(record->event)) {
        *place_of_number(capture, record->flow, record->number) = queued;
    }
    return true;
}

static uint64_t too_young(uint64_t time, uint64_t now)
{
    return time > now + AHEAD_NS ? time - now - AHEAD_NS : 0;
}

/* Nobody knows the future, and what claims to would stay here: the clock it was written by is
 * ahead of ours. By how much is only learned, so all there is of a ring goes by the same. `now`
 * need not be quite now: our clock is asked only if there is doubt. */
static void learn_clock(struct ring *ring, uint64_t time, uint64_t now)
{
    if (too_young(time, now) > ring->ahead) {
        now = ivc_clock_ns();
    }
    if (too_young(time, now) > ring->ahead) {
        ring->ahead = too_young(time, now);
    }
}

/* What a ring has, so that its writers get their room back soon. False: not all of it, there is
 * as much here as there may be. */
static bool read_ring(struct ivc_capture *capture, struct ring *ring, uint64_t now)
{
    struct ivc_trace_record record;

    for (unsigned i = 1; ivc_trace_peek(ring->reader, &record) == 1; i++) {
        if (record.event == IVC_TRACE_TAKEN) {
            take_receipt(capture, &record);
        } else if (!enqueue(capture, ring, &record)) {
            ivc_trace_publish(ring->reader);
            return false;
        } else {
            learn_clock(ring, record.time, now);
        }
        ivc_trace_consume(ring->reader, &record);
        if (i % PUBLISH_EVERY == 0) {
            ivc_trace_publish(ring->reader);
        }
    }
    ivc_trace_publish(ring->reader);
    return true;
}

bool ivc_capture_remove(struct ivc_capture *capture, int place)
{
    struct ring *ring = &capture->rings[place];

    if (!read_ring(capture, ring, ivc_clock_ns())) {
        return false;
    }
    ring->reader = NULL;
    return true;
}

/* A pass ends with EMPTY. What is older than the horizon then, nobody adds to any more: it was
 * there before the pass began. */
static void begin_pass(struct ivc_capture *capture, uint64_t horizon)
{
    uint64_t ns = ivc_clock_ns();

    capture->horizon = horizon;
    capture->between = capture->limited = false;
    for (uint32_t i = 0; i < capture->rings_end; i++) {
        struct ring *ring = &capture->rings[i];

        if (ring->reader != NULL && !read_ring(capture, ring, ns)) {
            capture->limited = true;
        }
    }
    match_receipts(capture);
}

/* ---- the next record ---------------------------------------------------------- */

/* By our clock, as far as we know by now. */
static uint64_t time_of_first(const struct ring *ring)
{
    uint64_t time = ring->first->record.time;

    return time > ring->ahead ? time - ring->ahead : 0;
}

/* The ring with the oldest record; NULL: none has one that is old enough. */
static struct ring *oldest(struct ivc_capture *capture)
{
    struct ring *found = NULL;
    uint64_t least = capture->horizon;

    for (uint32_t i = 0; i < capture->rings_end; i++) {
        struct ring *ring = &capture->rings[i];
        uint64_t time = ring->first != NULL ? time_of_first(ring) : UINT64_MAX;

        if (ring->first != NULL && (found == NULL ? time <= least : time < least)) {
            found = ring;
            least = time;
        }
    }
    return found;
}

static void dequeue(struct ivc_capture *capture, struct ring *ring)
{
    struct queued *queued = ring->first;
    struct queued **number =
        place_of_number(capture, queued->record.flow, queued->record.number);

    ring->first = queued->next;
    if (ring->first == NULL) {
        ring->last = NULL;
    }
    ring->bytes -= queued->bytes;
    if (*number == queued) {
        *number = NULL;
    }
}

static bool take(struct ivc_capture *capture)
{
    struct ring *ring = oldest(capture);
    struct ivc_captured *at = &capture->at;

    if (ring == NULL) {
        return false;
    }
    struct queued *queued = ring->first;
    uint64_t time = time_of_first(ring);
    dequeue(capture, ring);
    free(capture->hand);
    capture->hand = queued;
    at->record = queued->record;
    at->record.time = time;
    at->latency = queued->latency;
    at->captured = queued->record.captured;
    at->data = queued->data;
    at->flow = place_of_flow(capture, &at->record);
    capture->flows[at->flow].lost += at->record.lost;
    return true;
}

/* A datagram is wanted if one of its messages is. Bytes of a stream are no messages: they begin
 * and end anywhere. */
static enum ivc_capture_result choose(struct ivc_capture *capture, bool *wanted)
{
    struct ivc_captured *at = &capture->at;
    size_t start = 0;

    at->way = at->flow * 16 + (at->record.event & 15) + 1;
    *wanted = false;
    do {
        size_t size = at->captured - start;

        at->key = 0;
        if (at->record.kind == IVC_RECORD_DGRAM) {
            size = ivc_someip_key(at->data + start, size, &at->key);
        }
        const struct ivc_kind *kind = ivc_kinds_find(&capture->kinds, at->way, at->key);
        if (kind == NULL) {
            memset(at->header, 0, sizeof(at->header));
            if (at->key != 0) {
                memcpy(at->header, at->data + start, sizeof(at->header));
            }
            return IVC_CAPTURE_ASKS_KIND;
        }
        *wanted |= kind->action == WANTED;
        start += size;
    } while (start < at->captured && !*wanted);
    return IVC_CAPTURE_RECORD;
}

void ivc_capture_decide(struct ivc_capture *capture, bool wanted)
{
    uint16_t action = wanted ? WANTED : UNWANTED;

    if (!ivc_kinds_put(&capture->kinds, capture->at.way, capture->at.key, action, 0)) {
        ivc_kinds_clear(&capture->kinds);
        (void)ivc_kinds_put(&capture->kinds, capture->at.way, capture->at.key, action, 0);
    }
}

/* The record at hand: asked about, or not wanted (EMPTY), or RECORD. */
static enum ivc_capture_result consider(struct ivc_capture *capture)
{
    bool wanted = true;

    if (capture->filtered && choose(capture, &wanted) != IVC_CAPTURE_RECORD) {
        return IVC_CAPTURE_ASKS_KIND;
    }
    capture->at.interface = capture->flows[capture->at.flow].interface;
    if (!wanted) {
        return IVC_CAPTURE_EMPTY;
    }
    bool named = capture->at.interface != IVC_CAPTURE_UNNAMED;
    return named ? IVC_CAPTURE_RECORD : IVC_CAPTURE_ASKS_FLOW;
}

enum ivc_capture_result ivc_capture_next(struct ivc_capture *capture, uint64_t horizon)
{
    if (capture->between) {
        begin_pass(capture, horizon);
    }
    for (unsigned i = 0; i < PASSED_OVER_MOST; i++) {
        if (!capture->at_hand && !take(capture)) {
            capture->between = true;
            return capture->limited ? IVC_CAPTURE_FULL : IVC_CAPTURE_EMPTY;
        }
        enum ivc_capture_result result = consider(capture);
        capture->at_hand = result != IVC_CAPTURE_EMPTY;
        if (capture->at_hand) {
            return result;
        }
    }
    return IVC_CAPTURE_FULL;
}

void ivc_capture_done(struct ivc_capture *capture)
{
    capture->flows[capture->at.flow].records++;
    capture->at_hand = false;
}

const struct ivc_captured *ivc_capture_at(const struct ivc_capture *capture)
{
    return &capture->at;
}

/* ---- packets ------------------------------------------------------------------ */

static void big16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void big32(uint8_t *at, uint32_t value)
{
    big16(at, value >> 16);
    big16(at + 2, value);
}

/* RFC 1071 */
static uint32_t add_up(uint32_t sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2) {
        sum += (uint32_t)data[i] << 8 | data[i + 1];
    }
    if (size % 2 != 0) {
        sum += (uint32_t)data[size - 1] << 8;
    }
    return sum;
}

static uint32_t checksum(uint32_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum & 0xffff;
}

static void put_ip(uint8_t *at, struct ivc_captured_flow *flow,
                   const struct ivc_trace_record *record, uint8_t protocol, size_t length)
{
    memset(at, 0, IP_HEADER);
    at[0] = 0x45;
    big16(at + 2, (uint32_t)(length < IP_MOST ? length : IP_MOST));
    big16(at + 4, flow->identification++);
    at[6] = 0x40; /* not to be fragmented */
    at[8] = 64;
    at[9] = protocol;
    big32(at + 12, record->src_ip);
    big32(at + 16, record->dst_ip);
    big16(at + 10, checksum(add_up(0, at, IP_HEADER)));
}

static void put_udp(uint8_t *at, const struct ivc_trace_record *record)
{
    big16(at, record->src_port);
    big16(at + 2, record->dst_port);
    big16(at + 4, (record->length + UDP_HEADER) & 0xffff);
    big16(at + 6, 0); /* none */
}

static void put_tcp(uint8_t *at, const struct ivc_capture *capture, struct ivc_captured_flow *flow,
                    const struct ivc_trace_record *record)
{
    uint32_t sequence = record->position - flow->begin;

    big16(at, record->src_port);
    big16(at + 2, record->dst_port);
    big32(at + 4, sequence);
    big32(at + 8, acknowledged(capture, flow));
    at[12] = TCP_HEADER / 4 << 4;
    at[13] = 0x18; /* PSH, ACK */
    big16(at + 14, 0xffff);
    big32(at + 16, 0);
    flow->next = sequence + record->length;
}

/* The sum of a whole segment; of one cut short nobody knows it. */
static void sum_tcp(uint8_t *ip, size_t length, const struct ivc_captured *at)
{
    uint8_t *tcp = ip + IP_HEADER;

    if (at->captured == at->record.length) {
        uint32_t sum = add_up(PROTOCOL_TCP + (uint32_t)(length - IP_HEADER), ip + 12, 8);
        big16(tcp + 16, checksum(add_up(sum, tcp, length - IP_HEADER)));
    }
}

/* The packet of what is at hand. Its size; *length: what it would be whole. */
static uint32_t put_packet(struct ivc_capture *capture, uint8_t *out, uint32_t *length)
{
    const struct ivc_captured *at = &capture->at;
    struct ivc_captured_flow *flow = &capture->flows[at->flow];
    bool stream = at->record.kind == IVC_RECORD_STREAM;
    uint32_t headers = IP_HEADER + (stream ? TCP_HEADER : UDP_HEADER);

    *length = headers + at->record.length;
    put_ip(out, flow, &at->record, stream ? PROTOCOL_TCP : PROTOCOL_UDP, *length);
    memcpy(out + headers, at->data, at->captured);
    if (stream) {
        put_tcp(out + IP_HEADER, capture, flow, &at->record);
        sum_tcp(out, *length, at);
    } else {
        put_udp(out + IP_HEADER, &at->record);
    }
    return headers + at->captured;
}

/* ---- what is said of a packet --------------------------------------------------- */

static const char *const paths[] = {"direct", "relay", "network"};
static const char *const verdicts[] = {"?",       "sent",     "sent",   "passed", "denied",
                                       "audited", "mirrored", "answer", "full",   "dropped"};
static const char *const faults[] = {"",          "drop",    "drop-nth", "delay",
                                     "duplicate", "corrupt", "rate",     "cut"};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static size_t say(char *at, const char *text)
{
    size_t n = strlen(text);

    memcpy(at, text, n);
    return n;
}

/* At most COMMENT_MOST bytes. */
#define COMMENT_MOST 160u
static size_t say_number(char *at, uint64_t value)
{
    char digits[20];
    size_t n = 0;

    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t i = 0; i < n; i++) {
        at[i] = digits[n - 1 - i];
    }
    return n;
}

static size_t comment(char *at, const struct ivc_trace_record *record, uint64_t latency)
{
    size_t n = say(at, "path=");
    const char *before = " fault=";

    n += say(at + n, paths[path_of(record->event)]);
    n += say(at + n, " verdict=");
    n += say(at + n, verdicts[record->event < COUNT(verdicts) ? record->event : 0]);
    for (size_t i = 1; i < COUNT(faults); i++) {
        if ((record->faults >> i & 1) != 0) {
            n += say(at + n, before);
            n += say(at + n, faults[i]);
            before = ",";
        }
    }
    if (latency != IVC_CAPTURE_UNKNOWN) {
        n += say(at + n, " latency=");
        n += say_number(at + n, latency);
        n += say(at + n, "ns");
    }
    return n;
}

/* ---- blocks ------------------------------------------------------------------- */

static size_t word(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
    return sizeof(value);
}

/* Up to a multiple of four. */
static size_t pad(uint8_t *out, size_t at)
{
    while (at % 4 != 0) {
        out[at++] = 0;
    }
    return at;
}

static size_t put_options(uint8_t *out, size_t at, const struct ivc_captured *captured)
{
    const struct ivc_trace_record *record = &captured->record;
    char text[COMMENT_MOST];
    size_t n = comment(text, record, captured->latency);

    at += word(out + at, OPT_COMMENT | (uint32_t)n << 16);
    memcpy(out + at, text, n);
    at = pad(out, at + n);
    if (record->lost != 0) {
        at += word(out + at, OPT_DROPCOUNT | 8u << 16);
        at += word(out + at, record->lost);
        at += word(out + at, 0);
    }
    return at + word(out + at, 0);
}

/* An enhanced packet block with what is at hand. */
static size_t put_block(struct ivc_capture *capture, uint8_t *out)
{
    uint64_t time = capture->at.record.time + (uint64_t)capture->real;
    uint32_t length, captured = put_packet(capture, out + EPB_FIXED, &length);
    size_t at = pad(out, EPB_FIXED + captured);

    at = put_options(out, at, &capture->at);
    uint32_t total = (uint32_t)at + (uint32_t)sizeof(uint32_t);
    const uint32_t head[] = {EPB_TYPE,         total,    capture->at.interface,
                             (uint32_t)(time >> 32), (uint32_t)time, captured, length};
    static_assert(sizeof(head) == EPB_FIXED, "layout");
    memcpy(out, head, sizeof(head));
    return at + word(out + at, total);
}

enum ivc_capture_result ivc_capture_write(struct ivc_capture *capture, uint64_t horizon,
                                          uint8_t *out, size_t room, size_t *size)
{
    enum ivc_capture_result result = IVC_CAPTURE_FULL;

    *size = 0;
    while (room - *size >= IVC_CAPTURE_ROOM) {
        result = ivc_capture_next(capture, horizon);
        if (result != IVC_CAPTURE_RECORD) {
            return result;
        }
        *size += put_block(capture, out + *size);
        ivc_capture_done(capture);
        result = IVC_CAPTURE_FULL;
    }
    return result;
}
