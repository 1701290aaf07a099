/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay knows of one way of a TCP connection (core/stream_relay.h).
 */
#ifndef IVC_STREAM_STATE_H
#define IVC_STREAM_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVC_STREAM_RECORDS 64u  /* looked at in one turn */
#define IVC_STREAM_ANSWERS 16u  /* that wait for the end of a message */
#define IVC_STREAM_PENDING 256u /* their bytes */

/* Is it known where messages begin? */
enum ivc_framed {
    IVC_FRAMED_UNKNOWN = 0, /* its sender has not said yet how it began */
    IVC_FRAMED_YES = 1,     /* all of it has come by here */
    IVC_FRAMED_NO = 2,      /* some has not, or what should be a message is none */
};

struct ivc_stream {
    uint32_t framed;    /* enum ivc_framed */
    uint32_t kpos;      /* of all its records */
    bool begun;         /* kpos is known */
    bool strict;        /* messages may be denied: none begins before its header is whole */
    bool dropped;       /* the message at hand is denied */
    bool finishing;     /* its sender is no more */
    bool ended;         /* nothing goes on any more */
    uint8_t header[16]; /* IVC_SOMEIP_HEADER: of the message at hand, */
    uint32_t have;      /* bytes of it that have gone on before it was whole */
    uint64_t left;      /* bytes of the message at hand still to come */
    uint64_t offset;    /* bytes passed on of the record at the head */
    uint32_t position;  /* for traces: bytes put on the second ring */
    uint64_t seen;      /* the tail a turn has come to */
    uint64_t full_since; /* ns; 0: there is room */
    uint32_t records;    /* looked at in this turn, and their lengths */
    uint32_t lengths[64]; /* IVC_STREAM_RECORDS */
    uint32_t answers;    /* that wait here, to errors of the other way: */
    uint8_t answer[256]; /* IVC_STREAM_PENDING */
    uint8_t *copy;       /* of the message at hand, if it is mirrored; or NULL */
    uint64_t copied;     /* bytes of it there, */
    uint64_t copy_key;   /* and its kind */
    _Atomic uint64_t unframed; /* bytes of which nobody knew what they belong to */
};

#endif
