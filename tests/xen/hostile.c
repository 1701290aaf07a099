/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's program that speaks docs/xen.md, and then does not keep to it:
 *
 *   hostile rubbish   announcements that are none, and rubbish in the control ring
 *   hostile storm     rings the controller for five seconds without saying anything
 *   hostile claim IP  says it is bound to an address of another guest
 *
 * Prints "thrown out" or "kept": whether the controller has ended the connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "platform_xen.h"
#include "protocol.h"
#include "ring.h"
#include "xenstore.h"

#define ORDER 13
#define PAGES 3

struct connection {
    struct ivc_xenstore store;
    struct ivc_xen_share up, down, statistics;
    struct ivc_xen_mapping up_peer, down_peer;
    struct ivc_tx tx;
    uint32_t statistics_refs[4];
    int evtchn, gntdev;
    uint32_t port;
    uint32_t nonce;
};

static void need(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-result));
        exit(1);
    }
}

static void sleep_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void write_static(const struct connection *c, void *region, uint8_t role)
{
    struct ivc_ctrl *line = region;
    line->magic = IVC_RING_MAGIC;
    line->abi_major = IVC_RING_ABI_MAJOR;
    line->role = role;
    line->order = ORDER;
    line->epoch = c->nonce;
    atomic_store(&line->state, IVC_REGION_OPEN);
}

static void announce(struct connection *c)
{
    uint32_t refs[PAGES + 1];
    char path[32], text[128];
    int gntalloc = ivc_xen_open("gntalloc");
    need(gntalloc, "gntalloc");
    need(c->gntdev = ivc_xen_open("gntdev"), "gntdev");
    need(c->evtchn = ivc_evtchn_open(), "evtchn");
    int port = ivc_evtchn_unbound(c->evtchn, 0);
    need(port, "port");
    c->port = (uint32_t)port;
    need(ivc_xen_share(gntalloc, 0, PAGES, NULL, &c->up, refs), "share up");
    need(ivc_xen_share(gntalloc, 0, 1, NULL, &c->down, refs + PAGES), "share down");
    need(ivc_xen_share(gntalloc, 0, 4, NULL, &c->statistics, c->statistics_refs), "share counters");
    write_static(c, c->up.map, IVC_ROLE_SENDER);
    write_static(c, c->down.map, IVC_ROLE_RECEIVER);
    int length = snprintf(text, sizeof(text), "1 %u %u %u %u %u %d hostile", c->port, refs[0],
                          refs[1], refs[2], refs[3], (int)getpid());
    snprintf(path, sizeof(path), "data/ivc/%08x", c->nonce);
    need(ivc_xenstore_write(&c->store, path, text, (size_t)length), "announce");
}

static void take_answer(struct connection *c)
{
    char path[32], text[128] = "";
    unsigned down[PAGES], up;
    int got = -1;
    snprintf(path, sizeof(path), "ivc/answer/%08x", c->nonce);
    for (int i = 0; i < 200 && got < 0; i++, sleep_ms(100))
        got = ivc_xenstore_read(&c->store, path, text, sizeof(text) - 1);
    need(got, "answer");
    if (sscanf(text, "1 %u %u %u %u", &down[0], &down[1], &down[2], &up) != 4)
        need(-1, text);
    uint32_t ref = up, refs[PAGES] = {down[0], down[1], down[2]};
    const struct ivc_ring_ident ident = {.epoch = c->nonce, .order = ORDER};
    need(ivc_xen_map(c->gntdev, 0, &ref, 1, &c->up_peer), "map up");
    need(ivc_xen_map(c->gntdev, 0, refs, PAGES, &c->down_peer), "map down");
    need(ivc_tx_attach(&c->tx, c->up.map, PAGES * IVC_XEN_PAGE, c->up_peer.map, IVC_XEN_PAGE,
                       &ident),
         "attach");
}

static void say(struct connection *c, struct ivc_msg msg, const uint32_t *words, size_t count)
{
    const struct ivc_record record = {.kind = IVC_RECORD_DGRAM};
    msg.version = IVC_PROTOCOL_VERSION;
    struct iovec iov[] = {{&msg, sizeof(msg)}, {(void *)(uintptr_t)words, 4 * count}};
    need(ivc_tx_write(&c->tx, &record, iov, 2, sizeof(msg) + 4 * count), "say");
    (void)ivc_tx_publish(&c->tx);
    ivc_evtchn_ring(c->evtchn, c->port);
}

static bool thrown_out(const struct connection *c)
{
    const struct ivc_ctrl *peer = c->down_peer.map;
    for (int i = 0; i < 100; i++, sleep_ms(100))
        if (atomic_load(&((struct ivc_ctrl *)(uintptr_t)peer)->state) != IVC_REGION_OPEN)
            return true;
    return false;
}

static void spread_rubbish(struct connection *c)
{
    struct ivc_ctrl *line = c->up.map;
    char path[32], text[64];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "data/ivc/%08x", 0xbad00000u + i);
        int length = snprintf(text, sizeof(text), "1 %u %u 2 3 %u 7 rubbish", i, i * 77777u, i);
        (void)ivc_xenstore_write(&c->store, path, text, (size_t)(i % 3 ? length : length / 2));
    }
    for (size_t i = IVC_DATA_OFFSET; i < PAGES * IVC_XEN_PAGE; i++)
        ((uint8_t *)c->up.map)[i] = (uint8_t)(i * 131 + 17);
    atomic_store(&line->index, UINT64_C(0xffffffffffff1234));
    ivc_evtchn_ring(c->evtchn, c->port);
}

static void ring_on_and_on(const struct connection *c)
{
    time_t end = time(NULL) + 5;
    while (time(NULL) < end)
        for (int i = 0; i < 100; i++)
            ivc_evtchn_ring(c->evtchn, c->port);
}

static void claim(struct connection *c, const char *address)
{
    struct in_addr in;
    if (inet_pton(AF_INET, address, &in) != 1)
        need(-1, address);
    struct ivc_msg bound = {.type = IVC_MSG_BOUND, .socket = 1};
    bound.local = (struct ivc_endpoint){.ip = ntohl(in.s_addr), .port = 40000};
    say(c, bound, NULL, 0);
}

int main(int argc, char **argv)
{
    static struct connection c;
    if (argc < 2)
        return 2;
    c.nonce = 0x0bad0000u + (uint16_t)getpid();
    need(ivc_xenstore_open(&c.store), "xenbus");
    announce(&c);
    take_answer(&c);
    say(&c, (struct ivc_msg){.type = IVC_MSG_HELLO, .arg = IVC_RING_ABI_MAJOR}, c.statistics_refs, 4);
    sleep_ms(500);
    if (strcmp(argv[1], "rubbish") == 0)
        spread_rubbish(&c);
    else if (strcmp(argv[1], "storm") == 0)
        ring_on_and_on(&c);
    else if (argc == 3)
        claim(&c, argv[2]);
    puts(thrown_out(&c) ? "thrown out" : "kept");
    return 0;
}
