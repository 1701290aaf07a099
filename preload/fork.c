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

static struct ivc_lock lock; /* children, watched */
static int children[CHILDREN_MOST];
static unsigned watched;
static _Atomic bool too_many; /* one that is not watched: FORKED for good */

/* Of the fork this thread is in. */
static __thread int ends[2] __attribute__((tls_model("initial-exec"))) = {-1, -1};

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
    if (ivc_sys(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        ends[0] = own_fd(ends[0]);
        ends[1] = own_fd(ends[1]);
    } else {
        atomic_store(&too_many, true);
    }
    sock_before_fork();
}

void spawn_prepare(void)
{
    if (ivc_table)
        sock_hand_over_streams(IVC_REASON_HANDED_ON);
}

void fork_parent(void)
{
    own_close(ends[1]);
    if (ends[0] < 0)
        return;
    bool locked = ivc_lock(&lock), fits = locked && watched < CHILDREN_MOST;
    if (fits)
        children[watched++] = ends[0];
    if (locked)
        ivc_unlock(&lock);
    if (!fits) {
        atomic_store(&too_many, true);
        own_close(ends[0]);
        return;
    }
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
    atomic_store(&lock.word, 0);
    atomic_store(&too_many, false);
    atomic_store(&ivc_control_state.glance, false);
}

/* True: there were some, and none is left. */
static bool all_gone(void)
{
    unsigned before = watched;
    for (unsigned i = watched; i-- > 0;) {
        char byte;
        if (ivc_sys(SYS_read, children[i], &byte, 1) == -EAGAIN)
            continue;
        own_close(children[i]);
        children[i] = children[--watched];
    }
    return before && !watched;
}

void fork_look(void)
{
    if (!atomic_load_explicit(&ivc_control_state.glance, memory_order_relaxed) || !ivc_lock(&lock))
        return;
    bool alone = all_gone();
    if (alone)
        atomic_store(&ivc_control_state.glance, false);
    ivc_unlock(&lock);
    if (alone && !atomic_load(&too_many))
        sock_unfork();
}
