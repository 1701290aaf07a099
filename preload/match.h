/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The match table: a file the controller publishes, mapped read-only, that
 * answers "could this address ever be on rings?" without talking to anybody.
 */
#ifndef IVC_MATCH_H
#define IVC_MATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../core/pages.h"
#include "sock.h"

enum match_local {
    MATCH_NONE,      /* no planned node's address */
    MATCH_NODE,      /* *node is set */
    MATCH_AMBIGUOUS, /* wildcard on a host with several nodes */
};

/* Folder of the controller (IVC_RUN_DIR or /run/ivc) joined with `name`. */
const char *match_run_path(const char *name, char *buffer, size_t size);

void match_init(void);

/* (Re-)read the table. True if a table is mapped that was not mapped before. */
bool match_load(void);

/* Look for a table again if there is none, at most once a second. */
bool match_retry(void);

struct table;
extern struct table *_Atomic ivc_match_table; /* the newest; NULL: none yet */

static inline bool match_present(void)
{
    return atomic_load_explicit(&ivc_match_table, memory_order_relaxed) != NULL;
}

/* Does the plan have TCP on rings at all? */
bool match_has_streams(void);

/* May the connection between these ends go over rings? IVC_REASON_NONE if so, else why not. */
uint32_t match_stream(struct endpoint local, struct endpoint peer, uint32_t *node, bool *eager);

/* Which node would a socket bound to `ip` be on this host? */
enum match_local match_local(uint32_t ip, uint32_t *node, uint32_t *node_ip);

/* Is `ep` (a destination) a node inside or a planned multicast group?
 * IVC_REASON_NONE if yes, else why not. */
uint32_t match_destination(struct endpoint ep, uint32_t own_node);

#endif
