/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections over rings (docs/architecture.md, TCP). A stream socket is a
 * struct sock with a struct stream; its flows hang where those of datagrams do:
 * rx_flows (a newer one waits until the older are drained), and one destination.
 */
#ifndef IVC_STREAM_H
#define IVC_STREAM_H

#include "sock.h"

#define STREAM_WHOLE_NS IVC_NS_PER_MS         /* how old a look at the connection may be, */
#define STREAM_WHOLE_MOST_NS (5 * IVC_NS_PER_MS) /* or this if its peer has read meanwhile */
#define STREAM_STUCK_NS (10 * IVC_NS_PER_MS)  /* full for so long: by the kernel */
#define STREAM_NAP_NS IVC_NS_PER_MS           /* a writer never sleeps longer at a time */
#define STREAM_EAGER_NS (200 * IVC_NS_PER_MS) /* what a first send waits for its flow, */
#define STREAM_EAGER_LEAST_NS IVC_NS_PER_MS   /* or this after others have waited in vain */
#define STREAM_LAZY_NS (100 * IVC_NS_PER_MS)  /* what makes a connection long-lived: age, */
#define STREAM_LAZY_CALLS 64u                 /* or payload calls */

/* How far a family of processes has read what its ring still held at the fork. Parent and child
 * take turns (as programs do); two that receive at the same instant could see bytes twice. */
struct family {
    _Atomic uint64_t head;
    uint64_t krx;
    uint32_t flow, offset, seq;
    _Atomic uint32_t frozen; /* the flow whose rest one of them has left to its sender; 0: none */
    _Atomic uint32_t busy;   /* one of them looks or reads */
};

struct stream {
    void *link; /* slab */
    uint64_t born;
    _Atomic uint32_t calls;
    _Atomic bool wanted; /* the controller was told */
    _Atomic bool heard;  /* somebody receives, or waits to, by us: not by io_uring */
    bool eager;
    bool waited;         /* the first send has waited for its flow */

    /* sending, tx lock */
    uint64_t ktx;          /* bytes given to the kernel */
    uint64_t position;     /* bytes sent, by whatever road */
    bool ringed;           /* others have gone by ring */
    uint64_t whole_looked; /* when the connection was last seen whole, */
    uint64_t whole_head;   /* how far the ring was read then, */
    uint64_t whole_asked;  /* and when the kernel last said so */
    uint64_t full_since;   /* ring found full, and not read since; 0 = not */
    uint64_t full_head;    /* its head then, */
    uint64_t full_kernel;  /* and what the receiver had taken from the kernel */
    uint64_t pushed;       /* of ktx, what the kernel has been told not to hold back */
    bool full;             /* no sending before a quarter is free */
    bool bypass;           /* nobody reads: by the kernel until a quarter is free */
    bool giving;           /* what a frozen receiver has left goes to the kernel: */
    uint64_t give_at;      /* from the record here on, */
    uint64_t give_offset;  /* less so many bytes of it */
    bool kernel_only;      /* for good */
    _Atomic bool foreign;  /* bytes went past us while it was on rings; not yet retired */
    _Atomic bool on_ring;  /* OUT is ours to say */
    _Atomic uint64_t most;  /* bytes of the ring it may use: SO_SNDBUF, if chosen; else 0 */
    _Atomic uint64_t fulls; /* how often it was full: edges of OUT */

    /* receiving, rx lock */
    uint64_t krx;      /* bytes taken from the kernel */
    uint32_t offset;   /* bytes taken of the record at the head */
    int error;         /* found behind bytes taken, not yet reported; positive errno */
    _Atomic bool end_held; /* the kernel's end has waited for a relay */
    uint64_t released; /* head of the ring when its sender was last looked after */
    struct family *family; /* shared memory, after a fork */
    uint8_t *peek_room; /* for copies of what the kernel has */
    size_t peek_size;
};

/* Life. */
bool stream_track(int fd, bool nonblock);        /* socket() and accept(); before a match */
void stream_connected(struct sock *s, const struct sockaddr *addr, socklen_t len);
void stream_accepted(int fd, bool nonblock);
void stream_forget(struct sock *s);
void stream_closing(struct sock *s);             /* its last descriptor, just before */
bool stream_option_fits(int level, int name);

/* The application may have chosen its buffer for sending: see `most`. */
void stream_send_buffer(struct sock *s);
void stream_call(struct sock *s);                /* one more payload call */
void stream_heard(struct sock *s);
void stream_update(struct sock *s);              /* tx lock held: on_ring anew */
void stream_make_family(struct sock *s);         /* for what its rings hold still */
void stream_count_in(struct stream *st, uint64_t krx);                /* rx lock held */
void stream_store_family(struct stream *st, const struct rx_flow *f); /* rx lock held */
/* Between these nobody else of the family looks or reads. rx lock held. */
void stream_enter_family(struct stream *st);
void stream_leave_family(struct stream *st);
/* A new flow may have a number that one of an earlier controller's had. rx lock held. */
void stream_begin_family(struct stream *st, const struct rx_flow *f);
/* In the family, too: what others have read of it meanwhile is read. False: its rest is the
 * sender's to deliver. */
bool stream_catch_up(struct stream *st, struct rx_flow *f);
void stream_freeze_family(struct stream *st, const struct rx_flow *f);

/* May this end take part in a flow? IVC_REASON_NONE, or why not. Its lock for the
 * role is held. */
uint32_t stream_confirm(struct sock *s, uint32_t role);

/* Is the connection open both ways, and has nobody written past us? tx lock held. */
bool stream_whole(struct sock *s);
/* Has somebody read past us? Our count is put right. rx lock held. */
bool stream_foreign_in(struct sock *s);
/* After a call that may have found out; no lock held. */
void stream_part(struct sock *s);

void stream_unheard(struct sock *s); /* shutdown of reading */

/* Sending. As the kernel, or -errno. */
ssize_t stream_send(struct sock *s, int fd, const struct msghdr *msg, int flags);
/* A call that gives bytes to the kernel past us: splice, sendfile of what is no file. */
ssize_t stream_send_by(struct sock *s, ssize_t (*call)(void *), void *arg);
/* Can a sendfile from `in` be made by copy? `at`: where it begins. */
bool stream_sends_file(int in, const off64_t *offset, off64_t *at);
ssize_t stream_sendfile(struct sock *s, int out, int in, off64_t at, size_t size);
/* As much of a file as goes by ring, and is in memory; 0: the rest goes otherwise. *stopped: there
 * is no more room now, or a handler has run. */
ssize_t stream_send_file(struct sock *s, int fd, int in, off64_t at, size_t size, bool *stopped);
bool stream_give_back(struct sock *s, struct tx_flow *f); /* flow_give_back(); tx lock held */
void stream_settle(struct sock *s); /* before the kernel is told of an end: nothing left to give */
bool stream_writable(struct sock *s);   /* takes the tx lock; on_ring sockets only */
/* Before sleeping for room. False: there is room, or something to find out. */
bool stream_arm_out(struct sock *s, uint64_t *limit);
bool stream_made_room(struct sock *s);
int stream_unread(struct sock *s);      /* bytes in the ring the peer has not read */

/* Receiving. */
ssize_t stream_recv(struct sock *s, int fd, struct msghdr *msg, int flags);
bool stream_readable(struct sock *s, bool kernel); /* rx lock held */
bool stream_hint(struct sock *s);                  /* rx lock held */
bool stream_arm_in(struct sock *s);                /* rx lock held; false: something is there */
bool stream_rest(struct sock *s);                  /* rx lock held; recv_rest() */
int stream_held(struct sock *s);                   /* bytes not with the kernel; takes the rx lock */

static inline bool stream_on_ring(const struct sock *s)
{
    return s->stream && atomic_load_explicit(&s->stream->on_ring, memory_order_relaxed);
}

/* Something of it is not with the kernel, or does not go there. */
static inline bool stream_holds(const struct sock *s)
{
    return stream_on_ring(s) || s->stream->error ||
           atomic_load_explicit(&s->stream->end_held, memory_order_relaxed);
}

/* The flow it sends on, if any; tx lock held. */
static inline struct tx_flow *stream_tx(const struct sock *s)
{
    return s->dests ? s->dests->flows : NULL;
}

#endif
