/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between a host of plain Linux and a domain of Xen: where the
 * match table is, what the control connection is made of, how memory is shared
 * and a bell rung. Which of them we are on is told by where a match table is
 * found, once. Errors are -errno; errno is left alone.
 */
#ifndef IVC_HOST_H
#define IVC_HOST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/doorbell.h"
#include "../core/pages.h"
#include "../core/protocol.h"

/* A match table as it was read. `serial` tells it from the one before. */
struct table_text {
    const void *map;
    size_t size;
    uint64_t serial;
    uint64_t here; /* what `netns` of an entry says if its node is on this host */
};

/* A message of the controller, with what is attached to it (core/protocol.h). */
struct mail {
    struct ivc_msg msg;
    unsigned fd_count;
    int fds[IVC_MSG_MAX_FDS]; /* -1: taken by whoever handled the message */
    unsigned word_count;
    uint32_t words[IVC_MSG_MAX_WORDS];
};

/* What goes along with a message of ours. */
struct attached {
    const uint32_t *words;
    unsigned count;
    int fd; /* -1 = none */
};

#define ATTACHED_NOTHING ((struct attached){.fd = -1})

/* What a welcome brings. Both stay mapped until the welcome after the next. */
struct welcome {
    const _Atomic uint64_t *sent; /* differs from control_state.received: there is mail */
    void *sent_map;
    size_t sent_size;
    struct ivc_stats_header *stats;
    size_t stats_size;
};

/* The writer's region of a trace ring, and the reader's (core/trace.h). */
struct trace_memory {
    void *own;
    size_t own_size;
    void *peer;
    size_t peer_size;
    uint64_t grants; /* Xen: gntdev's name of the reader's page */
    uint64_t ahead;  /* what the reader's monotonic clock is ahead of ours, modulo 2^64 */
};

/* One end of a flow: its memory, and its bell. */
struct flow_end {
    uint32_t role; /* enum ivc_role */
    uint8_t order;
    void *own;
    size_t own_size;
    void *peer;
    size_t peer_size;
    uint64_t grants;      /* Xen: gntdev's name of the peer's pages */
    bool copied;          /* peer is memory of our own: keep_copy */
    struct ivc_bell bell; /* sender: the receiver's; receiver: its socket's own descriptor, and
                             on Xen the port this flow's sender rings */
};

struct host {
    bool one_clock; /* a sender's time stamp means something here */
    bool inherited; /* mappings are there in a forked child, too */
    /* How late a datagram of the kernel may be: so long a ring waits for one it is owed. */
    uint64_t kernel_late_ns;

    /* The newest match table. 1 = *out is filled in; 0 = it is the one with serial `known`. */
    int (*table)(uint64_t known, struct table_text *out);

    /*
     * The control connection; called with the control lock held, but for send
     * and alive. The descriptor becomes readable with mail. `patience` is when to
     * look even so (ns, 0 = never).
     */
    int (*connect)(uint64_t *patience);
    void (*disconnect)(int fd);
    int (*receive)(int fd, struct mail *mail); /* 1 = a message, 0 = none now, -1 = lost */
    bool (*welcome)(const struct mail *mail, struct welcome *out);
    bool (*send)(int fd, const struct ivc_msg *msg, const struct attached *with);
    bool (*alive)(int fd);

    /* `answer` is what TRACED has to say; nothing is said if TRACE brought no words. */
    bool (*map_trace)(const struct mail *mail, struct trace_memory *out, struct attached *answer);
    void (*unmap_trace)(struct trace_memory *memory); /* of nothing: nothing */

    /* Ends of flows: role and order are set, for a receiver bell.fd, too. `answer` is what
     * MAPPED has to say. */
    int (*map_own)(struct flow_end *end, const struct mail *attach, struct attached *answer);
    int (*map_peer)(struct flow_end *end, struct mail *peer);
    void (*let_go)(struct flow_end *end);
    /* The peer has stopped writing: keep what is there without its memory, if that matters. */
    int (*keep_copy)(struct flow_end *end);

    int (*bell)(struct ivc_bell *bell); /* a socket's own */
    /* This domain is to be saved. Until the next `moved`, bells are of a kind that survives it;
     * those there are have to be renewed, with whatever they need to be closed before. */
    void (*quiesce)(void);
    void (*close_bell)(const struct ivc_bell *bell);
    /* Since the welcome before, has this become another place, where our bells are dead? Or
     * have they been replaced so that they may outlive it? */
    bool (*moved)(void);
    void (*after_fork)(void);
};

extern const struct host ivc_host_linux, ivc_host_xen;

/* The one we are on. */
extern const struct host *ivc_host;

#endif
