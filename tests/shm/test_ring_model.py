# SPDX-License-Identifier: Apache-2.0
"""C ring, Python ring and every mixture of both do what a list does, and write the same bytes."""

from collections import deque
from dataclasses import dataclass, field, replace
from mmap import mmap
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from ring_memory import (
    FLOW,
    IDENT,
    MAX,
    SIZE,
    payload,
    receiver_memory,
    record,
    sender_memory,
    sizes,
    starts,
)

from ivc.shm.errors import RingFull, TooLarge
from ivc.shm.layout import record_bytes
from ivc.shm.pyring import PyReceiver, PySender
from ivc.shm.record import Record
from ivc.shm.ring import Receiver, Sender

FULL, LARGE = "full", "too large"


@dataclass
class Model:
    """What a ring is: a list. Beside it, how much of it each side may already know."""

    written: deque[tuple[Record, bytes]] = field(default_factory=deque)
    visible: int = 0  # of `written`: published
    seen: int = 0  # of `written`: the receiver has looked at the tail since
    kept: int = 0  # bytes read whose head is not published
    used: int = 0  # bytes of `written`
    count: int = 0
    armed_at: int = 0  # number of the record that is to ring
    published: int = 0  # records published in all

    def write(self, header: Record, data: bytes) -> str | None:
        if len(data) > MAX:
            return LARGE
        if record_bytes(len(data)) > SIZE - self.used - self.kept:
            return FULL
        made = replace(header, length=len(data), seq=self.count, epoch=FLOW.epoch)
        self.written.append((made, data))
        self.used += record_bytes(len(data))
        self.count += 1
        return None

    def publish(self) -> bool:
        before, self.published = self.published, self.count
        self.visible = len(self.written)
        return before <= self.armed_at < self.published

    def ready(self) -> bool:
        if self.seen == 0:
            self.seen = self.visible
        if self.seen == 0:
            self.kept = 0
        return self.seen > 0

    def read(self) -> tuple[Record, bytes] | None:
        if not self.ready():
            return None
        got = self.written.popleft()
        size = record_bytes(len(got[1]))
        self.visible, self.seen = self.visible - 1, self.seen - 1
        self.used, self.kept = self.used - size, self.kept + size
        if self.kept >= SIZE // 8:
            self.kept = 0
        return got

    def head(self) -> None:
        self.kept = 0

    def arm(self) -> bool:
        self.kept = 0
        self.armed_at = self.published
        self.seen = self.visible
        return self.seen == 0


@dataclass
class Real:
    """One ring: its memory and an implementation at either end."""

    sender: Any
    receiver: Any
    memory: tuple[mmap, mmap]

    def write(self, header: Record, data: bytes) -> str | None:
        try:
            self.sender.write(header, data)
        except RingFull:
            return FULL
        except TooLarge:
            return LARGE
        return None

    def publish(self) -> bool:
        return bool(self.sender.publish())

    def ready(self) -> bool:
        return bool(self.receiver.ready())

    def read(self) -> Any:
        return self.receiver.read()

    def head(self) -> None:
        self.receiver.publish()

    def arm(self) -> bool:
        return bool(self.receiver.arm())

    def image(self) -> tuple[bytes, bytes]:
        return self.memory[0][:], self.memory[1][:]


def real(sender: Any, receiver: Any, start: int) -> Real:
    tx, rx = sender_memory(FLOW, start), receiver_memory(FLOW, start)
    return Real(sender(tx, rx, IDENT), receiver(rx, tx, IDENT), (tx, rx))


def do(ring: Model | Real, step: str, header: Record, data: bytes) -> Any:
    return ring.write(header, data) if step == "write" else getattr(ring, step)()


writes = st.tuples(st.just("write"), st.one_of(sizes, st.sampled_from([MAX + 1, 65507])))
bursts = st.tuples(st.sampled_from(["write", "read"]), st.sampled_from([0, 32, 480]))
others = st.tuples(st.sampled_from(["publish", "ready", "read", "head", "arm"]), st.just(0))
steps = st.lists(st.one_of(writes, bursts, others, others), min_size=1, max_size=60)

FILL_AND_DRAIN = [*[("write", 32)] * 65, ("publish", 0), *[("read", 0)] * 66, ("write", MAX)]
BATCHES = [("arm", 0), *[("write", 480), ("write", 0), ("publish", 0), ("read", 0)] * 20]


@given(steps, starts)
@example(FILL_AND_DRAIN * 3, 0)
@example(BATCHES, (1 << 64) - 32)
def test_four_pairs_and_a_list_agree(steps: list[tuple[str, int]], start: int) -> None:
    model = Model()
    rings = [real(tx, rx, start) for tx in (Sender, PySender) for rx in (Receiver, PyReceiver)]
    for number, (step, size) in enumerate(steps):
        header, data = record(number), payload(number, size)
        expected = do(model, step, header, data)
        assert [do(ring, step, header, data) for ring in rings] == [expected] * 4
        assert len({ring.image() for ring in rings}) == 1


@given(steps, starts, st.booleans())
def test_a_receiver_that_armed_is_woken(
    steps: list[tuple[str, int]], start: int, drains: bool
) -> None:
    """Whatever came before: armed, a record is published, publish() says ring, once.

    A level-triggered receiver arms until the ring is empty; an edge-triggered one may leave
    records unread and still wants to hear of the next.
    """
    ring = real(Sender, Receiver, start)
    armed = waiting = False
    for number, (step, size) in enumerate(steps):
        if step == "write":
            waiting |= ring.write(record(number), payload(number, size)) is None
        elif step == "publish":
            assert ring.publish() or not (armed and waiting)
            armed, waiting = armed and not waiting, False
        elif step == "arm":
            armed = ring.arm() or not drains
        elif not armed:
            ring.read()


@given(st.lists(sizes, min_size=1, max_size=30))
def test_a_ring_found_empty_has_room_for_the_largest_record(lengths: list[int]) -> None:
    """A head kept back must never make a ring look full for ever."""
    ring = real(Sender, Receiver, 0)
    for number, size in enumerate(lengths):
        assert ring.write(record(number), payload(number, size)) is None
        ring.publish()
        assert ring.read() is not None
        assert ring.read() is None
        assert ring.write(record(0), payload(0, MAX)) is None
        ring.publish()
        assert ring.read() is not None
        assert not ring.ready()
