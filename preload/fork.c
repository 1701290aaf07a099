/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fork.h"

#include <fcntl.h>

#include "control.h"
#include "own.h"
#include "sock.h"
#include "stream.h"
#include "util.h"

/* A pipe for each child: it holds the other end until it execs or ends. */
#define CHILDREN_MOST 16

static int children[CHILDREN_MOST];
static unsigned watched;
static bool too_many; /* one that is not watched: FORKED for good */
static int ends[2] = {-1, -1};

static bool any_matched(void)
{
    bool found = false;
    if (!ivc_lock(&ivc_reg_lock))
        return false;
    for (struct sock *s = ivc_socks; s && !found; s = s->next)
        found = sock_matched(s);
    ivc_unlock(&ivc_reg_lock);
    return found;
}

void fork_prepare(void)
{
    ends[0] = ends[1] = -1;
    if (!any_matched())
        return;
    if (watched == CHILDREN_MOST || ivc_sys(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        too_many = true;
    } else {
        ends[0] = own_fd(ends[0]);
        ends[1] = own_fd(ends[1]);
    }
    sock_before_fork();
}

void fork_parent(void)
{
    own_close(ends[1]);
    if (ends[0] < 0)
        return;
    children[watched++] = ends[0];
    atomic_store(&ivc_control_state.glance, true);
    control_listen(ends[0]);
}

/* Not one of our own any more: a child that closes all it has inherited lets go of it, too. */
void fork_child(void)
{
    if (ends[1] >= 0)
        ivc_table_set(ends[1], NULL);
    own_close(ends[0]);
    while (watched)
        own_close(children[--watched]);
    too_many = false;
    atomic_store(&ivc_control_state.glance, false);
}

void fork_look(void)
{
    unsigned before = watched;
    for (unsigned i = watched; i-- > 0;) {
        char byte;
        if (ivc_sys(SYS_read, children[i], &byte, 1) == -EAGAIN)
            continue;
        own_close(children[i]);
        children[i] = children[--watched];
    }
    if (before == 0 || watched)
        return;
    atomic_store(&ivc_control_state.glance, false);
    if (!too_many)
        sock_unfork();
}
