# SPDX-License-Identifier: Apache-2.0
"""The ring once more, in plain Python: to be read, and to test the C one against.

Same rules, same results, same bytes as ``ivc.shm.ring`` and core/ring.h, independently written on
the declarations of ``ivc.shm.layout``. Python has no memory barriers, so the two ends must be
driven by one thread.
"""

from typing import Any

from construct import Int32ul, Int64ul

from ivc.shm.errors import AttachError, RingFull, RingPoisoned, TooLarge
from ivc.shm.layout import (
    DATA_OFFSET,
    ORDER_MAX,
    ORDER_MIN,
    RECEIVER_REGION_SIZE,
    RECORD_ALIGN,
    RING_ABI_MAJOR,
    RING_MAGIC,
    Ctrl,
    RecordFlag,
    RecordHeader,
    RecordKind,
    RegionState,
    Role,
    fields,
    max_payload,
    record_bytes,
    sender_region_size,
)
from ivc.shm.record import Buffer, Ident, Record

_WORD = 1 << 64
_OFFSETS = {name: offset for name, (offset, _) in fields(Ctrl).items()}
_ANY_FLAG = int(RecordFlag.TWIN | RecordFlag.FENCE | RecordFlag.SAME)


def _ahead(a: int, b: int) -> int:
    """Bytes from index ``b`` forward to ``a``; indices are 64 bits and wrap."""
    return (a - b) % _WORD


class _Page:
    """One control page, ours or the peer's."""

    def __init__(self, region: memoryview) -> None:
        self._region = region

    def static(self) -> Any:
        return Ctrl.parse(bytes(self._region[: Ctrl.sizeof()]))

    def get(self, name: str) -> int:
        offset = _OFFSETS[name]
        word = Int32ul if name == "state" else Int64ul
        value: int = word.parse(bytes(self._region[offset : offset + word.sizeof()]))
        return value

    def set(self, name: str, value: int) -> None:
        offset = _OFFSETS[name]
        word = Int32ul if name == "state" else Int64ul
        self._region[offset : offset + word.sizeof()] = word.build(value)


class _End:
    """What both ends have: two pages, the data, and the facts agreed upon."""

    def __init__(self, own: Buffer, peer: Buffer, ident: Ident, role: Role) -> None:
        self._own = _Page(memoryview(own).cast("B"))
        self._peer = _Page(memoryview(peer).cast("B"))
        sizes = {Role.SENDER: len(own), Role.RECEIVER: len(peer)}
        if role is Role.RECEIVER:
            sizes = {Role.SENDER: len(peer), Role.RECEIVER: len(own)}
        if not (
            ORDER_MIN <= ident.order <= ORDER_MAX
            and sizes[Role.SENDER] >= sender_region_size(ident.order)
            and sizes[Role.RECEIVER] >= RECEIVER_REGION_SIZE
        ):
            raise AttachError("the order or the size of a region does not fit")
        self._facts = self._own.static()
        self._epoch: int = ident.epoch or self._facts.epoch
        self._start: int = self._facts.index
        other = Role.SENDER if role is Role.RECEIVER else Role.RECEIVER
        for line, expected in ((self._facts, role), (self._peer.static(), other)):
            if (line.magic, line.abi_major) != (RING_MAGIC, RING_ABI_MAJOR) or (
                line.role,
                line.order,
                line.flow_id,
                line.epoch,
            ) != (expected, ident.order, ident.flow_id, self._epoch):
                raise AttachError("a region does not belong to this flow")
        if self._start % RECORD_ALIGN:
            raise AttachError("our own index is not at a record")
        self._size = 1 << ident.order
        self._seq = 0
        self.max_payload = max_payload(ident.order)
        self.poisoned = False
        self.set_state(RegionState.OPEN)

    def set_state(self, state: int) -> None:
        """Say something about our region (``RegionState``)."""
        self._own.set("state", state)

    @property
    def peer_state(self) -> int:
        """What the peer says about its region."""
        return self._peer.get("state")

    def _poison(self) -> RingPoisoned:
        self.poisoned = True
        self.set_state(RegionState.POISONED)
        return RingPoisoned("the peer broke the ring's rules")

    def _spans(self, index: int, size: int) -> list[tuple[int, int]]:
        """Where ``size`` bytes from ``index`` lie in the sender's region: one or two spans."""
        at = index % self._size
        first = min(size, self._size - at)
        spans = [(DATA_OFFSET + at, first)]
        if first < size:
            spans.append((DATA_OFFSET, size - first))
        return spans


class PySender(_End):
    """``ivc.shm.ring.Sender`` in plain Python."""

    def __init__(self, own: Buffer, peer: Buffer, ident: Ident) -> None:
        super().__init__(own, peer, ident, Role.SENDER)
        self._region = memoryview(own).cast("B")
        self._tail = self._published = self._head = self._start

    def write(self, record: Record, payload: bytes) -> None:
        """Write one record behind the published tail."""
        if self.poisoned:
            raise RingPoisoned("the peer broke the ring's rules")
        if len(payload) > self.max_payload:
            raise TooLarge("a record takes at most half the ring")
        if not self._has_room(len(payload)):
            self._refresh_head()
            if not self._has_room(len(payload)):
                raise RingFull("no room in the ring")
        header: bytes = RecordHeader.build(
            {
                "length": len(payload),
                "kind": record.kind,
                "flags": record.flags,
                "stamp": record.stamp,
                "src_ip": record.src_ip,
                "dst_ip": record.dst_ip,
                "src_port": record.src_port,
                "dst_port": record.dst_port,
                "seq": self._seq,
                "epoch": self._epoch,
                "kseq": record.kseq,
            }
        )
        image = header + payload
        for at, size in self._spans(self._tail, len(image)):
            self._region[at : at + size] = image[:size]
            image = image[size:]
        self._tail = (self._tail + record_bytes(len(payload))) % _WORD
        self._seq = (self._seq + 1) % (1 << 32)

    def _has_room(self, length: int) -> bool:
        return record_bytes(length) <= self._size - _ahead(self._tail, self._head)

    def _refresh_head(self) -> None:
        head = self._peer.get("index")
        possible = _ahead(self._published, self._head)
        if head % RECORD_ALIGN or _ahead(head, self._head) > possible:
            raise self._poison()
        self._head = head

    def publish(self) -> bool:
        """Move the tail. True if the receiver's ``wake_at`` lies in [old tail, new tail)."""
        if self.poisoned or self._tail == self._published:
            return False
        before, self._published = self._published, self._tail
        self._own.set("index", self._tail)
        return _ahead(self._peer.get("wake_at"), before) < _ahead(self._tail, before)

    def peer_sleeps(self) -> bool:
        """True if the next record published will want the doorbell."""
        return self._peer.get("wake_at") == self._published


class PyReceiver(_End):
    """``ivc.shm.ring.Receiver`` in plain Python."""

    def __init__(self, own: Buffer, peer: Buffer, ident: Ident) -> None:
        super().__init__(own, peer, ident, Role.RECEIVER)
        self._region = memoryview(peer).cast("B")
        self._head = self._published = self._tail = self._start

    def ready(self) -> bool:
        """True if ``read()`` has something to return or to raise."""
        if self.poisoned or self._head != self._tail:
            return True
        try:
            self._refresh_tail()
        except RingPoisoned:
            return True
        if self._head == self._tail:
            self.publish()
        return self._head != self._tail

    def read(self) -> tuple[Record, bytes] | None:
        """Take the next record; None if the ring is empty. Raises ``RingPoisoned``."""
        if not self.ready():
            return None
        if self.poisoned:
            raise RingPoisoned("the peer broke the ring's rules")
        record = self._header()
        payload = self._bytes(self._head + RECORD_ALIGN, record.length)
        self._head = (self._head + record_bytes(record.length)) % _WORD
        self._seq = (self._seq + 1) % (1 << 32)
        if _ahead(self._head, self._published) >= self._size // 8:
            self.publish()
        return record, payload

    def publish(self) -> None:
        """Tell the sender exactly how far we have read."""
        self._own.set("index", self._head)
        self._published = self._head

    def arm(self) -> bool:
        """Ask for the doorbell behind all published so far. True: empty, safe to sleep."""
        if self.poisoned:
            return False
        self.publish()
        try:
            self._refresh_tail()
        except RingPoisoned:
            return False
        # Nobody else runs meanwhile, so the tail need not be looked at again.
        self._own.set("wake_at", self._tail)
        return self._head == self._tail

    def _refresh_tail(self) -> None:
        tail = self._peer.get("index")
        possible = self._size - _ahead(self._tail, self._head)
        if tail % RECORD_ALIGN or _ahead(tail, self._tail) > possible:
            raise self._poison()
        self._tail = tail

    def _bytes(self, index: int, size: int) -> bytes:
        spans = self._spans(index, size)
        return b"".join(bytes(self._region[at : at + part]) for at, part in spans)

    def _header(self) -> Record:
        parsed = RecordHeader.parse(self._bytes(self._head, RECORD_ALIGN))
        parsed.pop("_io")
        record = Record(**parsed)
        if not self._is_valid(record):
            raise self._poison()
        return record

    def _is_valid(self, record: Record) -> bool:
        fixed = ("src_ip", "src_port", "dst_ip", "dst_port")
        return (
            record.kind == RecordKind.DGRAM
            and record.flags | _ANY_FLAG == _ANY_FLAG
            and record.length <= self.max_payload
            and record_bytes(record.length) <= _ahead(self._tail, self._head)
            and (record.seq, record.epoch) == (self._seq, self._epoch)
            and all(getattr(record, n) == self._facts[n] for n in fixed if self._facts[n])
        )
