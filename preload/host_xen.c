/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain of Xen: the match table in XenStore, pages granted and mapped, event
 * channels. The control connection has a file of its own, xen_link.c; the text
 * and the words are described in docs/xen.md.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "../core/ring.h"
#include "../core/platform_xen.h"
#include "../core/trace.h"
#include "../core/xenstore.h"
#include "host.h"
#include "own.h"
#include "util.h"
#include "wait.h"
#include "xen_link.h"
#include "xen_text.h"

/* ---- match table ---------------------------------------------------------------- */

#define TABLE_PART 2016u
#define TABLE_MOST (1u << 22)

static int read_number(struct ivc_xenstore *store, const char *path, uint64_t *number)
{
    char text[24];
    int length = ivc_xenstore_read(store, path, text, sizeof(text));
    if (length < 0)
        return length;
    return text_numbers(text, (size_t)length, number, 1) ? 0 : -EPROTO;
}

/* Parts of a table are as they were written, or not there: each serial has its own. */
static int read_parts(struct ivc_xenstore *store, uint64_t serial, uint8_t *to, size_t *size)
{
    struct xen_text folder = {.length = 0}, path;
    text_add_number(&folder, serial);
    for (uint64_t part = 0; *size + TABLE_PART <= TABLE_MOST; part++) {
        path = (struct xen_text){.length = 0};
        struct xen_text number = {.length = 0};
        text_add_number(&number, part);
        text_add(&path, "ivc/match/");
        text_add(&path, folder.at);
        text_add(&path, "/");
        text_add(&path, number.at);
        int length = ivc_xenstore_read(store, path.at, to + *size, TABLE_PART);
        if (length < 0)
            return length == -ENOENT && part > 0 ? 0 : length;
        *size += (size_t)length;
    }
    return -EFBIG;
}

static int read_table(struct ivc_xenstore *store, uint64_t known, struct table_text *out)
{
    uint64_t serial, self;
    int error = read_number(store, "ivc/match", &serial);
    if (error || serial == known)
        return error;
    error = read_number(store, "domid", &self);
    if (error)
        return error;
    /* Most of it stays untouched, and so costs nothing. */
    void *map = mmap(NULL, TABLE_MOST, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    size_t size = 0;
    error = read_parts(store, serial, map, &size);
    if (error || size == 0) {
        munmap(map, TABLE_MOST);
        return error ? error : -ENOENT;
    }
    size_t page = IVC_XEN_PAGE, kept = (size + page - 1) / page * page;
    munmap((uint8_t *)map + kept, TABLE_MOST - kept);
    *out = (struct table_text){.map = map, .size = size, .serial = serial, .here = self};
    return 1;
}

static int xen_table(uint64_t known, struct table_text *out)
{
    struct ivc_xenstore store;
    int saved = errno;
    int result = ivc_xenstore_open(&store);
    if (result == 0) {
        result = read_table(&store, known, out);
        ivc_xenstore_close(&store);
    }
    errno = saved;
    return result;
}

/* ---- flows ------------------------------------------------------------------------ */

#define DOMAINS_MOST 0x7ff0u /* DOMID_FIRST_RESERVED, Xen public/xen.h */

static int receiver_port(struct flow_end *end, uint16_t domid)
{
    int port = ivc_evtchn_unbound(end->bell.fd, domid);
    if (port > 0)
        end->bell.port = (uint32_t)port;
    return port > 0 ? 0 : port;
}

static int xen_map_own(struct flow_end *end, const struct mail *attach, struct attached *answer)
{
    static uint32_t words[IVC_MSG_MAX_WORDS]; /* until the answer has been sent; control lock */
    bool receiver = end->role == IVC_ROLE_RECEIVER;
    uint32_t pages = (uint32_t)(end->own_size / IVC_XEN_PAGE);
    struct ivc_xen_share share;
    if (attach->word_count != 1 + IVC_STATIC_WORDS || attach->words[0] >= DOMAINS_MOST ||
        pages + receiver > IVC_MSG_MAX_WORDS)
        return -EPROTO;
    uint16_t domid = (uint16_t)attach->words[0];
    int error = receiver ? receiver_port(end, domid) : 0;
    if (!error)
        error = ivc_xen_share(xen_device(XEN_GNTALLOC), domid, pages, NULL, &share,
                              words + receiver);
    if (error)
        return error;
    end->own = share.map;
    memcpy(end->own, attach->words + 1, IVC_STATIC_WORDS * sizeof(uint32_t));
    words[0] = receiver ? end->bell.port : words[0];
    *answer = (struct attached){.words = words, .count = pages + receiver, .fd = -1};
    return 0;
}

static int sender_port(struct flow_end *end, uint16_t domid, uint32_t remote)
{
    int fd = xen_device(XEN_EVTCHN);
    int port = ivc_evtchn_bind(fd, domid, remote);
    /* Binding rings our end once; nobody listens there. */
    (void)ivc_evtchn_consume(fd);
    if (port <= 0)
        return port;
    end->bell = (struct ivc_bell){.fd = fd, .port = (uint32_t)port};
    return 0;
}

static int xen_map_peer(struct flow_end *end, struct mail *peer)
{
    uint32_t sends = end->role == IVC_ROLE_SENDER;
    uint32_t pages = (uint32_t)(end->peer_size / IVC_XEN_PAGE);
    struct ivc_xen_mapping mapping;
    if (peer->word_count != 1 + sends + pages || peer->words[0] >= DOMAINS_MOST)
        return -EPROTO;
    uint16_t domid = (uint16_t)peer->words[0];
    int error = sends ? sender_port(end, domid, peer->words[1]) : 0;
    if (!error)
        error = ivc_xen_map(xen_device(XEN_GNTDEV), domid, peer->words + 1 + sends, pages,
                            &mapping);
    if (error)
        return error;
    end->peer = (void *)(uintptr_t)mapping.map;
    end->grants = mapping.index;
    return 0;
}

static struct ivc_xen_mapping peer_mapping(const struct flow_end *end)
{
    return (struct ivc_xen_mapping){.map = end->peer,
                                    .pages = (uint32_t)(end->peer_size / IVC_XEN_PAGE),
                                    .index = end->grants};
}

static void xen_let_go(struct flow_end *end)
{
    struct ivc_xen_share share = {.map = end->own,
                                  .pages = (uint32_t)(end->own_size / IVC_XEN_PAGE)};
    struct ivc_xen_mapping mapping = peer_mapping(end);
    if (mapping.map && !end->copied)
        ivc_xen_unmap(xen_device(XEN_GNTDEV), &mapping);
    else if (mapping.map)
        munmap(end->peer, end->peer_size);
    ivc_xen_unshare(&share);
    if (end->bell.port)
        (void)ivc_evtchn_unbind(end->bell.fd, end->bell.port);
    *end = (struct flow_end){.bell.fd = -1};
}

/* Mapped pages of a domain that has gone keep it from being freed, and mapped
 * pages of any domain break our own kernel when we are saved: let go of them
 * now, whenever the application may come to read what they hold. */
static int xen_keep_copy(struct flow_end *end)
{
    struct ivc_xen_mapping mapping = peer_mapping(end);
    if (!mapping.map || end->copied)
        return 0;
    int error = ivc_xen_unmap_in_place(xen_device(XEN_GNTDEV), &mapping, end->peer_size);
    end->copied = error == 0;
    if (end->copied && end->bell.port) { /* nobody rings it any more */
        (void)ivc_evtchn_unbind(end->bell.fd, end->bell.port);
        end->bell.port = 0;
    }
    return error;
}

/* A domain restored has none of its event channels, and its kernel does not survive it when
 * somebody lets go of one. So a domain to be saved has none. */
static _Atomic bool quiesced;

static void xen_quiesce(void)
{
    atomic_store(&quiesced, true);
}

static void xen_close_bell(const struct ivc_bell *bell)
{
    if (bell->port && atomic_load(&quiesced))
        ivc_bell_unbind_xen(bell);
}

static int xen_bell(struct ivc_bell *bell)
{
    static _Atomic bool judged;
    if (atomic_load(&quiesced))
        return ivc_bell_open(bell);
    int error = ivc_bell_open_xen(bell, xen_self());
    if (!error && !atomic_exchange(&judged, true))
        wait_judge_bell(bell);
    return error;
}

/* A domain saved and restored has another id and none of its event channels. */
static bool xen_moved(void)
{
    static uint16_t before;
    uint16_t now = xen_self();
    bool moved = before != 0 && now != before;
    before = now;
    return atomic_exchange(&quiesced, false) || moved;
}

static void xen_after_fork(void)
{
    xen_link_after_fork();
    xen_devices_close();
}

/* ---- tracing ---------------------------------------------------------------------- */

#define TRACE_WORDS 5u

static void xen_unmap_trace(struct trace_memory *memory)
{
    struct ivc_xen_share share = {.map = memory->own,
                                  .pages = (uint32_t)(memory->own_size / IVC_XEN_PAGE)};
    struct ivc_xen_mapping mapping = {
        .map = memory->peer, .pages = memory->peer ? 1 : 0, .index = memory->grants};
    ivc_xen_unmap(xen_device(XEN_GNTDEV), &mapping);
    ivc_xen_unshare(&share);
    *memory = (struct trace_memory){0};
}

static int share_trace(uint16_t domid, uint32_t order, struct trace_memory *out, uint32_t *refs)
{
    struct ivc_xen_share share;
    size_t size = ivc_trace_region_size(order);
    int error = ivc_xen_share(xen_device(XEN_GNTALLOC), domid, (uint32_t)(size / IVC_XEN_PAGE),
                              NULL, &share, refs);
    if (error)
        return error;
    struct ivc_trace_ctrl *line = share.map;
    line->magic = IVC_TRACE_MAGIC;
    line->abi = IVC_TRACE_ABI;
    line->order = order;
    out->own = share.map;
    out->own_size = size;
    return 0;
}

static int map_trace_reader(uint16_t domid, const uint32_t *ref, struct trace_memory *out)
{
    struct ivc_xen_mapping mapping;
    int error = ivc_xen_map(xen_device(XEN_GNTDEV), domid, ref, 1, &mapping);
    if (error)
        return error;
    out->peer = (void *)(uintptr_t)mapping.map;
    out->peer_size = IVC_XEN_PAGE;
    out->grants = mapping.index;
    return 0;
}

/*
 * The monotonic clocks of domains have nothing in common; their real clocks
 * have begun with Xen's, and are what people set. By them our times become the
 * reader's.
 */
static bool xen_map_trace(const struct mail *mail, struct trace_memory *out,
                          struct attached *answer)
{
    static uint32_t refs[IVC_MSG_MAX_WORDS]; /* until the answer has been sent; control lock */
    const uint32_t *words = mail->words;
    *out = (struct trace_memory){0};
    *answer = ATTACHED_NOTHING;
    if (mail->word_count != TRACE_WORDS || words[0] >= DOMAINS_MOST ||
        words[2] < IVC_TRACE_ORDER_MIN || words[2] > IVC_TRACE_ORDER_MAX ||
        ivc_trace_region_size(words[2]) > IVC_MSG_MAX_WORDS * (size_t)IVC_XEN_PAGE)
        return false;
    uint16_t domid = (uint16_t)words[0];
    if (share_trace(domid, words[2], out, refs) != 0 ||
        map_trace_reader(domid, words + 1, out) != 0) {
        xen_unmap_trace(out);
        return false;
    }
    out->ahead = (uint64_t)ivc_real_ahead() - ((uint64_t)words[4] << 32 | words[3]);
    *answer = (struct attached){
        .words = refs, .count = (unsigned)(out->own_size / IVC_XEN_PAGE), .fd = -1};
    return true;
}

const struct host ivc_host_xen = {
    .one_clock = false,
    .inherited = false,
    .kernel_late_ns = 500 * IVC_NS_PER_MS, /* dom0 has to be scheduled on the way */
    .table = xen_table,
    .connect = xen_connect,
    .disconnect = xen_disconnect,
    .receive = xen_receive,
    .welcome = xen_welcome,
    .send = xen_send,
    .alive = xen_alive,
    .map_trace = xen_map_trace,
    .unmap_trace = xen_unmap_trace,
    .map_own = xen_map_own,
    .map_peer = xen_map_peer,
    .let_go = xen_let_go,
    .keep_copy = xen_keep_copy,
    .bell = xen_bell,
    .quiesce = xen_quiesce,
    .close_bell = xen_close_bell,
    .moved = xen_moved,
    .after_fork = xen_after_fork,
};
