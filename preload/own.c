/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "own.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "sock.h"
#include "util.h"

#define OWN_BASE_MOST 65536

static struct object own_object = {.type = OBJECT_OWN};

/* Three quarters up: out of the way of programs that count on small numbers. */
static int base(void)
{
    struct rlimit limit;
    if (ivc_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
        return 256;
    rlim_t most = limit.rlim_cur < OWN_BASE_MOST ? limit.rlim_cur : OWN_BASE_MOST;
    return (int)(most - most / 4);
}

int own_fd(int fd)
{
    if (fd < 0)
        return fd;
    long high = ivc_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, base());
    if (high >= 0) {
        (void)ivc_sys(SYS_close, fd);
        fd = (int)high;
    }
    ivc_table_set(fd, &own_object);
    return fd;
}

void own_close(int fd)
{
    if (fd < 0)
        return;
    ivc_table_set(fd, NULL);
    (void)ivc_sys(SYS_close, fd);
}

bool own_is(int fd)
{
    struct object *object = ivc_object(fd);
    return object && object->type == OBJECT_OWN;
}
