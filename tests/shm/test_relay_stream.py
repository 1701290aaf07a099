# SPDX-License-Identifier: Apache-2.0
"""TCP through the relay's loop: where messages are cut, what goes on, and what is left."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_logger import Logger
from ring_memory import data_offset, poke, poke_word, receiver_memory, sender_memory, word
from test_relay import Desk, error, key_of, running, until

from ivc import someip
from ivc.shm.bell import Bell
from ivc.shm.errors import RingFull, RingPoisoned
from ivc.shm.layout import Ctrl, RecordHeader, RecordKind, RegionState, fields
from ivc.shm.library import ffi, lib
from ivc.shm.record import Ident, Record
from ivc.shm.region import Flow
from ivc.shm.relay import Action, Call, Loop, Relayed, Result
from ivc.shm.ring import Receiver, Sender

DONE, FRESH = 1 << 63, 1 << 62
ORDER = 12
MOST = 400


class Stream:
    """One way of a connection, with all four ends."""

    def __init__(
        self,
        loop: Loop | None = None,
        way: int = 1,
        said: int = DONE | FRESH,
        strict: bool = True,
    ) -> None:
        flow, ident = Flow(7, 0x5EED, ORDER), Ident(7, 0x5EED, ORDER)
        self.first = [sender_memory(flow), receiver_memory(flow)]
        self.second = [sender_memory(flow), receiver_memory(flow)]
        self.tx = Sender(self.first[0], self.first[1], ident)
        self.rx = Receiver(self.second[1], self.second[0], ident)
        self.rx.c.kind = RecordKind.STREAM
        self.heard, self.rung = Bell(), Bell()
        for bell in (self.heard, self.rung):
            weakref.finalize(self, bell.close)
        ends = Receiver(self.first[1], self.first[0], ident), Sender(*self.second, ident)
        self.relayed = Relayed(way, *ends, self.heard, self.rung, way, stream=True)
        self.relayed.set_strict(strict)
        self.say(said)
        if loop is not None:
            loop.add(self.relayed)

    def say(self, said: int) -> None:
        """What the sender's page says of the kernel."""
        lib.ivc_tx_set_kernel(self.tx.c, said)

    def send(self, data: bytes, kpos: int = 0) -> None:
        """One record."""
        record = Record(
            kind=RecordKind.STREAM, kseq=kpos, src_ip=1, src_port=1, dst_ip=2, dst_port=2
        )
        self.tx.write(record, data)
        if self.tx.publish():
            self.heard.ring()

    def leave(self, state: RegionState = RegionState.CLOSED) -> None:
        """The sender's last word."""
        self.tx.set_state(state)
        self.heard.ring()

    def received(self) -> bytes:
        """All that has arrived."""
        data = b"".join(payload for _, payload in iter(self.rx.read, None))
        self.rx.publish()
        return data

    @property
    def state(self) -> int:
        """What the relay says to the sender."""
        return self.tx.peer_state

    @property
    def rest(self) -> tuple[int, int] | None:
        """Where the sender would go on by the kernel: record and offset; None: it must not."""
        head, offset = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        found = lib.ivc_tx_passed_at(self.tx.c, head, offset)
        return (int(head[0]), int(offset[0])) if found == 1 else None


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop()) as one:
        yield one


def pass_all(desk: Desk, stream: Stream) -> Result:
    """Turns until nothing more goes on."""
    while True:
        result = desk.loop.turn(stream.relayed)
        if isinstance(result, Call):
            desk.answer(result)
        elif result is not Result.MORE:
            return result


def request(method: int, size: int = 0, session: int = 1) -> bytes:
    """A call with a payload that shows where it is cut."""
    header = someip.Header(0x1234, method, session_id=session)
    return header.build(size) + bytes(at % 251 for at in range(size))


def deny(*methods: int) -> object:
    return lambda _way, key: Action.DENY if key >> 32 & 0xFFFF in methods else Action.RELAY


# ---- framing: C and Python


types = st.sampled_from([kind for kind in someip.MessageType if "ACK" not in kind.name])
messages = st.one_of(
    st.builds(
        lambda service, method, kind, body: (
            someip.Header(service, method, message_type=kind).build(len(body)) + body
        ),
        st.integers(0, 3),
        st.integers(0, 3),
        types,
        st.one_of(st.binary(max_size=40), st.integers(500, 9000).map(bytes)),
    ),
    st.sampled_from([cookie.build() for cookie in someip.stream.COOKIES]),
)


def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Pieces of at most MOST bytes, mostly small."""
    places = draw(st.lists(st.integers(0, len(data)), max_size=20))
    places = sorted({0, len(data), *places, *range(0, len(data), MOST)})
    return [data[start:end] for start, end in pairwise(places)]


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    return cut(draw, b"".join(draw(st.lists(messages, max_size=8))))


def split(pieces: list[bytes]) -> list[someip.Message]:
    """What Python's reader makes of it."""
    splitter = someip.StreamSplitter()
    found = [item for piece in pieces for item in splitter.feed(piece)]
    assert splitter.pending == 0
    return [item for item in found if isinstance(item, someip.Message)]


@settings(max_examples=settings.default.max_examples // 2)  # messages are slow to draw
@given(streams(), st.sets(st.integers(0, 3)), st.integers(1, 5), st.booleans())
def test_c_and_python_agree_on_every_message_and_on_what_goes_on(
    pieces: list[bytes], denied: set[int], together: int, strict: bool
) -> None:
    def judge(_way: int, key: int) -> Action:
        return Action.DENY if key >> 32 & 0xFFFF in denied else Action.RELAY

    with closing(Loop()) as loop:
        desk, stream, arrived = Desk(loop, judge), Stream(strict=strict or bool(denied)), b""
        for number, piece in enumerate(pieces):
            stream.send(piece)
            if number % together == 0 or sum(map(len, pieces[:number])) > 1000:
                while pass_all(desk, stream) is Result.FULL:
                    arrived += stream.received()
                arrived += stream.received()
        while pass_all(desk, stream) is Result.FULL:
            arrived += stream.received()
        arrived += stream.received()
        found = split(pieces)
        kept = [one for one in found if one.header.method_id not in denied]
        assert arrived == b"".join(one.build() for one in kept)
        counted = {key: counts.messages for (_, key), counts in desk.counts.items()}
        assert counted == Counter(key_of(one.header) for one in found)
        assert sum(counts.denied for counts in desk.counts.values()) == len(found) - len(kept)
        assert stream.relayed.unframed == 0
        assert stream.rest is not None


def test_a_message_larger_than_the_ring_goes_through_as_it_comes(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    data, arrived = request(1, 20_000), b""
    for at in range(0, len(data), MOST):
        stream.send(data[at : at + MOST])
        pass_all(desk, stream)
        arrived += stream.received()
        assert len(arrived) == min(at + MOST, len(data))
    assert arrived == data
    assert len(desk.asked) == 1


def test_a_header_waits_until_it_is_whole(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    data = request(1) + request(2, 4)
    stream.send(data[:15])
    assert pass_all(desk, stream) is Result.EMPTY
    assert stream.received() == b""
    stream.send(data[15:20])
    pass_all(desk, stream)
    assert stream.received() == data[:16]
    assert stream.rest == (32 + 32, 1)  # of the second record a byte is gone


def test_where_nothing_can_be_denied_a_header_need_not_be_whole(loop: Loop) -> None:
    with Logger() as logger:
        desk, stream = Desk(loop, lambda _way, _key: Action.MIRROR), Stream(strict=False)
        desk.code = logger.detail
        data = request(1) + request(2, 4)
        for byte in data:
            stream.send(bytes([byte]))
            pass_all(desk, stream)
            assert stream.received() == bytes([byte])
        assert logger.received() == [request(1), request(2, 4)]
        assert len(desk.asked) == 2
        assert stream.rest is not None


# ---- what nobody can cut


def test_a_stream_that_did_not_begin_here_is_passed_on_unlooked_at(loop: Loop) -> None:
    desk, stream = Desk(loop, deny(1)), Stream(said=DONE)
    stream.send(request(1, 20))
    pass_all(desk, stream)
    assert stream.received() == request(1, 20)
    assert [key for _, key in desk.asked] == [0]
    assert stream.relayed.unframed == 36


def test_behind_what_is_no_message_nothing_is_looked_at(loop: Loop) -> None:
    desk, stream = Desk(loop, deny(1)), Stream()
    rubbish = b"\xff" * 40
    stream.send(request(2) + request(1) + rubbish)
    stream.send(request(1))
    pass_all(desk, stream)
    assert stream.received() == request(2) + rubbish + request(1)
    assert stream.relayed.unframed == 56


def test_what_no_rule_can_name_may_be_denied_too(loop: Loop) -> None:
    desk, stream = Desk(loop, lambda _way, _key: Action.DENY), Stream(said=DONE)
    stream.send(b"whatever")
    pass_all(desk, stream)
    assert stream.received() == b""
    assert desk.counts[1, 0].denied == 1


def test_bytes_that_went_by_the_kernel_in_between_end_it(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    stream.send(request(1), kpos=0)
    stream.send(request(1), kpos=1)
    assert pass_all(desk, stream) is Result.POISONED
    assert stream.state == RegionState.POISONED


@pytest.mark.parametrize("kind", [RecordKind.DGRAM, 7])
def test_records_of_another_kind_end_it(loop: Loop, kind: int) -> None:
    desk, stream = Desk(loop), Stream()
    stream.tx.write(Record(kind=kind, src_ip=1, src_port=1, dst_ip=2, dst_port=2), request(1))
    stream.tx.publish()
    assert pass_all(desk, stream) is Result.POISONED


def test_an_empty_record_ends_it(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    stream.send(b"")
    assert pass_all(desk, stream) is Result.POISONED


@settings(max_examples=settings.default.max_examples // 4)
@given(streams(), st.binary(min_size=16, max_size=900))
def test_rubbish_goes_on_as_it_is_behind_what_python_finds_too(
    pieces: list[bytes], rubbish: bytes
) -> None:
    rubbish = rubbish[:12] + b"\0" + rubbish[13:]  # of no protocol version
    splitter = someip.StreamSplitter()
    found = splitter.feed(b"".join(pieces) + rubbish)
    before = list(takewhile(lambda one: isinstance(one, someip.Message), found))
    with closing(Loop()) as loop:
        desk, stream, arrived = Desk(loop), Stream(), b""
        for piece in [*pieces, *(rubbish[at : at + MOST] for at in range(0, len(rubbish), MOST))]:
            stream.send(piece)
            while pass_all(desk, stream) is Result.FULL:
                arrived += stream.received()
            arrived += stream.received()
        assert arrived == b"".join(pieces) + rubbish
        counted = sum(counts.messages for (_, key), counts in desk.counts.items() if key)
        assert counted == len(before)
        assert stream.relayed.unframed == len(rubbish)


pokes = st.one_of(st.integers(-3, 140).map(lambda n: 32 * n), st.integers(0, (1 << 64) - 1))
header_pokes = st.sampled_from(list(fields(RecordHeader).values())).flatmap(
    lambda place: st.tuples(st.just(place[0]), st.binary(min_size=place[1], max_size=place[1]))
)
steps = st.one_of(
    st.tuples(st.just("send"), st.one_of(messages, st.binary(max_size=50))),
    st.tuples(st.sampled_from(["tail", "head", "kernel"]), pokes),
    st.tuples(st.sampled_from(["sender", "receiver"]), st.integers(0, 7)),
    st.tuples(st.just("header"), header_pokes),
    st.tuples(st.just("turn"), st.none()),
)


@given(st.lists(steps, max_size=12))
def test_rubbish_of_either_end_ends_the_flow_or_is_a_stream(
    steps: list[tuple[str, object]],
) -> None:
    with closing(Loop()) as loop:
        desk, stream = Desk(loop), Stream(strict=False)
        over = False
        for step, value in steps:
            if step == "send" and isinstance(value, bytes):
                with suppress(RingFull, RingPoisoned):
                    stream.send(value[:MOST])
            elif step in ("tail", "kernel") and isinstance(value, int):
                poke_word(stream.first[0], "index" if step == "tail" else step, value)
            elif step == "head" and isinstance(value, int):
                poke_word(stream.second[1], "index", value)
            elif step in ("sender", "receiver") and isinstance(value, int):
                whose = stream.first[0] if step == "sender" else stream.second[1]
                poke_word(whose, "state", value)
            elif step == "header" and isinstance(value, tuple):
                poke(stream.first[0], data_offset(0) + value[0], value[1])
            else:
                result = pass_all(desk, stream)
                assert not over or result in (Result.POISONED, Result.ENDED)
                over = result in (Result.POISONED, Result.ENDED)


# ---- answers


def both_ways(loop: Loop, said: int = DONE | FRESH) -> tuple[Stream, Stream]:
    there, back = Stream(way=1), Stream(way=2, said=said)
    loop.answer_on(there.relayed, back.relayed)
    loop.answer_on(back.relayed, there.relayed)
    return there, back


def answers(loop: Loop) -> Desk:
    desk = Desk(loop, deny(1))
    desk.code = 5
    return desk


def test_a_denied_call_is_answered_though_the_service_has_said_nothing(loop: Loop) -> None:
    desk, (there, back) = answers(loop), both_ways(loop)
    there.send(request(1, 8, session=9) + request(2))
    pass_all(desk, there)
    assert there.received() == request(2)
    assert back.received() == error(request(1, 8, session=9), 5)
    assert (there.relayed.answered, there.relayed.unanswered) == (1, 0)


def test_an_answer_waits_for_the_end_of_the_services_own_message(loop: Loop) -> None:
    desk, (there, back) = answers(loop), both_ways(loop)
    own = request(3, 100) + request(4, 100)
    back.send(own[:50])
    pass_all(desk, back)
    there.send(request(1))
    pass_all(desk, there)
    assert back.received() == own[:50]
    back.send(own[50:])
    pass_all(desk, back)
    assert back.received() == own[50:116] + error(request(1), 5) + own[116:]


def test_where_nobody_knows_where_a_message_ends_there_is_no_answer(loop: Loop) -> None:
    desk, (there, back) = answers(loop), both_ways(loop, said=DONE)
    there.send(request(1))
    pass_all(desk, there)
    pass_all(desk, back)
    assert back.received() == b""
    assert there.relayed.unanswered == 1


def test_an_answer_waits_until_the_service_sends_by_ring_only(loop: Loop) -> None:
    desk, (there, back) = answers(loop), both_ways(loop, said=0)
    there.send(request(1))
    pass_all(desk, there)
    pass_all(desk, back)
    assert back.received() == b""
    back.say(DONE | FRESH)
    pass_all(desk, back)
    assert back.received() == error(request(1), 5)


def test_more_answers_than_can_wait_are_counted(loop: Loop) -> None:
    desk, (there, _back) = answers(loop), both_ways(loop, said=0)
    there.send(request(1) * 20)
    pass_all(desk, there)
    assert (there.relayed.answered, there.relayed.unanswered) == (16, 4)


# ---- copies


def test_a_mirrored_message_is_copied_whole(loop: Loop) -> None:
    with Logger() as logger:
        desk, stream = Desk(loop, lambda _way, _key: Action.MIRROR), Stream()
        desk.code = logger.detail
        large = request(1, 60_000)
        for at in range(0, len(large), MOST):
            stream.send(large[at : at + MOST])
            pass_all(desk, stream)
            stream.received()
        stream.send(request(2, 10) + request(2, 20))
        pass_all(desk, stream)
        assert logger.received() == [large, request(2, 10), request(2, 20)]


def test_what_is_too_large_for_a_datagram_is_not_copied_but_counted(loop: Loop) -> None:
    desk, stream = Desk(loop, lambda _way, _key: Action.MIRROR), Stream()
    desk.code = 1 << 16 | 9
    stream.send(request(1, 70_000)[:MOST])
    pass_all(desk, stream)
    (counts,) = desk.counts.values()
    assert (counts.copied, counts.uncopied) == (0, 1)


# ---- room


def fill(desk: Desk, stream: Stream) -> bytes:
    """Send until both rings are full."""
    sent = b""
    while True:
        try:
            stream.send(request(2, 300))
            sent += request(2, 300)
        except RingFull:
            if pass_all(desk, stream) is Result.FULL:
                break
    while True:
        try:
            stream.send(request(2, 300))
            sent += request(2, 300)
        except RingFull:
            return sent


def test_without_room_nothing_is_lost(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    sent, arrived = fill(desk, stream), b""
    while part := stream.received():
        arrived += part
        pass_all(desk, stream)
    assert arrived == sent
    assert stream.relayed.full == 0


def test_a_loop_that_waits_for_room_goes_on_by_itself() -> None:
    with running(Loop()) as loop:
        desk, stream = Desk(loop), Stream(loop)
        stream.send(request(2))
        desk.answer_calls()
        sent = [request(2), *[request(2, 300)] * 60]
        arrived = bytearray()
        for data in sent[1:]:

            def goes_in(data: bytes = data) -> bool:
                try:
                    stream.send(data)
                except RingFull:
                    arrived.extend(stream.received())
                    return False
                return True

            until(goes_in)
        until(lambda: arrived.extend(stream.received()) or len(arrived) >= len(b"".join(sent)))
        loop.remove(stream.relayed)
        assert bytes(arrived) == b"".join(sent)


# ---- ends


def test_a_sender_that_is_done_has_all_passed_on_and_then_the_end(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    stream.send(request(1) + b"half a header")
    stream.leave()
    assert pass_all(desk, stream) is Result.ENDED
    assert stream.received() == request(1) + b"half a header"
    assert stream.rx.peer_state == RegionState.CLOSED


def test_who_leaves_gets_back_what_found_no_room(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    fill(desk, stream)
    stream.leave(RegionState.LEAVING)
    until(lambda: pass_all(desk, stream) is Result.ENDED)
    assert stream.state == RegionState.FROZEN
    assert stream.rest is not None


def test_who_is_gone_has_it_delivered_however_long_it_takes(loop: Loop) -> None:
    desk, stream = Desk(loop), Stream()
    sent, arrived = fill(desk, stream), b""
    stream.leave()
    while pass_all(desk, stream) is Result.FULL:
        arrived += stream.received()
    assert arrived + stream.received() == sent


def test_the_rest_of_a_denied_message_is_not_given_back(loop: Loop) -> None:
    desk, stream = Desk(loop, deny(1)), Stream()
    stream.send(request(1, 100)[:50])
    pass_all(desk, stream)
    assert stream.rest is None
    stream.send(request(1, 100)[50:])
    pass_all(desk, stream)
    assert stream.rest is not None


def test_a_relay_that_dies_between_its_two_words_leaves_doubt() -> None:
    stream = Stream()
    offset = fields(Ctrl)["next"][0]
    stream.first[1][offset : offset + 8] = (64).to_bytes(8, "little")
    assert stream.rest is None
    assert word(stream.first[1], "passed") == 0


@pytest.mark.parametrize("unread", [False, True])
def test_a_receiver_that_hands_on_ends_it(loop: Loop, unread: bool) -> None:
    desk, stream = Desk(loop), Stream()
    stream.rx.set_state(RegionState.OPEN)
    stream.send(request(1))
    pass_all(desk, stream)
    if not unread:
        stream.received()
    stream.rx.set_state(RegionState.FROZEN)
    stream.send(request(1))
    assert pass_all(desk, stream) is Result.ENDED
    assert stream.state == RegionState.FROZEN
    assert (stream.rest is None) == unread


def test_the_loop_says_when_a_finished_stream_has_ended() -> None:
    with running(Loop()) as loop:
        desk, stream = Desk(loop), Stream(loop)
        stream.send(request(1))
        desk.answer_calls()
        loop.finish(stream.relayed)
        (call,) = desk.answer_calls()
        assert call.why is Result.ENDED
        assert stream.received() == request(1)
        loop.remove(stream.relayed)
