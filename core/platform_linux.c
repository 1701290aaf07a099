/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/doorbell.h on plain Linux: an eventfd.
 *
 * System calls are made directly, never through libc's wrappers: this file is
 * also part of a library that interposes read, write and poll. errno is kept,
 * because a bell is rung in the middle of the application's own calls.
 *
 * An eventfd is shared by everybody who holds it: a peer could fill it up or
 * make it blocking. Processes that exchange eventfds are one trust domain.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall() */
#endif
#include "doorbell.h"
#include "platform_xen.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Test mode, IVC_BELL=channel: make the eventfd behave like a descriptor of
 * /dev/xen/evtchn.
 *
 * Emulated: while an event is unread no further ring gives an edge, so somebody
 * who waits edge-triggered and does not consume first sleeps for good; many
 * rings collapse into one event; a ring after the consume is a new event.
 *
 * Not emulated: ports (one descriptor is one bell); the two halves of a consume
 * (a ring between read and unmask is latched on Xen and is a new event here,
 * which looks the same); the one extra event Xen gives after the unmask when
 * there were rings while the event was unread, and the one right after binding
 * (both spurious, and spurious rings are allowed anyway).
 */
static bool channel_mode(void)
{
    static _Atomic int cached = -1; /* the environment is read once */
    int mode = atomic_load_explicit(&cached, memory_order_relaxed);

    if (mode < 0) {
        const char *value = getenv("IVC_BELL");

        mode = value != NULL && strcmp(value, "channel") == 0;
        atomic_store_explicit(&cached, mode, memory_order_relaxed);
    }
    return mode == 1;
}

static bool unread(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    struct timespec zero = {0, 0};

    return syscall(SYS_ppoll, &look, 1, &zero, NULL, 0) == 1 && (look.revents & POLLIN) != 0;
}

int ivc_bell_open(struct ivc_bell *bell)
{
    int saved = errno;
    long fd = syscall(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (fd < 0) {
        int rc = -errno;

        *bell = (struct ivc_bell){.fd = -1};
        errno = saved;
        return rc;
    }
    ivc_bell_adopt(bell, (int)fd);
    return 0;
}

void ivc_bell_adopt(struct ivc_bell *bell, int fd)
{
    *bell = (struct ivc_bell){.fd = fd, .channel = channel_mode()};
}

void ivc_bell_ring(const struct ivc_bell *bell)
{
    const uint64_t one = 1;
    int saved = errno;

    if (bell->fd < 0) {
        return;
    }
    if (bell->port != 0) {
        ivc_evtchn_ring(bell->fd, bell->port);
        return;
    }
    /*
     * Skipping is safe: the event is unread now, after our records were
     * published, so the receiver looks at its rings after consuming it.
     */
    if (!bell->channel || !unread(bell->fd)) {
        /* EAGAIN: the counter is full, hence readable: rung already. */
        (void)syscall(SYS_write, bell->fd, &one, sizeof(one));
    }
    errno = saved;
}

bool ivc_bell_consume(const struct ivc_bell *bell)
{
    uint64_t count;
    int saved = errno;
    long got;

    if (bell->fd < 0) {
        return false;
    }
    if (bell->port != 0) {
        return ivc_evtchn_consume(bell->fd);
    }
    got = syscall(SYS_read, bell->fd, &count, sizeof(count));
    errno = saved;
    return got == (long)sizeof(count);
}
