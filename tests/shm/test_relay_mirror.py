# SPDX-License-Identifier: Apache-2.0
"""Mirrored messages: each goes on as ever, and once to whoever gets the copies."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from relay_logger import Logger
from ring_memory import record
from test_relay import Desk, Way, key_of, message, running, until

from ivc import someip
from ivc.shm.layout import RecordFlag, RegionState
from ivc.shm.relay import Action, ArmedFault, Call, Effect, Loop, Result, What, copy_to

NOBODY = copy_to(0xFFFFFFFF, 30600)
"""The broadcast address: the kernel does not let us send there."""


class Mirror(Desk):
    """Mirrors service 1, denies service 2, lets the rest through."""

    to: int
    faults: int = 0

    def answer(self, call: Call) -> None:
        service = call.key >> 48 if call.key else 1
        action = {1: Action.MIRROR, 2: Action.DENY}.get(service, Action.RELAY)
        detail = self.to if action is Action.MIRROR else 0
        counts = self.loop.decide(call.way, call.key, action, detail, self.faults)
        assert counts is not None
        self.counts[call.way, call.key] = counts


@pytest.fixture
def logger() -> Iterator[Logger]:
    with Logger() as one:
        yield one


def mirroring(loop: Loop, logger: Logger) -> Mirror:
    desk = Mirror(loop)
    desk.to = logger.detail
    return desk


A, B = message(1, payload=b"a"), message(1, 2, payload=bytes(1400))
DENIED, PASSED = message(2), message(3)
SEGMENT = someip.Header(1, 5, message_type=someip.TP_FLAG).build(20) + bytes(20)


@pytest.mark.parametrize(
    ("sent", "left", "copies"),
    [
        ([A], [A], [A]),
        ([A, A], [A, A], [A, A]),
        ([PASSED], [PASSED], []),
        ([A + PASSED + B], [A + PASSED + B], [A, B]),
        ([DENIED + A + DENIED + B], [A + B], [A, B]),
        ([DENIED], [], []),
        ([SEGMENT, SEGMENT], [SEGMENT, SEGMENT], [SEGMENT, SEGMENT]),
        ([A + b"rubbish"], [A + b"rubbish"], [A, b"rubbish"]),
        ([b""], [b""], [b""]),
    ],
    ids=["one", "equal", "other", "some", "denied", "only", "segments", "rubbish", "empty"],
)
def test_each_message_goes_on_and_is_copied_as_it_is(
    logger: Logger, sent: list[bytes], left: list[bytes], copies: list[bytes]
) -> None:
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        for payload in sent:
            way.tx.write(replace(record(0), flags=0), payload)
        way.send()
        assert desk.pass_all(way) is Result.EMPTY
        assert way.received() == left
        assert logger.received() == copies
        assert sum(counts.copied for counts in desk.counts.values()) == len(copies)
        assert sum(counts.uncopied for counts in desk.counts.values()) == 0


@pytest.mark.parametrize("flag", [RecordFlag.TWIN, RecordFlag.FENCE])
def test_what_the_kernel_has_too_is_copied_once(logger: Logger, flag: RecordFlag) -> None:
    """Also beside what is denied: the kernel's copy of it reaches the receiver."""
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        for payload in (A, DENIED + B):
            way.tx.write(replace(record(0), flags=flag), payload)
        way.send()
        desk.pass_all(way)
        assert way.received() == [A]
        assert logger.received() == [A, B]


def test_what_cannot_be_sent_is_counted_and_goes_on_all_the_same(logger: Logger) -> None:
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        desk.to = NOBODY
        way.send(A, A)
        desk.pass_all(way)
        assert way.received() == [A, A]
        (counts,) = desk.counts.values()
        assert (counts.messages, counts.copied, counts.uncopied) == (2, 0, 2)


def test_forgotten_kinds_leave_their_counts(logger: Logger) -> None:
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        for to in (logger.detail, NOBODY):
            desk.to = to
            way.send(A)
            desk.pass_all(way)
            loop.clear()
        assert (loop.cleared.copied, loop.cleared.uncopied) == (1, 1)


def test_a_logger_that_does_not_read_holds_nobody_up(logger: Logger) -> None:
    with running(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way(order=16, loop=loop)
        way.send(B)
        desk.answer_calls()
        sent = 1
        got: list[bytes] = []
        while sent < 2000:
            sent += way.fill(B)
            until(lambda sent=sent: got.extend(way.received()) or len(got) == sent)
        assert way.relayed.full == 0
        (counts,) = desk.counts.values()
        assert counts.copied + counts.uncopied == sent
        assert len(logger.received()) < sent


def test_a_new_decision_copies_to_somebody_else(logger: Logger) -> None:
    with closing(Loop()) as loop, Logger() as other:
        desk, way = mirroring(loop, logger), Way()
        for _ in range(2):
            way.send(A)
            desk.pass_all(way)
            loop.ask_again()
            desk.to = other.detail
        assert (logger.received(), other.received()) == ([A], [A])


def test_what_stays_with_the_sender_is_not_copied(logger: Logger) -> None:
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        way.rx.set_state(RegionState.CLOSED)
        way.tx.write(replace(record(0), dst_ip=0x0A000002), A)
        way.send()
        assert desk.pass_all(way) is Result.FULL
        assert logger.received() == []


def test_what_there_is_no_room_for_is_not_copied(logger: Logger) -> None:
    with closing(Loop()) as loop:
        desk, way = mirroring(loop, logger), Way()
        for _ in range(3):
            way.tx.write(replace(record(0), flags=0), B)
            way.send()
            desk.pass_all(way)
        assert way.relayed.full == 1
        assert logger.received() == way.received() == [B, B]


# ---- beside faults


@pytest.mark.parametrize(
    ("fault", "left", "copies"),
    [
        (ArmedFault(Effect.DROP, 0, 1.0), 0, 0),
        (ArmedFault(Effect.DUPLICATE, 0, 1.0), 2, 1),
        (ArmedFault(Effect.DELAY, 0, delay=10**9), 0, 1),
    ],
    ids=["drop", "duplicate", "delay"],
)
def test_a_copy_is_of_what_goes_on_and_is_one(
    logger: Logger, fault: ArmedFault, left: int, copies: int
) -> None:
    with running(Loop()) as loop:
        loop.set_fault(0, fault)
        desk, way = mirroring(loop, logger), Way(loop=loop)
        desk.faults = 1
        way.tx.write(replace(record(0), flags=0), A)
        way.send()
        desk.answer_calls()
        until(lambda: way.relayed.messages == 1)
        loop.fault_counts(0)  # answered when its turn is over
        assert (len(way.received()), logger.received()) == (left, [A] * copies)


def test_what_is_corrupted_is_copied_so(logger: Logger) -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.CORRUPT, 7, 1.0, what=What.SESSION))
        desk, way = mirroring(loop, logger), Way()
        desk.faults = 1
        way.tx.write(replace(record(0), flags=0), A)
        way.send()
        desk.pass_all(way)
        (copy,) = logger.received()
        assert way.received() == [copy] != [A]
        assert key_of(someip.peek(copy)) == key_of(someip.peek(A))
