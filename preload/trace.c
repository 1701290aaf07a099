/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "trace.h"

#include <string.h>

#include "host.h"

/* The ring, and its memory. Changed under the control lock, and only while nobody, who has a lock
 * of his socket, can be looking. */
static struct ivc_trace ring;
static struct trace_memory memory;
static bool everything; /* also what goes by the kernel's network */

static struct ivc_trace *tracing(void)
{
    /* Acquire: pairs with the release in trace_set, which has filled in the ring before. */
    return atomic_load_explicit(&ivc_control_state.trace, memory_order_acquire);
}

/* Times are the reader's. */
static uint64_t told(uint64_t time)
{
    return time + memory.ahead;
}

/* ---- sending ------------------------------------------------------------------ */

static void put(struct ivc_trace *trace, struct ivc_trace_record *record, const struct iovec *iov,
                size_t pieces, uint32_t *untraced)
{
    record->lost = *untraced;
    *untraced = ivc_trace_put(trace, record, iov, pieces) ? 0 : *untraced + 1;
}

/* Bytes of a stream in one record. A datagram is in one, whatever is cut of it. */
static uint32_t segment(const struct ivc_trace *trace)
{
    uint32_t most = ivc_trace_most(trace);
    return most < IVC_TRACE_SEGMENT ? most : IVC_TRACE_SEGMENT;
}

/* The rings are ours to read: what is traced is what the receiver gets. */
void trace_record(struct tx_flow *f, uint64_t at, uint32_t position)
{
    struct ivc_trace *trace = tracing();
    struct ivc_record sent;
    struct iovec iov[2];
    if (!trace || f->relay)
        return; /* a relay tells of it, and what has become of it */
    uint64_t now = told(ivc_now());
    memcpy(&sent, f->ring.data + (at & (f->ring.size - 1)), sizeof(sent));
    uint32_t done = 0, most = sent.kind == IVC_RECORD_STREAM ? segment(trace) : UINT32_MAX;
    do {
        struct ivc_trace_record record = {
            .time = now,
            .length = sent.length - done < most ? sent.length - done : most,
            .flow = f->id,
            .src_ip = sent.src_ip,
            .dst_ip = sent.dst_ip,
            .src_port = sent.src_port,
            .dst_port = sent.dst_port,
            .position = position + done,
            .kind = sent.kind,
            .event = IVC_TRACE_SENT,
            .number = sent.seq,
        };
        size_t pieces = ivc_tx_piece(&f->ring, at + sizeof(sent) + done, record.length, iov);
        put(trace, &record, iov, pieces, &f->untraced);
        done += record.length;
    } while (done < sent.length);
}

/* Not told of if there is no room: then nobody knows how long it took; nor if its sender has
 * another clock. */
void trace_receipt(const struct rx_flow *f, uint32_t number)
{
    struct ivc_trace *trace = tracing();
    if (!trace || !ivc_host->one_clock)
        return;
    const struct ivc_trace_record record = {
        .time = told(ivc_now()), .flow = f->id, .number = number, .event = IVC_TRACE_TAKEN};
    (void)ivc_trace_put(trace, &record, NULL, 0);
}

/* The first `n` bytes of a vector in as many records as they take: none is of more than one piece. */
static void put_segments(struct ivc_trace *trace, struct ivc_trace_record *record,
                         const struct msghdr *msg, size_t n, uint32_t *untraced)
{
    size_t most = segment(trace);
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        struct iovec piece = msg->msg_iov[i];
        size_t length = piece.iov_len < n ? piece.iov_len : n;
        n -= length;
        for (size_t done = 0; done < length; done += piece.iov_len) {
            piece.iov_base = (uint8_t *)msg->msg_iov[i].iov_base + done;
            piece.iov_len = length - done < most ? length - done : most;
            record->length = (uint32_t)piece.iov_len;
            put(trace, record, &piece, 1, untraced);
            record->position += record->length;
        }
    }
}

void trace_network(struct sock *s, struct dest *d, struct endpoint to, const struct msghdr *msg,
                   size_t n, uint64_t when, uint32_t position)
{
    struct ivc_trace *trace = tracing();
    if (!trace || !everything)
        return;
    struct ivc_trace_record record = {
        .time = told(when),
        .length = (uint32_t)n,
        .src_ip = s->local.ip ? s->local.ip : s->pktinfo_ip,
        .dst_ip = to.ip,
        .src_port = s->local.port,
        .dst_port = to.port,
        .position = position,
        .kind = s->stream ? IVC_RECORD_STREAM : IVC_RECORD_DGRAM,
        .event = IVC_TRACE_NETWORK,
    };
    uint32_t nowhere = 0, *untraced = d ? &d->untraced : &nowhere;
    if (s->stream && n > segment(trace))
        put_segments(trace, &record, msg, n, untraced);
    else
        put(trace, &record, msg->msg_iov, msg->msg_iovlen, untraced);
}

/* ---- on and off ---------------------------------------------------------------- */

/* Whoever has a lock of his socket may have seen the ring. */
static void unmap(void)
{
    if (memory.own && sock_calls_ended())
        ivc_host->unmap_trace(&memory);
}

void trace_stop(void)
{
    atomic_store_explicit(&ivc_control_state.trace, NULL, memory_order_release);
    unmap();
}

bool trace_end_late(void)
{
    if (!tracing())
        unmap();
    return tracing() || !memory.own;
}

static void say_traced(const struct mail *mail, const struct attached *with)
{
    struct ivc_msg traced = {.type = IVC_MSG_TRACED, .flow = mail->msg.flow};
    if (mail->word_count > 0)
        (void)control_send(&traced, with);
}

static bool map_memory(const struct mail *mail)
{
    struct attached answer = ATTACHED_NOTHING;
    bool mapped = !memory.own && ivc_host->map_trace(mail, &memory, &answer);
    say_traced(mail, &answer);
    return mapped;
}

void trace_set(const struct mail *mail)
{
    trace_stop();
    if (mail->msg.arg == 0 || !map_memory(mail))
        return;
    uint32_t snap = mail->msg.arg < UINT32_MAX ? (uint32_t)mail->msg.arg : UINT32_MAX;
    if (ivc_trace_attach(&ring, memory.own, memory.own_size, memory.peer, memory.peer_size,
                         snap) != 0) {
        trace_stop();
        return;
    }
    everything = (mail->msg.flags & IVC_TRACE_ALL) != 0;
    /* Release: pairs with the acquire in tracing(). */
    atomic_store_explicit(&ivc_control_state.trace, &ring, memory_order_release);
}

/* The ring is the parent's. It stays mapped where a child has it at all, not on Xen: the thread that
 * lives on here may have been interrupted while it wrote. */
void trace_after_fork(void)
{
    atomic_store_explicit(&ivc_control_state.trace, NULL, memory_order_relaxed);
    memory = (struct trace_memory){0};
}
