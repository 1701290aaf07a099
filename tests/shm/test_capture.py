# SPDX-License-Identifier: Apache-2.0
"""The capture: records of many rings in the order of their times, and what it asks about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from time import monotonic_ns

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_memory import FOR_EVER, TraceRing, captured, given_out

from ivc import someip
from ivc.shm.errors import AttachError
from ivc.shm.layout import RecordKind, TraceEvent
from ivc.shm.trace import Capture, Step, TracePath, TraceWriter

A, B, C = (0x0A000001, 1), (0x0A000002, 2), (0x0A000003, 3)


@pytest.fixture
def ring() -> Iterator[TraceRing]:
    with closing(TraceRing()) as made:
        yield made


def taken(capture: Capture, horizon: int = FOR_EVER) -> list[bytes]:
    """Bytes of all that is old enough."""
    return [at.data for at in given_out(capture, horizon)]


FEWER = settings(max_examples=settings.default.max_examples // 10)
"""Each example makes rings of 64 KiB."""


@FEWER
@given(st.lists(st.lists(st.integers(0, 50), max_size=8), min_size=1, max_size=4))
def test_records_of_several_rings_come_in_the_order_of_their_times(each: list[list[int]]) -> None:
    rings = [TraceRing() for _ in each]
    with closing(Capture(0)) as capture:
        for ring, times in zip(rings, each, strict=True):
            capture.add(ring.reader)
            for time in sorted(times):
                assert ring.writer.put(bytes([time]), A, B, time=time)
        assert taken(capture) == [bytes([time]) for time in sorted(chain(*each))]


def test_what_is_younger_than_the_horizon_waits(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for time in (1, 2, 3):
            ring.writer.put(bytes([time]), A, B, time=time)
        assert taken(capture, 2) == [b"\1", b"\2"]
        assert taken(capture, 3) == [b"\3"]


def test_room_is_given_back(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for _ in range(10):
            count = 0
            while ring.writer.put(bytes(1000), A, B, time=1):
                count += 1
            assert count > 50
            assert len(taken(capture)) == count


def test_a_flow_is_asked_about_once_and_so_is_each_path_of_it(ring: TraceRing) -> None:
    asked = []
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for event in (TraceEvent.SENT, TraceEvent.NETWORK, TraceEvent.PASSED, TraceEvent.DENIED):
            for destination in (B, C):
                ring.writer.put(b"", A, destination, time=1, event=event)
        while (step := capture.next(FOR_EVER)) is not Step.EMPTY:
            if step is Step.ASKS_FLOW:
                flow = capture.flow(capture.at.place)
                assert flow is not None
                asked.append((flow.path, flow.destination))
                capture.name_flow(len(asked))
            else:
                capture.done()
    assert asked == [
        (path, to)
        for path in (TracePath.DIRECT, TracePath.NETWORK, TracePath.RELAY)
        for to in (B, C)
    ]


def test_a_connection_is_one_flow_whatever_its_bytes_go_by(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for event, flow in ((TraceEvent.NETWORK, 0), (TraceEvent.SENT, 4), (TraceEvent.SENT, 9)):
            ring.writer.put(b"", A, B, time=1, event=event, flow=flow, kind=RecordKind.STREAM)
        assert len(taken(capture)) == 3
        assert capture.flow(1) is not None
        assert capture.flow(2) is None


def test_flows_that_are_too_many_share_the_first(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for port in range(5000):
            ring.writer.put(b"", A, (B[0], port), time=1)
            assert taken(capture) == [b""]
        shared = capture.flow(0)
        assert shared is not None and shared.records == 5000 - 4095


# ---- rings that go


def removed(capture: Capture, ring: TraceRing) -> None:
    """As when its process has ended."""
    assert capture.remove(0)
    ring.close()


@pytest.mark.parametrize("read", [True, False], ids=["read before", "not read yet"])
def test_what_a_ring_had_is_given_out_when_it_has_gone(read: bool) -> None:
    ring = TraceRing()
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for time in (1, 2, 3):
            ring.writer.put(bytes([time]), A, B, time=time)
        if read:
            assert taken(capture, 1) == [b"\1"]
        removed(capture, ring)
        assert taken(capture)[-2:] == [b"\2", b"\3"]


def test_the_place_of_a_ring_is_free_when_all_it_had_is_given_out(ring: TraceRing) -> None:
    gone = TraceRing()
    with closing(Capture(0)) as capture:
        assert capture.add(gone.reader) == 0
        gone.writer.put(b"", A, B, time=1)
        removed(capture, gone)
        assert capture.add(ring.reader) == 1
        assert taken(capture) == [b""]
        assert capture.add(ring.reader) == 0


# ---- clocks that are ahead


AHEAD_MOST_NS = 10_000_000
SECOND = 1_000_000_000


def told(capture: Capture, horizon: int) -> list[int]:
    """Times of all that is old enough."""
    return [at.time for at in given_out(capture, horizon)]


def test_order_and_distances_of_a_ring_hold_however_far_ahead_its_clock_is(
    ring: TraceRing,
) -> None:
    now = monotonic_ns()
    times = [now + SECOND + after for after in (0, 1, 1000, 5_000_000, 5_000_001)]
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for time in times[:3]:
            ring.writer.put(b"", A, B, time=time)
        assert told(capture, now) == []  # one pass reads some of it, the next one the rest
        for time in times[3:]:
            ring.writer.put(b"", A, B, time=time)
        found = told(capture, FOR_EVER)
    assert [time - found[0] for time in found] == [time - times[0] for time in times]


def test_what_claims_to_come_from_the_future_is_given_out_all_the_same(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        for time in (FOR_EVER, monotonic_ns(), 1):
            ring.writer.put(b"", A, B, time=time)
        assert told(capture, 0) == []
        latest = monotonic_ns() + AHEAD_MOST_NS
        assert len(told(capture, latest)) == 3


def test_a_clock_that_is_a_little_ahead_is_taken_as_it_is(ring: TraceRing) -> None:
    time = monotonic_ns() + AHEAD_MOST_NS // 2
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        ring.writer.put(b"", A, B, time=time)
        assert told(capture, FOR_EVER) == [time]


# ---- latency


@pytest.mark.parametrize("late", [False, True], ids=["at once", "a pass later"])
def test_what_a_receiver_has_taken_says_when(late: bool) -> None:
    with closing(TraceRing()) as sender, closing(TraceRing()) as taker, closing(Capture(0)) as it:
        it.add(taker.reader)
        it.add(sender.reader)

        def take(number: int, flow: int, time: int) -> None:
            taker.writer.put(b"", A, B, time=time, event=TraceEvent.TAKEN, flow=flow, number=number)

        if late:  # the receipt is read, and what it is for is not there yet
            take(1, 7, 150)
            assert taken(it, 1) == []
        for number in (1, 2):
            sender.writer.put(b"", A, B, time=100, flow=7, number=number)
        sender.writer.put(b"", A, B, time=100, flow=8, number=1)
        if not late:
            take(1, 7, 150)
        found = [at.latency for at in given_out(it)]
    assert found == [50, None, None]


def test_what_was_dropped_is_taken_by_nobody(ring: TraceRing) -> None:
    ring.writer.put(b"", A, B, time=1, flow=7, number=1, event=TraceEvent.PASSED)
    ring.writer.put(b"", A, B, time=2, flow=7, number=1, event=TraceEvent.DROPPED)
    ring.writer.put(b"", A, B, time=5, flow=7, number=1, event=TraceEvent.TAKEN)
    assert [at.latency for at in captured(ring)] == [4, None]


# ---- filters


def message(service: int, method: int = 1) -> bytes:
    return someip.Header(service, method).build(0)


def test_each_kind_is_asked_about_once_and_the_answer_stays(ring: TraceRing) -> None:
    asked, found = [], []
    with closing(Capture(0)) as capture:
        capture.filter()
        capture.add(ring.reader)
        for payload in (message(1), message(2), message(1), message(2), b"rubbish"):
            ring.writer.put(payload, A, B, time=1)
        while (step := capture.next(FOR_EVER)) is not Step.EMPTY:
            if step is Step.ASKS_KIND:
                header = someip.parse_header(capture.at.header)[0] if capture.at.key else None
                asked.append(header and header.service_id)
                capture.decide(header is not None and header.service_id == 1)
            elif step is Step.ASKS_FLOW:
                capture.name_flow(0)
            else:
                found.append(capture.at.data)
                capture.done()
    assert asked == [1, 2, None]
    assert found == [message(1)] * 2


@pytest.mark.parametrize("kinds", [[1], [1, 2], [2, 1], [2, 2, 1]])
def test_a_datagram_is_wanted_if_one_of_its_messages_is(ring: TraceRing, kinds: list[int]) -> None:
    with closing(Capture(0)) as capture:
        capture.filter()
        capture.add(ring.reader)
        ring.writer.put(b"".join(map(message, kinds)), A, B, time=1)
        while (step := capture.next(FOR_EVER)) is Step.ASKS_KIND:
            capture.decide(someip.parse_header(capture.at.header)[0].service_id == 1)
        assert step is Step.ASKS_FLOW


def test_more_kinds_than_the_table_has_are_asked_about_again(ring: TraceRing) -> None:
    with closing(Capture(0)) as capture:
        capture.filter()
        capture.add(ring.reader)
        for number in range(5000):
            ring.writer.put(message(number >> 8, number), A, B, time=1)
            while (step := capture.next(FOR_EVER)) is Step.ASKS_KIND:
                capture.decide(False)
            assert step is Step.EMPTY


# ---- who writes is not believed


def test_a_ring_whose_writer_breaks_the_rules_is_read_no_more(ring: TraceRing) -> None:
    with closing(TraceRing()) as good, closing(Capture(0)) as capture:
        place = capture.add(ring.reader)
        capture.add(good.reader)
        ring.writer.put(b"bad", A, B, time=1)
        good.writer.put(b"good", A, B, time=2)
        data = len(ring.memory) - (1 << 16)
        ring.memory[data + 12 : data + 16] = b"\xff\xff\xff\xff"  # captured
        assert taken(capture) == [b"good"]
        assert capture.is_poisoned(place)


@FEWER
@given(st.binary(min_size=48, max_size=200), st.integers(0, 255))
def test_any_record_is_given_out_or_poisons(rubbish: bytes, mark: int) -> None:
    with closing(TraceRing()) as ring, closing(Capture(0)) as capture:
        capture.add(ring.reader)
        ring.writer.put(b"", A, B, time=1)
        data = len(ring.memory) - (1 << 16)
        ring.memory[data : data + len(rubbish)] = rubbish
        ring.memory[4096 + 4 * 2 : 4096 + 4 * 2 + 1] = bytes([mark])
        step = Step.FULL
        for _ in range(100):
            step, _blocks = capture.write(FOR_EVER)
            if step is not Step.ASKS_FLOW:
                break
            capture.name_flow(0)
        assert step is Step.EMPTY


def test_memory_that_is_no_trace_ring_is_refused(ring: TraceRing) -> None:
    ring.memory[:8] = bytes(8)
    with pytest.raises(AttachError):
        TraceWriter(ring.memory, ring.page)


def test_a_long_message_is_cut_to_the_snap_length() -> None:
    with closing(TraceRing(snap=10)) as ring:
        ring.writer.put(bytes(range(100)), A, B, time=1)
        (at,) = captured(ring)
        assert (at.length, at.data) == (100, bytes(range(10)))
