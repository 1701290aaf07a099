# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: every value the codec can carry, and bytes that nearly are one.

Each example is one draw of some bytes, and a plain function makes the value of them: a draw
for each field would take most of the time of the tests.
"""

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

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

STANDARD_ENTRIES = tuple(EntryType)
STANDARD_OPTIONS = frozenset({0x01, 0x02, 0x04, 0x06, 0x14, 0x16, 0x24, 0x26})
OTHER_OPTIONS = frozenset({0x03, 0x15, 0x20})
"""We look into these, and other stacks do not."""

_TYPES = [*MessageType, *(kind | TP_FLAG for kind in MessageType)]
_CODES = list(ReturnCode)
_ADDRESS_OPTIONS = (EndpointOption, MulticastOption, SdEndpointOption)


class Blob:
    """Bytes taken one after the other; zeros follow the last one."""

    def __init__(self, data: bytes) -> None:
        self._all = self._data = data

    def __repr__(self) -> str:
        return f"Blob({self._all!r})"

    def take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken.ljust(size, b"\0")

    def numbers(self, layout: str) -> tuple[int, ...]:
        """The numbers of a `struct` layout."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def number(self, below: int = 256) -> int:
        """A number from 0; `below` is 256 at most."""
        return self.take(1)[0] % below

    def some(self, most: int) -> bytes:
        """Up to `most` bytes."""
        return self.take(self.number(most + 1))

    def mostly(self, known: Sequence[int]) -> int:
        """Three times of four one of `known`, so that other stacks take it; else any byte."""
        any_number, which = self.numbers(">BB")
        return known[any_number % len(known)] if which < 0xC0 else any_number


def blobs(size: int) -> st.SearchStrategy[Blob]:
    """So many bytes, to make an example of."""
    return st.binary(min_size=size, max_size=size).map(Blob)


# ---- messages ---------------------------------------------------------------


def message_from(blob: Blob, largest: int = 40) -> Message:
    """A message with a TP header exactly where its type demands one."""
    ids, version = blob.numbers(">HHHH"), blob.mostly([1])
    header = Header(*ids, version, blob.number(), blob.mostly(_TYPES), blob.mostly(_CODES))
    tp = None
    if header.is_tp:
        (word,) = blob.numbers(">I")
        tp = TpHeader(word & ~15, bool(word & 1))
    return Message(header, blob.some(largest), tp)


def messages_from(blob: Blob) -> list[Message]:
    return [message_from(blob) for _ in range(blob.number(4))]


messages = blobs(60).map(message_from)
several_messages = blobs(180).map(messages_from)


# ---- service discovery ------------------------------------------------------


def option_from(blob: Blob, standard: bool) -> Option:
    """An option; a `standard` one has a type that all stacks know."""
    match blob.number(6 if standard else 10):
        case 0 | 1 | 2:
            kind, version = _ADDRESS_OPTIONS[blob.number(3)], blob.number(2)
            address = IPv6Address(blob.take(16)) if version else IPv4Address(blob.take(4))
            return kind(address, *blob.numbers(">BH"))
        case 3 | 4:
            return ConfigurationOption(tuple(_item(blob) for _ in range(blob.number(3))))
        case 5:
            return LoadBalancingOption(*blob.numbers(">HH"))
        case 6:
            return ProtectionOption(*blob.numbers(">II"))
        case 7:
            return SelectiveOption(tuple(blob.numbers(f">{blob.number(5)}H")))
        case 8:
            return MacGroupcastOption(blob.take(6), *blob.numbers(">H"), blob.some(9))
        case _:
            return UnknownOption(_other_than(STANDARD_OPTIONS | OTHER_OPTIONS, blob), blob.some(12))


def _item(blob: Blob) -> tuple[bytes, bytes | None]:
    """A key, and a value three times of four; nothing but ASCII as often."""
    key, value, how = blob.some(7).replace(b"=", b"-"), blob.some(7), blob.number()
    if how & 0x03:
        key, value = (bytes(byte & 0x7F for byte in text) for text in (key, value))
        key = key.replace(b"=", b"-")
    return (key, value) if how & 0x30 else (key or b"k", None)


def _other_than(known: frozenset[int], blob: Blob) -> int:
    others = [kind for kind in range(256) if kind not in known]
    return others[blob.number(len(others))]


def run_from(blob: Blob, among: int) -> Run:
    """A run that lies within `among` options; an empty one may begin anywhere."""
    first, count = blob.numbers(">BB")
    if not among or count & 1:
        return Run(first if count & 2 else 0, 0)
    return Run(first % among, 1 + count // 2 % (among - first % among))


def entry_from(blob: Blob, among: int, standard: bool) -> Entry:
    """An entry with its runs within `among` options; a `standard` one has a type in use."""
    if not standard and blob.number(4) == 0:
        return UnknownEntry(bytes([_other_than(frozenset(STANDARD_ENTRIES), blob)]) + blob.take(15))
    kind, runs = STANDARD_ENTRIES[blob.number(4)], (run_from(blob, among), run_from(blob, among))
    service, instance, major, ttl, last = blob.numbers(">HHBII")
    common = kind, service, instance, major, ttl >> 8
    if kind in (EntryType.FIND, EntryType.OFFER):
        return ServiceEntry(*common, last, *runs)
    return EventgroupEntry(*common, last & 0xFFFF, last >> 28, bool(last >> 16 & 1), *runs)


def sd_from(blob: Blob, standard: bool = False) -> SdMessage:
    """An SD payload of 0 to 2 options and 0 to 2 entries."""
    flags, count = blob.number(), blob.number(3)
    options = tuple(option_from(blob, standard) for _ in range(count))
    entries = tuple(entry_from(blob, count, standard) for _ in range(blob.number(3)))
    return SdMessage(entries, options, bool(flags & 1), bool(flags & 2), bool(flags & 4))


sd_messages = blobs(120).map(sd_from)
standard_sd_messages = blobs(120).map(lambda blob: sd_from(blob, standard=True))
"""Without the entry and option types that not all stacks know."""


# ---- bytes ------------------------------------------------------------------


def damage(data: bytes, blob: Blob) -> bytes:
    """`data`, two times of three with bytes changed, or some cut off or added at the end."""
    broken = bytearray(data)
    for _ in range((0, 0, 0, 1, 2)[blob.number(5)]):
        at, value = blob.numbers(">HB")
        if broken:
            broken[at % len(broken)] = value
    how, end = blob.numbers(">BH")
    if how & 3 == 0:
        del broken[end % (len(broken) + 1) :]
    return bytes(broken) + (blob.some(4) if how & 12 == 0 else b"")


def _nearly(valid: Callable[[Blob], bytes], blob: Blob) -> bytes:
    """Any bytes, or those of `valid` with some damage."""
    if blob.number(4) == 0:
        return blob.some(80)
    edits = Blob(blob.take(14))
    return damage(valid(blob), edits)


def _datagram(blob: Blob) -> bytes:
    return b"".join(message.build() for message in messages_from(blob))


message_bytes = blobs(75).map(lambda blob: _nearly(lambda b: message_from(b).build(), blob))
datagram_bytes = blobs(195).map(lambda blob: _nearly(_datagram, blob))
sd_bytes = blobs(135).map(lambda blob: _nearly(lambda b: sd_from(b).build(), blob))
