/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring between two domUs by grants and event channels, without anything of
 * dom0's: what the platform for Xen has to give the wrapper.
 *
 *   ring_pingpong server|client OWN-DOMID PEER-DOMID COUNT spin|block
 *
 * Each shares a sender's region and a receiver's page with the other, read-only,
 * and says so in its own data/ivc-test, readable to the other. The client prints
 * {"received":..,"rtt_us":{"p50":..}} and what writing to the peer's page does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"
#include "platform_xen.h"
#include "xenstore.h"

#define ORDER 16u
#define PAGES (1u + (1u << ORDER) / IVC_XEN_PAGE)
#define PAYLOAD 64u
#define EPOCH 7u
#define PATIENCE_S 60

struct offer {
    uint32_t port;
    uint32_t receiver_ref;
    uint32_t sender_refs[PAGES];
};

struct side {
    uint16_t self, peer;
    uint32_t flow_out, flow_in;
    int gntalloc, gntdev, evtchn;
    struct ivc_xenstore store;
    struct ivc_xen_share sender, receiver;
    struct ivc_xen_mapping peer_sender, peer_receiver;
    uint32_t ring_port;
    struct ivc_tx tx;
    struct ivc_rx rx;
    bool spin;
};

static void need(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-result));
    exit(1);
}

static void label(void *page, uint8_t role, uint32_t flow)
{
    struct ivc_ctrl *ctrl = page;
    ctrl->magic = IVC_RING_MAGIC;
    ctrl->abi_major = IVC_RING_ABI_MAJOR;
    ctrl->role = role;
    ctrl->order = ORDER;
    ctrl->flow_id = flow;
    ctrl->epoch = EPOCH;
}

static void share(struct side *s, struct offer *offer)
{
    need(ivc_xen_share(s->gntalloc, s->peer, PAGES, NULL, &s->sender, offer->sender_refs), "share");
    need(ivc_xen_share(s->gntalloc, s->peer, 1, NULL, &s->receiver, &offer->receiver_ref), "share");
    label(s->sender.map, IVC_ROLE_SENDER, s->flow_out);
    label(s->receiver.map, IVC_ROLE_RECEIVER, s->flow_in);
    int port = ivc_evtchn_unbound(s->evtchn, s->peer);
    need(port, "port");
    offer->port = (uint32_t)port;
}

static void read_peer(struct side *s, struct offer *offer)
{
    char path[64];
    snprintf(path, sizeof(path), "/local/domain/%u/data/ivc-test", s->peer);
    time_t end = time(NULL) + PATIENCE_S;
    int got;
    do {
        got = ivc_xenstore_read(&s->store, path, offer, sizeof(*offer));
        if (got == (int)sizeof(*offer))
            return;
        usleep(20000);
    } while (time(NULL) < end);
    need(got < 0 ? got : -EPROTO, path);
}

static void join(struct side *s)
{
    struct offer mine, theirs;
    const char *path = "data/ivc-test";
    share(s, &mine);
    (void)ivc_xenstore_remove(&s->store, path);
    need(ivc_xenstore_write(&s->store, path, &mine, sizeof(mine)), "write offer");
    need(ivc_xenstore_reader(&s->store, path, s->self, s->peer), "permit offer");
    read_peer(s, &theirs);
    need(ivc_xen_map(s->gntdev, s->peer, theirs.sender_refs, PAGES, &s->peer_sender), "map ring");
    need(ivc_xen_map(s->gntdev, s->peer, &theirs.receiver_ref, 1, &s->peer_receiver), "map page");
    int port = ivc_evtchn_bind(s->evtchn, s->peer, theirs.port);
    need(port, "bind");
    s->ring_port = (uint32_t)port;

    struct ivc_ring_ident out = {.flow_id = s->flow_out, .order = ORDER};
    struct ivc_ring_ident in = {.flow_id = s->flow_in, .order = ORDER};
    need(ivc_tx_attach(&s->tx, s->sender.map, (size_t)PAGES * IVC_XEN_PAGE, s->peer_receiver.map,
                       IVC_XEN_PAGE, &out), "attach sender");
    need(ivc_rx_attach(&s->rx, s->receiver.map, IVC_XEN_PAGE, s->peer_sender.map,
                       (size_t)PAGES * IVC_XEN_PAGE, &in), "attach receiver");
}

static void send_one(struct side *s, void *data)
{
    struct ivc_record record = {.kind = IVC_RECORD_DGRAM};
    struct iovec iov = {.iov_base = data, .iov_len = PAYLOAD};
    need(ivc_tx_write(&s->tx, &record, &iov, 1, PAYLOAD), "write");
    if (ivc_tx_publish(&s->tx))
        ivc_evtchn_ring(s->evtchn, s->ring_port);
}

static void wait_for_one(struct side *s)
{
    while (!ivc_rx_ready(&s->rx)) {
        if (s->spin)
            continue;
        (void)ivc_evtchn_consume(s->evtchn);
        if (!ivc_rx_arm(&s->rx))
            continue;
        struct pollfd fd = {.fd = s->evtchn, .events = POLLIN};
        if (poll(&fd, 1, PATIENCE_S * 1000) == 0)
            need(-ETIMEDOUT, "nobody rings");
    }
}

static void receive_one(struct side *s, void *data)
{
    struct ivc_record record;
    struct iovec iov = {.iov_base = data, .iov_len = PAYLOAD};
    wait_for_one(s);
    need(ivc_rx_peek(&s->rx, &record), "peek");
    (void)ivc_rx_copy(&s->rx, &record, &iov, 1);
    ivc_rx_consume(&s->rx, &record);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void serve(struct side *s, uint32_t count)
{
    uint8_t data[PAYLOAD];
    for (uint32_t i = 0; i < count; i++) {
        receive_one(s, data);
        send_one(s, data);
    }
}

static void call(struct side *s, uint32_t count)
{
    uint8_t out[PAYLOAD] = {0}, in[PAYLOAD];
    double *rtt = calloc(count, sizeof(*rtt));
    uint32_t right = 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(out, &i, sizeof(i));
        double begin = now_us();
        send_one(s, out);
        receive_one(s, in);
        rtt[i] = now_us() - begin;
        right += memcmp(in, out, PAYLOAD) == 0;
    }
    qsort(rtt, count, sizeof(*rtt), by_value);
    printf("{\"received\": %u, \"rtt_us\": {\"p50\": %.1f, \"p99\": %.1f}}\n", right,
           rtt[count / 2], rtt[count * 99 / 100]);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    bool server = strcmp(argv[1], "server") == 0;
    struct side s = {
        .self = (uint16_t)atoi(argv[2]),
        .peer = (uint16_t)atoi(argv[3]),
        .flow_out = server ? 2 : 1,
        .flow_in = server ? 1 : 2,
        .spin = strcmp(argv[5], "spin") == 0,
        .gntalloc = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC),
        .gntdev = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC),
        .evtchn = ivc_evtchn_open(),
    };
    need(s.gntalloc, "/dev/xen/gntalloc");
    need(s.gntdev, "/dev/xen/gntdev");
    need(s.evtchn, "/dev/xen/evtchn");
    need(ivc_xenstore_open(&s.store), "/dev/xen/xenbus");
    join(&s);
    if (server)
        serve(&s, (uint32_t)atoi(argv[4]));
    else
        call(&s, (uint32_t)atoi(argv[4]));
    /* The other may still look at our last words: stay until its answer is read. */
    usleep(200000);
    (void)ivc_xenstore_remove(&s.store, "data/ivc-test");
    return 0;
}
