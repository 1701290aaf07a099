# SPDX-License-Identifier: Apache-2.0
"""SOME/IP over TCP: messages across reads, magic cookies, back in step after rubbish."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from someip_strategies import Blob, blobs, damage, message_from

from ivc.someip import (
    CLIENT_COOKIE,
    COOKIES,
    SERVER_COOKIE,
    TP_FLAG,
    Header,
    Message,
    MessageType,
    Skipped,
    StreamSplitter,
)

Item = Message | Skipped
REQUEST = Message(Header(0x1234, 0x0421, 0x0001, 0x0002), b"ping")
COOKIE = CLIENT_COOKIE.build()
LIMIT = 256


def plausible(message: Message) -> Message:
    """`message` as one that a stream is in step before."""
    kind = list(MessageType)[message.header.message_type % len(MessageType)]
    if message.header.is_tp:
        kind |= TP_FLAG
    return replace(message, header=replace(message.header, protocol_version=1, message_type=kind))


def well_formed(blob: Blob) -> list[Message]:
    """Up to four messages and cookies."""
    return [
        plausible(message_from(blob)) if blob.number(4) else COOKIES[blob.number(2)]
        for _ in range(blob.number(5))
    ]


def anything(blob: Blob) -> bytes:
    """Up to four parts: cookies, any bytes, messages, whole or damaged."""
    return b"".join(part(blob) for _ in range(blob.number(5)))


def part(blob: Blob) -> bytes:
    match blob.number(4):
        case 0:
            return COOKIES[blob.number(2)].build()
        case 1:
            return blob.some(40)
        case 2:
            return plausible(message_from(blob)).build()
        case _:
            return damage(plausible(message_from(blob)).build(), blob)


def cuts(blob: Blob) -> list[int]:
    """Where reads end."""
    return [at % 300 for at in blob.numbers(">HHH")]


def split(data: bytes, at: list[int], cookies: bool = False) -> tuple[list[Item], StreamSplitter]:
    """What `data` gives if reads end `at` these places, what is skipped made one."""
    splitter = StreamSplitter(cookies=cookies, limit=LIMIT)
    bounds = [0, *sorted(min(n, len(data)) for n in at), len(data)]
    items: list[Item] = []
    for start, end in pairwise(bounds):
        for item in splitter.feed(data[start:end]):
            match items[-1:], item:
                case [Skipped(before, problem)], Skipped(count, again) if again == problem:
                    items[-1] = Skipped(before + count, problem)
                case _:
                    items.append(item)
        assert splitter.pending < LIMIT
    return items, splitter


def size(item: Item) -> int:
    return item.count if isinstance(item, Skipped) else len(item.build())


@given(blobs(200))
@pytest.mark.req("feat_req_someip_319", "feat_req_someip_585", "feat_req_someip_702")
def test_messages_come_out_as_they_went_in_wherever_reads_end(blob: Blob) -> None:
    at, cookies, sent = cuts(blob), bool(blob.number(2)), well_formed(blob)
    items, splitter = split(b"".join(m.build() for m in sent), at, cookies)
    assert items == sent
    assert splitter.pending == 0


@given(blobs(200))
def test_any_bytes_give_the_same_wherever_reads_end(blob: Blob) -> None:
    at, cookies, data = cuts(blob), bool(blob.number(2)), anything(blob)
    items, splitter = split(data, at, cookies)
    whole, at_once = split(data, [], cookies)
    assert (items, splitter.pending) == (whole, at_once.pending)


@given(blobs(200))
def test_no_byte_is_lost_or_counted_twice(blob: Blob) -> None:
    cookies, data = bool(blob.number(2)), anything(blob)
    items, splitter = split(data, [], cookies)
    assert sum(map(size, items)) + splitter.pending == len(data)


@given(blobs(300))
@pytest.mark.req("feat_req_someip_586")
def test_after_any_rubbish_cookies_bring_the_stream_back_in_step(blob: Blob) -> None:
    """The first of two may be lost: rubbish can be a message that ends inside of it."""
    cookie = COOKIES[blob.number(2)]
    sent = [cookie, *well_formed(blob)]
    data = anything(blob) + cookie.build() + b"".join(m.build() for m in sent)
    items, _ = split(data, [], cookies=True)
    assert items[-len(sent) :] == sent


@pytest.mark.req("feat_req_someip_609", "feat_req_someip_607", "feat_req_someipids_530")
def test_magic_cookies_stand_byte_for_byte_as_specified() -> None:
    client, server = (cookie.build() for cookie in COOKIES)
    assert client == bytes.fromhex("ffff 0000 00000008 dead beef 01 01 01 00")
    assert server == bytes.fromhex("ffff 8000 00000008 dead beef 01 01 02 00")


def test_a_message_is_there_as_soon_as_its_last_byte_is() -> None:
    splitter = StreamSplitter()
    for byte in REQUEST.build()[:-1]:
        assert splitter.feed(bytes([byte])) == []
    assert splitter.feed(REQUEST.build()[-1:]) == [REQUEST]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_read(kind: type[bytes] | type[bytearray]) -> None:
    assert StreamSplitter().feed(kind(REQUEST.build())) == [REQUEST]


@pytest.mark.req("feat_req_someip_586", "feat_req_someip_591")
def test_cookies_are_handed_out_between_the_messages() -> None:
    sent = [SERVER_COOKIE, REQUEST, REQUEST, SERVER_COOKIE]
    assert StreamSplitter().feed(b"".join(m.build() for m in sent)) == sent


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("1234 0421 00000008 0001 0002 02 01 00 00", "header.protocol_version: 2, expected 1"),
        ("1234 0421 00000008 0001 0002 01 01 03 00", "header.message_type: 0x03 has no name"),
        ("1234 0421 00000007 0001 0002 01 01 00 00", "header.length: 7, expected 8 to 248"),
        ("1234 0421 000000f9 0001 0002 01 01 00 00", "header.length: 249, expected 8 to 248"),
        ("1234 0421 0000000b 0001 0002 01 01 20 00", "header.length: 11, expected 12 to 248"),
    ],
)
@pytest.mark.req("feat_req_someip_798")
def test_where_no_message_can_begin_bytes_are_skipped_with_the_reason(
    head: str, problem: str
) -> None:
    data = bytes.fromhex(head) + b"whatever follows"
    assert split(data + COOKIE, [])[0] == [Skipped(32, problem), CLIENT_COOKIE]


def test_rubbish_is_skipped_as_it_comes_and_not_kept() -> None:
    splitter = StreamSplitter(limit=64)
    for _ in range(1000):
        (skipped,) = splitter.feed(b"rubbish!" * 8)
        assert isinstance(skipped, Skipped)
        assert splitter.pending < 16


def test_a_cookie_inside_of_a_message_shows_that_its_length_was_wrong() -> None:
    too_long = REQUEST.build()[:7] + b"\xf0" + REQUEST.build()[8:]
    splitter = StreamSplitter(cookies=True, limit=LIMIT)
    assert splitter.feed(too_long) == []
    assert splitter.feed(COOKIE + REQUEST.build()) == [
        Skipped(20, "header.length: 240, but a cookie is inside"),
        CLIENT_COOKIE,
        REQUEST,
    ]


def test_so_does_the_next_one_in_bytes_looked_through_before() -> None:
    too_long = REQUEST.build()[:7] + b"\xf0" + REQUEST.build()[8:]
    skipped = Skipped(20, "header.length: 240, but a cookie is inside")
    items = StreamSplitter(cookies=True, limit=LIMIT).feed(2 * (too_long + COOKIE))
    assert items == 2 * [skipped, CLIENT_COOKIE]


def test_without_cookies_such_bytes_are_payload() -> None:
    tunnelled = Message(Header(1, 1), b"log: " + COOKIE + b" seen")
    assert StreamSplitter().feed(tunnelled.build()) == [tunnelled]


def test_a_cookie_torn_by_reads_is_found() -> None:
    for at in range(16):
        splitter = StreamSplitter()
        splitter.feed(b"rubbish without end " + COOKIE[:at])
        assert splitter.feed(COOKIE[at:] + REQUEST.build())[-2:] == [CLIENT_COOKIE, REQUEST]


def test_a_message_as_large_as_allowed_is_taken_and_kept_until_it_is_whole() -> None:
    largest = Message(Header(1, 1), bytes(LIMIT - 16))
    items, _ = split(largest.build(), list(range(0, LIMIT, 7)))
    assert items == [largest]


def test_many_small_messages_in_one_read_take_time_in_proportion() -> None:
    splitter = StreamSplitter(cookies=True)
    data = REQUEST.build() * 20_000
    assert len(splitter.feed(data)) == 20_000
