/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages a process shares with the controller beside the rings:
 *
 *   match table      published by the controller as a file, read by everyone:
 *                    could this socket ever be on rings?
 *   control page     controller writes, one process reads: "there is mail"
 *   statistics page  process writes, controller reads
 *
 * Little-endian; addresses and ports are plain numbers. Mirrored in
 * ivc/shm/layout.py.
 */
#ifndef IVC_PAGES_H
#define IVC_PAGES_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* ---- match table: <run dir>/match, written whole, then renamed into place - */

#define IVC_MATCH_MAGIC UINT64_C(0x484354414d435649) /* "IVCMATCH" */
#define IVC_MATCH_ABI 1

struct ivc_match_header {
    uint64_t magic;   /*  0 */
    uint32_t abi;     /*  8 */
    uint32_t entries; /* 12 */
    uint64_t serial;  /* 16 of the plan, grows */
    uint8_t reserved[40];
};

enum ivc_match_kind {
    IVC_MATCH_NODE = 1,     /* unicast address of a node inside */
    IVC_MATCH_GROUP = 2,    /* multicast group of SD or an eventgroup */
    IVC_MATCH_EXTERNAL = 3, /* unicast address of a node outside */
    IVC_MATCH_STREAM = 4,   /* TCP endpoint of a node inside that may go over rings */
};

/* flags of IVC_MATCH_STREAM */
#define IVC_MATCH_EAGER 0x01u /* from its first byte; else once it has lived a while */
/* flags of IVC_MATCH_NODE */
#define IVC_MATCH_LOOPBACK 0x02u /* what it sends itself goes over rings too, at any port */

struct ivc_match_entry {
    uint32_t ip;    /*  0 */
    uint16_t port;  /*  4 groups and streams only; 0 of a stream: from its address to itself */
    uint8_t kind;   /*  6 enum ivc_match_kind */
    uint8_t reserved0;
    uint32_t node;  /*  8 nodes only */
    uint32_t flags; /* 12 streams and nodes only */
    uint64_t netns; /* 16 nodes only: inode of the host's network namespace */
};

static_assert(sizeof(struct ivc_match_header) == 64, "layout");
static_assert(sizeof(struct ivc_match_entry) == 24, "layout");

/* ---- control page ------------------------------------------------------- */

struct ivc_control {
    /* number of messages the controller has put into the control socket */
    _Atomic uint64_t sent; /* 0 */
    uint8_t pad[56];
};

static_assert(sizeof(struct ivc_control) == 64, "layout");

/* ---- statistics page ---------------------------------------------------- */

#define IVC_STATS_MAGIC UINT64_C(0x5354415453435649) /* "IVCSTATS" */
#define IVC_STATS_ABI 1
#define IVC_STATS_SLOTS 255u
#define IVC_STATS_LATENCIES 16u
#define IVC_STATS_SIZE 65536u

struct ivc_stats_header {
    uint64_t magic;                 /*   0 */
    uint32_t abi;                   /*   8 */
    uint32_t pid;                   /*  12 */
    char command[16];               /*  16 */
    _Atomic uint64_t spin_hits;     /*  32 data came while spinning */
    _Atomic uint64_t spin_misses;   /*  40 went to sleep */
    _Atomic uint64_t wakes;         /*  48 doorbells that woke us */
    _Atomic uint64_t wake_cost_ns;  /*  56 publish to awake, the least of 16 */
    _Atomic uint64_t sockets_lost;  /*  64 sockets that found no slot */
    /* Messages that found their receiver asleep, by the time from publishing to being awake:
     * below 2^n units of 1.024 us at n. Longer than 33 ms is not told. */
    _Atomic uint64_t latency[IVC_STATS_LATENCIES]; /* 72 */
    uint8_t reserved[56];
};

/* One socket. `socket` is 0 in a free slot. */
struct ivc_stats_slot {
    _Atomic uint32_t socket;        /*   0 wrapper's number of the socket */
    uint32_t fd;                    /*   4 */
    uint32_t protocol;              /*   8 6 or 17 */
    _Atomic uint32_t reason;        /*  12 enum ivc_reason, 0 = on rings */
    uint32_t local_ip;              /*  16 */
    uint32_t peer_ip;               /*  20 */
    uint16_t local_port;            /*  24 */
    uint16_t peer_port;             /*  26 */
    uint32_t reserved0;             /*  28 */
    _Atomic uint64_t tx_ring_msgs;  /*  32 */
    _Atomic uint64_t tx_ring_bytes; /*  40 */
    _Atomic uint64_t tx_net_msgs;   /*  48 */
    _Atomic uint64_t tx_net_bytes;  /*  56 */
    _Atomic uint64_t rx_ring_msgs;  /*  64 */
    _Atomic uint64_t rx_ring_bytes; /*  72 */
    _Atomic uint64_t rx_net_msgs;   /*  80 */
    _Atomic uint64_t rx_net_bytes;  /*  88 */
    _Atomic uint64_t tx_full;       /*  96 dropped: ring full */
    _Atomic uint64_t rx_twins;      /* 104 kernel twins dropped */
    _Atomic uint64_t rx_refused;    /* 112 wrong source, not our peer */
    _Atomic uint64_t fence_timeouts; /* 120 */
    uint8_t reserved1[128];
};

static_assert(sizeof(struct ivc_stats_header) == 256, "layout");
static_assert(sizeof(struct ivc_stats_slot) == 256, "layout");
static_assert(sizeof(struct ivc_stats_header) + IVC_STATS_SLOTS * sizeof(struct ivc_stats_slot) ==
                  IVC_STATS_SIZE,
              "layout");

#endif
