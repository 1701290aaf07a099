# SPDX-License-Identifier: Apache-2.0
"""SOME/IP-TP: what is cut is put together, whatever the network does to the segments."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from someip_strategies import Blob, blobs, message_from

from ivc.someip import (
    TP_FLAG,
    BuildError,
    Header,
    Message,
    MessageType,
    ReturnCode,
    TpHeader,
    TpLoss,
    TpReassembler,
    segment,
)

EVENT = Header(0x1234, 0x8001, 0x0001, 0x0007, message_type=MessageType.NOTIFICATION)


def message(text: bytes, session_id: int = 7) -> Message:
    """An event with 16 bytes for each letter of `text`: a segment a letter in `cut`."""
    payload = b"".join(bytes([letter]) * 16 for letter in text)
    return Message(replace(EVENT, session_id=session_id), payload)


def large(blob: Blob) -> tuple[Message, int]:
    """Any message that can be cut, and a size to cut it by."""
    header = message_from(blob, largest=0).header
    plain = replace(header, message_type=header.base_type, session_id=header.session_id or 1)
    return Message(plain, blob.some(97)), 16 + 16 * blob.number(5)


def cut(text: bytes, session_id: int = 7) -> list[Message]:
    return segment(message(text, session_id), size=16)


def piece(offset: int, data: bytes, more: bool, session_id: int = 7) -> Message:
    header = replace(EVENT, session_id=session_id, message_type=EVENT.message_type | TP_FLAG)
    return Message(header, data, TpHeader(offset, more))


def received(segments: list[Message], tp: TpReassembler | None = None) -> list[Message]:
    tp = tp or TpReassembler()
    return [whole for one in segments if (whole := tp.add(one)) is not None]


def without(segments: list[Message], *lost: int) -> list[Message]:
    return [one for number, one in enumerate(segments) if number not in lost]


# ---- cutting ----------------------------------------------------------------


@pytest.mark.req("feat_req_someiptp_765", "feat_req_someiptp_774", "feat_req_someiptp_777")
@given(blobs(120))
def test_every_segment_has_the_header_of_the_message_and_the_tp_flag(blob: Blob) -> None:
    whole, size = large(blob)
    expected = replace(whole.header, message_type=whole.header.message_type | TP_FLAG)
    segments = segment(whole, size)
    assert {one.header for one in segments} == {expected}
    assert b"".join(one.payload for one in segments) == whole.payload


@pytest.mark.req("feat_req_someiptp_770", "feat_req_someiptp_772", "feat_req_someiptp_778")
def test_all_segments_but_the_last_are_of_the_size_asked_for() -> None:
    sizes = [(len(s.payload), s.tp) for s in segment(Message(EVENT, bytes(100)), 48)]
    assert sizes == [
        (48, TpHeader(0, more=True)),
        (48, TpHeader(48, more=True)),
        (4, TpHeader(96, more=False)),
    ]


@pytest.mark.req("feat_req_someiptp_773", "feat_req_someiptp_779")
def test_segments_are_as_large_as_a_datagram_allows() -> None:
    first, second = segment(Message(EVENT, bytes(1400)))
    assert (len(first.payload), len(second.payload)) == (1392, 8)
    assert len(first.build()) == 16 + 4 + 1392


@pytest.mark.req("feat_req_someiptp_766", "feat_req_someiptp_771")
def test_a_segment_stands_byte_for_byte_as_specified() -> None:
    second = segment(Message(EVENT, bytes(32) + b"end"), 16)[2]
    assert second.build() == bytes.fromhex(
        "1234 8001 0000000f 0001 0007 01 01 22 00  00000020 656e64"
    )


def test_a_message_without_payload_is_one_segment() -> None:
    assert segment(Message(EVENT)) == [piece(0, b"", more=False)]


@pytest.mark.parametrize(
    ("whole", "size", "path"),
    [
        (piece(0, b"", more=False), 16, "tp"),
        (Message(replace(EVENT, session_id=0), bytes(32)), 16, "header.session_id"),
        (Message(EVENT), 0, "size"),
        (Message(EVENT), -16, "size"),
        (Message(EVENT), 24, "size"),
    ],
)
@pytest.mark.req("feat_req_someiptp_762", "feat_req_someiptp_772")
def test_what_cannot_be_cut_is_refused(whole: Message, size: int, path: str) -> None:
    with pytest.raises(BuildError) as caught:
        segment(whole, size)
    assert caught.value.path == path


# ---- putting together -------------------------------------------------------


@pytest.mark.req("feat_req_someiptp_783", "feat_req_someiptp_785", "feat_req_someiptp_789")
@given(blobs(120))
def test_what_is_cut_is_put_together(blob: Blob) -> None:
    whole, size = large(blob)
    assert received(segment(whole, size)) == [whole]


def test_a_message_that_is_no_segment_passes() -> None:
    plain = Message(EVENT, b"ping")
    assert received([cut(b"AB")[0], plain, cut(b"AB")[1]]) == [plain, message(b"AB")]


@pytest.mark.req("feat_req_someiptp_790", "feat_req_someiptp_797")
@given(blobs(16))
def test_segments_up_to_three_places_late_and_doubled_are_put_together(blob: Blob) -> None:
    delays = [blob.number(4) for _ in range(1 + blob.number(8))]
    whole = message(bytes(range(0x41, 0x41 + len(delays))))
    late = sorted(range(len(delays)), key=lambda n: (n + delays[n], n))
    for _ in range(blob.number(4)):
        at = blob.number(len(late))
        late.insert(at, late[at])
    segments = segment(whole, size=16)
    assert received([segments[n] for n in late])[:1] == [whole]


@pytest.mark.req("feat_req_someiptp_820")
def test_segments_in_descending_order_are_put_together() -> None:
    text = bytes(range(0x41, 0x41 + 26))
    assert received(cut(text)[::-1]) == [message(text)]


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("lost_too", range(4))
@pytest.mark.req("feat_req_someiptp_793", "feat_req_someiptp_795", "feat_req_someiptp_796")
def test_lost_segments_do_not_spoil_the_next_message(lost: int, lost_too: int) -> None:
    tp = TpReassembler()
    segments = without(cut(b"abcd", 6), lost, lost_too) + cut(b"ABCD", 7)
    assert received(segments, tp) == [message(b"ABCD", 7)]
    assert tp.lost == {TpLoss.INCOMPLETE: 1}


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("session_id", [0, 7])
@pytest.mark.parametrize("first", [b"A", b"1"], ids=["first segments differ", "are the same"])
def test_nor_if_the_sender_never_changes_its_session_id(
    lost: int, session_id: int, first: bytes
) -> None:
    """COVESA/vsomeip #737: there everything after the lost segment was mixed from two messages."""
    one, two, three = (
        [replace(s, header=replace(s.header, session_id=session_id)) for s in cut(text)]
        for text in (b"1234", first + b"bcd", b"1BCD")
    )
    whole = received([*one, *without(two, lost), *three])
    assert whole == [message(b"1234", session_id), message(b"1BCD", session_id)]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_nor_if_that_happens_to_its_first_message(lost: int) -> None:
    assert received([*without(cut(b"abcd"), lost), *cut(b"ABCD")]) == [message(b"ABCD")]


@pytest.mark.parametrize("lost", [1, 2])
def test_not_even_if_the_first_segments_are_the_same(lost: int) -> None:
    assert received([*without(cut(b"1bcd"), lost), *cut(b"1BCD")]) == [message(b"1BCD")]


def test_a_first_segment_that_comes_twice_after_the_last_begins_no_new_message() -> None:
    first, second, last = cut(b"ABC")
    assert received([last, first, first, second]) == [message(b"ABC")]


def test_without_session_ids_what_came_first_is_not_kept() -> None:
    tp = TpReassembler(first_wins=True)
    first, second, other, third = (
        piece(at, letter * 16, more, session_id=0)
        for at, letter, more in [
            (0, b"A", True),
            (16, b"B", True),
            (16, b"2", True),
            (32, b"C", False),
        ]
    )
    assert received([first, second, other, third], tp) == []


def test_without_session_ids_segments_have_to_come_in_order() -> None:
    first, second, third = (replace(s, header=replace(s.header, session_id=0)) for s in cut(b"ABC"))
    assert received([first, first, second, second, third]) == [message(b"ABC", 0)]
    assert received([first, third, second, third]) == []


@pytest.mark.req("feat_req_someiptp_781", "feat_req_someiptp_787", "feat_req_someiptp_803")
@pytest.mark.parametrize(
    "change",
    [
        {"service_id": 0x4321},
        {"method_id": 0x8002},
        {"client_id": 0x0002},
        {"interface_version": 2},
        {"protocol_version": 2},
        {"message_type": MessageType.REQUEST | TP_FLAG},
    ],
    ids=lambda change: next(iter(change)),
)
def test_messages_that_differ_in_their_header_are_put_together_side_by_side(
    change: dict[str, int],
) -> None:
    ours = cut(b"ABC")
    theirs = [replace(s, header=replace(s.header, **change)) for s in cut(b"123")]
    both = [one for pair in zip(ours, theirs, strict=True) for one in pair]
    assert [whole.payload[::16] for whole in received(both)] == [b"ABC", b"123"]


@pytest.mark.req("feat_req_someiptp_787")
@given(st.binary(min_size=24, max_size=24))
def test_sources_are_kept_apart_however_they_interleave(turns: bytes) -> None:
    tp = TpReassembler()
    texts = [bytes([letter]) * 4 for letter in b"ABCD"]
    waiting = [cut(text) for text in texts]
    for turn in turns:
        source = turn % 4
        if waiting[source]:
            whole = tp.add(waiting[source].pop(0), source)
            assert (whole is None) == bool(waiting[source])
            assert whole is None or whole == message(texts[source])


@pytest.mark.req("feat_req_someiptp_784")
def test_the_return_code_is_that_of_the_last_segment() -> None:
    first, last = cut(b"AB")
    last = replace(last, header=replace(last.header, return_code=ReturnCode.E_E2E))
    for order in ([first, last], [last, first]):
        assert received(order)[0].header.return_code == ReturnCode.E_E2E


# ---- segments that do not fit -----------------------------------------------


@pytest.mark.req("feat_req_someiptp_810")
def test_overlapping_segments_that_differ_are_given_up() -> None:
    tp = TpReassembler()
    overlapping = [piece(0, b"1" * 32, more=True), piece(16, b"2" * 32, more=False)]
    assert received(overlapping, tp) == []
    assert tp.lost == {TpLoss.CONTRADICTION: 1}


@pytest.mark.req("feat_req_someiptp_797", "feat_req_someiptp_810")
@pytest.mark.parametrize("order", [[0, 2, 1], [1, 0, 2], [2, 1, 0]])
def test_or_what_came_first_is_kept_if_so_asked(order: list[int]) -> None:
    overlapping = [
        piece(0, b"1" * 32, more=True),
        piece(16, b"2" * 32, more=True),
        piece(48, b"3" * 16, more=False),
    ]
    tp = TpReassembler(first_wins=True)
    (whole,) = received([overlapping[n] for n in order], tp)
    contested = b"1" if order.index(0) < order.index(1) else b"2"
    assert whole.payload == b"1" * 16 + contested * 16 + b"2" * 16 + b"3" * 16


def test_overlapping_segments_that_agree_are_put_together() -> None:
    overlapping = [
        piece(32, b"C" * 16, more=True),
        piece(0, b"A" * 16 + b"B" * 16, more=True),
        piece(16, b"B" * 16 + b"C" * 16 + b"D" * 16, more=True),
        piece(48, b"D" * 16 + b"E", more=False),
    ]
    (whole,) = received(overlapping)
    assert whole.payload == b"".join(bytes([c]) * 16 for c in b"ABCD") + b"E"


@pytest.mark.req("feat_req_someiptp_792")
@pytest.mark.parametrize(
    "segments",
    [
        [piece(0, bytes(15), more=True), piece(16, bytes(16), more=False)],
        [piece(0, b"", more=True), piece(0, bytes(16), more=False)],
        [piece(0, bytes(16), more=False), piece(16, bytes(16), more=False)][::-1],
        [
            piece(16, bytes(16), more=False),
            piece(32, bytes(16), more=False),
            piece(0, bytes(16), True),
        ],
        [
            piece(16, bytes(16), more=False),
            piece(16, bytes(16), more=True),
            piece(0, bytes(16), True),
        ],
        [
            piece(16, bytes(32), more=True),
            piece(16, bytes(16), more=False),
            piece(0, bytes(16), True),
        ],
    ],
    ids=["15 bytes", "no bytes", "ends early", "ends twice", "goes on at its end", "shrinks"],
)
def test_segments_that_contradict_each_other_are_given_up(segments: list[Message]) -> None:
    tp = TpReassembler()
    received(segments, tp)
    assert tp.lost[TpLoss.CONTRADICTION] == 1


@pytest.mark.req("feat_req_someiptp_782")
def test_the_rest_of_a_message_that_is_too_large_is_skipped() -> None:
    tp = TpReassembler(max_payload=32)
    assert received(cut(b"ABCDE", 6) + cut(b"AB", 7), tp) == [message(b"AB", 7)]
    assert tp.lost == {TpLoss.TOO_LARGE: 1}


def test_the_message_that_was_quiet_longest_makes_way() -> None:
    tp = TpReassembler(max_messages=2)
    for source, one in [(1, 0), (2, 0), (1, 1), (3, 0)]:
        tp.add(cut(b"ABC")[one], source)
    assert tp.lost == {TpLoss.CROWDED: 1}
    assert tp.add(cut(b"ABC")[2], source=1) == message(b"ABC")
    assert tp.add(cut(b"ABC")[1], source=2) is None


def test_too_many_gaps_are_given_up() -> None:
    tp = TpReassembler()
    received(cut(bytes(range(100)))[::2], tp)
    assert tp.lost == {TpLoss.INCOMPLETE: 1}
    assert tp.held == 0


@pytest.mark.req("feat_req_someiptp_783", "feat_req_someiptp_792")
@given(st.binary(min_size=120, max_size=120))
def test_any_segments_give_only_messages_that_were_sent_and_take_bounded_memory(
    noise: bytes,
) -> None:
    """Bytes say where they stand, so that one from elsewhere shows."""
    tp = TpReassembler(max_payload=64, max_messages=2)
    for session_id, offset, size, bits in zip(*[iter(noise)] * 4, strict=False):
        at = offset % 6 * 16
        data = bytes((at + n) % 256 for n in range(size % 40))
        whole = tp.add(piece(at, data, bool(bits & 1), session_id % 3), bits >> 6)
        assert tp.held <= 64 * 2
        if whole is not None:
            assert whole.payload == bytes(range(len(whole.payload)))
            assert whole.header.session_id == session_id % 3
