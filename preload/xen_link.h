/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control connection on Xen: a pair of rings with the controller's domain,
 * announced and answered over XenStore (docs/xen.md). These are verbs of
 * struct host; see there.
 */
#ifndef IVC_XEN_LINK_H
#define IVC_XEN_LINK_H

#include "host.h"

enum xen_device { XEN_GNTALLOC, XEN_GNTDEV, XEN_EVTCHN, XEN_DEVICES };

/* A descriptor of ours of one of Xen's devices, opened by xen_connect. -errno if it cannot be. */
int xen_device(enum xen_device which);
void xen_devices_close(void);

/* Our domain id, as of the last connection or table. */
uint16_t xen_self(void);

int xen_connect(uint64_t *patience);
void xen_disconnect(int fd);
int xen_receive(int fd, struct mail *mail);
bool xen_welcome(const struct mail *mail, struct welcome *out);
bool xen_send(int fd, const struct ivc_msg *msg, const struct attached *with);
bool xen_alive(int fd);
void xen_link_after_fork(void);

#endif
