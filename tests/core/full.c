/* SPDX-License-Identifier: Apache-2.0 */
/* A full ring refuses, keeps what it has, and is never full for ever. */
#include "harness.h"

static size_t fill_up(struct flow *flow)
{
    uint8_t payload[32] = {0};
    size_t count = 0;

    while (flow_write(flow, payload, sizeof(payload)) == 0) {
        count++;
    }
    (void)ivc_tx_publish(&flow->tx);
    return count;
}

static size_t drain(struct flow *flow)
{
    uint8_t payload[32];
    size_t count = 0;

    while (flow_read(flow, payload, sizeof(payload)) == sizeof(payload)) {
        count++;
    }
    return count;
}

int main(void)
{
    struct flow flow;
    uint8_t payload[32] = {0};
    uint8_t big[2016] = {0};

    flow_open(&flow, 12, 0);
    for (int round = 0; round < 1000; round++) {
        CHECK(fill_up(&flow) == 4096 / 64);
        CHECK(flow_write(&flow, payload, sizeof(payload)) == -ENOBUFS);
        CHECK(drain(&flow) == 4096 / 64);
    }

    /* Lazily: the head appears after an eighth of the ring ... */
    CHECK(fill_up(&flow) == 64);
    for (int i = 0; i < 7; i++) {
        CHECK(flow_read(&flow, payload, sizeof(payload)) == 32);
        CHECK(flow_write(&flow, payload, sizeof(payload)) == -ENOBUFS);
    }
    CHECK(flow_read(&flow, payload, sizeof(payload)) == 32);
    CHECK(fill_up(&flow) == 8);

    /* ... on demand ... */
    CHECK(flow_read(&flow, payload, sizeof(payload)) == 32);
    ivc_rx_publish(&flow.rx);
    CHECK(fill_up(&flow) == 1);

    /* ... and when the ring is found empty, or no large record would ever fit. */
    CHECK(drain(&flow) == 64);
    CHECK(flow_write(&flow, payload, sizeof(payload)) == 0 && !ivc_tx_publish(&flow.tx));
    CHECK(drain(&flow) == 1);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0);
    flow_free(&flow);
    return 0;
}
