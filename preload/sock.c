/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "control.h"
#include "epoll.h"
#include "flow.h"
#include "match.h"
#include "own.h"
#include "real.h"
#include "stream.h"
#include "stream_relayed.h"

struct object *_Atomic *ivc_table;
struct sock *ivc_socks;
struct ivc_lock ivc_reg_lock;

static struct ivc_slab sock_slab = {.size = sizeof(struct sock),
                                    .keep = offsetof(struct sock, state)};
static _Atomic uint32_t next_id = 1;
static _Atomic int highest_fd;

/* ---- table ---------------------------------------------------------------------- */

int ivc_table_init(void)
{
    void *map = mmap(NULL, IVC_MAX_FDS * sizeof(*ivc_table), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    ivc_table = map;
    return 0;
}

void ivc_table_set(int fd, struct object *object)
{
    if (!ivc_table || (unsigned)fd >= IVC_MAX_FDS)
        return;
    /* release: whoever finds the record finds it filled in */
    atomic_store_explicit(&ivc_table[fd], object, memory_order_release);
    int highest = atomic_load(&highest_fd);
    while (object && fd > highest && !atomic_compare_exchange_weak(&highest_fd, &highest, fd))
        ;
}

int ivc_highest_fd(void)
{
    return atomic_load(&highest_fd);
}

void object_release(int fd)
{
    struct object *object = ivc_object(fd);
    if (!object)
        return;
    if (object->type == OBJECT_SOCK)
        sock_release(fd, (struct sock *)object);
    else if (object->type == OBJECT_EPSET)
        epset_release(fd, (struct epset *)object);
    else
        ivc_table_set(fd, NULL);
}

/* ---- counters and reasons ---------------------------------------------------------- */

void sock_show(struct sock *s, uint32_t reason)
{
    s->shown = reason;
    struct ivc_stats_slot *slot = s->stats;
    if (!slot || atomic_load_explicit(&slot->socket, memory_order_relaxed) != s->id) {
        slot = control_stats_slot(s->id);
        s->stats = slot;
    }
    if (atomic_load_explicit(&slot->socket, memory_order_relaxed) != s->id)
        return; /* no page yet, or no room */
    slot->fd = (uint32_t)s->fd;
    slot->protocol = s->stream ? IPPROTO_TCP : IPPROTO_UDP;
    slot->local_ip = s->local.ip;
    slot->local_port = s->local.port;
    slot->peer_ip = s->peer.ip;
    slot->peer_port = s->peer.port;
    atomic_store_explicit(&slot->reason, reason, memory_order_relaxed);
}

/* ---- birth ---------------------------------------------------------------------------- */

bool sock_track(int fd, bool nonblock, struct stream *stream)
{
    sock_end_late();
    struct sock *s = ivc_slab_get(&sock_slab);
    if (!s)
        return false;
    s->object.type = OBJECT_SOCK;
    s->id = atomic_fetch_add(&next_id, 1);
    s->fd = fd;
    s->nonblock = nonblock;
    s->mc_all = s->mc_loop = true;
    s->bell.fd = -1;
    s->stats = NULL;
    s->stream = stream; /* before others find it in the list, who would take it for datagrams */
    atomic_store(&s->refs, 1);
    atomic_store_explicit(&s->state, SOCK_TRACKED, memory_order_release);
    if (!ivc_lock(&ivc_reg_lock)) {
        ivc_slab_put(&sock_slab, s);
        return false;
    }
    s->next = ivc_socks;
    ivc_socks = s;
    ivc_unlock(&ivc_reg_lock);
    ivc_table_set(fd, &s->object);
    return true;
}

void sock_dup(struct sock *s, int newfd)
{
    atomic_fetch_add(&s->refs, 1);
    ivc_table_set(newfd, &s->object);
}

struct sock *sock_by_id(uint32_t id)
{
    struct sock *found = NULL;
    if (!ivc_lock(&ivc_reg_lock))
        return NULL;
    for (struct sock *s = ivc_socks; s && !found; s = s->next)
        if (s->id == id)
            found = s;
    ivc_unlock(&ivc_reg_lock);
    return found;
}

/* ---- telling the controller ------------------------------------------------------------- */

static void send_membership(const struct sock *s, uint16_t type, uint32_t group)
{
    struct ivc_msg msg = {.type = type, .socket = s->id, .local = {.ip = group}};
    (void)control_send(&msg, &ATTACHED_NOTHING);
}

static void announce(struct sock *s)
{
    uint32_t era = atomic_load(&ivc_control_state.era);
    bool first = s->announced != era;
    struct ivc_msg msg = {
        .type = IVC_MSG_BOUND,
        .socket = s->id,
        .local = {.ip = s->local.ip, .port = s->local.port},
        .peer = {.ip = s->peer.ip, .port = s->peer.port},
        .flags = (s->reuse ? IVC_SOCK_REUSE : 0) | (s->mc_all ? IVC_SOCK_MC_ALL : 0) |
                 (s->mc_loop ? IVC_SOCK_MC_LOOP : 0) | (s->stream ? IVC_SOCK_STREAM : 0),
    };
    /* The bell goes along where the controller hands it on. */
    struct attached bell = {.fd = first && s->bell.port == 0 ? s->bell.fd : -1};
    if (!control_send(&msg, &bell))
        return;
    s->announced = era;
    for (unsigned i = 0; first && i < s->group_count; i++)
        send_membership(s, IVC_MSG_JOIN, s->groups[i]);
}

static void want_again(struct sock *s)
{
    if (!ivc_lock(&s->tx_lock))
        return;
    for (struct dest *d = s->dests; d; d = d->next)
        if (!d->planned && !s->unusable && match_destination(d->ep, s->node) == IVC_REASON_NONE)
            flow_want(s, d);
    ivc_unlock(&s->tx_lock);
}

/* A new controller reads a new page; what was counted so far goes along. */
static void move_counters(struct sock *s)
{
    struct ivc_stats_slot *old = s->stats;
    struct ivc_stats_slot *slot = control_stats_slot(s->id);
    if (old && slot != old && atomic_load(&old->socket) == s->id)
        memcpy(slot, old, sizeof(*slot));
    s->stats = slot;
}

/* The new bell takes the old one's number: a thread asleep with the old one is
 * woken by the mail that brought us here, and goes on with the new one. */
static void renew_bell(struct sock *s)
{
    struct ivc_bell bell;
    if (!sock_matched(s) || ivc_host->bell(&bell) != 0)
        return;
    reg_unbell(s);
    ivc_host->close_bell(&s->bell);
    (void)ivc_sys(SYS_dup3, bell.fd, s->bell.fd, O_CLOEXEC);
    (void)ivc_sys(SYS_close, bell.fd);
    bell.fd = s->bell.fd;
    s->bell = bell;
    reg_matched(s);
}

void sock_renew_bells(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        renew_bell(s);
    ivc_unlock(&ivc_reg_lock);
}

void sock_announce_all(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    uint32_t era = atomic_load(&ivc_control_state.era);
    for (struct sock *s = ivc_socks; s; s = s->next) {
        move_counters(s);
        if (s->stream && !(sock_matched(s) && atomic_load(&s->stream->wanted))) {
            sock_show(s, s->shown);
            continue;
        }
        if (!sock_matched(s)) {
            sock_show(s, s->local.port ? IVC_REASON_NO_NODE : IVC_REASON_NOT_BOUND);
            continue;
        }
        sock_show(s, s->unusable);
        if (s->unusable)
            continue;
        if (s->announced != era)
            announce(s);
        want_again(s);
    }
    ivc_unlock(&ivc_reg_lock);
}

/* ---- matching ----------------------------------------------------------------------------- */

static int option(const struct sock *s, int level, int name, int fallback)
{
    int value = fallback;
    socklen_t len = sizeof(value);
    int saved = errno;
    if (real(getsockopt)(s->fd, level, name, &value, &len) != 0)
        value = fallback;
    errno = saved;
    return value;
}

static uint64_t timeout_option(const struct sock *s, int name)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);
    int saved = errno;
    (void)real(getsockopt)(s->fd, SOL_SOCKET, name, &tv, &len);
    errno = saved;
    return (uint64_t)tv.tv_sec * IVC_NS_PER_S + (uint64_t)tv.tv_usec * IVC_NS_PER_US;
}

static void read_options(struct sock *s)
{
    s->reuse = option(s, SOL_SOCKET, SO_REUSEADDR, 0) || option(s, SOL_SOCKET, SO_REUSEPORT, 0);
    s->mc_loop = option(s, IPPROTO_IP, IP_MULTICAST_LOOP, 1) != 0;
    s->mc_all = option(s, IPPROTO_IP, IP_MULTICAST_ALL, 1) != 0;
    s->pktinfo = option(s, IPPROTO_IP, IP_PKTINFO, 0) != 0;
    s->rcvtimeo = timeout_option(s, SO_RCVTIMEO);
    long flags = ivc_sys(SYS_fcntl, s->fd, F_GETFL);
    s->nonblock = flags >= 0 && (flags & O_NONBLOCK);
}

bool sock_name(int fd, bool peer, struct endpoint *ep)
{
    struct sockaddr_in in = {0};
    socklen_t len = sizeof(in);
    int saved = errno;
    int result = peer ? getpeername(fd, (struct sockaddr *)&in, &len)
                      : getsockname(fd, (struct sockaddr *)&in, &len);
    errno = saved;
    if (result != 0 || in.sin_family != AF_INET)
        in = (struct sockaddr_in){0};
    *ep = (struct endpoint){ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)};
    return ep->port != 0;
}

bool sock_stash(struct sock *s)
{
    if (s->stash.data)
        return true;
    void *map = mmap(NULL, IVC_DGRAM_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    s->stash.data = map;
    return true;
}

/* A wildcard socket cannot tell what its datagrams were sent to unless asked. */
static void tell_destinations_apart(struct sock *s)
{
    int on = 1;
    int saved = errno;
    if (s->local.ip == 0 && !s->pktinfo && sock_stash(s))
        s->pktinfo_own =
            real(setsockopt)(s->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0;
    errno = saved;
}

/* reg_lock held */
static void match_now(struct sock *s)
{
    if (atomic_load(&s->state) != SOCK_TRACKED || s->unusable || s->stream)
        return;
    if (!sock_name(s->fd, false, &s->local))
        return;
    (void)sock_name(s->fd, true, &s->peer);
    uint32_t ask = ip_is_multicast(s->local.ip) ? 0 : s->local.ip;
    enum match_local found = match_local(ask, &s->node, &s->pktinfo_ip);
    if (found != MATCH_NODE) {
        sock_show(s, found == MATCH_AMBIGUOUS ? IVC_REASON_WILDCARD : IVC_REASON_NO_NODE);
        return;
    }
    read_options(s);
    struct ivc_bell bell;
    if (ivc_host->bell(&bell) != 0)
        return;
    bell.fd = own_fd(bell.fd);
    s->bell = bell;
    tell_destinations_apart(s);
    sock_show(s, IVC_REASON_NONE);
    /* Connect first: the sets get the mail descriptor together with the bell. */
    control_ensure();
    /* release: whoever sees MATCHED sees the bell and the names */
    atomic_store_explicit(&s->state, SOCK_MATCHED, memory_order_release);
    reg_matched(s);
    announce(s);
}

void sock_match_stream(struct sock *s, struct endpoint local, struct endpoint peer)
{
    struct ivc_bell bell;
    if (s->unusable || ivc_host->bell(&bell) != 0 || !ivc_lock(&ivc_reg_lock))
        return;
    bell.fd = own_fd(bell.fd);
    s->bell = bell;
    s->local = local;
    s->peer = peer;
    s->rcvtimeo = timeout_option(s, SO_RCVTIMEO);
    s->sndtimeo = timeout_option(s, SO_SNDTIMEO);
    sock_show(s, IVC_REASON_SHORT_LIVED);
    control_ensure();
    /* release: whoever sees MATCHED sees the bell and the names */
    atomic_store_explicit(&s->state, SOCK_MATCHED, memory_order_release);
    reg_matched(s);
    ivc_unlock(&ivc_reg_lock);
    control_poll();
}

void sock_announce_stream(struct sock *s)
{
    if (ivc_lock(&s->tx_lock)) {
        struct dest *d = flow_dest(s, s->peer);
        if (d)
            d->reason = IVC_REASON_PENDING;
        ivc_unlock(&s->tx_lock);
    }
    if (!ivc_lock(&ivc_reg_lock))
        return;
    sock_show(s, s->unusable);
    announce(s);
    ivc_unlock(&ivc_reg_lock);
}

/* Is the address no node's on this host? Known without a system call, so that
 * sockets which are none of our business cost none. */
static bool is_foreign(uint32_t ip)
{
    uint32_t node, node_ip;
    uint32_t ask = ip_is_multicast(ip) ? 0 : ip;
    return match_present() && match_local(ask, &node, &node_ip) == MATCH_NONE;
}

void sock_bound(struct sock *s, const struct sockaddr *addr, socklen_t len)
{
    struct sockaddr_in in = {0};
    if (len >= sizeof(in))
        memcpy(&in, addr, sizeof(in));
    if (in.sin_family != AF_INET || !is_foreign(ntohl(in.sin_addr.s_addr))) {
        sock_try_match(s);
        return;
    }
    s->stranger = true;
    s->local = (struct endpoint){ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)};
    sock_show(s, IVC_REASON_NO_NODE);
}

void sock_try_match(struct sock *s)
{
    (void)match_retry();
    if (s->stranger || is_foreign(0) || !match_present() || !ivc_lock(&ivc_reg_lock))
        return;
    match_now(s);
    ivc_unlock(&ivc_reg_lock);
    control_poll();
}

void sock_rematch_all(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        match_now(s);
    ivc_unlock(&ivc_reg_lock);
}

void sock_connected(struct sock *s, int fd)
{
    if (!sock_matched(s)) {
        sock_try_match(s);
        return;
    }
    struct endpoint local, peer;
    (void)sock_name(fd, false, &local);
    (void)sock_name(fd, true, &peer);
    if (!ivc_lock(&ivc_reg_lock))
        return;
    if (ivc_lock(&s->tx_lock)) {
        s->local = local;
        s->peer = peer;
        ivc_unlock(&s->tx_lock);
    }
    sock_show(s, s->unusable);
    if (!s->unusable)
        announce(s);
    ivc_unlock(&ivc_reg_lock);
}

/* ---- death ----------------------------------------------------------------------------------- */

static void drop_flows(struct sock *s, uint32_t reason)
{
    if (ivc_lock(&s->rx_lock)) {
        while (s->rx_flows)
            flow_drop_rx(s, s->rx_flows, reason);
        ivc_unlock(&s->rx_lock);
    }
    if (ivc_lock(&s->tx_lock)) {
        for (struct dest *d = s->dests; d; d = d->next)
            while (d->flows) {
                (void)flow_give_back(s, d->flows);
                flow_drop_tx(d, d->flows, reason);
            }
        ivc_unlock(&s->tx_lock);
    }
}

static bool is_given_on(uint32_t reason)
{
    return reason == IVC_REASON_HANDED_ON || reason == IVC_REASON_FOREIGN_IO;
}

#define FORK_RELAY_NS (2 * IVC_NS_PER_S)

/* The socket lives on without rings: what they hold is still to be delivered.
 * One whose rest the kernel does not take now stays for who sends next. Not so before a fork: then
 * two would go on with it. A relay that does not let go has what neither can send again, nor who
 * gets the descriptor. */
static void end_all_tx(struct sock *s, struct dest *d, uint32_t reason)
{
    struct tx_flow *next;
    for (struct tx_flow *f = d->flows; f; f = next) {
        uint64_t end = ivc_now() + FORK_RELAY_NS;
        next = f->next;
        do
            flow_end_tx(s, d, f, reason);
        while (reason == IVC_REASON_FORKED && d->flows == f &&
               (relayed_runs(f) ? relayed_waits(f, end) : !f->relay || ivc_now() < end));
        bool others = reason == IVC_REASON_FORKED || (f->relay && is_given_on(reason));
        if (d->flows == f && others) {
            relayed_break(s);
            flow_drop_tx(d, f, reason);
        }
    }
}

static void end_flows(struct sock *s, uint32_t reason)
{
    if (ivc_lock(&s->rx_lock)) {
        struct rx_flow *next;
        for (struct rx_flow *f = s->rx_flows; f; f = next) {
            next = f->next;
            if (!f->attached) {
                flow_drop_rx(s, f, reason);
                continue;
            }
            if (s->stream) { /* what the sender adds until it sees that is still read */
                ivc_rx_set_state(&f->ring, IVC_REGION_CLOSED);
                continue;
            }
            if (f->relay)
                continue; /* the controller closes it: it may still hold some of it */
            ivc_rx_set_state(&f->ring, IVC_REGION_CLOSED);
            f->closing = true;
        }
        reg_stir(s);
        ivc_unlock(&s->rx_lock);
    }
    if (ivc_lock(&s->tx_lock)) {
        for (struct dest *d = s->dests; d; d = d->next)
            end_all_tx(s, d, reason);
        if (s->stream)
            stream_update(s);
        ivc_unlock(&s->tx_lock);
    }
}

static void forget(struct sock *s)
{
    struct dest *next;
    for (struct dest *d = s->dests; d; d = next) {
        next = d->next;
        ivc_slab_put(&ivc_dest_slab, d);
    }
    if (s->stash.data)
        munmap(s->stash.data, IVC_DGRAM_MAX);
    own_close(s->bell.fd);
    control_stats_free(s->stats);
    if (s->stream && atomic_load(&s->native_waits) == 0 && atomic_load(&s->bell_waits) == 0)
        stream_forget(s);
    /* Closed under a sleeping thread: the record must not become another socket
     * whose data that thread would take and whose counts it would spoil. */
    if (atomic_load(&s->native_waits) == 0 && atomic_load(&s->bell_waits) == 0)
        ivc_slab_put(&sock_slab, s);
}

static void unlink_sock(struct sock *s)
{
    for (struct sock **at = &ivc_socks; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            return;
        }
    }
}

/* Sockets a handler has closed while the code it interrupted was at work on them. */
static _Atomic bool late;

static bool interrupted(struct sock *s)
{
    return ivc_lock_mine(&ivc_reg_lock) || ivc_lock_mine(&s->rx_lock) || ivc_lock_mine(&s->tx_lock);
}

static void end_late(struct sock *s)
{
    atomic_store_explicit(&s->state, SOCK_DEAD, memory_order_release);
    atomic_store(&late, true);
}

/* False: later. */
static bool end(struct sock *s)
{
    if (interrupted(s)) {
        end_late(s);
        return false;
    }
    if (!ivc_lock(&ivc_reg_lock))
        return false;
    if (reg_interrupted(s)) {
        end_late(s);
        ivc_unlock(&ivc_reg_lock);
        return false;
    }
    if (s->stream && sock_matched(s) && !s->inherited && !s->stream->family)
        stream_closing(s); /* else another process goes on with it */
    bool known = s->announced != 0 && s->announced == atomic_load(&ivc_control_state.era);
    atomic_store_explicit(&s->state, SOCK_DEAD, memory_order_release);
    reg_closing(s);
    drop_flows(s, IVC_REASON_PEER_GONE);
    unlink_sock(s);
    ivc_unlock(&ivc_reg_lock);
    if (known) {
        struct ivc_msg msg = {.type = IVC_MSG_UNBOUND, .socket = s->id};
        (void)control_send(&msg, &ATTACHED_NOTHING);
    }
    forget(s);
    return true;
}

static struct sock *first_dead(void)
{
    struct sock *s = NULL;
    if (!ivc_lock(&ivc_reg_lock))
        return NULL;
    for (s = ivc_socks; s && atomic_load(&s->state) != SOCK_DEAD;)
        s = s->next;
    ivc_unlock(&ivc_reg_lock);
    return s;
}

void sock_end_late(void)
{
    struct sock *s;
    if (!atomic_load_explicit(&late, memory_order_relaxed) || ivc_lock_mine(&ivc_reg_lock))
        return;
    atomic_store(&late, false);
    while ((s = first_dead()) && !interrupted(s) && end(s))
        ;
    if (s)
        atomic_store(&late, true);
}

static bool can_be_had(struct ivc_lock *lock)
{
    bool locked = ivc_lock(lock);
    if (locked)
        ivc_unlock(lock);
    return locked;
}

bool sock_calls_ended(void)
{
    bool ended = true;
    if (!ivc_lock(&ivc_reg_lock))
        return false;
    for (struct sock *s = ivc_socks; s; s = s->next)
        ended = can_be_had(&s->rx_lock) && can_be_had(&s->tx_lock) && ended;
    ivc_unlock(&ivc_reg_lock);
    return ended;
}

static void find_other_fd(struct sock *s)
{
    for (int fd = 0; fd <= atomic_load(&highest_fd); fd++) {
        if (ivc_object(fd) == &s->object) {
            s->fd = fd;
            return;
        }
    }
}

void sock_settle(struct sock *s, int fd)
{
    if (s->stream && s->regs && ivc_lock(&ivc_reg_lock)) {
        reg_settle(s, fd);
        ivc_unlock(&ivc_reg_lock);
    }
}

void sock_release(int fd, struct sock *s)
{
    ivc_table_set(fd, NULL);
    sock_settle(s, fd);
    if (atomic_fetch_sub(&s->refs, 1) == 1)
        (void)end(s);
    else if (s->fd == fd)
        find_other_fd(s);
}

void sock_retire(struct sock *s, uint32_t reason)
{
    if (s->unusable)
        return;
    s->unusable = reason;
    sock_show(s, reason);
    if (!sock_matched(s))
        return;
    end_flows(s, reason);
    struct ivc_msg msg = {.type = IVC_MSG_UNBOUND, .socket = s->id};
    (void)control_send(&msg, &ATTACHED_NOTHING);
    s->announced = 0;
    if (s->stream)
        reg_sync_out(s);
}

/* Rings whose sender can do without: not a relay's of datagrams, nor a group's whose other members would get it
 * twice, nor where the kernel still owes the second copy of what has been read. */
static bool can_freeze(const struct sock *s, struct rx_flow *f)
{
    return f->attached && (!f->relay || s->stream) && !f->closing && !f->owed.count &&
           !ip_is_multicast(f->dst.ip) && ivc_rx_peer_state(&f->ring) == IVC_REGION_OPEN &&
           (!s->stream || (f == s->rx_flows && !f->next && stream_catch_up(s->stream, f)));
}

void sock_hand_over(struct sock *s, uint32_t reason)
{
    if (sock_matched(s) && ivc_lock(&s->rx_lock)) {
        struct rx_flow *next;
        if (s->stream)
            stream_enter_family(s->stream);
        for (struct rx_flow *f = s->rx_flows; f; f = next) {
            next = f->next;
            if (can_freeze(s, f))
                flow_freeze_rx(s, f, reason);
            else if (s->stream && !s->inherited && relayed_strands(s, f))
                relayed_break(s);
        }
        if (s->stream)
            stream_leave_family(s->stream);
        ivc_unlock(&s->rx_lock);
    }
    sock_retire(s, reason);
}

static bool is_inherited(const struct sock *s)
{
    for (int fd = 0; fd <= atomic_load(&highest_fd); fd++)
        if (ivc_object(fd) == &s->object && !(ivc_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC))
            return true;
    return false;
}

void sock_hand_over_all(uint32_t reason, bool inherited_only)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        if (sock_matched(s) && (!inherited_only || is_inherited(s)))
            sock_hand_over(s, reason);
    ivc_unlock(&ivc_reg_lock);
}

void sock_hand_over_streams(uint32_t reason)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        if (s->stream && sock_matched(s) && is_inherited(s))
            sock_hand_over(s, reason);
    ivc_unlock(&ivc_reg_lock);
}

/* ---- options ----------------------------------------------------------------------------------- */

static void join(struct sock *s, uint32_t group)
{
    if (s->group_count == IVC_MAX_GROUPS) {
        sock_retire(s, IVC_REASON_OPTION);
        return;
    }
    s->groups[s->group_count++] = group;
    if (sock_matched(s))
        send_membership(s, IVC_MSG_JOIN, group);
}

/* The kernel delivers nothing of the group any more, so nor do its rings. Whether others on this
 * host are members still, the kernel knows: a sender that finds the ring closed asks it. */
static void end_group(struct sock *s, uint32_t group)
{
    struct rx_flow *next;
    if (!ivc_lock(&s->rx_lock))
        return;
    for (struct rx_flow *f = s->rx_flows; f; f = next) {
        next = f->next;
        if (f->dst.ip == group)
            flow_leave_rx(s, f, IVC_REASON_PEER_GONE);
    }
    ivc_unlock(&s->rx_lock);
}

static void leave(struct sock *s, uint32_t group)
{
    for (unsigned i = 0; i < s->group_count; i++) {
        if (s->groups[i] != group)
            continue;
        s->groups[i] = s->groups[--s->group_count];
        end_group(s, group);
        if (sock_matched(s))
            send_membership(s, IVC_MSG_LEAVE, group);
        return;
    }
}

static uint32_t group_of(const void *value, socklen_t len)
{
    struct in_addr group = {0}; /* ip_mreq and ip_mreqn both begin with it */
    if (len >= sizeof(group))
        memcpy(&group, value, sizeof(group));
    return ntohl(group.s_addr);
}

static uint32_t group_req_of(const void *value, socklen_t len)
{
    struct group_req req;
    struct sockaddr_in in;
    if (len < sizeof(req))
        return 0;
    memcpy(&req, value, sizeof(req));
    memcpy(&in, &req.gr_group, sizeof(in));
    return in.sin_family == AF_INET ? ntohl(in.sin_addr.s_addr) : 0;
}

static void ip_option(struct sock *s, int name, const void *value, socklen_t len)
{
    switch (name) {
    case IP_ADD_MEMBERSHIP:
        join(s, group_of(value, len));
        break;
    case MCAST_JOIN_GROUP:
        join(s, group_req_of(value, len));
        break;
    case IP_DROP_MEMBERSHIP:
        leave(s, group_of(value, len));
        break;
    case MCAST_LEAVE_GROUP:
        leave(s, group_req_of(value, len));
        break;
    case IP_PKTINFO:
        s->pktinfo = option(s, IPPROTO_IP, IP_PKTINFO, 0) != 0;
        if (s->pktinfo_own)
            tell_destinations_apart(s);
        break;
    case IP_MULTICAST_LOOP:
    case IP_MULTICAST_ALL:
        s->mc_loop = option(s, IPPROTO_IP, IP_MULTICAST_LOOP, 1) != 0;
        s->mc_all = option(s, IPPROTO_IP, IP_MULTICAST_ALL, 1) != 0;
        if (sock_matched(s) && !s->unusable)
            announce(s);
        break;
    case IP_MULTICAST_IF:
    case IP_MULTICAST_TTL:
    case IP_FREEBIND:
    case IP_TOS:
    case IP_TTL:
    case IP_MTU_DISCOVER:
    case IP_BIND_ADDRESS_NO_PORT:
        break;
    default:
        sock_retire(s, IVC_REASON_OPTION);
    }
}

static void socket_option(struct sock *s, int name)
{
    switch (name) {
    case SO_REUSEADDR:
    case SO_REUSEPORT:
        s->reuse = true;
        break;
    case SO_RCVTIMEO:
        s->rcvtimeo = timeout_option(s, SO_RCVTIMEO);
        break;
    case SO_SNDTIMEO:
    case SO_RCVBUF:
    case SO_SNDBUF:
    case SO_RCVBUFFORCE:
    case SO_SNDBUFFORCE:
    case SO_BROADCAST:
    case SO_BINDTODEVICE:
    case SO_LINGER:
    case SO_KEEPALIVE:
    case SO_PRIORITY:
    case SO_DONTROUTE:
    case SO_RCVLOWAT:
        break;
    default:
        sock_retire(s, IVC_REASON_OPTION);
    }
}

static void stream_option(struct sock *s, int level, int name)
{
    if (level == SOL_SOCKET && name == SO_RCVTIMEO)
        s->rcvtimeo = timeout_option(s, SO_RCVTIMEO);
    if (level == SOL_SOCKET && name == SO_SNDTIMEO)
        s->sndtimeo = timeout_option(s, SO_SNDTIMEO);
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_SNDBUFFORCE))
        stream_send_buffer(s);
    if (!stream_option_fits(level, name))
        sock_retire(s, IVC_REASON_OPTION);
}

void sock_option(struct sock *s, int level, int name, const void *value, socklen_t len)
{
    if (s->stream) {
        stream_option(s, level, name);
        return;
    }
    if (level == SOL_SOCKET)
        socket_option(s, name);
    else if (level == IPPROTO_IP)
        ip_option(s, name, value, len);
    else
        sock_retire(s, IVC_REASON_OPTION);
}

/* ---- fork ---------------------------------------------------------------------------------------- */

/* Two processes will have the sockets, and cannot both know what the other gives the kernel. */
void sock_before_fork(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next) {
        if (!sock_matched(s))
            continue;
        if (s->stream && ivc_host->inherited) {
            /* Both know how far their rings are read, whatever the sender is doing. */
            sock_retire(s, IVC_REASON_FORKED);
            reg_settle(s, -1);
            stream_make_family(s);
        } else {
            sock_hand_over(s, IVC_REASON_FORKED);
        }
    }
    ivc_unlock(&ivc_reg_lock);
}

static void unfork(struct sock *s)
{
    s->unusable = IVC_REASON_NONE;
    for (struct dest *d = s->dests; d; d = d->next) {
        d->planned = false;
        d->reason = IVC_REASON_PENDING;
    }
    sock_show(s, IVC_REASON_NONE);
    if (s->stream && !atomic_load(&s->stream->wanted))
        return;
    announce(s);
    if (!s->stream)
        want_again(s);
}

void sock_unfork(void)
{
    if (!ivc_lock(&ivc_reg_lock))
        return;
    for (struct sock *s = ivc_socks; s; s = s->next)
        if (sock_matched(s) && s->unusable == IVC_REASON_FORKED && !s->inherited &&
            !is_inherited(s))
            unfork(s);
    ivc_unlock(&ivc_reg_lock);
}

/* The child's copies of its parent's sockets stay with the kernel; sockets it makes itself are its
 * own. */
void sock_after_fork(void)
{
    memset(&ivc_reg_lock, 0, sizeof(ivc_reg_lock));
    ivc_slab_after_fork(&sock_slab);
    ivc_slab_after_fork(&ivc_rx_slab);
    ivc_slab_after_fork(&ivc_tx_slab);
    ivc_slab_after_fork(&ivc_dest_slab);
    for (struct sock *s = ivc_socks; s; s = s->next) {
        memset(&s->rx_lock, 0, sizeof(s->rx_lock));
        memset(&s->tx_lock, 0, sizeof(s->tx_lock));
        s->rx_turn = s->rx_peeked = NULL;
        if (!s->stream || !ivc_host->inherited)
            s->rx_flows = NULL; /* else: what they hold is ours as well */
        s->dests = s->dest_recent = NULL;
        s->stash.full = false;
        s->unusable = IVC_REASON_FORKED;
        s->inherited = true;
        s->announced = 0;
        s->stats = s->stream ? control_no_slot() : NULL;
        if (s->stream)
            atomic_store(&s->stream->on_ring, false);
        else if (atomic_load(&s->state) == SOCK_MATCHED)
            atomic_store(&s->state, SOCK_TRACKED);
        own_close(s->bell.fd);
        s->bell.fd = -1;
    }
}
