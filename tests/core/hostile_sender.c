/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sender that writes rubbish into its region at any time gets the receiver to
 * say -EPROTO or to hand out data, never to read outside, and never to go on
 * after -EPROTO.
 */
#include "harness.h"

/* Half the time almost right: a plausible value is the better attack. */
static void scribble(struct flow *flow, uint64_t *random)
{
    uint64_t value = next_random(random);
    uint8_t *data = (uint8_t *)flow->sender + IVC_DATA_OFFSET;
    struct ivc_record record;

    switch (next_random(random) % 6) {
    case 0:
        atomic_store(&flow->sender->index, value);
        break;
    case 1:
        atomic_store(&flow->sender->index, flow->rx.tail + 32 * (value % 140) - 32 * 4);
        break;
    case 2:
        atomic_store(&flow->sender->index, flow->rx.head + (value % 2 ? 4096 : 4128));
        break;
    case 3:
        for (size_t i = 0; i < IVC_LINE; i++) {
            ((uint8_t *)flow->sender)[i] = (uint8_t)next_random(random);
        }
        break;
    case 4:
        memcpy(data + value % (4096 - 8), &value, 8);
        break;
    default:
        record = (struct ivc_record){
            .length = (uint32_t)(value % 3 ? value % 2100 : value),
            .kind = IVC_RECORD_DGRAM,
            .flags = (uint8_t)(value % 8),
            .seq = flow->rx.seq,
            .epoch = flow->rx.epoch,
        };
        memcpy(data + (flow->rx.head & 4095), &record, sizeof(record));
    }
}

static bool life(uint64_t seed)
{
    static uint8_t in[4096];
    struct flow flow;
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    bool poisoned = false;

    flow_open(&flow, 12, seed % 2 ? 0 : UINT64_MAX - 4095);
    for (int step = 0; step < 10; step++) {
        long got;

        if (next_random(&random) % 2) {
            (void)flow_write(&flow, in, next_random(&random) % 700);
            (void)ivc_tx_publish(&flow.tx);
        }
        if (next_random(&random) % 3 == 0) {
            scribble(&flow, &random);
        }
        (void)ivc_rx_arm(&flow.rx);
        got = flow_read(&flow, in, sizeof(in));
        CHECK(got == -EPROTO || got == -EAGAIN || (got >= 0 && got <= 2016));
        CHECK(!poisoned || got == -EPROTO);
        poisoned = poisoned || got == -EPROTO;
        CHECK(flow.rx.tail - flow.rx.head <= flow.rx.size);
        CHECK(atomic_load(&flow.receiver->state) ==
              (flow.rx.poisoned ? IVC_REGION_POISONED : IVC_REGION_OPEN));
    }
    flow_free(&flow);
    return poisoned;
}

int main(void)
{
    int caught = 0;

    for (uint64_t seed = 1; seed <= 20000; seed++) {
        caught += life(seed);
    }
    printf("%d of 20000 caught\n", caught);
    CHECK(caught > 5000 && caught < 19000); /* the attack is neither weak nor blunt */
    return 0;
}
