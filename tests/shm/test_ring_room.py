# SPDX-License-Identifier: Apache-2.0
"""What only streams use of the ring: waiting for room, half-read records, the kind of records."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_memory import IDENT, MAX, SIZE, payload, receiver_memory, record, sender_memory, starts

from ivc.shm.errors import RingPoisoned
from ivc.shm.layout import RecordKind
from ivc.shm.library import ffi, lib
from ivc.shm.ring import Receiver, Sender

RECORD = 32 + 480


class Pair:
    """Both ends of a ring, and their private state in C."""

    def __init__(self, start: int = 0) -> None:
        own, peer = sender_memory(start=start), receiver_memory(start=start)
        self.sender, self.receiver = Sender(own, peer, IDENT), Receiver(peer, own, IDENT)
        self.tx: Any = self.sender._end
        self.rx: Any = self.receiver._end

    def write(self, count: int) -> None:
        for number in range(count):
            self.sender.write(record(number * 8), payload(number, 480))
            self.sender.publish()

    def read(self) -> bool:
        """Take one record; whether the sender waits for that."""
        before = self.rx.head
        assert self.receiver.read() is not None
        return bool(lib.ivc_rx_sender_waits(self.rx, before))


@given(starts, st.integers(1, 8))
def test_the_sender_is_rung_when_as_much_is_free_as_it_wants(start: int, wanted: int) -> None:
    pair = Pair(start)
    pair.write(SIZE // RECORD)
    assert lib.ivc_tx_free(pair.tx) == 0
    assert not lib.ivc_tx_arm(pair.tx, wanted * RECORD)
    rung = [pair.read() for _ in range(SIZE // RECORD)]
    assert rung.index(True) == wanted - 1
    assert rung.count(True) == 1
    assert lib.ivc_tx_free(pair.tx) == SIZE


@given(starts)
def test_a_sender_with_room_need_not_wait(start: int) -> None:
    pair = Pair(start)
    pair.write(2)
    assert lib.ivc_tx_arm(pair.tx, SIZE // 4)


def test_an_impossible_head_is_no_room() -> None:
    own, peer = sender_memory(), receiver_memory()
    sender = Sender(own, peer, IDENT)
    peer[64:72] = (32).to_bytes(8, "little")
    assert lib.ivc_tx_free(sender._end) < 0
    assert sender.poisoned


@given(starts, st.integers(0, MAX), st.integers(0, MAX))
def test_a_record_is_copied_from_any_place(start: int, size: int, place: int) -> None:
    pair = Pair(start)
    pair.write(3)
    for _ in range(3):
        pair.receiver.read()
    pair.receiver.publish()
    pair.sender.write(record(0), payload(9, size))
    pair.sender.publish()
    header = ffi.new("struct ivc_record *")
    assert lib.ivc_rx_peek(pair.rx, header) == 1
    room = ffi.new("uint8_t[]", MAX)
    iov = ffi.new("struct iovec *", [room, MAX])
    n = lib.ivc_rx_copy_from(pair.rx, header, place, iov, 1)
    assert bytes(ffi.buffer(room, n)) == payload(9, size)[place:]


@pytest.mark.parametrize("expected", RecordKind)
@pytest.mark.parametrize("sent", RecordKind)
def test_a_flow_has_one_kind_of_records(sent: RecordKind, expected: RecordKind) -> None:
    pair = Pair()
    pair.rx.kind = int(expected)
    pair.sender.write(replace(record(0), kind=int(sent)), b"data")
    pair.sender.publish()
    if sent is expected:
        assert pair.receiver.read() is not None
    else:
        with pytest.raises(RingPoisoned):
            pair.receiver.read()
