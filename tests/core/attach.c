/* SPDX-License-Identifier: Apache-2.0 */
/* Attach refuses every static line that does not fit, and says whose fault. */
#include "harness.h"

/* Spoil byte `offset` of a page: sender and receiver must return these. */
static void spoil(size_t offset, bool receiver_page, int tx_rc, int rx_rc)
{
    struct flow flow;
    uint8_t *byte;

    flow_make(&flow, 12, 0);
    byte = (uint8_t *)(receiver_page ? flow.receiver : flow.sender) + offset;
    *byte = (uint8_t)~*byte;
    CHECK(flow_attach_tx(&flow) == tx_rc);
    CHECK(flow_attach_rx(&flow) == rx_rc);
    flow_free(&flow);
}

static void bad_arguments(void)
{
    struct flow flow;
    const uint8_t orders[] = {0, IVC_ORDER_MIN - 1, 13, IVC_ORDER_MAX + 1, 255};

    flow_make(&flow, 12, 0);
    for (size_t i = 0; i < sizeof(orders); i++) {
        flow.ident.order = orders[i];
        CHECK(flow_attach_tx(&flow) == -EINVAL);
        CHECK(flow_attach_rx(&flow) == -EINVAL);
    }
    flow.ident.order = 12;
    flow.sender_size--;
    CHECK(flow_attach_tx(&flow) == -EINVAL);
    CHECK(flow_attach_rx(&flow) == -EINVAL);
    flow.sender_size++;
    CHECK(flow_attach_tx(&flow) == 0 && flow_attach_rx(&flow) == 0);
    CHECK(ivc_rx_peer_state(&flow.rx) == IVC_REGION_OPEN);
    CHECK(ivc_tx_peer_state(&flow.tx) == IVC_REGION_OPEN);
    flow_free(&flow);
}

static void epoch_from_own_region(void)
{
    struct flow flow;

    flow_make(&flow, 12, 0);
    flow.ident.epoch = 0;
    CHECK(flow_attach_tx(&flow) == 0 && flow.tx.epoch == 0x5eed);
    CHECK(flow_attach_rx(&flow) == 0 && flow.rx.epoch == 0x5eed);
    flow_free(&flow);
}

int main(void)
{
    const size_t fields[] = {
        offsetof(struct ivc_ctrl, magic),   offsetof(struct ivc_ctrl, role),
        offsetof(struct ivc_ctrl, order),   offsetof(struct ivc_ctrl, flow_id),
        offsetof(struct ivc_ctrl, flow_id) + 3, offsetof(struct ivc_ctrl, epoch),
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        spoil(fields[i], false, -EINVAL, -EPROTO); /* sender's own page */
        spoil(fields[i], true, -EPROTO, -EINVAL);
    }
    spoil(offsetof(struct ivc_ctrl, abi_major), false, -EPROTONOSUPPORT, -EPROTONOSUPPORT);
    spoil(offsetof(struct ivc_ctrl, abi_minor), false, 0, 0); /* minor may differ */
    spoil(offsetof(struct ivc_ctrl, index), false, -EINVAL, 0);
    bad_arguments();
    epoch_from_own_region();
    return 0;
}
