/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of core/ring.h.
 *
 * Indices are bytes, 64 bits, free-running; a position in the data is an index
 * masked with size - 1, so no index, however wrong, leaves the data. Three kinds
 * of memory meet here and are kept apart:
 *
 *   private  struct ivc_tx, struct ivc_rx: the only truth about our own end
 *   own      our region: written by us, never read back after attach
 *            (but for the static addresses, which nobody writes any more)
 *   peer     the other's region: every load is a new, possibly hostile value,
 *            so it is loaded once, checked, and only the copy is used
 */
#include "ring.h"

#include <errno.h>
#include <string.h>

#define RECORD_FLAGS (IVC_RECORD_TWIN | IVC_RECORD_FENCE | IVC_RECORD_SAME)

#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline bool is_aligned(uint64_t index)
{
    return index % IVC_RECORD_ALIGN == 0;
}

static inline uint64_t max_payload(uint64_t size)
{
    return size / 2 - sizeof(struct ivc_record);
}

/*
 * Copy shared words, each loaded exactly once. A plain copy could be turned by
 * the compiler into loads at every use, and the peer may change the bytes in
 * between. Relaxed is enough: the order comes from the acquire of the index.
 */
static inline void snapshot(void *to, const void *from, size_t bytes)
{
    const _Atomic uint64_t *source = from;
    uint64_t word;

    for (size_t at = 0; at < bytes; at += sizeof(word)) {
        word = atomic_load_explicit(&source[at / sizeof(word)], memory_order_relaxed);
        memcpy((uint8_t *)to + at, &word, sizeof(word));
    }
}

static inline void copy_in(const struct ivc_tx *tx, uint64_t index, const void *from,
                           uint64_t bytes)
{
    uint64_t at = index & (tx->size - 1);
    uint64_t first = min_u64(bytes, tx->size - at);

    memcpy(tx->data + at, from, first);
    if (unlikely(first < bytes)) {
        memcpy(tx->data, (const uint8_t *)from + first, bytes - first);
    }
}

static inline void copy_out(const struct ivc_rx *rx, uint64_t index, void *to, uint64_t bytes)
{
    uint64_t at = index & (rx->size - 1);
    uint64_t first = min_u64(bytes, rx->size - at);

    memcpy(to, rx->data + at, first);
    if (unlikely(first < bytes)) {
        memcpy((uint8_t *)to + first, rx->data, bytes - first);
    }
}

/* ---- attach ------------------------------------------------------------- */

static int check_static(const struct ivc_ctrl *line, enum ivc_role role,
                        const struct ivc_ring_ident *ident, uint32_t epoch)
{
    if (line->magic != IVC_RING_MAGIC) {
        return -EPROTO;
    }
    if (line->abi_major != IVC_RING_ABI_MAJOR) {
        return -EPROTONOSUPPORT;
    }
    if (line->role != role || line->order != ident->order || line->flow_id != ident->flow_id ||
        line->epoch != epoch) {
        return -EPROTO;
    }
    return 0;
}

static bool usable(const void *region, size_t size, size_t needed)
{
    return region != NULL && (uintptr_t)region % IVC_LINE == 0 && size >= needed;
}

/* Check both static lines. The epoch agreed upon goes to *epoch. */
static int check_regions(const struct ivc_ctrl *own, enum ivc_role own_role,
                         const struct ivc_ctrl *peer, enum ivc_role peer_role,
                         const struct ivc_ring_ident *ident, uint32_t *epoch)
{
    struct ivc_ctrl line;
    int rc;

    snapshot(&line, own, IVC_LINE);
    *epoch = ident->epoch != 0 ? ident->epoch : line.epoch;
    rc = check_static(&line, own_role, ident, *epoch);
    if (rc == 0 && !is_aligned(atomic_load_explicit(&own->index, memory_order_relaxed))) {
        rc = -EPROTO;
    }
    if (rc != 0) {
        return rc == -EPROTO ? -EINVAL : rc; /* ours: not the peer's fault */
    }
    snapshot(&line, peer, IVC_LINE);
    return check_static(&line, peer_role, ident, *epoch);
}

static bool good_ident(const struct ivc_ring_ident *ident)
{
    return ident != NULL && ident->order >= IVC_ORDER_MIN && ident->order <= IVC_ORDER_MAX;
}

int ivc_tx_attach(struct ivc_tx *tx, void *own, size_t own_size, const void *peer,
                  size_t peer_size, const struct ivc_ring_ident *ident)
{
    uint32_t epoch;
    int rc;

    if (tx == NULL || !good_ident(ident) ||
        !usable(own, own_size, ivc_sender_region_size(ident->order)) ||
        !usable(peer, peer_size, IVC_RECEIVER_REGION_SIZE)) {
        return -EINVAL;
    }
    rc = check_regions(own, IVC_ROLE_SENDER, peer, IVC_ROLE_RECEIVER, ident, &epoch);
    if (rc != 0) {
        return rc;
    }
    *tx = (struct ivc_tx){
        .own = own,
        .peer = peer,
        .data = (uint8_t *)own + IVC_DATA_OFFSET,
        .size = UINT64_C(1) << ident->order,
        .epoch = epoch,
    };
    /* A new flow is empty: both ends start where our index stands. */
    tx->tail = atomic_load_explicit(&tx->own->index, memory_order_relaxed);
    tx->published = tx->tail;
    tx->head = tx->tail;
    ivc_tx_set_state(tx, IVC_REGION_OPEN);
    return 0;
}

int ivc_rx_attach(struct ivc_rx *rx, void *own, size_t own_size, const void *peer,
                  size_t peer_size, const struct ivc_ring_ident *ident)
{
    uint32_t epoch;
    int rc;

    if (rx == NULL || !good_ident(ident) || !usable(own, own_size, IVC_RECEIVER_REGION_SIZE) ||
        !usable(peer, peer_size, ivc_sender_region_size(ident->order))) {
        return -EINVAL;
    }
    rc = check_regions(own, IVC_ROLE_RECEIVER, peer, IVC_ROLE_SENDER, ident, &epoch);
    if (rc != 0) {
        return rc;
    }
    *rx = (struct ivc_rx){
        .own = own,
        .peer = peer,
        .data = (const uint8_t *)peer + IVC_DATA_OFFSET,
        .size = UINT64_C(1) << ident->order,
        .epoch = epoch,
        .kind = IVC_RECORD_DGRAM,
        .armed = UINT64_MAX, /* no index is odd */
    };
    rx->head = atomic_load_explicit(&rx->own->index, memory_order_relaxed);
    rx->published = rx->head;
    rx->tail = rx->head;
    ivc_rx_set_state(rx, IVC_REGION_OPEN);
    return 0;
}

/* ---- states ------------------------------------------------------------- */

/*
 * Release: whoever sees us closed also sees all we published before. Pairs with
 * the acquire in ivc_*_peer_state.
 */
void ivc_tx_set_state(struct ivc_tx *tx, uint32_t state)
{
    atomic_store_explicit(&tx->own->state, state, memory_order_release);
}

void ivc_rx_set_state(struct ivc_rx *rx, uint32_t state)
{
    atomic_store_explicit(&rx->own->state, state, memory_order_release);
}

void ivc_rx_freeze(struct ivc_rx *rx, uint32_t offset)
{
    ivc_rx_publish(rx);
    rx->armed = UINT64_MAX;
    atomic_store_explicit(&rx->own->wake_at, offset, memory_order_relaxed);
    ivc_rx_set_state(rx, IVC_REGION_FROZEN);
}

int ivc_tx_frozen_at(struct ivc_tx *tx, uint64_t *head, uint64_t *offset)
{
    /* Acquire: the head and the offset were written before the state. */
    if (ivc_tx_peer_state(tx) != IVC_REGION_FROZEN) {
        return 0;
    }
    if (ivc_tx_free(tx) < 0) {
        return -EPROTO;
    }
    *head = tx->head;
    *offset = atomic_load_explicit(&tx->peer->wake_at, memory_order_relaxed);
    return 1;
}

/* Relaxed: the tail of the second ring is released after it, by the same thread; who reads it
 * comes when that thread is no more, or frozen. */
void ivc_rx_will_pass(struct ivc_rx *rx, uint64_t next)
{
    atomic_store_explicit(&rx->own->next, next, memory_order_relaxed);
}

/* Release: not before the tail of the second ring. */
void ivc_rx_has_passed(struct ivc_rx *rx, uint64_t passed)
{
    atomic_store_explicit(&rx->own->passed, passed, memory_order_release);
}

int ivc_tx_passed_at(struct ivc_tx *tx, uint64_t *head, uint64_t *offset)
{
    uint64_t passed = atomic_load_explicit(&tx->peer->passed, memory_order_acquire);
    uint64_t next = atomic_load_explicit(&tx->peer->next, memory_order_relaxed);

    if (passed != next) {
        return 0;
    }
    if (ivc_tx_free(tx) < 0) {
        return -EPROTO;
    }
    *head = tx->head;
    *offset = 0;
    /* The head may be behind: records in our own memory say where the next begin. */
    while (passed != *head && *head != tx->published) {
        uint32_t length;

        memcpy(&length, tx->data + (*head & (tx->size - 1)), sizeof(length));
        if (length > max_payload(tx->size)) {
            return -EPROTO;
        }
        if (passed - *head < ivc_record_bytes(length)) {
            *offset = passed - *head - sizeof(struct ivc_record);
            return *offset <= length ? 1 : -EPROTO;
        }
        *head += ivc_record_bytes(length);
    }
    return passed == *head ? 1 : -EPROTO;
}

/* Acquire: pairs with the release in ivc_*_set_state of the other end. */
uint32_t ivc_tx_peer_state(const struct ivc_tx *tx)
{
    return atomic_load_explicit(&tx->peer->state, memory_order_acquire);
}

uint32_t ivc_rx_peer_state(const struct ivc_rx *rx)
{
    return atomic_load_explicit(&rx->peer->state, memory_order_acquire);
}

/* Relaxed: whoever has been told of the bytes by other means sees this, too; nobody else may ask. */
void ivc_tx_set_kernel(struct ivc_tx *tx, uint64_t bytes)
{
    atomic_store_explicit(&tx->own->kernel, bytes, memory_order_relaxed);
}

uint64_t ivc_rx_peer_kernel(const struct ivc_rx *rx)
{
    return atomic_load_explicit(&rx->peer->kernel, memory_order_relaxed);
}

/* Relaxed: it is only compared with what it was some time ago. */
void ivc_rx_set_kernel(struct ivc_rx *rx, uint64_t bytes)
{
    atomic_store_explicit(&rx->own->kernel, bytes, memory_order_relaxed);
}

uint64_t ivc_tx_peer_kernel(const struct ivc_tx *tx)
{
    return atomic_load_explicit(&tx->peer->kernel, memory_order_relaxed);
}

static __attribute__((cold)) int poison_tx(struct ivc_tx *tx)
{
    tx->poisoned = true;
    ivc_tx_set_state(tx, IVC_REGION_POISONED);
    return -EPROTO;
}

static __attribute__((cold)) int poison_rx(struct ivc_rx *rx)
{
    rx->poisoned = true;
    ivc_rx_set_state(rx, IVC_REGION_POISONED);
    return -EPROTO;
}

/* ---- sender ------------------------------------------------------------- */

/* Read the peer's head: between the last one seen and what we published. */
static int refresh_head(struct ivc_tx *tx)
{
    /*
     * Acquire: pairs with the release of the head in ivc_rx_publish. The peer
     * has done reading the bytes before it, so we may overwrite them.
     */
    uint64_t head = atomic_load_explicit(&tx->peer->index, memory_order_acquire);

    if (!is_aligned(head) || head - tx->head > tx->published - tx->head) {
        return poison_tx(tx);
    }
    tx->head = head;
    return 0;
}

static inline bool has_room(const struct ivc_tx *tx, uint64_t bytes)
{
    return bytes <= tx->size - (tx->tail - tx->head);
}

/* Copy `length` bytes of the vector into the ring. -EINVAL: it holds fewer. */
static inline int gather(const struct ivc_tx *tx, uint64_t index, const struct iovec *iov,
                         size_t iovcnt, uint64_t length)
{
    for (size_t i = 0; i < iovcnt && length > 0; i++) {
        uint64_t part = min_u64(iov[i].iov_len, length);

        if (part > 0) {
            copy_in(tx, index, iov[i].iov_base, part);
        }
        index += part;
        length -= part;
    }
    return length == 0 ? 0 : -EINVAL;
}

/* Field by field: a copy of a record just put together stalls the CPU. */
static inline void put_header(struct ivc_tx *tx, const struct ivc_record *from, uint32_t length)
{
    struct ivc_record *to = (void *)(tx->data + (tx->tail & (tx->size - 1)));

    to->length = length;
    to->kind = from->kind;
    to->flags = from->flags;
    to->stamp = from->stamp;
    to->src_ip = from->src_ip;
    to->dst_ip = from->dst_ip;
    to->src_port = from->src_port;
    to->dst_port = from->dst_port;
    to->seq = tx->seq++;
    to->epoch = tx->epoch;
    to->kseq = from->kseq;
}

int64_t ivc_tx_free(struct ivc_tx *tx)
{
    if (unlikely(tx->poisoned) || refresh_head(tx) != 0) {
        return -EPROTO;
    }
    return (int64_t)(tx->size - (tx->tail - tx->head));
}

bool ivc_tx_arm(struct ivc_tx *tx, uint64_t bytes)
{
    /* The peer rings when its head passes wake_at, which is a byte before the goal. */
    uint64_t goal = tx->tail + bytes - tx->size;
    int64_t room;

    atomic_store_explicit(&tx->own->wake_at, goal - 1, memory_order_relaxed);
    /*
     * Full fence between our store of wake_at and the load of the head. Pairs with
     * the fence in ivc_rx_sender_waits, as that of ivc_rx_arm with ivc_tx_publish.
     */
    atomic_thread_fence(memory_order_seq_cst);
    room = ivc_tx_free(tx);
    return room < 0 || (uint64_t)room >= bytes;
}

/* Room for a record? As ivc_tx_write. */
static inline int make_room(struct ivc_tx *tx, size_t length)
{
    uint64_t bytes = ivc_record_bytes(length);
    int rc;

    if (unlikely(tx->poisoned)) {
        return -EPROTO;
    }
    if (unlikely(length > max_payload(tx->size))) {
        return -EMSGSIZE;
    }
    if (unlikely(!has_room(tx, bytes))) {
        /* The peer's line is touched only here: the head seen last is enough
         * as long as there is room. */
        rc = refresh_head(tx);
        if (rc != 0) {
            return rc;
        }
        if (!has_room(tx, bytes)) {
            return -ENOBUFS;
        }
    }
    return 0;
}

static inline void put_record(struct ivc_tx *tx, const struct ivc_record *header, size_t length)
{
    put_header(tx, header, (uint32_t)length);
    tx->tail += ivc_record_bytes(length);
}

int ivc_tx_write(struct ivc_tx *tx, const struct ivc_record *header, const struct iovec *iov,
                 size_t iovcnt, size_t length)
{
    int rc = make_room(tx, length);

    if (unlikely(rc != 0)) {
        return rc;
    }
    rc = gather(tx, tx->tail + sizeof(*header), iov, iovcnt, length);
    if (unlikely(rc != 0)) {
        return rc; /* behind the tail: nobody sees what was copied */
    }
    put_record(tx, header, length);
    return 0;
}

int ivc_tx_place(struct ivc_tx *tx, size_t most, struct iovec place[2], size_t *pieces)
{
    uint64_t at = (tx->tail + sizeof(struct ivc_record)) & (tx->size - 1);
    uint64_t first = min_u64(most, tx->size - at);
    int rc = make_room(tx, most);

    if (unlikely(rc != 0)) {
        return rc;
    }
    place[0] = (struct iovec){.iov_base = tx->data + at, .iov_len = first};
    place[1] = (struct iovec){.iov_base = tx->data, .iov_len = most - first};
    *pieces = first < most ? 2 : 1;
    return 0;
}

int ivc_tx_write_placed(struct ivc_tx *tx, const struct ivc_record *header, size_t length)
{
    int rc = make_room(tx, length);

    if (rc == 0) {
        put_record(tx, header, length);
    }
    return rc;
}

bool ivc_tx_publish(struct ivc_tx *tx)
{
    uint64_t before = tx->published;
    uint64_t wake_at;

    if (unlikely(tx->poisoned) || tx->tail == before) {
        return false;
    }
    /*
     * Release: the records are complete before the tail that shows them. Pairs
     * with the acquire in refresh_tail.
     */
    atomic_store_explicit(&tx->own->index, tx->tail, memory_order_release);
    tx->published = tx->tail;
    /*
     * Full fence between our store of the tail and the load of wake_at. Pairs
     * with the fence in ivc_rx_arm, which stands between its store of wake_at
     * and its load of the tail: at least one of us sees the other's store, so
     * either we ring or the peer does not go to sleep.
     */
    atomic_thread_fence(memory_order_seq_cst);
    wake_at = atomic_load_explicit(&tx->peer->wake_at, memory_order_relaxed);
    /* wake_at in [before, tail), also across the wrap of 64 bits */
    return tx->tail - wake_at - 1 < tx->tail - before;
}

bool ivc_tx_peer_sleeps(const struct ivc_tx *tx)
{
    return atomic_load_explicit(&tx->peer->wake_at, memory_order_relaxed) == tx->published;
}

/* ---- receiver ----------------------------------------------------------- */

/* Read the peer's tail: not behind the last one seen, at most a ring ahead. */
static inline int refresh_tail(struct ivc_rx *rx)
{
    /*
     * Acquire: pairs with the release of the tail in ivc_tx_publish. The records
     * before it are complete.
     */
    uint64_t tail = atomic_load_explicit(&rx->peer->index, memory_order_acquire);

    if (unlikely(!is_aligned(tail) || tail - rx->tail > rx->head + rx->size - rx->tail)) {
        return poison_rx(rx);
    }
    rx->tail = tail;
    return 0;
}

void ivc_rx_publish(struct ivc_rx *rx)
{
    if (rx->published == rx->head) {
        return;
    }
    /*
     * Release: our reads of the records before the head are done. Pairs with the
     * acquire in refresh_head, after which the peer overwrites them.
     */
    atomic_store_explicit(&rx->own->index, rx->head, memory_order_release);
    rx->published = rx->head;
}

bool ivc_rx_sender_waits(struct ivc_rx *rx, uint64_t before)
{
    uint64_t wake_at;

    ivc_rx_publish(rx);
    /* Full fence: see ivc_tx_arm, with which it pairs. */
    atomic_thread_fence(memory_order_seq_cst);
    wake_at = atomic_load_explicit(&rx->peer->wake_at, memory_order_relaxed);
    return rx->head - wake_at - 1 < rx->head - before; /* wake_at in [before, head) */
}

bool ivc_rx_ready(struct ivc_rx *rx)
{
    if (rx->head != rx->tail || unlikely(rx->poisoned)) {
        return true; /* poisoned: there is an error to be fetched by a peek */
    }
    if (unlikely(refresh_tail(rx) != 0)) {
        return true;
    }
    if (rx->head == rx->tail) {
        /* Nobody may come back for long: a head kept back now could make the
         * ring look full to its sender for as long. */
        ivc_rx_publish(rx);
        return false;
    }
    return true;
}

/* 0 in the static line means any. */
static inline bool may_be(uint32_t value, uint32_t fixed)
{
    return fixed == 0 || value == fixed;
}

static inline bool valid_addresses(const struct ivc_rx *rx, const struct ivc_record *record)
{
    return may_be(record->src_ip, rx->own->src_ip) && may_be(record->dst_ip, rx->own->dst_ip) &&
           may_be(record->src_port, rx->own->src_port) &&
           may_be(record->dst_port, rx->own->dst_port);
}

static inline bool valid_record(const struct ivc_rx *rx, const struct ivc_record *record)
{
    return record->kind == rx->kind && (record->flags & ~RECORD_FLAGS) == 0 &&
           record->length <= max_payload(rx->size) &&
           ivc_record_bytes(record->length) <= rx->tail - rx->head && record->seq == rx->seq &&
           record->epoch == rx->epoch && valid_addresses(rx, record);
}

int ivc_rx_peek(struct ivc_rx *rx, struct ivc_record *out)
{
    if (!ivc_rx_ready(rx)) {
        return 0;
    }
    if (unlikely(rx->poisoned)) {
        return -EPROTO;
    }
    snapshot(out, rx->data + (rx->head & (rx->size - 1)), sizeof(*out));
    return unlikely(!valid_record(rx, out)) ? poison_rx(rx) : 1;
}

size_t ivc_rx_copy_from(const struct ivc_rx *rx, const struct ivc_record *record, size_t from,
                        const struct iovec *iov, size_t iovcnt)
{
    uint64_t index = rx->head + sizeof(*record) + from;
    uint64_t left = from < record->length ? record->length - from : 0;
    uint64_t all = left;

    for (size_t i = 0; i < iovcnt && left > 0; i++) {
        uint64_t part = min_u64(iov[i].iov_len, left);

        if (part > 0) {
            copy_out(rx, index, iov[i].iov_base, part);
        }
        index += part;
        left -= part;
    }
    return (size_t)(all - left);
}

size_t ivc_rx_copy(const struct ivc_rx *rx, const struct ivc_record *record,
                   const struct iovec *iov, size_t iovcnt)
{
    return ivc_rx_copy_from(rx, record, 0, iov, iovcnt);
}

void ivc_rx_consume(struct ivc_rx *rx, const struct ivc_record *record)
{
    rx->head += ivc_record_bytes(record->length);
    rx->seq++;
    if (rx->head - rx->published >= rx->size / 8) {
        ivc_rx_publish(rx);
    }
}

/* Tries to arm at a tail that keeps moving; then the caller has work anyway. */
#define ARM_TRIES 4

bool ivc_rx_arm(struct ivc_rx *rx)
{
    if (unlikely(rx->poisoned)) {
        return false;
    }
    ivc_rx_publish(rx);
    for (int i = 0; i < ARM_TRIES; i++) {
        if (unlikely(refresh_tail(rx) != 0)) {
            return false;
        }
        uint64_t seen = rx->tail;
        if (rx->armed == seen) {
            break; /* still, by the fence of then: any tail after it rings */
        }
        atomic_store_explicit(&rx->own->wake_at, seen, memory_order_relaxed);
        rx->armed = seen;
        /*
         * Full fence between our store of wake_at and the second look at the
         * tail. Pairs with the fence in ivc_tx_publish (see there).
         */
        atomic_thread_fence(memory_order_seq_cst);
        if (unlikely(refresh_tail(rx) != 0)) {
            return false;
        }
        if (rx->tail == seen) {
            break;
        }
    }
    return rx->head == rx->tail;
}
