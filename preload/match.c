/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "match.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

#define MATCH_RETRY_NS IVC_NS_PER_S
#define RUN_DIR_DEFAULT "/run/ivc"
#define ENTRIES_MAX 1000000u

/* A table once mapped is never unmapped: another thread may be reading it.
 * Re-planning is rare and a table is a few kilobytes. */
struct table {
    const struct ivc_match_entry *entries;
    uint32_t count;
    uint64_t serial;
    uint64_t here;
    bool streams;
};

const struct host *ivc_host = &ivc_host_linux;

static char run_dir[108 - 16] = RUN_DIR_DEFAULT;
static bool ask_xen;
static _Atomic uint64_t next_try;
static struct ivc_slab table_slab = {.size = sizeof(struct table)};
struct table *_Atomic ivc_match_table;

const char *match_run_path(const char *name, char *buffer, size_t size)
{
    size_t dir = strlen(run_dir), base = strlen(name);
    if (dir + base + 2 > size)
        return NULL;
    memcpy(buffer, run_dir, dir);
    buffer[dir] = '/';
    memcpy(buffer + dir + 1, name, base + 1);
    return buffer;
}

/* The text stays mapped if it is good. */
static bool check_table(const struct table_text *text, struct table *out)
{
    struct ivc_match_header header;
    if (text->size < sizeof(header))
        return false;
    memcpy(&header, text->map, sizeof(header));
    if (header.magic != IVC_MATCH_MAGIC || header.abi != IVC_MATCH_ABI ||
        header.entries > ENTRIES_MAX ||
        text->size < sizeof(header) + header.entries * sizeof(struct ivc_match_entry))
        return false;
    out->entries = (const void *)((const uint8_t *)text->map + sizeof(header));
    out->count = header.entries;
    out->serial = text->serial;
    out->here = text->here;
    out->streams = false;
    for (uint32_t i = 0; i < out->count; i++)
        out->streams = out->streams || out->entries[i].kind == IVC_MATCH_STREAM;
    return true;
}

/* Which host are we on? The first to have a table. */
static int newest(struct table_text *out)
{
    struct table *old = atomic_load(&ivc_match_table);
    if (old)
        return ivc_host->table(old->serial, out);
    int found = ivc_host_linux.table(0, out);
    if (found > 0 || !ask_xen)
        return found;
    found = ivc_host_xen.table(0, out);
    if (found > 0)
        ivc_host = &ivc_host_xen;
    return found;
}

bool match_load(void)
{
    struct table_text text;
    struct table *slot;
    int saved = errno;
    bool fresh = false;
    if (newest(&text) == 1) {
        slot = ivc_slab_get(&table_slab);
        fresh = slot && check_table(&text, slot);
        if (fresh) {
            /* release: pairs with the acquire in table() */
            atomic_store_explicit(&ivc_match_table, slot, memory_order_release);
        } else {
            munmap((void *)(uintptr_t)text.map, text.size);
            if (slot)
                ivc_slab_put(&table_slab, slot);
        }
    }
    errno = saved;
    return fresh;
}

static const struct table *table(void)
{
    return atomic_load_explicit(&ivc_match_table, memory_order_acquire);
}

void match_init(void)
{
    const char *dir = getenv("IVC_RUN_DIR");
    if (dir && dir[0] == '/' && strlen(dir) < sizeof(run_dir))
        memcpy(run_dir, dir, strlen(dir) + 1);
    if (match_load())
        return;
    /* XenStore is asked by the first socket, not by every program that starts. */
    ask_xen = ivc_sys(SYS_faccessat, AT_FDCWD, "/dev/xen/xenbus", R_OK | W_OK) == 0;
    atomic_store(&next_try, ask_xen ? 0 : ivc_now() + MATCH_RETRY_NS);
}

bool match_retry(void)
{
    if (table())
        return false;
    uint64_t now = ivc_now();
    uint64_t due = atomic_load_explicit(&next_try, memory_order_relaxed);
    if (now < due || !atomic_compare_exchange_strong(&next_try, &due, now + MATCH_RETRY_NS))
        return false;
    return match_load();
}

enum match_local match_local(uint32_t ip, uint32_t *node, uint32_t *node_ip)
{
    const struct table *t = table();
    unsigned found = 0;
    for (uint32_t i = 0; t && i < t->count; i++) {
        const struct ivc_match_entry *e = &t->entries[i];
        if (e->kind != IVC_MATCH_NODE || e->netns != t->here || (ip != 0 && e->ip != ip))
            continue;
        *node = e->node;
        *node_ip = e->ip;
        found++;
    }
    return found == 0 ? MATCH_NONE : found == 1 ? MATCH_NODE : MATCH_AMBIGUOUS;
}

uint32_t match_destination(struct endpoint ep, uint32_t own_node)
{
    const struct table *t = table();
    uint32_t reason = IVC_REASON_NOT_PLANNED;
    for (uint32_t i = 0; t && i < t->count; i++) {
        const struct ivc_match_entry *e = &t->entries[i];
        if (e->ip != ep.ip)
            continue;
        if (e->kind == IVC_MATCH_GROUP && e->port == ep.port)
            return IVC_REASON_NONE;
        if (e->kind == IVC_MATCH_NODE)
            return e->node == own_node && !(e->flags & IVC_MATCH_LOOPBACK) ? IVC_REASON_SAME_NODE
                                                                           : IVC_REASON_NONE;
        if (e->kind == IVC_MATCH_EXTERNAL)
            reason = IVC_REASON_EXTERNAL;
    }
    return reason;
}

bool match_has_streams(void)
{
    const struct table *t = table();
    return t && t->streams;
}

static bool is_planned_at(const struct ivc_match_entry *e, struct endpoint ep, uint32_t other_ip)
{
    return e->ip == ep.ip && (e->port == ep.port || (e->port == 0 && other_ip == ep.ip));
}

static bool planned_stream(const struct table *t, struct endpoint ep, uint32_t other_ip,
                           bool *eager)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const struct ivc_match_entry *e = &t->entries[i];
        if (e->kind != IVC_MATCH_STREAM || !is_planned_at(e, ep, other_ip))
            continue;
        *eager = (e->flags & IVC_MATCH_EAGER) != 0;
        return true;
    }
    return false;
}

uint32_t match_stream(struct endpoint local, struct endpoint peer, uint32_t *node, bool *eager)
{
    const struct table *t = table();
    uint32_t node_ip;
    if (!t || local.ip == 0 || match_local(local.ip, node, &node_ip) != MATCH_NODE)
        return IVC_REASON_NO_NODE;
    if (!planned_stream(t, local, peer.ip, eager) && !planned_stream(t, peer, local.ip, eager))
        return IVC_REASON_NOT_PLANNED;
    return match_destination(peer, *node);
}
