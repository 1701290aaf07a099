/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "match.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MATCH_RETRY_NS IVC_NS_PER_S
#define RUN_DIR_DEFAULT "/run/ivc"
#define ENTRIES_MAX 1000000u

/* A table once mapped is never unmapped: another thread may be reading it.
 * Re-planning is rare and a table is a few kilobytes. */
struct table {
    const struct ivc_match_entry *entries;
    uint32_t count;
    uint64_t serial;
    ino_t inode;
    uint64_t netns;
};

static char run_dir[108 - 16] = RUN_DIR_DEFAULT;
static _Atomic uint64_t next_try;
static struct ivc_slab table_slab = {.size = sizeof(struct table)};
static struct table *_Atomic current;

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

static uint64_t own_netns(void)
{
    struct stat st;
    return ivc_sys(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &st, 0) == 0 ? st.st_ino : 0;
}

static bool map_table(int fd, struct table *out)
{
    struct stat st;
    if (ivc_sys(SYS_fstat, fd, &st) != 0 ||
        (size_t)st.st_size < sizeof(struct ivc_match_header))
        return false;
    size_t size = (size_t)st.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    struct ivc_match_header header;
    memcpy(&header, map, sizeof(header));
    if (header.magic != IVC_MATCH_MAGIC || header.abi != IVC_MATCH_ABI ||
        header.entries > ENTRIES_MAX ||
        size < sizeof(header) + header.entries * sizeof(struct ivc_match_entry)) {
        munmap(map, size);
        return false;
    }
    out->entries = (const void *)((const uint8_t *)map + sizeof(header));
    out->count = header.entries;
    out->serial = header.serial;
    out->inode = st.st_ino;
    out->netns = own_netns();
    return true;
}

bool match_load(void)
{
    char path[128];
    int saved = errno;
    bool fresh = false;
    const char *name = match_run_path("match", path, sizeof(path));
    long fd = name ? ivc_sys(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -ENOENT;
    if (fd >= 0) {
        struct table *old = atomic_load(&current);
        struct table *slot = ivc_slab_get(&table_slab);
        struct stat st;
        bool same = old && ivc_sys(SYS_fstat, fd, &st) == 0 && st.st_ino == old->inode;
        if (slot && !same && map_table((int)fd, slot)) {
            /* release: pairs with the acquire in table() */
            atomic_store_explicit(&current, slot, memory_order_release);
            fresh = true;
        }
        (void)ivc_sys(SYS_close, fd);
    }
    errno = saved;
    return fresh;
}

static const struct table *table(void)
{
    return atomic_load_explicit(&current, memory_order_acquire);
}

bool match_present(void)
{
    return table() != NULL;
}

void match_init(void)
{
    const char *dir = getenv("IVC_RUN_DIR");
    if (dir && dir[0] == '/' && strlen(dir) < sizeof(run_dir))
        memcpy(run_dir, dir, strlen(dir) + 1);
    atomic_store(&next_try, ivc_now() + MATCH_RETRY_NS);
    (void)match_load();
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
        if (e->kind != IVC_MATCH_NODE || e->netns != t->netns || (ip != 0 && e->ip != ip))
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
            return e->node == own_node ? IVC_REASON_SAME_NODE : IVC_REASON_NONE;
        if (e->kind == IVC_MATCH_EXTERNAL)
            reason = IVC_REASON_EXTERNAL;
    }
    return reason;
}
