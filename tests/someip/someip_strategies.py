# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: every value the codec can carry, and bytes that nearly are one."""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from typing import Any

from hypothesis import strategies as st

from ivc.someip import (
    TP_FLAG,
    ConfigurationOption,
    EndpointOption,
    Entry,
    EntryType,
    EventgroupEntry,
    Header,
    LoadBalancingOption,
    MacGroupcastOption,
    Message,
    MessageType,
    MulticastOption,
    Option,
    ProtectionOption,
    ReturnCode,
    Run,
    SdEndpointOption,
    SdMessage,
    SelectiveOption,
    ServiceEntry,
    TpHeader,
    UnknownEntry,
    UnknownOption,
)


def numbers(layout: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """The fields of a `struct` layout from one draw: a draw each costs most of the test time."""
    size = struct.calcsize(layout)
    return st.binary(min_size=size, max_size=size).map(lambda data: struct.unpack(layout, data))


def blobs(size: int) -> st.SearchStrategy[bytes]:
    """So many bytes, for a test to make something larger of: one draw again."""
    return st.binary(min_size=size, max_size=size)


def mostly(known: Sequence[int], n: int) -> int:
    """Three times of four one of `known`, else any byte, as the 16 bits of `n` will have it.

    So other stacks take a good part of what is made.
    """
    return known[n % len(known)] if n < 0xC000 else n & 0xFF


u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)

STANDARD_ENTRIES = tuple(EntryType)
STANDARD_OPTIONS = frozenset({0x01, 0x02, 0x04, 0x06, 0x14, 0x16, 0x24, 0x26})
OTHER_OPTIONS = frozenset({0x03, 0x15, 0x20})
"""We look into these, and other stacks do not."""

_TYPES = [*MessageType, *(kind | TP_FLAG for kind in MessageType)]
_CODES = list(ReturnCode)


def _message(n: tuple[int, ...], payload: bytes) -> Message:
    header = Header(*n[:4], mostly([1], n[4]), n[5], mostly(_TYPES, n[6]), mostly(_CODES, n[7]))
    return Message(header, payload, TpHeader(n[8] & ~15, bool(n[8] & 1)) if header.is_tp else None)


_MESSAGE = ">HHHHHBHHI"
messages = st.builds(_message, numbers(_MESSAGE), st.binary(max_size=64))


def message_from(blob: bytes) -> Message:
    """A message made of at least 22 bytes, its payload of those that are left."""
    return _message(struct.unpack_from(_MESSAGE, blob), blob[22 : 22 + blob[21] % 32])


config_keys = st.binary(min_size=1, max_size=8).filter(lambda key: b"=" not in key)
config_items = st.one_of(
    st.tuples(config_keys, st.none()),
    st.tuples(st.one_of(st.just(b""), config_keys), st.binary(max_size=8)),
)


def _address_option(n: tuple[Any, ...]) -> Option:
    kinds = (EndpointOption, MulticastOption, SdEndpointOption)
    address = IPv4Address(n[1][:4]) if n[0] & 1 else IPv6Address(n[1])
    return kinds[n[0] // 2 % 3](address, n[2], n[3])


standard_options: st.SearchStrategy[Option] = st.one_of(
    numbers(">B16sBH").map(_address_option),
    st.builds(ConfigurationOption, st.lists(config_items, max_size=2).map(tuple)),
    numbers(">HH").map(lambda n: LoadBalancingOption(*n)),
)
other_options: st.SearchStrategy[Option] = st.one_of(
    numbers(">II").map(lambda n: ProtectionOption(*n)),
    st.builds(SelectiveOption, st.lists(u16, max_size=4).map(tuple)),
    st.builds(MacGroupcastOption, st.binary(min_size=6, max_size=6), u16, st.binary(max_size=9)),
    st.builds(
        UnknownOption,
        u8.filter(lambda kind: kind not in STANDARD_OPTIONS | OTHER_OPTIONS),
        st.binary(max_size=12),
    ),
)
options = st.one_of(standard_options, other_options)

other_entries = st.builds(
    lambda kind, rest: UnknownEntry(bytes([kind]) + rest),
    u8.filter(lambda kind: kind not in STANDARD_ENTRIES),
    st.binary(min_size=15, max_size=15),
)


def runs(among: int) -> list[Run]:
    """All runs that lie within `among` options; an empty one may begin anywhere."""
    empty = [Run(first, 0) for first in (0, among, among + 1, 0xFF)]
    return empty + [Run(first, n) for first in range(among) for n in range(1, among - first + 1)]


def standard_entries(among: int) -> st.SearchStrategy[Entry]:
    """Entries of the types in use, their runs within `among` options."""
    possible = runs(among)

    def make(n: tuple[int, ...]) -> Entry:
        kind, run_1, run_2 = (
            table[i % len(table)]
            for table, i in zip((STANDARD_ENTRIES, possible, possible), n[:3], strict=True)
        )
        common = kind, n[3], n[4], n[5], n[6] & 0xFFFFFF
        if kind in (EntryType.FIND, EntryType.OFFER):
            return ServiceEntry(*common, n[7], run_1, run_2)
        group, bits = n[7] & 0xFFFF, n[7] >> 16
        return EventgroupEntry(*common, group, bits & 15, bool(bits & 16), run_1, run_2)

    return numbers(">BBBHHBII").map(make)


def sd_with(
    option: st.SearchStrategy[Option], extra: st.SearchStrategy[Entry]
) -> st.SearchStrategy[SdMessage]:
    """SD payloads of 0 to 2 options and 0 to 2 entries, `extra` ones among them."""
    flags = st.sampled_from(list(product([False, True], repeat=3)))

    def with_options(count: int) -> st.SearchStrategy[SdMessage]:
        opts = st.lists(option, min_size=count, max_size=count).map(tuple)
        entries = st.lists(st.one_of(standard_entries(count), extra), max_size=2).map(tuple)
        return st.builds(lambda e, o, f: SdMessage(e, o, *f), entries, opts, flags)

    return st.one_of([with_options(count) for count in range(3)])


sd_messages = sd_with(options, other_entries)
standard_sd_messages = sd_with(standard_options, st.nothing())
"""Without the entry and option types that not all stacks know."""


def _damage(data: bytes, n: tuple[int, ...], tail: bytes) -> bytes:
    broken = bytearray(data)
    for at, value in [(n[1], n[2]), (n[3], n[4])][: n[0] % 3]:
        if broken:
            broken[at % len(broken)] = value
    end = n[5] % (len(broken) + 1) if n[0] & 0x80 else len(broken)
    return bytes(broken[:end]) + tail


def damaged(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bytes with up to two of them changed, and some cut off or added at the end."""
    return st.builds(_damage, valid, numbers(">BHBHBH"), st.binary(max_size=4))


message_bytes = st.one_of(st.binary(max_size=80), damaged(messages.map(Message.build)))
datagram_bytes = damaged(
    st.lists(messages, max_size=3).map(lambda several: b"".join(m.build() for m in several))
)
sd_bytes = st.one_of(st.binary(max_size=80), damaged(sd_messages.map(SdMessage.build)))
