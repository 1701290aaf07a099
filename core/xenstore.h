/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tiny XenStore client over /dev/xen/xenbus: one request at a time, watches
 * counted. Errors are -errno. Interface: Xen public/io/xs_wire.h.
 */
#ifndef IVC_XENSTORE_H
#define IVC_XENSTORE_H

#include <stddef.h>
#include <stdint.h>

#define IVC_XENSTORE_MOST 4096u /* payload of one message */

struct ivc_xenstore {
    int fd;           /* poll this for POLLIN; -1 = closed */
    uint32_t request; /* number of the last request */
    uint32_t events;  /* watch events met so far */
};

int ivc_xenstore_open(struct ivc_xenstore *store);
void ivc_xenstore_close(struct ivc_xenstore *store);

/* Length of the value copied to `value` (not terminated), or -errno. */
int ivc_xenstore_read(struct ivc_xenstore *store, const char *path, void *value, size_t size);
int ivc_xenstore_write(struct ivc_xenstore *store, const char *path, const void *value,
                       size_t length);
int ivc_xenstore_remove(struct ivc_xenstore *store, const char *path);

/* Who may read a node besides its owner (ourselves) and dom0. */
int ivc_xenstore_reader(struct ivc_xenstore *store, const char *path, uint16_t self,
                        uint16_t reader);

/* Be told of changes at and below `path`: the descriptor becomes readable. The
 * first event comes at once. Which watch it was is not kept: look again. */
int ivc_xenstore_watch(struct ivc_xenstore *store, const char *path);

/* Take the events that wait; blocks only if there is none. */
int ivc_xenstore_take_event(struct ivc_xenstore *store);

#endif
