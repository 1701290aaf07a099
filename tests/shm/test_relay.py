# SPDX-License-Identifier: Apache-2.0
"""The relay's loop: what it lets through, whom it lets wait, and what it believes.

`Loop.turn` does what the loop does, in the test's own thread; where waiting matters the loop runs.
(That threads do not get in each other's way is shown under TSan by tests/core/relay.c.)
"""

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_memory import (
    FLOW,
    MAX,
    SIZE,
    data_offset,
    poke,
    poke_word,
    receiver_memory,
    record,
    sender_memory,
)

from ivc import someip
from ivc.shm.bell import Bell
from ivc.shm.errors import RingFull, RingPoisoned
from ivc.shm.layout import RecordFlag, RecordHeader, RegionState, fields
from ivc.shm.record import Ident, Record
from ivc.shm.region import Flow
from ivc.shm.relay import KINDS_MAX, Action, Call, Counts, Loop, Relayed, Result
from ivc.shm.ring import Receiver, Sender

TURN = 64


def message(service: int, method: int = 1, payload: bytes = b"", version: int = 1) -> bytes:
    """A request."""
    return someip.Header(service, method, protocol_version=version).build(len(payload)) + payload


class IoOfThread:
    """Reads and writes the kernel has counted of a thread of this process."""

    def __init__(self, thread: threading.Thread) -> None:
        self._file = Path(f"/proc/self/task/{thread.native_id}/io")

    @property
    def counts(self) -> tuple[int, int]:
        words = dict(line.split(": ") for line in self._file.read_text().splitlines())
        return int(words["syscr"]), int(words["syscw"])


class Way:
    """A relayed flow with all four ends: `tx` is the sender's, `rx` the receiver's."""

    def __init__(
        self,
        number: int = 0,
        order: int = FLOW.order,
        loop: Loop | None = None,
        way: int = 1,
        channel: bool = False,
        **ends: int,
    ) -> None:
        flow, ident = Flow(7, 0x5EED, order, **ends), Ident(7, 0x5EED, order)
        self.memory = [sender_memory(flow), receiver_memory(flow)]
        second = [sender_memory(flow), receiver_memory(flow)]
        self.tx = Sender(self.memory[0], self.memory[1], ident)
        self.rx = Receiver(second[1], second[0], ident)
        self.heard, self.rung = Bell(channel=channel), Bell(channel=channel)
        for bell in (self.heard, self.rung):
            weakref.finalize(self, bell.close)
        self.relayed = Relayed(
            number,
            Receiver(self.memory[1], self.memory[0], ident),
            Sender(second[0], second[1], ident),
            self.heard,
            self.rung,
            way,
        )
        self.second = second
        if loop is not None:
            loop.add(self.relayed)

    def send(self, *payloads: bytes) -> None:
        for number, payload in enumerate(payloads):
            self.tx.write(record(number), payload)
        if self.tx.publish():
            self.heard.ring()

    def fill(self, payload: bytes) -> int:
        """Send until the first ring is full; how many went in."""
        count = 0
        try:
            while True:
                self.tx.write(record(count), payload)
                count += 1
        except RingFull:
            self.send()
        return count

    def received(self) -> list[bytes]:
        """All that has arrived."""
        return [payload for _, payload in iter(self.rx.read, None)]


@dataclass
class Desk:
    """The controller: it decides by `judge`, and remembers what it was asked."""

    loop: Loop
    judge: Callable[[int, int], Action] = lambda way, key: Action.RELAY
    asked: list[tuple[int, int]] = field(default_factory=list)
    counts: dict[tuple[int, int], Counts] = field(default_factory=dict)
    code: int = 0

    def answer(self, call: Call) -> None:
        kind = (call.way, call.key)
        self.asked.append(kind)
        counts = self.loop.decide(*kind, self.judge(*kind), self.code)
        assert counts is not None
        self.counts[kind] = counts

    def pass_all(self, way: Way) -> Result:
        """Turns until there is nothing more, or something is wrong."""
        while True:
            result = self.loop.turn(way.relayed)
            if isinstance(result, Call):
                self.answer(result)
            elif result is not Result.MORE:
                return result

    def answer_calls(self, count: int = 1) -> list[Call]:
        """Answer the next calls of a loop that runs."""
        calls: list[Call] = []
        until(lambda: calls.extend(iter(self.loop.next_call, None)) or len(calls) >= count)
        for call in calls:
            if call.why is Result.ASKS:
                self.answer(call)
        return calls


@contextmanager
def running(loop: Loop, thread: threading.Thread | None = None) -> Iterator[Loop]:
    thread = thread or threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()
        loop.close()


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# ---- what goes through

services = st.integers(0, 5)
parts = st.one_of(
    st.builds(message, services, st.integers(1, 3), st.binary(max_size=20)),
    st.builds(message, services, version=st.integers(0, 3)),
    st.binary(max_size=20),
)
datagrams = st.lists(parts, max_size=6).map(b"".join)


def key_of(header: someip.Header) -> int:
    """What the table knows a kind by (core/kinds.h)."""
    name = header.service_id << 16 | header.method_id
    return name << 32 | header.client_id << 16 | 1 << 8 | header.message_type


def kinds_of(payload: bytes) -> list[tuple[int, bytes]]:
    """The messages of a datagram and their kinds, by the codec; 0: the rest is no message."""
    found = []
    while payload or not found:
        try:
            header = someip.peek(payload)
        except someip.ParseError:
            return [*found, (0, payload)]
        if header.protocol_version != 1:
            return [*found, (0, payload)]
        size = 8 + int.from_bytes(payload[4:8], "big")
        found.append((key_of(header), payload[:size]))
        payload = payload[size:]
    return found


def left_of(number: int, payload: bytes, denied: Callable[[int], bool]) -> list[bytes]:
    """What of a datagram goes on: its messages less those denied, or nothing if the kernel has it
    too and one of them is."""
    kinds = kinds_of(payload)
    left = [data for key, data in kinds if not denied(key)]
    whole = record(number).flags & (RecordFlag.TWIN | RecordFlag.FENCE)
    return [b"".join(left)] if left and (len(left) == len(kinds) or not whole) else []


@given(
    st.lists(st.tuples(st.integers(1, 2), datagrams), max_size=8),
    st.sets(st.tuples(st.integers(1, 2), services | st.none())),
)
def test_the_table_and_the_codec_agree_on_every_message_of_every_way(
    sent: list[tuple[int, bytes]], denied: set[tuple[int, int | None]]
) -> None:
    def is_denied(way: int, key: int) -> bool:
        return (way, key >> 48 if key else None) in denied

    def judge(way: int, key: int) -> Action:
        return Action.DENY if is_denied(way, key) else Action.RELAY

    with closing(Loop()) as loop:
        desk = Desk(loop, judge)
        kinds: list[tuple[int, int]] = []
        for number in (1, 2):
            way = Way(way=number)
            payloads = [payload for each, payload in sent if each == number]
            way.send(*payloads)
            assert desk.pass_all(way) is Result.EMPTY
            assert way.received() == [
                left
                for at, payload in enumerate(payloads)
                for left in left_of(at, payload, partial(is_denied, number))
            ]
            assert way.relayed.messages == len(payloads)
            kinds += [(number, key) for payload in payloads for key, _ in kinds_of(payload)]
        assert desk.asked == list(dict.fromkeys(kinds))
        assert {kind: counts.messages for kind, counts in desk.counts.items()} == Counter(kinds)
        assert {kind: counts.denied for kind, counts in desk.counts.items()} == {
            kind: is_denied(*kind) * count for kind, count in Counter(kinds).items()
        }
        size = sum(len(payload) for _, payload in sent)
        assert sum(counts.bytes for counts in desk.counts.values()) == size


@pytest.mark.parametrize("flag", [RecordFlag.TWIN, RecordFlag.FENCE])
def test_what_the_kernel_has_too_goes_on_whole_or_not_at_all(flag: RecordFlag) -> None:
    with closing(Loop()) as loop:
        way = Way()
        desk = Desk(loop, lambda _, key: Action.DENY if key >> 48 == 2 else Action.RELAY)
        for payload in (message(1) + message(2), message(1), message(2)):
            way.tx.write(replace(record(0), flags=flag), payload)
        way.send(message(2) + message(1))
        desk.pass_all(way)
        assert way.received() == [message(1), message(1)]


def test_a_kind_is_of_one_way_only() -> None:
    with closing(Loop()) as loop:
        one, other = Way(way=1), Way(way=2)
        desk = Desk(loop, lambda way, _: Action.DENY if way == 1 else Action.RELAY)
        for way in (one, other):
            way.send(message(1), b"rubbish")
            desk.pass_all(way)
        assert (one.received(), len(other.received()), len(desk.asked)) == ([], 2, 4)


def test_a_flow_that_is_rerouted_goes_by_the_other_way_at_once() -> None:
    with running(Loop()) as loop:
        desk, way = Desk(loop), Way(loop=loop)
        way.send(message(1))
        until(lambda: loop.next_call())  # which nobody answers
        loop.reroute(way.relayed, 2)
        desk.answer_calls()
        until(way.received)
        assert [number for number, _ in desk.asked] == [2]


def test_a_call_brings_the_header_as_it_was() -> None:
    with closing(Loop()) as loop:
        way = Way()
        way.send(message(1) + message(2), message(3))
        for service in (1, 2, 3):
            call = loop.turn(way.relayed)
            assert isinstance(call, Call) and call.header == message(service)
            loop.decide(call.way, call.key, Action.RELAY)


def test_flags_addresses_and_counts_go_on_unchanged() -> None:
    with closing(Loop()) as loop:
        way = Way()
        way.send(*[message(1)] * 5)
        Desk(loop).pass_all(way)
        for number in range(5):
            got, _ = way.rx.read() or (None, b"")
            wanted = record(number)
            for name in ("src_ip", "src_port", "dst_ip", "dst_port", "flags", "kseq", "stamp"):
                assert getattr(got, name) == getattr(wanted, name)


def test_a_full_table_takes_no_more_until_it_is_cleared() -> None:
    with closing(Loop()) as loop:
        for key in range(1, KINDS_MAX + 1):
            assert loop.decide(1, key << 8, Action.RELAY) is not None
        assert loop.decide(1, 1, Action.RELAY) is None
        assert loop.decide(1, 1 << 8, Action.DENY) is not None
        loop.clear()
        assert loop.decide(1, 1, Action.RELAY) is not None


def test_asked_again_a_kind_goes_on_counting() -> None:
    with closing(Loop()) as loop:
        desk, way = Desk(loop), Way()
        for _ in range(2):
            way.send(message(1))
            desk.pass_all(way)
            loop.ask_again()
        (key,) = set(desk.asked)
        assert (len(desk.asked), desk.counts[key].messages) == (2, 2)


# ---- answers to what is denied


def error(request: bytes, code: int) -> bytes:
    """What a service would answer."""
    header = someip.peek(request)
    kind = someip.MessageType.ERROR
    return replace(header, message_type=kind, return_code=code).build(0)


@contextmanager
def denying(answer: int = 3) -> Iterator[tuple[Loop, Way, Way, Desk]]:
    """A flow on which service 2 is denied with an answer, and the flow back."""
    with closing(Loop()) as loop:
        there, back = Way(1, way=1), Way(2, way=2)
        desk = Desk(loop, lambda way, key: Action.DENY if key >> 48 == 2 else Action.RELAY)
        desk.code = answer
        loop.answer_on(there.relayed, back.relayed)
        yield loop, there, back, desk


def request(service: int, session: int, kind: int = 0, interface: int = 7) -> bytes:
    return someip.Header(service, 5, 6, session, 1, interface, kind).build(0)


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 0xFFFF)), max_size=8), st.booleans())
def test_each_denied_request_is_answered_once(calls: list[tuple[int, int]], apart: bool) -> None:
    with denying() as (_, there, back, desk):
        requests = [request(*call) for call in calls]
        there.send(*(requests if apart else [b"".join(requests)]))
        desk.pass_all(there)
        denied = [call for call in requests if someip.peek(call).service_id == 2]
        assert back.received() == [error(call, 3) for call in denied]
        assert (there.relayed.answered, there.relayed.unanswered) == (len(denied), 0)


def test_an_answer_comes_from_where_the_service_is_and_after_what_it_sent_last() -> None:
    with denying() as (loop, there, _, desk):
        ends = {"src_ip": 0x0A000002, "dst_ip": 0x0A000001, "src_port": 30509, "dst_port": 40000}
        back = Way(2, way=2, **ends)
        loop.answer_on(there.relayed, back.relayed)
        for kseq in (0, 9):
            if kseq:
                flags = RecordFlag.TWIN | RecordFlag.FENCE
                back.tx.write(Record(**ends, flags=flags, kseq=kseq), b"last")
                back.send()
                desk.pass_all(back)
                assert back.rx.read() is not None
            there.send(request(2, 1))
            desk.pass_all(there)
            answer, _ = back.rx.read() or (None, b"")
            assert {name: getattr(answer, name) for name in ends} == ends
            assert (answer.flags, answer.stamp, answer.kseq) == (0, 0, kseq)


@pytest.mark.parametrize("kind", [kind for kind in (*someip.MessageType, someip.TP_FLAG) if kind])
def test_only_requests_are_answered(kind: int) -> None:
    with denying() as (_, there, back, desk):
        back.send(b"first")
        desk.pass_all(back)
        there.send(request(2, 1, kind))
        desk.pass_all(there)
        assert back.received() == [b"first"]
        assert there.relayed.unanswered == 0


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", bytes(16), request(2, 1)[:-1]])
def test_what_is_no_message_is_not_answered(rubbish: bytes) -> None:
    with denying() as (_, there, back, desk):
        back.send(request(1, 1))
        desk.pass_all(back)
        desk.judge = lambda way, key: Action.DENY
        there.send(rubbish)
        desk.pass_all(there)
        assert back.received() == [request(1, 1)]
        assert (there.relayed.answered, there.relayed.unanswered) == (0, 0)


def test_without_a_code_there_is_no_answer() -> None:
    with denying(answer=0) as (_, there, back, desk):
        back.send(b"first")
        desk.pass_all(back)
        there.send(request(2, 1))
        desk.pass_all(there)
        assert (back.received(), there.relayed.unanswered) == ([b"first"], 0)


@pytest.mark.parametrize("why", ["no way back", "full"])
def test_what_cannot_be_answered_is_counted(why: str) -> None:
    with denying() as (loop, there, back, desk):
        if why == "no way back":
            loop.answer_on(there.relayed, None)
        if why == "full":
            back.fill(b"")
            desk.pass_all(back)
        there.send(request(2, 1))
        desk.pass_all(there)
        assert (there.relayed.answered, there.relayed.unanswered) == (0, 1)


# ---- who waits for whom


def test_a_flow_that_waits_for_a_decision_holds_up_only_itself() -> None:
    with running(Loop()) as loop:
        desk, waiting, going = Desk(loop), Way(1, loop=loop), Way(2, loop=loop)
        going.send(message(1))
        desk.answer_calls()
        waiting.send(message(2), message(1))
        call = None
        until(lambda: loop.next_call() if call is None else True)
        going.send(message(1))
        got: list[bytes] = []
        until(lambda: got.extend(going.received()) or len(got) == 2)
        assert waiting.received() == []
        loop.decide(1, key_of(someip.peek(message(2))), Action.RELAY)
        got.clear()
        until(lambda: got.extend(waiting.received()) or len(got) == 2)
        assert got == [message(2), message(1)]


def test_one_decision_is_for_all_flows_that_wait_for_it() -> None:
    with running(Loop()) as loop:
        desk, ways = Desk(loop), [Way(number, loop=loop) for number in range(3)]
        for way in ways:
            way.send(message(1))
        desk.answer_calls()
        for way in ways:
            until(lambda way=way: way.received())


def test_a_full_ring_holds_its_sender_up_and_loses_nothing_for_a_while() -> None:
    with running(Loop()) as loop:
        desk, way = Desk(loop), Way(loop=loop)
        way.send(message(1))
        desk.answer_calls()
        sent = 1 + way.fill(message(1))
        until(lambda: way.relayed.messages > 40)
        sent += way.fill(message(1))
        got = way.received()
        until(lambda: got.extend(way.received()) or len(got) == sent)
        assert way.relayed.full == 0


def test_for_a_receiver_that_has_stopped_the_newest_are_dropped() -> None:
    with running(Loop()) as loop:
        desk, way, other = Desk(loop), Way(1, loop=loop), Way(2, loop=loop)
        way.send(message(1))
        desk.answer_calls()
        sent = 1
        for _ in range(3):
            sent += way.fill(message(1))
            until(lambda sent=sent: way.relayed.messages == sent)
            other.send(message(1))
        assert len(way.received()) == sent - way.relayed.full == SIZE // 64
        way.send(message(1, payload=b"again"))
        until(lambda: way.received())
        assert len(other.received()) == 3


def test_no_flow_gets_more_than_its_turn_while_others_wait() -> None:
    """A sender that never stops, and one with a single message behind it."""
    with closing(Loop()) as loop:
        desk, busy = Desk(loop), Way(1, order=16)
        busy.send(message(1))
        desk.pass_all(busy)
        busy.fill(message(1))
        before = busy.relayed.messages
        assert loop.turn(busy.relayed) is Result.MORE
        assert busy.relayed.messages - before == TURN


def test_large_records_end_a_turn_sooner() -> None:
    with closing(Loop()) as loop:
        desk, way = Desk(loop), Way(order=16)
        way.send(message(1))
        desk.pass_all(way)
        for _ in range(3):
            way.send(message(1, payload=bytes(9000)))
        before = way.relayed.messages
        assert loop.turn(way.relayed) is Result.MORE
        assert way.relayed.messages - before == 1


def test_a_flood_does_not_keep_another_waiting() -> None:
    with running(Loop()) as loop:
        desk, flood, other = Desk(loop), Way(1, order=18, loop=loop), Way(2, loop=loop)
        flood.send(message(1))
        desk.answer_calls()
        stop = threading.Event()

        def pour() -> None:
            while not stop.is_set():
                flood.fill(message(1))
                flood.received()

        thread = threading.Thread(target=pour)
        thread.start()
        try:
            for _ in range(20):
                other.send(message(1))
                until(other.received)
        finally:
            stop.set()
            thread.join()


def test_a_flow_removed_is_touched_no_more_and_can_be_finished() -> None:
    with running(Loop()) as loop:
        desk, way = Desk(loop), Way(loop=loop)
        way.send(message(1))
        desk.answer_calls()
        until(way.received)
        loop.remove(way.relayed)
        way.send(message(1), message(2))
        time.sleep(0.05)
        assert way.received() == []
        assert desk.pass_all(way) is Result.EMPTY
        assert way.received() == [message(1), message(2)]


def test_a_flow_removed_while_it_waits_is_not_called_for() -> None:
    with running(Loop()) as loop:
        way = Way(loop=loop)
        way.send(message(1))
        time.sleep(0.05)
        loop.remove(way.relayed)
        assert loop.next_call() is None


def test_finishing_does_not_wait_for_room() -> None:
    with closing(Loop()) as loop:
        desk, way = Desk(loop), Way()
        for _ in range(2):
            way.fill(message(1))
            assert desk.pass_all(way) is Result.EMPTY
        assert way.relayed.messages == way.relayed.full + len(way.received())
        assert way.relayed.full > 0


@pytest.mark.parametrize(
    ("to", "result"), [(0x0A000002, Result.FULL), (0xE0F40001, Result.EMPTY)], ids=["one", "group"]
)
def test_what_a_receiver_that_left_will_not_read_stays_with_the_sender(
    to: int, result: Result
) -> None:
    """It goes by the kernel instead. A group's would reach the other members twice."""
    with closing(Loop()) as loop:
        desk, way = Desk(loop), Way()
        way.rx.set_state(RegionState.CLOSED)
        way.tx.write(replace(record(0), dst_ip=to), message(1))
        way.tx.publish()
        assert desk.pass_all(way) is result
        assert way.relayed.full == 0


# ---- whom it believes

tail_pokes = st.one_of(st.integers(-3, 140).map(lambda n: 32 * n), st.integers(0, (1 << 64) - 1))
header_pokes = st.sampled_from(list(fields(RecordHeader).values())).flatmap(
    lambda place: st.tuples(st.just(place[0]), st.binary(min_size=place[1], max_size=place[1]))
)
steps = st.one_of(
    st.tuples(st.just("send"), datagrams.filter(lambda data: len(data) <= MAX)),
    st.tuples(st.just("tail"), tail_pokes),
    st.tuples(st.just("head"), tail_pokes),
    st.tuples(st.just("header"), header_pokes),
    st.tuples(st.just("turn"), st.none()),
)


@given(st.lists(steps, max_size=12))
def test_rubbish_of_either_end_ends_the_flow_or_is_a_datagram(
    steps: list[tuple[str, object]],
) -> None:
    with closing(Loop()) as loop:
        desk, way = Desk(loop), Way()
        poisoned = False
        for step, value in steps:
            if step == "send" and isinstance(value, bytes):
                try:
                    way.send(value)
                except (RingFull, RingPoisoned):
                    continue
            elif step == "tail" and isinstance(value, int):
                poke_word(way.memory[0], "index", value)
            elif step == "head" and isinstance(value, int):
                poke_word(way.second[1], "index", value)
            elif step == "header" and isinstance(value, tuple):
                poke(way.memory[0], data_offset(0) + value[0], value[1])
            else:
                result = desk.pass_all(way)
                assert result in (Result.EMPTY, Result.POISONED)
                assert not poisoned or result is Result.POISONED
                poisoned = result is Result.POISONED


def test_what_no_datagram_can_be_poisons_the_flow() -> None:
    with closing(Loop()) as loop:
        way = Way(order=18)
        way.send(message(1, payload=bytes(65507 - 16)))
        assert Desk(loop).pass_all(way) is Result.EMPTY
        way.send(bytes(65508))
        assert loop.turn(way.relayed) is Result.POISONED


def test_a_broken_flow_is_called_for_once_and_others_go_on() -> None:
    with running(Loop()) as loop:
        desk, broken, other = Desk(loop), Way(1, loop=loop), Way(2, loop=loop)
        poke_word(broken.memory[0], "index", 33)
        broken.heard.ring()
        (call,) = desk.answer_calls()
        assert (call.flow, call.why) == (1, Result.POISONED)
        broken.heard.ring()
        other.send(message(1))
        assert [call.flow for call in desk.answer_calls()] == [2]
        until(other.received)


@pytest.mark.parametrize("channel", [False, True])
def test_a_bell_that_rings_for_nothing_is_not_rung_for_long(channel: bool) -> None:
    with running(Loop()) as loop:
        way = Way(loop=loop, channel=channel)
        for _ in range(100):
            way.heard.ring()
        until(lambda: not channel or not way.heard.consume())
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1


def test_passing_a_message_on_takes_the_loop_a_ring_and_no_other_call_but_its_sleep() -> None:
    """An eventfd need not be cleared to ring again."""
    loop, rounds = Loop(), 200
    thread = threading.Thread(target=loop.run)
    with running(loop, thread):
        desk, way = Desk(loop), Way(loop=loop)
        way.send(message(1))
        desk.answer_calls()
        until(way.received)
        io = IoOfThread(thread)
        reads, writes = io.counts
        for _ in range(rounds):
            assert way.rx.arm()
            way.send(message(1))
            until(way.received)
        after = io.counts
    assert after[0] - reads <= 1
    assert after[1] - writes == rounds


@pytest.mark.parametrize("channel", [False, True])
def test_who_rings_while_others_go_is_heard(channel: bool) -> None:
    """Bells rung once, each while the loop may be told of a flow that is just removed."""
    with running(Loop()) as loop:
        desk, stays = Desk(loop), Way(1, loop=loop, channel=channel)
        stays.send(message(1))
        desk.answer_calls()
        until(stays.received)
        for _ in range(300):
            goes = Way(2, loop=loop, channel=channel)
            goes.heard.ring()
            stays.send(message(1))
            loop.remove(goes.relayed)
            until(stays.received)
