# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: every value the codec can carry, and bytes that nearly are one."""

import struct
from ipaddress import IPv4Address, IPv6Address
from itertools import product

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


def numbers(layout: str) -> st.SearchStrategy[tuple[int, ...]]:
    """The numbers of a `struct` layout from one draw: a draw each costs most of the test time."""
    size = struct.calcsize(layout)
    return st.binary(min_size=size, max_size=size).map(lambda data: struct.unpack(layout, data))


u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
ttls = st.integers(0, 0xFFFFFF)

STANDARD_ENTRIES = tuple(EntryType)
STANDARD_OPTIONS = frozenset({0x01, 0x02, 0x04, 0x06, 0x14, 0x16, 0x24, 0x26})
VSOMEIP_OPTIONS = frozenset({0x03, 0x20})

# Known numbers come up often enough that other stacks take a good part of the messages.
versions = st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2, 255])
types = st.one_of(st.sampled_from(MessageType), u8)
codes = st.one_of(st.sampled_from(ReturnCode), u8)
headers = st.builds(
    lambda n, version, kind, code: Header(n[0], n[1], n[2], n[3], version, n[4], kind, code),
    numbers(">HHHHB"),
    versions,
    types,
    codes,
)
tp_headers = st.builds(
    TpHeader, offset=st.integers(0, (1 << 28) - 1).map(lambda n: n * 16), more=st.booleans()
)


def message_of(header: Header, payload: bytes, tp: TpHeader) -> Message:
    """A message with a TP header exactly where its type demands one."""
    return Message(header, payload, tp if header.message_type & TP_FLAG else None)


messages = st.builds(message_of, headers, st.binary(max_size=64), tp_headers)

addresses: st.SearchStrategy[IPv4Address | IPv6Address] = st.one_of(
    st.binary(min_size=4, max_size=4).map(IPv4Address),
    st.binary(min_size=16, max_size=16).map(IPv6Address),
)
config_keys = st.binary(min_size=1, max_size=8).filter(lambda key: b"=" not in key)
config_items = st.one_of(
    st.tuples(config_keys, st.none()),
    st.tuples(st.one_of(st.just(b""), config_keys), st.binary(max_size=8)),
)

standard_options: st.SearchStrategy[Option] = st.one_of(
    st.builds(
        lambda option, address, n: option(address, n[0], n[1]),
        st.sampled_from([EndpointOption, MulticastOption, SdEndpointOption]),
        addresses,
        numbers(">BH"),
    ),
    st.builds(ConfigurationOption, st.lists(config_items, max_size=2).map(tuple)),
    numbers(">HH").map(lambda n: LoadBalancingOption(*n)),
)
other_options: st.SearchStrategy[Option] = st.one_of(
    numbers(">II").map(lambda n: ProtectionOption(*n)),
    st.builds(SelectiveOption, st.lists(u16, max_size=4).map(tuple)),
    st.builds(
        UnknownOption,
        u8.filter(lambda kind: kind not in STANDARD_OPTIONS | VSOMEIP_OPTIONS),
        st.binary(max_size=12),
    ),
)
options = st.one_of(standard_options, other_options)

other_entries = st.builds(
    lambda kind, rest: UnknownEntry(bytes([kind]) + rest),
    u8.filter(lambda kind: kind not in STANDARD_ENTRIES),
    st.binary(min_size=15, max_size=15),
)


def runs(among: int) -> st.SearchStrategy[Run]:
    """Runs that lie within `among` options; an empty one may begin anywhere."""
    empty = [Run(first, 0) for first in (0, among, among + 1, 0xFF)]
    some = [Run(first, n) for first in range(among) for n in range(1, among - first + 1)]
    return st.sampled_from(empty + some)


def standard_entries(among: int) -> st.SearchStrategy[Entry]:
    """Entries of the types in use, their runs within `among` options."""
    services = st.sampled_from([EntryType.FIND, EntryType.OFFER])
    eventgroups = st.sampled_from([EntryType.SUBSCRIBE, EntryType.SUBSCRIBE_ACK])
    both = (runs(among), runs(among))
    return st.one_of(
        st.builds(
            lambda kind, n, ttl, run_1, run_2: ServiceEntry(
                kind, n[0], n[1], n[2], ttl, n[3], run_1, run_2
            ),
            services,
            numbers(">HHBI"),
            ttls,
            *both,
        ),
        st.builds(
            lambda kind, n, ttl, counter, initial, run_1, run_2: EventgroupEntry(
                kind, n[0], n[1], n[2], ttl, n[3], counter, initial, run_1, run_2
            ),
            eventgroups,
            numbers(">HHBH"),
            ttls,
            st.integers(0, 15),
            st.booleans(),
            *both,
        ),
    )


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


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with a few of them changed, and some cut off or added at the end."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(u8)
    end = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:end]) + draw(st.binary(max_size=4))


message_bytes = st.one_of(st.binary(max_size=80), damaged(messages.map(Message.build)))
datagram_bytes = damaged(
    st.lists(messages, max_size=3).map(lambda several: b"".join(m.build() for m in several))
)
sd_bytes = st.one_of(st.binary(max_size=80), damaged(sd_messages.map(SdMessage.build)))
