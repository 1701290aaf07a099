/* SPDX-License-Identifier: Apache-2.0 */
/* The doorbell is asked for exactly when an armed receiver would sleep through. */
#include "harness.h"

/* publish() says ring iff the armed index lies in [old tail, new tail). */
static void by_the_rule(uint64_t start)
{
    for (uint64_t before = 0; before < 4; before++) {
        for (uint64_t batch = 1; batch < 4; batch++) {
            for (uint64_t armed = 0; armed < 9; armed++) {
                struct flow flow;
                uint64_t old = start + before * 32;
                uint64_t wake_at = start + armed * 32;

                flow_open(&flow, 12, start);
                for (uint64_t i = 0; i < before; i++) {
                    CHECK(flow_write(&flow, NULL, 0) == 0);
                }
                (void)ivc_tx_publish(&flow.tx);
                atomic_store(&flow.receiver->wake_at, wake_at);
                CHECK(ivc_tx_peer_sleeps(&flow.tx) == (wake_at == old));
                for (uint64_t i = 0; i < batch; i++) {
                    CHECK(flow_write(&flow, NULL, 0) == 0);
                }
                CHECK(ivc_tx_publish(&flow.tx) == (armed >= before && armed < before + batch));
                CHECK(!ivc_tx_publish(&flow.tx)); /* nothing new: nothing to ring for */
                flow_free(&flow);
            }
        }
    }
}

/* One ring per sleep: armed once, a batch after a batch rings once. */
static void once_per_sleep(void)
{
    struct flow flow;

    flow_open(&flow, 12, 0);
    CHECK(ivc_rx_arm(&flow.rx));
    CHECK(ivc_tx_peer_sleeps(&flow.tx));
    CHECK(flow_write(&flow, "a", 1) == 0 && ivc_tx_publish(&flow.tx));
    CHECK(flow_write(&flow, "b", 1) == 0 && !ivc_tx_publish(&flow.tx));
    flow_free(&flow);
}

/* With records unread it is no time to sleep, but the next one rings all the same. */
static void armed_behind_the_unread(void)
{
    struct flow flow;
    uint8_t in[1];

    flow_open(&flow, 12, 0);
    CHECK(flow_write(&flow, "a", 1) == 0 && flow_write(&flow, "b", 1) == 0);
    (void)ivc_tx_publish(&flow.tx);
    CHECK(flow_read(&flow, in, 1) == 1);
    CHECK(!ivc_rx_arm(&flow.rx) && ivc_tx_peer_sleeps(&flow.tx));
    CHECK(flow_write(&flow, "c", 1) == 0 && ivc_tx_publish(&flow.tx));
    flow_free(&flow);
}

/* A tail that moves back between two looks is found, though the ring holds records. */
static void tail_moves_back_while_arming(void)
{
    struct flow flow;

    flow_open(&flow, 12, 0);
    CHECK(flow_write(&flow, "a", 1) == 0 && flow_write(&flow, "b", 1) == 0);
    (void)ivc_tx_publish(&flow.tx);
    CHECK(!ivc_rx_arm(&flow.rx) && !flow.rx.poisoned);
    atomic_store(&flow.sender->index, 64);
    CHECK(!ivc_rx_arm(&flow.rx) && flow.rx.poisoned);
    flow_free(&flow);
}

/* The first record of a flow rings even if its receiver never armed. */
static void armed_from_birth(void)
{
    struct flow flow;

    flow_open(&flow, 12, 0);
    CHECK(flow_write(&flow, "a", 1) == 0 && ivc_tx_publish(&flow.tx));
    flow_free(&flow);
}

int main(void)
{
    by_the_rule(0);
    by_the_rule(UINT64_MAX - 2 * 32 + 1); /* the indices wrap in between */
    once_per_sleep();
    armed_behind_the_unread();
    tail_moves_back_while_arming();
    armed_from_birth();
    return 0;
}
