/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "platform_xen.h"

#include "doorbell.h"

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
#define UNMAP_NOTIFY 0x00104707u
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

/* Shared by gntalloc and gntdev. */
struct unmap_notify {
    uint64_t index; /* of the page, plus the byte in it */
    uint32_t action;
    uint32_t port;
};

enum { CLEAR_BYTE = 1, SEND_EVENT = 2 };

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

/* A child that kept them would keep them granted, or mapped, when we have let go. Of mappings that is
 * the kernel's own way in a paravirtual guest only. */
static void keep_from_children(void *map, uint32_t pages)
{
    int saved = errno;
    (void)madvise(map, (size_t)pages * IVC_XEN_PAGE, MADV_DONTFORK);
    errno = saved;
}

static int notify_at_end(int fd, uint64_t index, const struct ivc_xen_notify *notify)
{
    struct unmap_notify op = {
        .index = index + notify->byte, .action = CLEAR_BYTE | SEND_EVENT, .port = notify->port};
    return (int)sys_ioctl(fd, UNMAP_NOTIFY, &op);
}

int ivc_xen_share(int fd, uint16_t domid, uint32_t pages, const struct ivc_xen_notify *notify,
                  struct ivc_xen_share *share, uint32_t *refs)
{
    struct gntalloc_alloc alloc = {.domid = domid, .count = pages};
    if (pages == 0 || pages > IVC_XEN_PAGES_MOST)
        return -EINVAL;
    long result = sys_ioctl(fd, GNTALLOC_ALLOC, &alloc);
    if (result < 0)
        return (int)result;
    int error = map_device(fd, pages, PROT_READ | PROT_WRITE, alloc.index, &share->map);
    if (!error && notify)
        error = notify_at_end(fd, alloc.index, notify); /* before the descriptor forgets them */
    /* From here on the mapping alone keeps the pages: they go with the process. */
    struct gntalloc_dealloc dealloc = {.index = alloc.index, .count = pages};
    (void)sys_ioctl(fd, GNTALLOC_DEALLOC, &dealloc);
    share->pages = pages;
    if (error) {
        ivc_xen_unshare(share);
        return error;
    }
    keep_from_children(share->map, pages);
    memcpy(refs, alloc.refs, pages * sizeof(*refs));
    return 0;
}

void ivc_xen_unshare(struct ivc_xen_share *share)
{
    if (share->map)
        munmap(share->map, (size_t)share->pages * IVC_XEN_PAGE);
    share->map = NULL;
}

int ivc_xen_lend(int fd, uint16_t domid, uint32_t *ref)
{
    struct gntalloc_alloc alloc = {.domid = domid, .count = 1};
    long result = sys_ioctl(fd, GNTALLOC_ALLOC, &alloc);
    *ref = alloc.refs[0];
    return result == 0 && alloc.index != 0 ? -EPROTO : (int)result;
}

/* Where the pages will be in the descriptor. */
static int name_grants(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages, uint64_t *index)
{
    struct gntdev_map op = {.count = pages};
    if (pages == 0 || pages > IVC_XEN_PAGES_MOST)
        return -EINVAL;
    for (uint32_t i = 0; i < pages; i++) {
        op.refs[i].domid = domid;
        op.refs[i].ref = refs[i];
    }
    long result = sys_ioctl(fd, GNTDEV_MAP, &op);
    *index = op.index;
    return (int)result;
}

int ivc_xen_pick(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages)
{
    uint64_t index;
    int error = name_grants(fd, domid, refs, pages, &index);
    return error == 0 && index != 0 ? -EPROTO : error;
}

int ivc_xen_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t pages,
                struct ivc_xen_mapping *mapping)
{
    uint64_t index;
    void *map;
    int error = name_grants(fd, domid, refs, pages, &index);
    if (error)
        return error;
    error = map_device(fd, pages, PROT_READ, index, &map);
    if (!error)
        keep_from_children(map, pages);
    *mapping = (struct ivc_xen_mapping){.map = map, .pages = pages, .index = index};
    if (error)
        ivc_xen_unmap(fd, mapping);
    return error;
}

void ivc_xen_unmap(int fd, struct ivc_xen_mapping *mapping)
{
    struct gntdev_unmap op = {.index = mapping->index, .count = mapping->pages};
    if (mapping->pages == 0)
        return;
    if (mapping->map)
        munmap((void *)(uintptr_t)mapping->map, (size_t)mapping->pages * IVC_XEN_PAGE);
    *mapping = (struct ivc_xen_mapping){0};
    (void)sys_ioctl(fd, GNTDEV_UNMAP, &op);
}

int ivc_xen_unmap_in_place(int fd, struct ivc_xen_mapping *mapping, size_t keep)
{
    size_t size = (size_t)mapping->pages * IVC_XEN_PAGE;
    int saved = errno;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int error = copy == MAP_FAILED ? -errno : 0;
    if (!error) {
        memcpy(copy, mapping->map, keep < size ? keep : size);
        void *at = (void *)(uintptr_t)mapping->map;
        if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
            error = -errno;
            munmap(copy, size);
        }
    }
    errno = saved;
    if (!error) {
        struct gntdev_unmap op = {.index = mapping->index, .count = mapping->pages};
        (void)sys_ioctl(fd, GNTDEV_UNMAP, &op);
    }
    return error;
}

int ivc_xen_open(const char *device)
{
    static const char folder[] = "/dev/xen/";
    char path[32];
    size_t length = strlen(device);
    if (length >= sizeof(path) - sizeof(folder))
        return -ENAMETOOLONG;
    memcpy(path, folder, sizeof(folder) - 1);
    memcpy(path + sizeof(folder) - 1, device, length + 1);
    int saved = errno;
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = -errno;
    errno = saved;
    return (int)fd;
}

int ivc_evtchn_open(void)
{
    return ivc_xen_open("evtchn");
}

int ivc_bell_open_xen(struct ivc_bell *bell, uint16_t self)
{
    *bell = (struct ivc_bell){.fd = -1};
    int fd = ivc_evtchn_open();
    if (fd < 0)
        return fd;
    int far = ivc_evtchn_unbound(fd, self);
    int near = far < 0 ? far : ivc_evtchn_bind(fd, self, (uint32_t)far);
    if (near < 0) {
        (void)syscall(SYS_close, fd);
        return near;
    }
    *bell = (struct ivc_bell){.fd = fd, .port = (uint32_t)near, .far = (uint32_t)far};
    return 0;
}

void ivc_bell_unbind_xen(const struct ivc_bell *bell)
{
    (void)ivc_evtchn_unbind(bell->fd, bell->port);
    (void)ivc_evtchn_unbind(bell->fd, bell->far);
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
