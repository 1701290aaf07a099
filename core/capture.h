/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capture: the records of many trace rings (core/trace.h) in the order of their times, as packets
 * of a pcapng file with the IPv4, UDP and TCP headers they would have had. Part of `ivc trace`,
 * never of an application.
 *
 * Whoever drives it is asked what cannot be known here, once each, as a relay asks about its
 * kinds: which interface of the file a flow is, and, where there is a filter, whether messages of
 * a kind are wanted. The answer stays; the record waits meanwhile.
 *
 * Rings are read as soon as there is something, and a record is given out when it is older than
 * the horizon: by then what other rings have to say of the time before is there, too, and whether
 * its receiver has it. One thread.
 */
#ifndef IVC_CAPTURE_H
#define IVC_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kinds.h"
#include "trace.h"

#define IVC_CAPTURE_RINGS 1280u
#define IVC_CAPTURE_FLOWS 4096u
#define IVC_CAPTURE_PAYLOAD 65536u /* bytes given out of one record at most: who writes one of a
                                      stream keeps to what a segment may have */
#define IVC_CAPTURE_ROOM 66000u    /* bytes one may need in a file */

enum ivc_capture_result {
    IVC_CAPTURE_EMPTY = 0,     /* nothing (more) is older than the horizon */
    IVC_CAPTURE_RECORD = 1,    /* one is at hand */
    IVC_CAPTURE_ASKS_FLOW = 2, /* its flow has no interface */
    IVC_CAPTURE_ASKS_KIND = 3, /* one of its messages is of a kind not decided on */
    IVC_CAPTURE_FULL = 4,      /* there is more, and others should have their turn first */
};

#define IVC_CAPTURE_UNNAMED UINT32_C(0xffffffff)
#define IVC_CAPTURE_UNKNOWN UINT64_C(0xffffffffffffffff)

/* A flow as it is shown: one interface. One way of a TCP connection is one, whatever its bytes go
 * by. What is more than IVC_CAPTURE_FLOWS shares the first, which has no addresses. */
struct ivc_captured_flow {
    uint32_t interface; /* or IVC_CAPTURE_UNNAMED */
    uint32_t flow;
    uint32_t src_ip;
    uint32_t dst_ip;
    uint16_t src_port;
    uint16_t dst_port;
    uint8_t kind; /* enum ivc_record_kind */
    uint8_t path; /* enum ivc_capture_path */
    uint16_t identification; /* of its next IPv4 header */
    uint32_t next;  /* of a stream: the sequence number behind its last record, 1 before, */
    uint32_t begin; /* and what its positions are behind that */
    uint64_t records; /* given out, */
    uint64_t lost;    /* and those there was no room for */
};

enum ivc_capture_path {
    IVC_PATH_DIRECT = 0,
    IVC_PATH_RELAY = 1,
    IVC_PATH_NETWORK = 2,
};

/* What is at hand. */
struct ivc_captured {
    struct ivc_trace_record record;
    uint64_t latency;   /* ns until its receiver had it, or IVC_CAPTURE_UNKNOWN */
    uint32_t flow;      /* place of its flow */
    uint32_t interface;
    uint32_t way;       /* asked: of which way its kind is, */
    uint64_t key;       /* the kind (core/kinds.h), */
    uint8_t header[16]; /* and the header of the message; zeros if the key is 0 */
    uint32_t captured;  /* bytes at data */
    const uint8_t *data;
};

/* NULL: no memory. `real`: what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, in ns. */
struct ivc_capture *ivc_capture_make(uint64_t seed, int64_t real);
void ivc_capture_free(struct ivc_capture *capture);

/* Read this ring, too, until it is removed. Its place, or -ENOSPC. */
int ivc_capture_add(struct ivc_capture *capture, struct ivc_trace_reader *ring);
/* Read what there is, and then no more; it is given out when its time has come. False: there is
 * more than can be read now, and the ring stays. */
bool ivc_capture_remove(struct ivc_capture *capture, int place);

/* Has its writer broken the rules? Nothing is read of it then. */
bool ivc_capture_is_poisoned(const struct ivc_capture *capture, int place);

/* From now on messages are asked about by kind. */
void ivc_capture_filter(struct ivc_capture *capture);

/* The next wanted record older than `horizon` (ns of CLOCK_MONOTONIC; one holds until EMPTY):
 * RECORD, EMPTY, FULL, or a question. After RECORD it is at hand until ivc_capture_done. */
enum ivc_capture_result ivc_capture_next(struct ivc_capture *capture, uint64_t horizon);
void ivc_capture_done(struct ivc_capture *capture);
const struct ivc_captured *ivc_capture_at(const struct ivc_capture *capture);

/* The same for all there are, as packets of a file, until a question, EMPTY or FULL. *size: bytes
 * written. */
enum ivc_capture_result ivc_capture_write(struct ivc_capture *capture, uint64_t horizon,
                                          uint8_t *out, size_t room, size_t *size);

/* Answers. */
void ivc_capture_name_flow(struct ivc_capture *capture, uint32_t interface);
void ivc_capture_decide(struct ivc_capture *capture, bool wanted);

/* The flow at a place, those found first come first; NULL: there are no more. */
const struct ivc_captured_flow *ivc_capture_flow(const struct ivc_capture *capture,
                                                 uint32_t place);

#endif
