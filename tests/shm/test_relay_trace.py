# SPDX-License-Identifier: Apache-2.0
"""What the relay tells of messages: what has become of each, and what faults have done to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from ring_memory import record
from test_relay import Desk, Way, message, running, until
from trace_memory import TraceRing, captured

from ivc.shm.layout import TraceEvent
from ivc.shm.relay import Action, ArmedFault, Call, Effect, Loop

PASSED, DENIED, AUDITED, MIRRORED = (message(n, payload=b"p") for n in (1, 2, 3, 4))
VERDICTS = {
    1: Action.RELAY,
    2: Action.DENY,
    3: Action.AUDIT,
    4: Action.MIRROR,
}
HOUR_NS = 3600 * 10**9


class Judge(Desk):
    """Each service has its own verdict; what is mirrored is to the trace."""

    faults = 0

    def answer(self, call: Call) -> None:
        action = VERDICTS[call.key >> 48] if call.key else Action.RELAY
        counts = self.loop.decide(call.way, call.key, action, 0, self.faults)
        assert counts is not None
        self.counts[call.way, call.key] = counts


@pytest.fixture
def ring() -> Iterator[TraceRing]:
    with closing(TraceRing()) as made:
        yield made


def pass_on(loop: Loop, ring: TraceRing | None, *sent: bytes, faults: int = 0) -> Judge:
    """Send datagrams through a loop that tells of them."""
    desk, way = Judge(loop), Way(number=5)
    desk.faults = faults
    loop.trace(ring.writer if ring is not None else None)
    for number, payload in enumerate(sent):
        way.tx.write(replace(record(number), flags=0), payload)
    way.send()
    desk.pass_all(way)
    return desk


def told(ring: TraceRing) -> list[tuple[TraceEvent, bytes]]:
    return [(TraceEvent(at.event), at.data) for at in captured(ring)]


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (PASSED, [(TraceEvent.PASSED, PASSED)]),
        (DENIED, [(TraceEvent.DENIED, DENIED)]),
        (AUDITED, [(TraceEvent.AUDITED, AUDITED)]),
        (MIRRORED, [(TraceEvent.MIRRORED, MIRRORED)]),
        (b"rubbish", [(TraceEvent.PASSED, b"rubbish")]),
        (PASSED + PASSED, [(TraceEvent.PASSED, PASSED + PASSED)]),
        (
            PASSED + DENIED + MIRRORED,
            [(TraceEvent.MIRRORED, PASSED + MIRRORED), (TraceEvent.DENIED, DENIED)],
        ),
        (DENIED + DENIED, [(TraceEvent.DENIED, DENIED)] * 2),
    ],
    ids=["passed", "denied", "audited", "mirrored", "rubbish", "several", "mixed", "nothing left"],
)
def test_what_becomes_of_a_message_is_told(
    ring: TraceRing, sent: bytes, events: list[tuple[TraceEvent, bytes]]
) -> None:
    with closing(Loop()) as loop:
        pass_on(loop, ring, sent)
        assert told(ring) == events


def test_whose_message_it_is_is_told(ring: TraceRing) -> None:
    with closing(Loop()) as loop:
        pass_on(loop, ring, PASSED)
    (at,) = captured(ring)
    sent = record(0)
    assert (at.flow, at.source) == (5, (sent.src_ip, sent.src_port))
    assert at.destination == (sent.dst_ip, sent.dst_port)


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (ArmedFault(Effect.DROP, 1, 1.0), TraceEvent.DROPPED),
        (ArmedFault(Effect.DROP_NTH, 1, number=1), TraceEvent.DROPPED),
        (ArmedFault(Effect.CORRUPT, 1, 1.0), TraceEvent.PASSED),
        (ArmedFault(Effect.CUT, 1, until=1 << 62), TraceEvent.DROPPED),
    ],
    ids=lambda each: each.effect.name if isinstance(each, ArmedFault) else "",
)
def test_a_fault_that_acts_is_told(ring: TraceRing, fault: ArmedFault, event: TraceEvent) -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, fault)
        pass_on(loop, ring, PASSED, faults=1)
    (at,) = captured(ring)
    assert (at.event, at.faults) == (event, 1 << fault.effect)


def test_a_fault_that_does_nothing_is_not_told(ring: TraceRing) -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.DROP, 1, 0.0))
        pass_on(loop, ring, PASSED, faults=1)
    (at,) = captured(ring)
    assert at.faults == 0


def test_what_goes_twice_is_told_twice(ring: TraceRing) -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.DUPLICATE, 1, 1.0))
        pass_on(loop, ring, PASSED, faults=1)
    assert [at.faults for at in captured(ring)] == [1 << Effect.DUPLICATE] * 2


def test_what_is_delayed_is_told_when_it_goes_on(ring: TraceRing) -> None:
    delay = 20_000_000
    with closing(Loop()) as loop, running(loop):
        loop.set_fault(0, ArmedFault(Effect.DELAY, 1, delay=delay))
        loop.trace(ring.writer)
        way, desk = Way(loop=loop), Judge(loop)
        desk.faults = 1
        way.send(PASSED)
        desk.answer_calls()
        assert captured(ring) == []
        until(lambda: bool(way.received()))
        loop.remove(way.relayed)
    (at,) = captured(ring)
    assert (at.event, at.faults) == (TraceEvent.PASSED, 1 << Effect.DELAY)


def test_what_finds_no_room_is_told_once(ring: TraceRing) -> None:
    with closing(Loop()) as loop:
        desk, way = Judge(loop), Way()
        loop.trace(ring.writer)
        for _ in range(2):
            way.fill(message(1, payload=bytes(1000)))
            desk.pass_all(way)
        events = [at.event for at in captured(ring)]
        assert TraceEvent.FULL in events
        assert len(events) == sum(counts.messages for counts in desk.counts.values())


def test_mirrored_to_the_trace_is_counted_as_copied_if_somebody_traces(ring: TraceRing) -> None:
    for to, counted in ((ring, (1, 0)), (None, (0, 1))):
        with closing(Loop()) as loop:
            desk = pass_on(loop, to, MIRRORED)
            (counts,) = desk.counts.values()
            assert (counts.copied, counts.uncopied) == counted


def test_nothing_is_told_when_nobody_traces_any_more(ring: TraceRing) -> None:
    with closing(Loop()) as loop:
        pass_on(loop, ring, PASSED)
        pass_on(loop, None, PASSED)
    assert len(captured(ring)) == 1
