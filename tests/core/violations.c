/* SPDX-License-Identifier: Apache-2.0 */
/* Each rule of a record and of an index, broken alone, poisons for good. */
#include "harness.h"

#define HEAD(flow) ((struct ivc_record *)((uint8_t *)(flow)->sender + IVC_DATA_OFFSET))

enum breach {
    NOTHING,
    KIND,
    FLAGS,
    LONGER_THAN_HALF,
    LONGER_THAN_TAIL,
    HUGE_LENGTH,
    SEQ,
    EPOCH,
    SRC_IP,
    SRC_PORT,
    DST_IP,
    DST_PORT,
    BREACHES
};

static void commit(struct flow *flow, enum breach breach)
{
    struct ivc_record *record = HEAD(flow);

    switch (breach) {
    case KIND:
        record->kind = 2;
        break;
    case FLAGS:
        record->flags = 0x08;
        break;
    case LONGER_THAN_HALF:
        record->length = 2017;
        break;
    case LONGER_THAN_TAIL:
        record->length = 33;
        break;
    case HUGE_LENGTH:
        record->length = UINT32_MAX;
        break;
    case SEQ:
        record->seq++;
        break;
    case EPOCH:
        record->epoch++;
        break;
    case SRC_IP:
        record->src_ip++;
        break;
    case SRC_PORT:
        record->src_port++;
        break;
    case DST_IP:
        record->dst_ip++;
        break;
    case DST_PORT:
        record->dst_port++;
        break;
    default:
        break;
    }
}

/* `fixed`: the static line names the addresses; else any will do. */
static void one_breach(enum breach breach, bool fixed)
{
    struct flow flow;
    struct ivc_record header = {.kind = IVC_RECORD_DGRAM,
                                .src_ip = 0x0a000001,
                                .dst_ip = 0x0a000002,
                                .src_port = 1000,
                                .dst_port = 2000};
    struct ivc_record out;
    uint8_t payload[32] = {0};
    struct iovec iov = {payload, sizeof(payload)};
    bool addresses = breach >= SRC_IP;
    int expected = breach == NOTHING || (addresses && !fixed) ? 1 : -EPROTO;

    flow_make(&flow, 12, 0);
    if (fixed) {
        flow.receiver->src_ip = header.src_ip;
        flow.receiver->dst_ip = header.dst_ip;
        flow.receiver->src_port = header.src_port;
        flow.receiver->dst_port = header.dst_port;
    }
    CHECK(flow_attach_tx(&flow) == 0 && flow_attach_rx(&flow) == 0);
    CHECK(ivc_tx_write(&flow.tx, &header, &iov, 1, sizeof(payload)) == 0);
    (void)ivc_tx_publish(&flow.tx);
    if (breach == LONGER_THAN_HALF) {
        atomic_store(&flow.sender->index, 4096);
    }
    commit(&flow, breach);
    CHECK(ivc_rx_peek(&flow.rx, &out) == expected);
    commit(&flow, NOTHING);
    if (expected != 1) {
        CHECK(ivc_rx_peek(&flow.rx, &out) == -EPROTO);
        CHECK(ivc_rx_ready(&flow.rx) && !ivc_rx_arm(&flow.rx)); /* look: there is an error */
        CHECK(ivc_tx_peer_state(&flow.tx) == IVC_REGION_POISONED);
    }
    flow_free(&flow);
}

static void tail_at(uint64_t tail, int expected)
{
    struct flow flow;
    uint8_t in[32];

    flow_open(&flow, 12, 4096);
    for (int i = 0; i < 2; i++) {
        CHECK(flow_write(&flow, "x", 1) == 0);
    }
    (void)ivc_tx_publish(&flow.tx);
    CHECK(flow_read(&flow, in, sizeof(in)) == 1 && flow_read(&flow, in, sizeof(in)) == 1);
    atomic_store(&flow.sender->index, tail);
    CHECK(flow_read(&flow, in, sizeof(in)) == expected);
    flow_free(&flow);
}

/* A tail between records is refused at once, not when it is reached. */
static void tail_between_records(void)
{
    struct flow flow;
    uint8_t in[32];

    flow_open(&flow, 12, 0);
    CHECK(flow_write(&flow, "x", 1) == 0);
    (void)ivc_tx_publish(&flow.tx);
    atomic_store(&flow.sender->index, 64 + 8);
    CHECK(flow_read(&flow, in, sizeof(in)) == -EPROTO);
    flow_free(&flow);
}

/* Two records of half a ring are published; the receiver claims this head. */
static void head_at(uint64_t head, int expected)
{
    struct flow flow;
    uint8_t big[2016] = {0};

    flow_open(&flow, 12, 4096);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0);
    (void)ivc_tx_publish(&flow.tx);
    atomic_store(&flow.receiver->index, head);
    CHECK(flow_write(&flow, big, sizeof(big)) == expected);
    if (expected == -EPROTO) {
        atomic_store(&flow.receiver->index, 4096 + 4096);
        CHECK(flow_write(&flow, "x", 1) == -EPROTO && !ivc_tx_publish(&flow.tx));
        CHECK(ivc_rx_peer_state(&flow.rx) == IVC_REGION_POISONED);
    }
    flow_free(&flow);
}

/* The head can be impossible in one more way: past what is published. */
static void head_past_published(void)
{
    struct flow flow;
    uint8_t big[2016] = {0};

    flow_open(&flow, 12, 0);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0);
    CHECK(flow_write(&flow, big, sizeof(big)) == 0); /* written, not published */
    atomic_store(&flow.receiver->index, 2048);
    CHECK(flow_write(&flow, big, sizeof(big)) == -EPROTO);
    flow_free(&flow);
}

int main(void)
{
    for (enum breach breach = NOTHING; breach < BREACHES; breach++) {
        one_breach(breach, true);
        one_breach(breach, false);
    }
    tail_at(4096 + 128, -EAGAIN);
    tail_at(4096 + 128 - 32, -EPROTO);        /* moves back */
    tail_at(4096 + 128 + 4096 + 32, -EPROTO); /* more than a ring ahead */
    tail_at(4096 + 128 + 1, -EPROTO);         /* between records */
    tail_at(0, -EPROTO);
    tail_between_records();
    head_at(4096, -ENOBUFS);
    head_at(4096 + 2048, 0);
    head_at(4096 + 4096, 0);
    head_at(4096 - 32, -EPROTO);        /* moves back */
    head_at(4096 + 4096 + 32, -EPROTO); /* overtakes the tail */
    head_at(4096 + 2048 + 8, -EPROTO);  /* between records */
    head_past_published();
    return 0;
}
