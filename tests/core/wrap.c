/* SPDX-License-Identifier: Apache-2.0 */
/* Every length at every place, across the end of the data and of 64 bits. */
#include "harness.h"

static void fill(uint8_t *payload, size_t length, size_t seed)
{
    for (size_t i = 0; i < length; i++) {
        payload[i] = (uint8_t)(seed * 31 + i);
    }
}

static void every_length(uint64_t start)
{
    static uint8_t out[2048], in[2048];
    struct flow flow;
    size_t max = ivc_ring_max_payload(12);

    flow_open(&flow, 12, start);
    for (size_t length = 0; length <= max; length++) {
        fill(out, length, length);
        CHECK(flow_write(&flow, out, length) == 0);
        (void)ivc_tx_publish(&flow.tx);
        memset(in, 0, sizeof(in));
        CHECK(flow_read(&flow, in, sizeof(in)) == (long)length);
        CHECK(memcmp(in, out, length) == 0);
    }
    CHECK(flow_write(&flow, out, max + 1) == -EMSGSIZE);
    CHECK(flow_write(&flow, out, SIZE_MAX) == -EMSGSIZE);
    CHECK(flow_write(&flow, out, (size_t)UINT32_MAX + 1) == -EMSGSIZE);
    flow_free(&flow);
}

/* Vectors on both sides, cut anywhere, empty parts included; room may be short. */
static void every_cut(void)
{
    uint8_t out[96], in[96];
    struct flow flow;
    struct ivc_record header = {.kind = IVC_RECORD_DGRAM}, record;

    flow_open(&flow, 12, 0);
    fill(out, sizeof(out), 1);
    for (size_t cut = 0; cut <= sizeof(out); cut++) {
        struct iovec from[3] = {{out, cut}, {NULL, 0}, {out + cut, sizeof(out) - cut}};
        struct iovec to[2] = {{in, sizeof(in) - cut}, {in + sizeof(in) - cut, cut / 2}};

        CHECK(ivc_tx_write(&flow.tx, &header, from, 3, sizeof(out)) == 0);
        (void)ivc_tx_publish(&flow.tx);
        CHECK(ivc_rx_peek(&flow.rx, &record) == 1 && record.length == sizeof(out));
        memset(in, 0, sizeof(in));
        CHECK(ivc_rx_copy(&flow.rx, &record, to, 2) == sizeof(in) - cut + cut / 2);
        CHECK(memcmp(in, out, sizeof(in) - cut + cut / 2) == 0);
        ivc_rx_consume(&flow.rx, &record);
    }
    CHECK(ivc_tx_write(&flow.tx, &header, &(struct iovec){out, 5}, 1, 6) == -EINVAL);
    CHECK(!ivc_tx_publish(&flow.tx) && !ivc_rx_ready(&flow.rx));
    flow_free(&flow);
}

int main(void)
{
    every_length(0);
    every_length(UINT64_MAX - 32 * 1000 + 1);
    every_cut();
    return 0;
}
