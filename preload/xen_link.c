/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "xen_link.h"

#include <string.h>
#include <sys/random.h>

#include "../core/ring.h"
#include "../core/platform_xen.h"
#include "../core/xenstore.h"
#include "control.h"
#include "own.h"
#include "util.h"
#include "xen_text.h"

#define ORDER 13u
#define SENDER_PAGES 3u
#define RECEIVER_PAGES 1u
#define STATS_PAGES 4u
#define ANSWER_PATIENCE_NS (2 * IVC_NS_PER_S)
#define FULL_PATIENCE_NS (100 * IVC_NS_PER_MS)
#define FULL_NAP_NS 200000

static_assert(SENDER_PAGES * IVC_XEN_PAGE == IVC_DATA_OFFSET + (1u << ORDER), "control ring");
static_assert(IVC_MSG_SIZE + 4 * IVC_MSG_MAX_WORDS <= (1u << (ORDER - 1)) - sizeof(struct ivc_record),
              "a message fits");
static_assert(sizeof(struct ivc_stats_header) % sizeof(struct ivc_stats_slot) == 0, "slots fit");

enum phase {
    DOWN,      /* nothing is shared */
    ANNOUNCED, /* ours is shared, the answer is awaited */
    UP,        /* both rings work */
};

static struct {
    /* Leaf lock: rings and phase, between a sender, the reader and the end. */
    struct ivc_lock lock;
    enum phase phase;
    bool broken;   /* a message did not get through */
    bool welcomed; /* counters and the word for mail are in use */
    uint16_t self, controller;
    uint32_t nonce;
    uint32_t port;
    uint64_t since; /* announced */
    struct ivc_xen_share up_own, down_own, stats;
    struct ivc_xen_mapping up_peer, down_peer;
    uint32_t stats_refs[STATS_PAGES];
    struct ivc_tx up;
    struct ivc_rx down;
} conn;

static _Atomic uint32_t self = 0;

/* ---- devices --------------------------------------------------------------------- */

static int devices[XEN_DEVICES] = {-1, -1, -1};

int xen_device(enum xen_device which)
{
    static const char *const names[XEN_DEVICES] = {"gntalloc", "gntdev", "evtchn"};
    if (devices[which] < 0)
        devices[which] = own_fd(ivc_xen_open(names[which]));
    return devices[which];
}

void xen_devices_close(void)
{
    for (unsigned i = 0; i < XEN_DEVICES; i++) {
        if (devices[i] >= 0)
            own_close(devices[i]);
        devices[i] = -1;
    }
}

/* Where the controller sees it: one line, what is missing and how to get it. */
static void complain(struct ivc_xenstore *store, enum xen_device which)
{
    static const char *const lines[XEN_DEVICES] = {
        "/dev/xen/gntalloc cannot be opened: modprobe xen-gntalloc, and let the program open it",
        "/dev/xen/gntdev cannot be opened: modprobe xen-gntdev, and let the program open it",
        "/dev/xen/evtchn cannot be opened: modprobe xen-evtchn, and let the program open it",
    };
    (void)ivc_xenstore_write(store, "data/ivc/error", lines[which], strlen(lines[which]));
}

static int open_devices(struct ivc_xenstore *store)
{
    for (unsigned i = 0; i < XEN_DEVICES; i++) {
        if (xen_device(i) < 0) {
            complain(store, i);
            return -ENODEV;
        }
    }
    return 0;
}

/* ---- names ------------------------------------------------------------------------ */

static int read_numbers(struct ivc_xenstore *store, const char *path, uint64_t *numbers, size_t count)
{
    char text[XEN_TEXT_MOST];
    int length = ivc_xenstore_read(store, path, text, sizeof(text));
    if (length < 0)
        return length;
    return text_numbers(text, (size_t)length, numbers, count) ? 0 : -EPROTO;
}

/* Both may change: a saved domain is restored under another id. */
static int read_domains(struct ivc_xenstore *store)
{
    uint64_t own, controller[3];
    int error = read_numbers(store, "ivc/controller", controller, 3);
    if (!error)
        error = read_numbers(store, "domid", &own, 1);
    if (error)
        return error;
    if (controller[0] != 1 || controller[1] > UINT16_MAX || own > UINT16_MAX)
        return -EPROTONOSUPPORT;
    conn.controller = (uint16_t)controller[1];
    conn.self = (uint16_t)own;
    atomic_store(&self, conn.self);
    return 0;
}

uint16_t xen_self(void)
{
    struct ivc_xenstore store;
    uint64_t own = 0;
    if (atomic_load(&self) == 0 && ivc_xenstore_open(&store) == 0) {
        if (read_numbers(&store, "domid", &own, 1) == 0)
            atomic_store(&self, (uint32_t)own);
        ivc_xenstore_close(&store);
    }
    return (uint16_t)atomic_load(&self);
}

static struct xen_text path_of(const char *folder)
{
    struct xen_text path = {.length = 0};
    text_add(&path, folder);
    text_add_nonce(&path, conn.nonce);
    return path;
}

/* ---- coming up ---------------------------------------------------------------------- */

static void write_static(void *region, uint8_t role)
{
    struct ivc_ctrl *line = region;
    line->magic = IVC_RING_MAGIC;
    line->abi_major = IVC_RING_ABI_MAJOR;
    line->abi_minor = IVC_RING_ABI_MINOR;
    line->role = role;
    line->order = ORDER;
    line->epoch = conn.nonce;
    atomic_store_explicit(&line->state, IVC_REGION_OPEN, memory_order_relaxed);
}

static int share_all(int fd, uint32_t refs[SENDER_PAGES + RECEIVER_PAGES])
{
    int alloc = xen_device(XEN_GNTALLOC);
    int port = ivc_evtchn_unbound(fd, conn.controller);
    if (port < 0)
        return port;
    conn.port = (uint32_t)port;
    /* The first page of `up` says that we live, until our kernel says otherwise. */
    const struct ivc_xen_notify death = {.byte = offsetof(struct ivc_ctrl, state),
                                         .port = conn.port};
    int error = ivc_xen_share(alloc, conn.controller, SENDER_PAGES, &death, &conn.up_own, refs);
    if (!error)
        error = ivc_xen_share(alloc, conn.controller, RECEIVER_PAGES, NULL, &conn.down_own,
                              refs + SENDER_PAGES);
    if (!error)
        error = ivc_xen_share(alloc, conn.controller, STATS_PAGES, NULL, &conn.stats,
                              conn.stats_refs);
    if (error)
        return error;
    write_static(conn.up_own.map, IVC_ROLE_SENDER);
    write_static(conn.down_own.map, IVC_ROLE_RECEIVER);
    return 0;
}

/* A program may call itself anything; the controller takes printable ASCII, and some of it. */
static void make_printable(char command[IVC_COMMAND_SIZE])
{
    for (char *at = command; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    if (!command[0])
        memcpy(command, "?", 2);
}

static int announce(struct ivc_xenstore *store, const uint32_t refs[SENDER_PAGES + RECEIVER_PAGES])
{
    struct xen_text path = path_of("data/ivc/"), value = {.length = 0};
    char command[IVC_COMMAND_SIZE];
    control_command(command);
    make_printable(command);
    text_add_number(&value, 1);
    text_add_number(&value, conn.port);
    for (unsigned i = 0; i < SENDER_PAGES + RECEIVER_PAGES; i++)
        text_add_number(&value, refs[i]);
    text_add_number(&value, (uint64_t)ivc_sys(SYS_getpid));
    text_add(&value, " ");
    text_add(&value, command);
    return ivc_xenstore_write(store, path.at, value.at, value.length);
}

/* Lock held, or nobody can know us yet. */
static void take_down(void)
{
    int gntdev = xen_device(XEN_GNTDEV);
    /* Once welcomed, somebody may be asking for mail there: the address, like the
     * counters, stays until the welcome after the next. */
    if (!conn.welcomed || ivc_xen_unmap_in_place(gntdev, &conn.down_peer, 0) != 0)
        ivc_xen_unmap(gntdev, &conn.down_peer);
    ivc_xen_unmap(gntdev, &conn.up_peer);
    if (!conn.welcomed)
        ivc_xen_unshare(&conn.stats);
    ivc_xen_unshare(&conn.up_own);
    ivc_xen_unshare(&conn.down_own);
    conn.down_peer = conn.up_peer = (struct ivc_xen_mapping){0};
    conn.phase = DOWN;
}

static int open_link(struct ivc_xenstore *store)
{
    uint32_t refs[SENDER_PAGES + RECEIVER_PAGES];
    int error = read_domains(store);
    if (!error)
        error = open_devices(store);
    if (error)
        return error;
    int fd = own_fd(ivc_evtchn_open());
    if (fd < 0)
        return fd;
    do {
        if (ivc_sys(SYS_getrandom, &conn.nonce, sizeof(conn.nonce), GRND_NONBLOCK) < 0)
            conn.nonce = (uint32_t)ivc_now(); /* early at boot: only has to differ */
    } while (conn.nonce == 0);
    error = share_all(fd, refs);
    if (!error)
        error = announce(store, refs);
    if (error) {
        take_down();
        own_close(fd);
        return error;
    }
    conn.broken = conn.welcomed = false;
    conn.since = ivc_now();
    conn.phase = ANNOUNCED;
    return fd;
}

int xen_connect(uint64_t *patience)
{
    struct ivc_xenstore store;
    int fd = ivc_xenstore_open(&store);
    if (fd < 0)
        return fd;
    fd = -EAGAIN;
    if (ivc_lock(&conn.lock)) {
        fd = open_link(&store);
        ivc_unlock(&conn.lock);
    }
    ivc_xenstore_close(&store);
    *patience = ANSWER_PATIENCE_NS;
    return fd;
}

/* ---- the answer ---------------------------------------------------------------------- */

static int map_answer(const uint64_t numbers[2 + SENDER_PAGES])
{
    int gntdev = xen_device(XEN_GNTDEV);
    uint32_t down[SENDER_PAGES], up = (uint32_t)numbers[1 + SENDER_PAGES];
    const struct ivc_ring_ident ident = {.epoch = conn.nonce, .order = ORDER};
    for (unsigned i = 0; i < SENDER_PAGES; i++)
        down[i] = (uint32_t)numbers[1 + i];
    int error = ivc_xen_map(gntdev, conn.controller, down, SENDER_PAGES, &conn.down_peer);
    if (!error)
        error = ivc_xen_map(gntdev, conn.controller, &up, RECEIVER_PAGES, &conn.up_peer);
    if (!error)
        error = ivc_tx_attach(&conn.up, conn.up_own.map, SENDER_PAGES * IVC_XEN_PAGE,
                              conn.up_peer.map, IVC_XEN_PAGE, &ident);
    if (!error)
        error = ivc_rx_attach(&conn.down, conn.down_own.map, IVC_XEN_PAGE, conn.down_peer.map,
                              SENDER_PAGES * IVC_XEN_PAGE, &ident);
    return error;
}

/* 0 = we are up; -ENOENT = not yet. */
static int read_answer(void)
{
    struct ivc_xenstore store;
    uint64_t numbers[2 + SENDER_PAGES];
    struct xen_text path = path_of("ivc/answer/"), mine = path_of("data/ivc/");
    int error = ivc_xenstore_open(&store);
    if (error)
        return error;
    error = read_numbers(&store, path.at, numbers, 2 + SENDER_PAGES);
    if (!error && numbers[0] != 1)
        error = -EPROTONOSUPPORT;
    if (!error)
        error = map_answer(numbers);
    if (error != -ENOENT)
        (void)ivc_xenstore_remove(&store, mine.at);
    ivc_xenstore_close(&store);
    return error;
}

static void say_hello(int fd)
{
    struct ivc_msg hello = {.type = IVC_MSG_HELLO, .arg = IVC_RING_ABI_MAJOR};
    struct attached refs = {.words = conn.stats_refs, .count = STATS_PAGES, .fd = -1};
    control_sign(&hello);
    (void)xen_send(fd, &hello, &refs);
}

/* True: up. *lost: no answer came, or a bad one. The controller rings when it has answered;
 * before that XenStore need not be asked. */
static bool come_up(int fd, bool *lost)
{
    *lost = ivc_now() - conn.since > ANSWER_PATIENCE_NS;
    if ((!ivc_evtchn_consume(fd) && !*lost) || !ivc_lock(&conn.lock))
        return false;
    int error = read_answer();
    if (!error) {
        conn.phase = UP;
        atomic_store(&ivc_control_state.received, conn.down.head);
    }
    ivc_unlock(&conn.lock);
    *lost |= error != 0;
    if (!error)
        say_hello(fd);
    return !error;
}

/* ---- mail ------------------------------------------------------------------------------ */

static void take(const struct ivc_record *record, struct mail *mail)
{
    size_t words = (record->length - IVC_MSG_SIZE) / sizeof(uint32_t);
    struct iovec iov[] = {{&mail->msg, sizeof(mail->msg)}, {mail->words, words * sizeof(uint32_t)}};
    (void)ivc_rx_copy(&conn.down, record, iov, 2);
    mail->word_count = (unsigned)words;
    mail->fd_count = 0;
}

static bool fits(const struct ivc_record *record)
{
    return record->length >= IVC_MSG_SIZE && record->length % sizeof(uint32_t) == 0 &&
           record->length <= IVC_MSG_SIZE + IVC_MSG_MAX_WORDS * sizeof(uint32_t);
}

/* 1 = a message, 0 = drained and armed, -1 = lost */
static int next(int fd, struct mail *mail)
{
    struct ivc_record record;
    for (;;) {
        int got = ivc_rx_peek(&conn.down, &record);
        if (got < 0 || (got > 0 && !fits(&record)))
            return -1;
        if (got > 0) {
            take(&record, mail);
            ivc_rx_consume(&conn.down, &record);
            return 1;
        }
        ivc_rx_publish(&conn.down);
        /* Clear before arming and looking: what rings after this is seen. */
        (void)ivc_evtchn_consume(fd);
        if (!ivc_rx_arm(&conn.down))
            continue;
        /* All it had said has been heard: now whether it still lives. */
        return conn.broken || ivc_rx_peer_state(&conn.down) != IVC_REGION_OPEN ? -1 : 0;
    }
}

int xen_receive(int fd, struct mail *mail)
{
    bool lost = false;
    if (conn.phase == ANNOUNCED && !come_up(fd, &lost))
        return lost ? -1 : 0;
    if (conn.phase != UP)
        return -1;
    int got = next(fd, mail);
    atomic_store_explicit(&ivc_control_state.received, conn.down.head, memory_order_relaxed);
    return got;
}

bool xen_welcome(const struct mail *mail, struct welcome *out)
{
    (void)mail;
    conn.welcomed = true;
    const struct ivc_ctrl *peer = conn.down_peer.map;
    *out = (struct welcome){.sent = &peer->index,
                            .sent_map = (void *)(uintptr_t)peer,
                            .sent_size = SENDER_PAGES * IVC_XEN_PAGE,
                            .stats = conn.stats.map,
                            .stats_size = STATS_PAGES * IVC_XEN_PAGE};
    return true;
}

static int write_message(const struct ivc_msg *msg, const struct attached *with)
{
    struct ivc_record record = {.kind = IVC_RECORD_DGRAM};
    struct iovec iov[] = {{(void *)(uintptr_t)msg, sizeof(*msg)},
                          {(void *)(uintptr_t)with->words, with->count * sizeof(uint32_t)}};
    return ivc_tx_write(&conn.up, &record, iov, 2, iov[0].iov_len + iov[1].iov_len);
}

/*
 * As on Linux: a controller behind with its mail gets a moment, then the
 * connection is given up, so that no message gets lost alone.
 */
static bool put(int fd, const struct ivc_msg *msg, const struct attached *with)
{
    const struct timespec nap = {.tv_nsec = FULL_NAP_NS};
    uint64_t end = ivc_now() + FULL_PATIENCE_NS;
    int error = write_message(msg, with);
    while (error == -ENOBUFS && ivc_now() < end) {
        (void)ivc_sys(SYS_nanosleep, &nap, NULL);
        error = write_message(msg, with);
    }
    if (ivc_tx_publish(&conn.up))
        ivc_evtchn_ring(fd, conn.port);
    conn.broken |= error != 0;
    return error == 0;
}

bool xen_send(int fd, const struct ivc_msg *msg, const struct attached *with)
{
    bool sent = false;
    if (!ivc_lock(&conn.lock)) {
        conn.broken = true; /* a signal handler inside a send: the message would be lost alone */
        return false;
    }
    if (conn.phase == UP)
        sent = put(fd, msg, with);
    ivc_unlock(&conn.lock);
    return sent;
}

bool xen_alive(int fd)
{
    bool alive = false;
    (void)fd;
    if (!ivc_lock(&conn.lock))
        return false;
    alive = conn.phase == UP && ivc_rx_peer_state(&conn.down) == IVC_REGION_OPEN;
    ivc_unlock(&conn.lock);
    return alive;
}

/* ---- going down ---------------------------------------------------------------------------- */

static void withdraw(void)
{
    struct ivc_xenstore store;
    struct xen_text mine = path_of("data/ivc/");
    if (ivc_xenstore_open(&store) != 0)
        return;
    (void)ivc_xenstore_remove(&store, mine.at);
    ivc_xenstore_close(&store);
}

void xen_disconnect(int fd)
{
    if (ivc_lock(&conn.lock)) {
        if (conn.phase == ANNOUNCED)
            withdraw();
        /* Our kernel tells the controller when the last page goes: then we hold none of its. */
        take_down();
        ivc_unlock(&conn.lock);
    }
    own_close(fd);
}

/* Neither shares nor mappings are there in a child. */
void xen_link_after_fork(void)
{
    memset(&conn, 0, sizeof(conn));
}
