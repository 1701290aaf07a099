/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tiny XenStore client over /dev/xen/xenbus: one request at a time, no
 * watches. Errors are -errno; -ETIMEDOUT after IVC_XENSTORE_PATIENCE_MS, then the
 * client is of no more use. Interface: Xen public/io/xs_wire.h.
 */
#ifndef IVC_XENSTORE_H
#define IVC_XENSTORE_H

#include <stddef.h>
#include <stdint.h>

#define IVC_XENSTORE_MOST 4096u /* payload of one message */
#define IVC_XENSTORE_PATIENCE_MS 200 /* for one answer */

struct ivc_xenstore {
    int fd;           /* -1 = closed */
    uint32_t request; /* number of the last request */
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

#endif
