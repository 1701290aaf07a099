/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "xenstore.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform_xen.h"

enum {
    XS_READ = 2,
    XS_WRITE = 11,
    XS_RM = 13,
    XS_SET_PERMS = 14,
    XS_ERROR = 16,
};

struct header {
    uint32_t type;
    uint32_t request;
    uint32_t transaction;
    uint32_t length;
};

struct reply {
    struct header header;
    char payload[IVC_XENSTORE_MOST];
};

struct piece {
    const void *data;
    size_t length;
};

/* The daemon lives in dom0 and may be slow or gone: our caller is inside a call
 * of the application. */
static bool wait_for(int fd, short events)
{
    struct pollfd look = {.fd = fd, .events = events};
    struct timespec patience = {.tv_nsec = IVC_XENSTORE_PATIENCE_MS * 1000000L};
    return syscall(SYS_ppoll, &look, 1, &patience, NULL, 0) == 1;
}

static long transfer(int fd, bool out, void *data, size_t length)
{
    int saved = errno;
    size_t done = 0;
    long result = 0;
    while (done < length) {
        char *at = (char *)data + done;
        long n = out ? syscall(SYS_write, fd, at, length - done)
                     : syscall(SYS_read, fd, at, length - done);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_for(fd, out ? POLLOUT : POLLIN))))
            continue;
        if (n < 0 && errno == EAGAIN)
            errno = ETIMEDOUT;
        if (n <= 0) {
            result = n < 0 ? -errno : -EIO;
            break;
        }
        done += (size_t)n;
    }
    errno = saved;
    return result;
}

static const struct {
    const char *name;
    int number;
} errors[] = {
    {"ENOENT", ENOENT}, {"EACCES", EACCES}, {"EINVAL", EINVAL}, {"EEXIST", EEXIST},
    {"ENOSPC", ENOSPC}, {"EQUOTA", EDQUOT}, {"ENOMEM", ENOMEM}, {"EPERM", EPERM},
};

static int error_of(const struct reply *reply)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (strcmp(reply->payload, errors[i].name) == 0)
            return -errors[i].number;
    return -EIO;
}

static int receive(struct ivc_xenstore *store, struct reply *reply)
{
    long result = transfer(store->fd, false, &reply->header, sizeof(reply->header));
    if (result < 0)
        return (int)result;
    if (reply->header.length >= sizeof(reply->payload))
        return -EMSGSIZE;
    result = transfer(store->fd, false, reply->payload, reply->header.length);
    reply->payload[reply->header.length] = 0;
    return (int)result;
}

/* Length of the reply's payload, or -errno. */
static int call(struct ivc_xenstore *store, uint32_t type, const struct piece *pieces, size_t n,
                struct reply *reply)
{
    struct {
        struct header header;
        char payload[IVC_XENSTORE_MOST];
    } out = {.header = {.type = type, .request = ++store->request}};
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].length > sizeof(out.payload) - length)
            return -E2BIG;
        memcpy(out.payload + length, pieces[i].data, pieces[i].length);
        length += pieces[i].length;
    }
    out.header.length = (uint32_t)length;
    long result = transfer(store->fd, true, &out, sizeof(out.header) + length);
    while (result == 0) {
        result = receive(store, reply);
        if (result == 0 && reply->header.request == store->request)
            return reply->header.type == XS_ERROR ? error_of(reply) : (int)reply->header.length;
    }
    return (int)result;
}

static struct piece text(const char *string)
{
    return (struct piece){string, strlen(string) + 1};
}

int ivc_xenstore_open(struct ivc_xenstore *store)
{
    int fd = ivc_xen_open("xenbus");
    *store = (struct ivc_xenstore){.fd = fd < 0 ? -1 : fd};
    return fd < 0 ? fd : 0;
}

void ivc_xenstore_close(struct ivc_xenstore *store)
{
    if (store->fd >= 0)
        (void)syscall(SYS_close, store->fd);
    store->fd = -1;
}

int ivc_xenstore_read(struct ivc_xenstore *store, const char *path, void *value, size_t size)
{
    struct reply reply;
    struct piece pieces[] = {text(path)};
    int length = call(store, XS_READ, pieces, 1, &reply);
    if (length < 0)
        return length;
    if ((size_t)length > size)
        return -EMSGSIZE;
    memcpy(value, reply.payload, (size_t)length);
    return length;
}

int ivc_xenstore_write(struct ivc_xenstore *store, const char *path, const void *value,
                       size_t length)
{
    struct reply reply;
    struct piece pieces[] = {text(path), {value, length}};
    int result = call(store, XS_WRITE, pieces, 2, &reply);
    return result < 0 ? result : 0;
}

int ivc_xenstore_remove(struct ivc_xenstore *store, const char *path)
{
    struct reply reply;
    struct piece pieces[] = {text(path)};
    int result = call(store, XS_RM, pieces, 1, &reply);
    return result < 0 ? result : 0;
}

/* "n12": domain 12 owns it and others have no access; "r7": domain 7 may read. */
static struct piece permission(char *out, char kind, uint16_t domid)
{
    char digits[5];
    size_t n = 0, at = 0;
    do {
        digits[n++] = (char)('0' + domid % 10);
        domid /= 10;
    } while (domid);
    out[at++] = kind;
    while (n)
        out[at++] = digits[--n];
    out[at++] = 0;
    return (struct piece){out, at};
}

int ivc_xenstore_reader(struct ivc_xenstore *store, const char *path, uint16_t self,
                        uint16_t reader)
{
    struct reply reply;
    char owner[8], other[8];
    struct piece pieces[] = {text(path), permission(owner, 'n', self),
                             permission(other, 'r', reader)};
    int result = call(store, XS_SET_PERMS, pieces, 3, &reply);
    return result < 0 ? result : 0;
}
