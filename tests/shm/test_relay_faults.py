# SPDX-License-Identifier: Apache-2.0
"""Faults in the relay's loop: each effect, the same again with the same seed, and what they leave
alone."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_memory import FLOW, record
from test_relay import Way, message

from ivc.shm.errors import RingFull
from ivc.shm.layout import RecordFlag
from ivc.shm.relay import Action, ArmedFault, Call, Effect, Loop, Result, What

MASK = (1 << 64) - 1
HOUR = 3600 * 10**9


def numbered(count: int, payload: int = 4) -> list[bytes]:
    return [message(1, 1, n.to_bytes(payload, "big")) for n in range(count)]


def splitmix64(seed: int) -> Iterator[int]:
    """The generator as its paper has it, for comparison."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def decide_all(loop: Loop, call: Call, faults: int) -> None:
    assert loop.decide(call.way, call.key, Action.RELAY, 0, faults) is not None


def through(
    loop: Loop, way: Way, sent: list[bytes], faults: int = 1, flags: int = 0
) -> list[bytes]:
    """What arrives of what is sent, a record each."""
    got = []
    for number, payload in enumerate(sent):
        way.tx.write(replace(record(number), flags=flags), payload)
        way.tx.publish()
        while isinstance(result := loop.turn(way.relayed), Call) or result is Result.MORE:
            if isinstance(result, Call):
                decide_all(loop, result, faults)
        got += way.received()
    return got


def after(sent: list[bytes], *faults: ArmedFault, **kwargs: Any) -> list[bytes]:
    with closing(Loop()) as loop:
        for place, fault in enumerate(faults):
            loop.set_fault(place, fault)
        return through(loop, Way(), sent, (1 << len(faults)) - 1, **kwargs)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(0, MASK), st.floats(0, 1), st.integers(1, 60))
def test_what_is_dropped_is_what_the_generator_says(seed: int, chance: float, count: int) -> None:
    sent, draws = numbered(count), splitmix64(seed)
    kept = [each for each in sent if next(draws) >> 11 >= round(chance * 2**53)]
    assert after(sent, ArmedFault(Effect.DROP, seed, chance)) == kept


EVERYTHING = [
    ArmedFault(Effect.DROP, 1, 0.1),
    ArmedFault(Effect.DROP_NTH, 1, number=7),
    ArmedFault(Effect.DUPLICATE, 2, 0.2),
    *(ArmedFault(Effect.CORRUPT, 3, 0.2, what=what) for what in What),
]


def test_the_same_seeds_do_the_same_twice_and_others_do_not() -> None:
    sent = numbered(400)
    once = after(sent, *EVERYTHING)
    assert once != sent
    assert after(sent, *EVERYTHING) == once
    assert after(sent, ArmedFault(Effect.DROP, 2, 0.1)) != after(sent, EVERYTHING[0])


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(1, 9), st.integers(0, 40))
def test_every_nth_is_dropped(nth: int, count: int) -> None:
    sent = numbered(count)
    kept = [each for number, each in enumerate(sent, start=1) if number % nth]
    assert after(sent, ArmedFault(Effect.DROP_NTH, 0, number=nth)) == kept


def test_a_duplicate_follows_its_original() -> None:
    sent = numbered(3)
    assert after(sent, ArmedFault(Effect.DUPLICATE, 0, 1.0)) == [
        each for each in sent for _ in range(2)
    ]


CHANGED: dict[What, Callable[[bytes, bytes], bool]] = {
    What.BYTE: lambda a, b: sum(x != y for x, y in zip(a, b, strict=True)) == 1,
    What.BIT: lambda a, b: (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() == 1,
    What.LENGTH: lambda a, b: a[4:8] != b[4:8] and a[:4] + a[8:] == b[:4] + b[8:],
    What.SESSION: lambda a, b: a[10:12] != b[10:12] and a[:10] + a[12:] == b[:10] + b[12:],
}


@pytest.mark.parametrize("what", What)
def test_what_is_corrupted_is_that_and_nothing_else(what: What) -> None:
    sent = numbered(200)
    got = after(sent, ArmedFault(Effect.CORRUPT, 5, 1.0, what=what))
    assert len(got) == len(sent)
    assert all(CHANGED[what](a, b) for a, b in zip(sent, got, strict=True))


@pytest.mark.parametrize("what", [What.LENGTH, What.SESSION])
def test_what_has_no_header_has_no_field_to_corrupt(what: What) -> None:
    assert after([b"abc", b""], ArmedFault(Effect.CORRUPT, 5, 1.0, what=what)) == [b"abc", b""]


def test_a_rate_lets_so_many_through_in_a_second() -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.RATE, 0, number=3))
        way, sent = Way(), numbered(5)
        assert through(loop, way, sent) == sent[:3]
        time.sleep(1.05)
        assert through(loop, way, sent) == sent[:3]
        assert loop.fault_counts(0) == (10, 4)


def test_a_cut_ends_by_itself() -> None:
    with closing(Loop()) as loop:
        until = time.monotonic_ns() + 300_000_000
        loop.set_fault(0, ArmedFault(Effect.CUT, 0, until=until))
        way, sent = Way(), numbered(2)
        assert through(loop, way, sent) == []
        time.sleep(0.35)
        assert through(loop, way, sent) == sent
        assert loop.fault_counts(0) == (4, 2)


def test_only_the_messages_it_drops_are_missing_from_a_datagram() -> None:
    a, b, c = numbered(3)
    assert after([a + b + c], ArmedFault(Effect.DROP_NTH, 0, number=2)) == [a + c]


def test_a_fault_is_not_asked_about_what_an_earlier_one_has_dropped() -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.DROP_NTH, 0, number=2))
        loop.set_fault(1, ArmedFault(Effect.DROP_NTH, 0, number=9))
        through(loop, Way(), numbered(4), faults=3)
        assert loop.fault_counts(0) == (4, 2)
        assert loop.fault_counts(1) == (2, 0)


def test_a_kind_no_fault_acts_on_is_left_alone() -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.DROP, 0, 1.0))
        assert through(loop, Way(), numbered(3), faults=0) == numbered(3)
        assert loop.fault_counts(0) == (0, 0)


@pytest.mark.parametrize("flags", [RecordFlag.TWIN, RecordFlag.FENCE])
def test_what_the_kernel_has_too_is_left_alone(flags: RecordFlag) -> None:
    sent = numbered(3)
    assert after(sent, ArmedFault(Effect.DROP, 0, 1.0), flags=flags) == sent


def test_what_a_fault_has_dropped_is_not_said_to_have_passed() -> None:
    with closing(Loop()) as loop:
        loop.set_fault(0, ArmedFault(Effect.DROP_NTH, 0, number=3))
        way = Way()
        send(way, numbered(9))
        call = loop.turn(way.relayed)
        assert isinstance(call, Call)
        counts = loop.decide(call.way, call.key, Action.AUDIT, 0, 1)
        assert counts is not None
        while loop.turn(way.relayed) is Result.MORE:
            pass
        assert (counts.messages, counts.audited) == (9, len(way.received())) == (9, 6)


# ---- delays: the loop has to run


@contextmanager
def running(*faults: ArmedFault, order: int = FLOW.order) -> Iterator[tuple[Loop, Way]]:
    """A loop at work, with a flow whose messages are of a kind the faults act on."""
    with closing(Loop()) as loop:
        way = Way(order=order)
        for sent in numbered(1):
            through(loop, way, [sent], (1 << len(faults)) - 1)
        for place, fault in enumerate(faults):
            loop.set_fault(place, fault)
        loop.add(way.relayed)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            yield loop, way
        finally:
            loop.stop()
            thread.join()


def send(way: Way, payloads: list[bytes]) -> None:
    for payload in payloads:
        way.tx.write(replace(record(0), flags=0), payload)
    way.send()


def try_to_send(way: Way, payload: bytes) -> bool:
    """Whether there is room in the first ring."""
    try:
        way.tx.write(replace(record(0), flags=0), payload)
    except RingFull:
        return False
    finally:
        way.send()
    return True


def send_all(way: Way, payloads: list[bytes]) -> None:
    """Send more than the ring has room for: what is delayed is taken from it."""
    taken = way.relayed.messages + len(payloads)
    for payload in payloads:
        while not try_to_send(way, payload):
            time.sleep(0.0002)
    end = time.monotonic() + 5
    while way.relayed.messages < taken and time.monotonic() < end:
        time.sleep(0.001)
    assert way.relayed.messages == taken


def await_some(way: Way, count: int, seconds: float = 5) -> list[bytes]:
    end, got = time.monotonic() + seconds, []
    while len(got) < count and time.monotonic() < end:
        got += way.received()
        time.sleep(0.001)
    return got


def test_what_is_delayed_arrives_later_in_its_order() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=100_000_000)) as (_, way):
        sent, start = numbered(20), time.monotonic()
        send(way, sent)
        assert await_some(way, 20) == sent
        assert time.monotonic() - start >= 0.1


def test_jitter_changes_the_order_and_loses_nothing() -> None:
    with running(ArmedFault(Effect.DELAY, 0, jitter=100_000_000)) as (_, way):
        sent = numbered(50)
        send(way, sent)
        got = await_some(way, 50)
        assert sorted(got) == sent
        assert got != sent


def test_what_is_held_goes_out_when_its_flow_is_removed() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR)) as (loop, way):
        sent = numbered(5)
        send(way, sent)
        end = time.monotonic() + 5
        while loop.fault_counts(0)[1] < 5 and time.monotonic() < end:
            time.sleep(0.001)
        assert way.received() == []
        loop.remove(way.relayed)
        assert way.received() == sent


def test_a_slow_receiver_loses_nothing_of_a_constant_delay_and_gets_it_in_order() -> None:
    """What is due waits for room behind what was due before, as long as the receiver takes any."""
    with running(ArmedFault(Effect.DELAY, 0, delay=20_000_000)) as (_, way):
        sent = [numbered(n + 1, 4 + 1500 * (n % 2))[n] for n in range(200)]
        left, got, read, pause = list(reversed(sent)), [], time.monotonic(), 0.0
        while len(got) + way.relayed.full < len(sent):
            while left and try_to_send(way, left[-1]):
                left.pop()
            taken = way.rx.read()
            if taken is not None:
                got.append(taken[1])
            time.sleep(0.0005)
            read, pause = time.monotonic(), max(pause, time.monotonic() - read)
        assert got == [each for each in sent if each in got]
        assert got == sent or pause > 0.04  # a busy machine may stop us for so long


def test_a_delay_that_is_cleared_holds_nothing_back_and_keeps_the_order() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR)) as (loop, way):
        held, later = numbered(400, 1000)[:200], numbered(400, 1000)[200:]
        send_all(way, held)  # many rings full
        loop.clear_fault(0)
        send(way, later[:1])
        assert await_some(way, 201) == held + later[:1]
        assert way.relayed.full == 0


def test_what_another_fault_holds_back_stays_when_one_is_cleared() -> None:
    fault = ArmedFault(Effect.DELAY, 0, delay=HOUR)
    with running(fault) as (loop, way):
        other = message(2)
        loop.set_fault(1, fault)
        loop.decide(1, 2 << 48 | 1 << 32 | 1 << 8, Action.RELAY, 0, faults=1 << 1)
        send_all(way, [other, *numbered(5)])
        loop.clear_fault(0)
        assert await_some(way, 6, seconds=0.3) == numbered(5)
        loop.clear_fault(1)
        assert await_some(way, 1) == [other]


def test_what_is_held_of_a_flow_about_to_end_waits_for_a_receiver_that_reads() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR)) as (loop, way):
        sent, got, end = numbered(300, 1000), [], time.monotonic() + 5
        send_all(way, sent)
        while loop.hurry(way.relayed) and time.monotonic() < end:
            got += way.received()
            time.sleep(0.001)
        loop.remove(way.relayed)
        assert got + way.received() == sent
        assert way.relayed.full == 0


def test_a_hurried_flow_holds_nothing_any_more() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR)) as (loop, way):
        assert not loop.hurry(way.relayed)
        send(way, numbered(5))
        assert await_some(way, 5) == numbered(5)


def test_what_nobody_takes_is_dropped_and_counted_when_a_delay_is_cleared() -> None:
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR)) as (loop, way):
        send_all(way, numbered(50, 1000))
        loop.clear_fault(0)
        end = time.monotonic() + 5
        while loop.hurry(way.relayed) and time.monotonic() < end:
            time.sleep(0.001)
        got = way.received()
        assert got == numbered(50, 1000)[: len(got)]
        assert len(got) + way.relayed.full == 50


def test_many_held_messages_make_the_next_no_slower() -> None:
    """With a constant delay each has its place behind all others."""
    with running(ArmedFault(Effect.DELAY, 0, delay=HOUR), order=18) as (_, way):
        took = []
        for _ in range(5):
            start = time.monotonic()
            send_all(way, [message(1, 1, bytes(4))] * 6000)
            took.append(time.monotonic() - start)
        assert took[-1] < 3 * took[0] + 0.1


def test_a_second_copy_that_is_lost_costs_the_next_message_no_patience() -> None:
    """What finds the ring full waits 50 ms from then on, however long nothing else came."""
    with running(ArmedFault(Effect.DUPLICATE, 0, 1.0)) as (loop, way):
        a, b, c = numbered(3, 1200)  # a ring has room for three
        send_all(way, [a, b])
        assert way.relayed.full == 1
        time.sleep(0.06)
        loop.clear_fault(0)
        send(way, [c])
        time.sleep(0.005)
        assert await_some(way, 4) == [a, a, b, c]
