/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the wrapper knows of descriptors.
 *
 * Every INET datagram socket gets a record from socket() on, because epoll may
 * be told of it before bind() says whether it concerns us; so does every TCP
 * socket where the plan has TCP on rings (stream.h). The kernel socket
 * stays the socket; the record only adds rings to it:
 *
 *   TRACKED   we watch its life; every call goes to the kernel
 *   MATCHED   its local address is a planned node's: the controller knows it,
 *             it has a doorbell, every wait on it includes that bell
 *
 * Locks, in the order they are taken:
 *   control -> reg -> epset -> sock.rx -> sock.tx
 */
#ifndef IVC_SOCK_H
#define IVC_SOCK_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../core/doorbell.h"
#include "../core/pages.h"
#include "../core/protocol.h"
#include "../core/ring.h"
#include "host.h"
#include "util.h"

#define IVC_MAX_FDS (1 << 20)
#define IVC_MAX_GROUPS 8
#define IVC_DGRAM_MAX 65536u

struct sock;
struct stream;
struct reg;

struct endpoint {
    uint32_t ip;
    uint16_t port;
};

static inline bool endpoint_equal(struct endpoint a, struct endpoint b)
{
    return a.ip == b.ip && a.port == b.port;
}

static inline bool ip_is_multicast(uint32_t ip)
{
    return (ip >> 28) == 0xe;
}

/* ---- receiving side ------------------------------------------------------ */

#define TWIN_SLOTS 64u

/* A datagram that takes both roads, delivered from one of them. */
struct twin {
    uint64_t hash;
    uint64_t when;
    uint32_t length; /* UINT32_MAX = free */
    uint32_t place;  /* early: kseq of the flow before it was counted there */
};

/* The last ones. */
struct twins {
    unsigned next;
    unsigned count;
    struct twin slot[TWIN_SLOTS];
};

struct rx_flow {
    void *link;           /* slab */
    struct rx_flow *next; /* of the same socket */
    struct ivc_rx ring;
    struct ivc_ring_ident ident;
    struct flow_end end;
    struct endpoint src, dst;
    uint32_t id;
    uint32_t era;         /* of which controller */
    bool relay;           /* comes from the controller */
    bool attached;        /* PEER has come: part of the socket's list of rings */
    bool ack_pending;     /* a thread sleeps in the kernel without our bell */
    bool synced;          /* the roads are one: the fence has been passed, or there was none */
    bool fenced;          /* it has been passed */
    bool closing;         /* sender has left: remove when drained */
    bool let_go;          /* and the controller was told that we hold nothing of its */
    uint32_t kseq;        /* kernel datagrams of this flow received so far */
    uint64_t hold_since;  /* head record waits for the kernel since; 0 = no */
    uint64_t settle_until; /* SAME fence: ring waits until then */
    struct twins owed;    /* delivered from the ring: the kernel's copy is still to come */
    struct twins early;   /* delivered from the kernel while a relay was late with the ring's */
    bool ends;            /* its group was left: what is published from end_at on is not heard */
    uint64_t end_at;
};

/* One datagram taken from the kernel but not yet by the application. */
struct stash {
    _Atomic bool full; /* a hint for whoever asks without the lock */
    uint64_t number; /* of datagrams taken so far */
    bool counted; /* found deliverable once: its place is settled */
    struct sockaddr_in src;
    struct endpoint src_ep, dst_ep;
    size_t length;
    int msg_flags;
    size_t control_length;
    uint8_t control[256];
    uint8_t *data; /* IVC_DGRAM_MAX, mapped when the first flow comes */
};

/* ---- sending side -------------------------------------------------------- */

enum tx_state {
    TX_SETUP,  /* not yet usable */
    TX_FENCE,  /* next datagram goes both ways */
    TX_RUN,
    TX_DEAD,   /* to be removed */
};

struct tx_flow {
    void *link;
    struct tx_flow *next; /* of the same destination */
    struct ivc_tx ring;
    struct ivc_ring_ident ident;
    struct flow_end end;
    uint32_t id;
    uint32_t era;
    bool relay;
    _Atomic uint32_t state; /* enum tx_state */
    uint32_t kseq;          /* datagrams given to the kernel alone */
    uint64_t last;          /* where the last record was put */
    uint32_t leaving;       /* why it ends as soon as its relay has passed on the rest; 0: stays */
    bool lost;              /* its relay is dead */
    bool alone;             /* the fence was sent without its twin, */
    uint64_t alone_since;   /* and found passed on then */
    uint32_t untraced;      /* records the trace had no room for, since the last it had */
};

#define HISTORY_SLOTS 16u

struct sent_hash {
    uint64_t hash;
    uint64_t when;
};

/* A destination of a matched socket. */
struct dest {
    void *link;
    struct dest *next;
    struct endpoint ep;
    struct tx_flow *flows;
    uint32_t reason; /* why not (wholly) on rings */
    bool planned;    /* the controller was asked */
    bool complete;   /* no kernel copy needed */
    uint32_t unfit;  /* datagrams in a row that could not be the fence */
    uint32_t untraced; /* sent by the kernel, and the trace had no room */
    unsigned history_next;
    struct sent_hash history[HISTORY_SLOTS];
};

/* ---- descriptors ---------------------------------------------------------- */

enum object_type {
    OBJECT_SOCK = 1,
    OBJECT_EPSET = 2,
    OBJECT_OWN = 3, /* a descriptor of the wrapper itself */
};

struct object {
    void *link; /* slab */
    uint32_t type;
};

enum sock_state {
    SOCK_TRACKED = 1,
    SOCK_MATCHED = 2,
    SOCK_DEAD = 3,
};

struct sock {
    struct object object;
    struct ivc_lock rx_lock; /* rx_flows, stash, kernel_* */
    struct ivc_lock tx_lock; /* dests, tx_flows, history */
    /* behind here zero in a fresh record */
    _Atomic uint32_t state; /* enum sock_state */
    uint32_t id;
    struct sock *next;     /* ivc_socks */
    int fd;                /* one of its descriptors */
    _Atomic uint32_t refs; /* descriptors that name it */
    _Atomic bool nonblock;
    bool reuse, mc_all, mc_loop;
    bool pktinfo;     /* the application asked for IP_PKTINFO */
    bool pktinfo_own; /* we did, to tell unicast from multicast */
    uint32_t unusable; /* reason why rings are out of the question for good; 0 = none */
    bool wr_shutdown;
    _Atomic bool rd_shutdown;
    struct endpoint local, peer; /* peer.ip 0 = unconnected */
    uint32_t pktinfo_ip;         /* address of the node, for wildcard sockets */
    uint32_t ifindex;
    uint32_t node;
    uint32_t announced;          /* era of the controller that knows it; 0 = none */
    bool match_tried;            /* after its first send */
    bool stranger;               /* bound to an address of no node here */
    bool inherited;              /* over a fork */
    uint64_t rcvtimeo;      /* ns, 0 = none */
    uint64_t sndtimeo;      /* ns, 0 = none; streams only */
    uint32_t shown;         /* the reason last shown */
    struct stream *stream;  /* NULL: datagrams */
    uint32_t groups[IVC_MAX_GROUPS];
    unsigned group_count;
    struct ivc_bell bell;
    _Atomic uint32_t native_waits; /* threads in a kernel wait without our bell */
    _Atomic uint32_t bell_waits;   /* threads in a kernel wait with it */
    _Atomic uint32_t read_waits;   /* of these, the ones that wait for something to read */
    struct reg *regs;              /* epoll registrations, under reg_lock */
    _Atomic uint32_t resting;      /* of these, the ones waits do not look at (reg.h) */

    struct rx_flow *rx_flows;
    struct rx_flow *rx_turn; /* where the next round begins */
    struct stash stash;
    struct rx_flow *rx_peeked; /* MSG_PEEK showed its head: it must come next */
    bool rx_held;              /* a record waits for the kernel */
    bool rx_ring_turn;         /* the last datagram came from the kernel */
    _Atomic int kernel_error;  /* found while looking, not yet reported; positive errno */
    bool kernel_maybe;         /* the kernel may have something */
    uint64_t kernel_looked;    /* when we last looked */
    uint64_t kernel_empty;     /* when it last had nothing */

    struct dest *dests;
    unsigned dest_count;
    struct dest *dest_recent;

    struct ivc_stats_slot *_Atomic stats; /* never NULL once matched */
};

extern struct ivc_slab ivc_rx_slab, ivc_tx_slab, ivc_dest_slab;

/* Table of descriptors; NULL before start-up is done. */
extern struct object *_Atomic *ivc_table;

static inline struct object *ivc_object(int fd)
{
    if (__builtin_expect(ivc_table == NULL || (unsigned)fd >= IVC_MAX_FDS, 0))
        return NULL;
    /* acquire: pairs with the release that published the record */
    return atomic_load_explicit(&ivc_table[fd], memory_order_acquire);
}

static inline struct sock *ivc_sock(int fd)
{
    struct object *object = ivc_object(fd);
    return object && object->type == OBJECT_SOCK ? (struct sock *)object : NULL;
}

static inline bool sock_matched(const struct sock *s)
{
    /* acquire: pairs with the release at the end of matching */
    return atomic_load_explicit(&s->state, memory_order_acquire) == SOCK_MATCHED;
}

static inline bool is_matched(const struct sock *s)
{
    return s && sock_matched(s);
}

/* The record of a matched socket, else NULL: the question hot calls ask. */
static inline struct sock *ivc_matched(int fd)
{
    struct sock *s = ivc_sock(fd);
    return is_matched(s) ? s : NULL;
}

/* Life of a record. All leave errno alone. */
int ivc_table_init(void);
void ivc_table_set(int fd, struct object *object);
bool sock_track(int fd, bool nonblock, struct stream *stream); /* NULL: datagrams */
void sock_dup(struct sock *s, int newfd);
void sock_release(int fd, struct sock *s); /* fd is about to stop naming s */
void sock_settle(struct sock *s, int fd);  /* what sets were not told of fd is told now */
void object_release(int fd);               /* the same for whatever fd names */
void sock_end_late(void);                  /* what a handler could not end */
/* Every call that had a lock of its socket has ended. False: one is our own thread's, which was
 * interrupted in it. */
bool sock_calls_ended(void);
void sock_bound(struct sock *s, const struct sockaddr *addr, socklen_t len);
void sock_try_match(struct sock *s);       /* after connect, first send */
void sock_rematch_all(void);               /* a (new) match table is there */
void sock_connected(struct sock *s, int fd);
bool sock_name(int fd, bool peer, struct endpoint *ep);
void sock_show(struct sock *s, uint32_t reason);
void sock_match_stream(struct sock *s, struct endpoint local, struct endpoint peer);
void sock_announce_stream(struct sock *s);
void sock_option(struct sock *s, int level, int name, const void *value, socklen_t len);
void sock_announce_all(void);              /* a new controller has welcomed us */
void sock_renew_bells(void);               /* the old ones are dead */
bool sock_stash(struct sock *s);           /* room for one datagram of the kernel */
struct sock *sock_by_id(uint32_t id);
void sock_before_fork(void);
void sock_after_fork(void);                /* in the child */
void sock_unfork(void);                    /* the parent is alone again */
void sock_retire(struct sock *s, uint32_t reason); /* to the kernel for good */
/* The same where somebody else will read, or this process past us: what rings hold goes back to
 * the kernel. */
void sock_hand_over(struct sock *s, uint32_t reason);
void sock_hand_over_all(uint32_t reason, bool inherited_only); /* not marked close-on-exec */
void sock_hand_over_streams(uint32_t reason); /* of these the connections */
int ivc_highest_fd(void);

/* All records, newest first; hold ivc_reg_lock while walking. */
extern struct sock *ivc_socks;
extern struct ivc_lock ivc_reg_lock;

/* Is the fd still this socket's? Asked under one of its locks. */
static inline bool sock_is(const struct sock *s, int fd)
{
    return ivc_object(fd) == &s->object &&
           atomic_load_explicit(&s->state, memory_order_relaxed) == SOCK_MATCHED;
}

/* ---- counters ------------------------------------------------------------- */

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
    /* one writer at a time (a socket lock is held): no need for a locked add */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#endif
