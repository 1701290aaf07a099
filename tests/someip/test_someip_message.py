# SPDX-License-Identifier: Apache-2.0
"""Header, message, datagram."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from someip_strategies import (
    Blob,
    blobs,
    datagram_bytes,
    message_bytes,
    message_from,
    messages_from,
    several_messages,
)

from ivc.someip import (
    BuildError,
    Header,
    Message,
    MessageType,
    ParseError,
    ReturnCode,
    TpHeader,
    build_datagrams,
    parse_datagram,
    peek,
)

REQUEST = Message(Header(0x1234, 0x0421, 0x0001, 0x0002), b"ping")
REQUEST_BYTES = bytes.fromhex("1234 0421 0000000c 0001 0002 01 01 00 00") + b"ping"


@pytest.mark.req("feat_req_someip_42", "feat_req_someip_45", "feat_req_someip_83")
def test_header_fields_stand_where_the_specification_puts_them() -> None:
    header = peek(bytes.fromhex("1112 2122 00000008 3132 4142 51 61 71 81"))
    assert header == Header(0x1112, 0x2122, 0x3132, 0x4142, 0x51, 0x61, 0x71, 0x81)


@pytest.mark.req("feat_req_someip_77")
def test_build_writes_the_length_of_what_follows_it() -> None:
    assert REQUEST.build() == REQUEST_BYTES


@given(blobs(80))
def test_what_is_built_is_parsed_and_the_rest_is_handed_back(blob: Blob) -> None:
    message, rest = message_from(blob), blob.some(20)
    assert Message.parse(message.build() + rest) == (message, rest)


@pytest.mark.req("feat_req_someip_319", "feat_req_someip_584", "feat_req_someip_702")
@given(several_messages)
def test_a_datagram_gives_all_its_messages_in_order(several: list[Message]) -> None:
    assert parse_datagram(b"".join(m.build() for m in several)) == several


@given(message_bytes)
def test_any_bytes_give_a_message_or_a_parse_error_with_its_path(data: bytes) -> None:
    try:
        message, rest = Message.parse(data)
    except ParseError as error:
        assert error.path in {"header", "header.length", "tp"}
        assert str(error).startswith(error.path)
    else:
        assert Message.parse(message.build()) == (message, b"")
        assert data.endswith(rest)


@given(message_bytes)
def test_peek_reads_the_header_that_parse_reads(data: bytes) -> None:
    try:
        header = peek(data)
    except ParseError as error:
        assert error.path in {"header", "header.length"}
        with pytest.raises(ParseError, match=re.escape(str(error))):
            Message.parse(data)
    else:
        built = header.build(following=0)
        assert (built[:4], built[8:]) == (data[:4], data[8:16])


@given(datagram_bytes)
def test_any_datagram_gives_messages_or_the_number_of_the_damaged_one(data: bytes) -> None:
    try:
        several = parse_datagram(data)
    except ParseError as error:
        assert re.fullmatch(r"messages\[\d+\]\.(header|header\.length|tp)", error.path)
    else:
        assert sum(len(m.build()) for m in several) == len(data)


@pytest.mark.req("feat_req_someip_702", "feat_req_someip_741")
@given(blobs(180))
def test_datagrams_hold_all_messages_in_order_and_as_many_as_fit(blob: Blob) -> None:
    limit, several = 60 + blob.number(), messages_from(blob)
    datagrams = build_datagrams(several, limit)
    assert [m for data in datagrams for m in parse_datagram(data)] == several
    assert all(len(data) <= limit for data in datagrams)
    firsts = [len(parse_datagram(data)[0].build()) for data in datagrams[1:]]
    assert all(len(data) + first > limit for data, first in zip(datagrams, firsts, strict=False))


@pytest.mark.req("feat_req_someip_36", "feat_req_someip_318")
def test_a_message_too_large_for_a_datagram_is_refused() -> None:
    fits, too_large = (Message(Header(1, 1), bytes(n)) for n in (1400, 1401))
    assert build_datagrams([fits]) == [fits.build()]
    with pytest.raises(BuildError, match=r"^messages\[1\]: 1417 bytes, expected at most 1416"):
        build_datagrams([fits, too_large])


@pytest.mark.req("feat_req_someip_664")
@pytest.mark.parametrize("offset", range(8))
def test_a_message_may_begin_at_any_byte(offset: int) -> None:
    first = Message(Header(1, 1), bytes(offset))
    assert parse_datagram(first.build() + REQUEST_BYTES) == [first, REQUEST]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_read(kind: type[bytes] | type[bytearray]) -> None:
    data = kind(REQUEST_BYTES)
    assert peek(data) == REQUEST.header
    assert Message.parse(data) == (REQUEST, b"")
    assert parse_datagram(data) == [REQUEST]


def test_a_parsed_message_does_not_change_with_the_buffer_it_came_from() -> None:
    shared = bytearray(REQUEST_BYTES)
    message, _ = Message.parse(memoryview(shared))
    shared[:] = bytes(len(shared))
    assert message == REQUEST


def test_an_empty_datagram_holds_no_message() -> None:
    assert parse_datagram(b"") == []


def test_what_is_left_over_in_a_datagram_is_damage() -> None:
    with pytest.raises(ParseError, match=r"^messages\[1\]\.header: 1 bytes"):
        parse_datagram(REQUEST_BYTES + b"\x00")


@pytest.mark.req("feat_req_someip_798")
@pytest.mark.parametrize("length", [0, 7, 13, 0xFFFFFFFF])
def test_a_length_below_8_or_beyond_the_datagram_is_refused(length: int) -> None:
    data = REQUEST_BYTES[:4] + length.to_bytes(4) + REQUEST_BYTES[8:]
    for read in (peek, Message.parse, parse_datagram):
        with pytest.raises(ParseError, match=r"header\.length"):
            read(data)


@pytest.mark.parametrize("size", range(16))
def test_less_than_a_header_is_refused(size: int) -> None:
    with pytest.raises(ParseError) as caught:
        peek(REQUEST_BYTES[:size])
    assert caught.value.path == "header"


@pytest.mark.req("feat_req_someip_371")
def test_return_codes_without_a_name_stay_numbers() -> None:
    code = peek(REQUEST_BYTES[:15] + b"\x3f" + REQUEST_BYTES[16:]).return_code
    assert code == 0x3F
    assert code not in set(ReturnCode)


@pytest.mark.req("feat_req_someip_107", "feat_req_someip_371")
@pytest.mark.parametrize("kind", [MessageType.RESPONSE, MessageType.ERROR])
@pytest.mark.parametrize("code", ReturnCode)
def test_every_return_code_is_read_in_responses_and_errors(
    kind: MessageType, code: ReturnCode
) -> None:
    header = Header(0x1234, 0x0421, message_type=kind, return_code=code)
    assert peek(Message(header).build()) == header


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (ReturnCode.E_E2E_REPEATED, 0x0B),
        (ReturnCode.E_E2E_WRONG_SEQUENCE, 0x0C),
        (ReturnCode.E_E2E, 0x0D),
        (ReturnCode.E_E2E_NOT_AVAILABLE, 0x0E),
        (ReturnCode.E_E2E_NO_NEW_DATA, 0x0F),
    ],
)
def test_return_codes_of_end_to_end_protection_have_the_numbers_of_autosar(
    code: ReturnCode, number: int
) -> None:
    assert code == number


@pytest.mark.req("feat_req_someip_102", "feat_req_someip_103")
def test_an_end_to_end_header_stays_in_front_of_the_payload() -> None:
    protection = bytes.fromhex("0003 0a 5c 01020304")
    data = bytes.fromhex("1234 8001 00000014 0000 0001 01 01 02 00") + protection + b"data"
    message, _ = Message.parse(data)
    assert message.payload == protection + b"data"
    assert message.build() == data


@pytest.mark.req("feat_req_someip_684", "feat_req_someip_761")
@pytest.mark.parametrize("kind", MessageType)
def test_every_message_type_is_known_with_and_without_tp_flag(kind: MessageType) -> None:
    plain, segment = Header(1, 1, message_type=kind), Header(1, 1, message_type=kind | 0x20)
    assert (plain.is_tp, plain.base_type) == (False, kind)
    assert (segment.is_tp, segment.base_type) == (True, kind)


@pytest.mark.req("feat_req_someipsd_26", "feat_req_someipids_530")
@pytest.mark.parametrize(
    ("service", "method", "expected"),
    [(0xFFFF, 0x8100, True), (0xFFFF, 0x8000, False), (0x1234, 0x8100, False)],
)
def test_service_discovery_is_told_by_service_and_method(
    service: int, method: int, expected: bool
) -> None:
    assert Header(service, method).is_sd is expected


@pytest.mark.req("feat_req_someiptp_766", "feat_req_someiptp_767", "feat_req_someiptp_768")
def test_tp_word_masked_is_the_offset_in_bytes() -> None:
    head = bytes.fromhex("1234 0421 0000000f 0001 0002 01 01 20 00")
    message, _ = Message.parse(head + (1392 | 1).to_bytes(4) + b"end")
    assert (message.tp, message.payload) == (TpHeader(1392, more=True), b"end")


@pytest.mark.req("feat_req_someiptp_769")
def test_reserved_bits_of_the_tp_header_are_not_looked_at() -> None:
    head = bytes.fromhex("1234 0421 0000000c 0001 0002 01 01 20 00")
    message, _ = Message.parse(head + (16 | 0b1110).to_bytes(4))
    assert message.tp == TpHeader(16, more=False)


def test_a_segment_without_tp_header_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        Message.parse(bytes.fromhex("1234 0421 0000000b 0001 0002 01 01 20 00 000000"))
    assert caught.value.path == "tp"


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (Message(Header(0x10000, 0)), "header.service_id"),
        (Message(Header(0, -1)), "header.method_id"),
        (Message(Header(0, 0, return_code=256)), "header.return_code"),
        (Message(Header(0, 0, message_type=0x20)), "tp"),
        (Message(Header(0, 0), tp=TpHeader(0, more=False)), "tp"),
        (Message(Header(0, 0, message_type=0x20), tp=TpHeader(8, more=False)), "tp.offset"),
        (Message(Header(0, 0, message_type=0x20), tp=TpHeader(1 << 32, more=False)), "tp.units"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_path(message: Message, path: str) -> None:
    with pytest.raises(BuildError) as caught:
        message.build()
    assert caught.value.path == path


@pytest.mark.req("feat_req_someip_45")
def test_any_bit_of_a_header_makes_a_difference() -> None:
    whole = REQUEST_BYTES[:16]
    for bit in range(16 * 8):
        if 4 <= bit // 8 < 8:
            continue  # the length is checked, not kept
        changed = (int.from_bytes(whole) ^ 1 << (127 - bit)).to_bytes(16)
        assert peek(changed[:4] + REQUEST_BYTES[4:8] + changed[8:] + b"ping") != REQUEST.header


def test_messages_are_values() -> None:
    assert replace(REQUEST, payload=b"pong") != REQUEST
    assert len({REQUEST, Message.parse(REQUEST_BYTES)[0]}) == 1
