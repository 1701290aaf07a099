/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Xen from user space, over the kernel's own devices: grants, event channels.
 * No libxen*: this is loaded into applications. Errors are -errno; errno and
 * the heap are left alone.
 *
 * Whoever writes a page owns it: shares are granted read-only, and foreign
 * pages are mapped read-only. A grant cannot be revoked while the peer has it
 * mapped; its page stays pinned until the peer lets go or its domain dies.
 *
 * Interfaces: Linux include/uapi/xen/{gntalloc,gntdev,evtchn}.h.
 */
#ifndef IVC_PLATFORM_XEN_H
#define IVC_PLATFORM_XEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IVC_XEN_PAGE 4096u
#define IVC_XEN_PAGES_MOST 1024u /* what gntalloc grants by default, of all processes */

/* Pages of ours that one other domain may read. */
struct ivc_xen_share {
    void *map;
    uint32_t pages;
};

/* Pages of another domain. */
struct ivc_xen_mapping {
    const void *map;
    uint32_t pages;
    uint64_t index;
};

/* What the kernel does when the pages go, however their process ends. */
struct ivc_xen_notify {
    uint32_t byte; /* clears this one, an offset in the first page */
    uint32_t port; /* and rings this event channel, of the same process */
};

/*
 * Grant `pages` fresh, zeroed pages to `domid`, readable only; refs[] takes one
 * grant reference a page. `fd` is /dev/xen/gntalloc and may be closed
 * afterwards: the pages go with the mapping. A forked child does not have them.
 */
int ivc_xen_share(int fd, uint16_t domid, uint32_t pages, const struct ivc_xen_notify *notify,
                  struct ivc_xen_share *share, uint32_t *refs);
void ivc_xen_unshare(struct ivc_xen_share *share);

/* Map pages granted by `domid`, read-only. `fd` is /dev/xen/gntdev and must stay
 * open as long as the mapping. */
int ivc_xen_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages,
                struct ivc_xen_mapping *mapping);
void ivc_xen_unmap(int fd, struct ivc_xen_mapping *mapping); /* of nothing: nothing */

/*
 * Let go of the pages, but keep what they hold now (`keep` bytes of it, the rest
 * becomes zero) in memory of our own at the same address: a thread that looks
 * there meanwhile finds the one or the other. 0, or -errno and nothing changed.
 */
int ivc_xen_unmap_in_place(int fd, struct ivc_xen_mapping *mapping, size_t keep);

/*
 * For another process, which is handed the descriptor and maps it at offset 0;
 * nothing else may be done with it. One page `domid` may read, there as long as
 * the descriptor or a mapping is; and pages granted by `domid`, to be mapped
 * once, read-only.
 */
int ivc_xen_lend(int fd, uint16_t domid, uint32_t *ref);
int ivc_xen_pick(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages);

/* Open one of Xen's devices by its name. Descriptor or -errno. */
int ivc_xen_open(const char *device);

/*
 * Event channels; `fd` is /dev/xen/evtchn. A port is masked from its delivery
 * until it is written back; what comes meanwhile is latched. The one who binds
 * to another's port gets one event for nothing.
 */
int ivc_evtchn_open(void);
int ivc_evtchn_unbound(int fd, uint16_t domid);                /* local port, or -errno */
int ivc_evtchn_bind(int fd, uint16_t domid, uint32_t remote);  /* local port, or -errno */
int ivc_evtchn_unbind(int fd, uint32_t port);
void ivc_evtchn_ring(int fd, uint32_t port);

/* Take and unmask all pending ports. True if there was one. */
bool ivc_evtchn_consume(int fd);

#endif
