/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's connection with the IVC Controller. Made when the first socket
 * matches, never before. No thread: mail is read inside the application's own
 * calls, and every wait on a matched socket includes control_mail_fd().
 */
#ifndef IVC_CONTROL_H
#define IVC_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "../core/pages.h"
#include "../core/protocol.h"
#include "host.h"

struct ivc_trace;

struct control_state {
    const _Atomic uint64_t *_Atomic sent; /* what the controller has sent; NULL: not welcomed yet */
    _Atomic uint64_t received;            /* what we have taken of it, kept by the host */
    _Atomic int fd;                       /* -1: not connected */
    _Atomic uint32_t era;                 /* counts controllers */
    int mail_fd;                          /* epoll set: connection, timer; -1 = none yet */
    _Atomic bool glance;                  /* children are watched (fork.h): nobody else tells */
    struct ivc_trace *_Atomic trace;      /* what is sent is copied here; NULL: not (trace.h) */
};

extern struct control_state ivc_control_state;

/* Connect if we are not connected. Never blocks. */
void control_ensure(void);

/* Shared memory says whether there is mail. */
static inline bool control_has_mail(void)
{
    const _Atomic uint64_t *sent =
        atomic_load_explicit(&ivc_control_state.sent, memory_order_acquire);
    return sent && atomic_load_explicit(sent, memory_order_acquire) !=
                       atomic_load_explicit(&ivc_control_state.received, memory_order_relaxed);
}

/* Look into the connection itself: slow paths, and after mail_fd was readable. */
void control_read(void);

/* Whoever waits for mail is woken by this, too, and reads mail. */
void control_listen(int fd);

/* Is anybody at the other end? One system call. */
bool control_alive(void);

/* What shared memory does not tell of - a welcome, the end of a child - is looked for now and then,
 * and mail at once. */
void control_glance(void);

static inline void control_poll(void)
{
    /* Not welcomed yet: nobody tells of mail. A process that only receives without waiting
     * would never hear of it. */
    if (__builtin_expect(!atomic_load_explicit(&ivc_control_state.sent, memory_order_relaxed) ||
                             atomic_load_explicit(&ivc_control_state.glance, memory_order_relaxed),
                         0))
        control_glance();
    else if (__builtin_expect(control_has_mail(), 0))
        control_read();
}

/* The same for calls that never wait, sends and vain receives: looks into the socket itself now and
 * then, so that a process that makes no others is welcomed, and hears that its controller died. */
void control_poll_unslept(void);

static inline int control_mail_fd(void)
{
    return ivc_control_state.mail_fd;
}

/* The name of the running program, terminated. */
#define IVC_COMMAND_SIZE 16u
void control_command(char out[IVC_COMMAND_SIZE]);

/* Fill in what every message of ours says. */
void control_sign(struct ivc_msg *msg);

/* Send one message and what goes along. False: not connected (any more). */
bool control_send(struct ivc_msg *msg, const struct attached *with);

/* A place for counters of a socket; never NULL. */
struct ivc_stats_slot *control_stats_slot(uint32_t socket);
struct ivc_stats_slot *control_no_slot(void);
void control_stats_free(struct ivc_stats_slot *slot);
struct ivc_stats_header *control_stats(void);

void control_after_fork(void);

#endif
