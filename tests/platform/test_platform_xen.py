# SPDX-License-Identifier: Apache-2.0
"""What a guest may say to be let in, and what its kernel has for rings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivc.network.limits import ORDER_LEAST, ORDER_MOST, Share, fitting, sender
from ivc.platform import PlatformError
from ivc.platform.announcement import Announcement, parse_announcement, parse_nonce
from ivc.shm.library import lib

GOOD = b"1 17 9 10 11 12 77 an app"
WORDS = st.lists(st.integers(0, 1 << 40).map(str), max_size=8).map(" ".join)


def test_an_announcement_is_read() -> None:
    assert parse_announcement(GOOD) == Announcement(17, (9, 10, 11), 12, 77, "an app")


@given(text=st.binary(max_size=200) | WORDS.map(lambda words: f"{words} x".encode()))
def test_any_text_is_an_announcement_or_an_error(text: bytes) -> None:
    try:
        read = parse_announcement(text)
    except PlatformError:
        return
    assert 0 < read.port < 1 << 17
    refs = {*read.up, read.down}
    assert len(refs) == 4 and all(0 < ref < 1 << 32 for ref in refs)
    assert read.command.isprintable() and 1 <= len(read.command) <= 15


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(b"1 17", b"2 17"),
        GOOD.replace(b"17", b"0"),
        GOOD.replace(b"17", b"131072"),
        GOOD.replace(b"12", b"11"),
        GOOD.replace(b"12", b"0"),
        GOOD.replace(b"12", b"4294967296"),
        GOOD.replace(b"77", b"2147483648"),
        GOOD.replace(b"77", b"-1"),
        GOOD.replace(b" 9", b"  9"),
        GOOD.replace(b"an app", b"a name of sixteen"),
        GOOD.replace(b"an app", b"an\napp"),
        GOOD + b"\0",
        GOOD.replace(b"17", "\u0661\u0667".encode()),
        b"",
    ],
)
def test_what_is_not_exactly_as_agreed_is_none(text: bytes) -> None:
    with pytest.raises(PlatformError):
        parse_announcement(text)


@given(name=st.text(max_size=12) | st.from_regex("[0-9a-fA-F]{8}", fullmatch=True))
def test_a_nonce_is_eight_small_hex_digits_and_not_zero(name: str) -> None:
    try:
        nonce = parse_nonce(name)
    except PlatformError:
        assert name == "00000000" or len(name) != 8 or not set(name) <= set("0123456789abcdef")
        return
    assert f"{nonce:08x}" == name and nonce != 0


@given(
    order=st.integers(12, 26),
    pages=st.integers(-5, 3000),
    ports=st.integers(-5, 50),
    count=st.integers(1, 20),
)
def test_the_largest_order_that_fits_is_taken(
    order: int, pages: int, ports: int, count: int
) -> None:
    free = Share(pages, ports)
    found = fitting(order, [free], count)
    least = min(order, ORDER_LEAST)
    if found is None:
        assert not free.holds(sender(least) * count)
        return
    assert least <= found <= order
    assert free.holds(sender(found) * count)
    if found < min(order, ORDER_MOST):
        assert not free.holds(sender(found + 1) * count)


def test_the_references_of_the_largest_ring_fit_into_one_message() -> None:
    own = 2  # the domain, and perhaps a port
    assert sender(ORDER_MOST).pages + own <= lib.IVC_MSG_MAX_WORDS
    assert sender(ORDER_MOST + 1).pages + own > lib.IVC_MSG_MAX_WORDS
