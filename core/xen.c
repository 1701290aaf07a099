/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "xen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* _IOC_NONE numbers of the three devices: (size << 16) | type << 8 | number */
#define GNTALLOC_ALLOC 0x00184705u
#define GNTALLOC_DEALLOC 0x00104706u
#define GNTDEV_MAP 0x00184700u
#define GNTDEV_UNMAP 0x00104701u
#define EVTCHN_BIND_INTERDOMAIN 0x00084501u
#define EVTCHN_BIND_UNBOUND 0x00044502u
#define EVTCHN_UNBIND 0x00044503u
#define EVTCHN_NOTIFY 0x00044504u

#define PORTS_AT_ONCE 64u

struct gntalloc_alloc {
    uint16_t domid;
    uint16_t flags; /* 0: the peer may only read */
    uint32_t count;
    uint64_t index;
    uint32_t refs[IVC_XEN_PAGES_MOST];
};

struct gntalloc_dealloc {
    uint64_t index;
    uint32_t count;
    uint32_t pad;
};

struct gntdev_map {
    uint32_t count;
    uint32_t pad;
    uint64_t index;
    struct {
        uint32_t domid;
        uint32_t ref;
    } refs[IVC_XEN_PAGES_MOST];
};

struct gntdev_unmap {
    uint64_t index;
    uint32_t count;
    uint32_t pad;
};

/* The raw call: no interposed symbol is entered, and errno stays. */
static long sys_ioctl(int fd, unsigned long request, const void *arg)
{
    int saved = errno;
    long result = syscall(SYS_ioctl, fd, request, arg);
    if (result < 0)
        result = -errno;
    errno = saved;
    return result;
}

static int map_device(int fd, uint32_t pages, int prot, uint64_t index, void **map)
{
    int saved = errno;
    void *at = mmap(NULL, (size_t)pages * IVC_XEN_PAGE, prot, MAP_SHARED, fd, (off_t)index);
    int error = at == MAP_FAILED ? -errno : 0;
    errno = saved;
    *map = error ? NULL : at;
    return error;
}

int ivc_xen_share(int fd, uint16_t domid, uint32_t pages, struct ivc_xen_share *share,
                  uint32_t *refs)
{
    struct gntalloc_alloc alloc = {.domid = domid, .count = pages};
    if (pages == 0 || pages > IVC_XEN_PAGES_MOST)
        return -EINVAL;
    long result = sys_ioctl(fd, GNTALLOC_ALLOC, &alloc);
    if (result < 0)
        return (int)result;
    int error = map_device(fd, pages, PROT_READ | PROT_WRITE, alloc.index, &share->map);
    /* From here on the mapping alone keeps the pages: they go with the process. */
    struct gntalloc_dealloc dealloc = {.index = alloc.index, .count = pages};
    (void)sys_ioctl(fd, GNTALLOC_DEALLOC, &dealloc);
    share->pages = pages;
    if (!error)
        memcpy(refs, alloc.refs, pages * sizeof(*refs));
    return error;
}

void ivc_xen_unshare(struct ivc_xen_share *share)
{
    if (share->map)
        munmap(share->map, (size_t)share->pages * IVC_XEN_PAGE);
    share->map = NULL;
}

int ivc_xen_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages,
                struct ivc_xen_mapping *mapping)
{
    struct gntdev_map op = {.count = pages};
    void *map;
    if (pages == 0 || pages > IVC_XEN_PAGES_MOST)
        return -EINVAL;
    for (uint32_t i = 0; i < pages; i++) {
        op.refs[i].domid = domid;
        op.refs[i].ref = refs[i];
    }
    long result = sys_ioctl(fd, GNTDEV_MAP, &op);
    if (result < 0)
        return (int)result;
    int error = map_device(fd, pages, PROT_READ, op.index, &map);
    *mapping = (struct ivc_xen_mapping){.map = map, .pages = pages, .index = op.index};
    if (error)
        ivc_xen_unmap(fd, mapping);
    return error;
}

void ivc_xen_unmap(int fd, struct ivc_xen_mapping *mapping)
{
    struct gntdev_unmap op = {.index = mapping->index, .count = mapping->pages};
    if (mapping->map)
        munmap((void *)(uintptr_t)mapping->map, (size_t)mapping->pages * IVC_XEN_PAGE);
    mapping->map = NULL;
    (void)sys_ioctl(fd, GNTDEV_UNMAP, &op);
}

int ivc_evtchn_open(void)
{
    int saved = errno;
    long fd = syscall(SYS_openat, AT_FDCWD, "/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = -errno;
    errno = saved;
    return (int)fd;
}

int ivc_evtchn_unbound(int fd, uint16_t domid)
{
    uint32_t op = domid;
    return (int)sys_ioctl(fd, EVTCHN_BIND_UNBOUND, &op);
}

int ivc_evtchn_bind(int fd, uint16_t domid, uint32_t remote)
{
    uint32_t op[2] = {domid, remote};
    return (int)sys_ioctl(fd, EVTCHN_BIND_INTERDOMAIN, op);
}

int ivc_evtchn_unbind(int fd, uint32_t port)
{
    return (int)sys_ioctl(fd, EVTCHN_UNBIND, &port);
}

void ivc_evtchn_ring(int fd, uint32_t port)
{
    (void)sys_ioctl(fd, EVTCHN_NOTIFY, &port);
}

bool ivc_evtchn_consume(int fd)
{
    uint32_t ports[PORTS_AT_ONCE];
    bool any = false;
    int saved = errno;
    for (;;) {
        long n = syscall(SYS_read, fd, ports, sizeof(ports));
        if (n <= 0)
            break;
        any = true;
        /* Unmask: what was latched meanwhile comes now, as a new event. */
        (void)syscall(SYS_write, fd, ports, (size_t)n);
        if ((size_t)n < sizeof(ports))
            break;
    }
    errno = saved;
    return any;
}
