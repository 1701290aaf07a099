/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions behind us: libc's, or those of the next preload in line.
 */
#ifndef IVC_REAL_H
#define IVC_REAL_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct ivc_real {
#define X(name, ret, params) ret(*name) params;
#include "symbols.def"
#undef X
};

extern struct ivc_real ivc_real_table;

/* Resolve every symbol once. Safe to call again; allocates and locks nothing. */
void ivc_real_init(void);

/* acquire: pairs with the release in ivc_real_init, so that all are seen filled in */
static inline int ivc_real_ready(void)
{
    return __atomic_load_n(&ivc_real_table.socket, __ATOMIC_ACQUIRE) != NULL;
}

/* `real(send)(fd, ...)`. A call may come before our constructor (another
 * library's constructor); then the table is filled on the spot. */
#define real(name) (__builtin_expect(ivc_real_ready(), 1) ? ivc_real_table.name \
                                                         : (ivc_real_init(), ivc_real_table.name))

#endif
