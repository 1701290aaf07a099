# SPDX-License-Identifier: Apache-2.0
"""Service discovery: what a message to service 0xFFFF, method 0x8100 carries as payload."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from construct import Construct

from ivc.someip import schema
from ivc.someip.convert import Buffer, decode, encode
from ivc.someip.errors import BuildError, CodecError, ParseError
from ivc.someip.options import Option, build_option, parse_option
from ivc.someip.schema import ENTRY_SIZE

FOREVER = 0xFFFFFF
"""TTL: until the next reboot."""

STOP = 0
"""TTL: a stop offer, a stop subscribe, or a nack."""


class EntryType(IntEnum):
    """Entry types in use; with the TTL `STOP` an entry says the opposite."""

    FIND = 0x00
    OFFER = 0x01
    SUBSCRIBE = 0x06
    SUBSCRIBE_ACK = 0x07


@dataclass(frozen=True, slots=True)
class Run:
    """Some neighbours in the list of options: `count` (0 to 15) from index `first`.

    An empty run may begin anywhere (Open SOME/IP 347, 348).
    """

    first: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """A find, an offer, or with the TTL `STOP` its end; the TTL is in seconds.

    0xFFFF, 0xFF and 0xFFFFFFFF mean any instance, major and minor version in a find.
    Layout: `schema.SERVICE_ENTRY`.
    """

    type: int
    service_id: int
    instance_id: int
    major_version: int
    ttl: int
    minor_version: int
    run_1: Run = Run()
    run_2: Run = Run()


@dataclass(frozen=True, slots=True)
class EventgroupEntry:
    """A subscription or its ack, or with the TTL `STOP` its end or nack; TTL in seconds.

    `counter` (0 to 15) tells apart subscriptions of one client to the same eventgroup.
    Layout: `schema.EVENTGROUP_ENTRY`.
    """

    type: int
    service_id: int
    instance_id: int
    major_version: int
    ttl: int
    eventgroup_id: int
    counter: int = 0
    initial_data: bool = False
    run_1: Run = Run()
    run_2: Run = Run()


@dataclass(frozen=True, slots=True)
class UnknownEntry:
    """An entry of another type: its 16 bytes, the type first. Its runs are not looked at."""

    data: bytes

    @property
    def type(self) -> int:
        """The type byte."""
        return self.data[0]


Entry = ServiceEntry | EventgroupEntry | UnknownEntry

_LAYOUTS: dict[int, Construct] = {
    EntryType.FIND: schema.SERVICE_ENTRY,
    EntryType.OFFER: schema.SERVICE_ENTRY,
    EntryType.SUBSCRIBE: schema.EVENTGROUP_ENTRY,
    EntryType.SUBSCRIBE_ACK: schema.EVENTGROUP_ENTRY,
}


@dataclass(frozen=True, slots=True)
class SdMessage:
    """A service discovery payload. Layout: `schema.SD`, then `schema.SD_OPTIONS`.

    `reboot`: the sender's session ids have not wrapped since it started (Open SOME/IP 764).
    `unicast`: always set today. `explicit_initial_data`: initial events only on demand.
    """

    entries: tuple[Entry, ...] = ()
    options: tuple[Option, ...] = ()
    reboot: bool = False
    unicast: bool = True
    explicit_initial_data: bool = False

    def options_of(self, entry: Entry) -> tuple[Option, ...]:
        """The options of both runs of `entry`, in order; none for an unknown entry."""
        if isinstance(entry, UnknownEntry):
            return ()
        runs = (entry.run_1, entry.run_2)
        return tuple(o for run in runs for o in self.options[run.first : run.first + run.count])

    @classmethod
    def parse(cls, data: Buffer) -> tuple[Self, bytes]:
        """Read a payload; return it and the bytes after it.

        A payload that ends after the entries has no options, as other stacks see it too.
        Raises ParseError with a path such as "sd.entries[2].options".
        """
        head, rest = decode(schema.SD, bytes(data), "sd")
        array, rest = decode(schema.SD_OPTIONS, rest, "sd.options") if rest else (b"", b"")
        options = _parse_options(array)
        message = cls(
            _parse_entries(head.entries, len(options)),
            options,
            head.flags.reboot,
            head.flags.unicast,
            head.flags.initial_data,
        )
        return message, rest

    def build(self) -> bytes:
        """The bytes of the payload.

        Raises BuildError for a number that does not fit its field or a run beyond the options.
        """
        fields = {
            "flags": {
                "reboot": self.reboot,
                "unicast": self.unicast,
                "initial_data": self.explicit_initial_data,
            },
            "entries": b"".join(
                _build_entry(entry, len(self.options), f"sd.entries[{i}]")
                for i, entry in enumerate(self.entries)
            ),
        }
        options = b"".join(
            build_option(option, f"sd.options[{i}]") for i, option in enumerate(self.options)
        )
        head = encode(schema.SD, fields, "sd")
        return head + encode(schema.SD_OPTIONS, options, "sd.options")


def _parse_options(array: bytes) -> tuple[Option, ...]:
    options: list[Option] = []
    offset = 0
    while offset < len(array):
        option, offset = parse_option(array, offset, f"sd.options[{len(options)}]")
        options.append(option)
    return tuple(options)


def _parse_entries(array: bytes, options: int) -> tuple[Entry, ...]:
    if len(array) % ENTRY_SIZE:
        raise ParseError("sd.entries", f"{len(array)} bytes, expected a multiple of {ENTRY_SIZE}")
    chunks = (array[at : at + ENTRY_SIZE] for at in range(0, len(array), ENTRY_SIZE))
    return tuple(_parse_entry(chunk, options, f"sd.entries[{i}]") for i, chunk in enumerate(chunks))


def _parse_entry(data: bytes, options: int, path: str) -> Entry:
    layout = _LAYOUTS.get(data[0])
    if layout is None:
        return UnknownEntry(data)
    fields, _ = decode(layout, data, path)
    runs = Run(fields.first_1, fields.counts.run_1), Run(fields.first_2, fields.counts.run_2)
    _check_runs(runs, options, path, ParseError)
    common = (
        fields.type,
        fields.service_id,
        fields.instance_id,
        fields.major_version,
        fields.ttl,
    )
    if layout is schema.SERVICE_ENTRY:
        return ServiceEntry(*common, fields.minor_version, *runs)
    bits = fields.bits
    return EventgroupEntry(*common, fields.eventgroup_id, bits.counter, bits.initial_data, *runs)


def _check_runs(runs: tuple[Run, Run], options: int, path: str, error: type[CodecError]) -> None:
    for run in runs:
        if run.count and run.first + run.count > options:
            last = run.first + run.count - 1
            raise error(f"{path}.options", f"{run.first} to {last}, but there are {options}")


def _build_entry(entry: Entry, options: int, path: str) -> bytes:
    if isinstance(entry, UnknownEntry):
        if len(entry.data) != ENTRY_SIZE:
            raise BuildError(path, f"{len(entry.data)} bytes, expected {ENTRY_SIZE}")
        return entry.data
    _check_runs((entry.run_1, entry.run_2), options, path, BuildError)
    layout, own = _own_fields(entry)
    if _LAYOUTS.get(entry.type) is not layout:
        raise BuildError(f"{path}.type", f"{entry.type} is no type of a {type(entry).__name__}")
    return encode(layout, _common_fields(entry) | own, path)


def _own_fields(entry: ServiceEntry | EventgroupEntry) -> tuple[Any, dict[str, Any]]:
    """The layout of an entry, and the fields the other kind does not have."""
    if isinstance(entry, ServiceEntry):
        return schema.SERVICE_ENTRY, {"minor_version": entry.minor_version}
    bits = {"initial_data": entry.initial_data, "counter": entry.counter}
    return schema.EVENTGROUP_ENTRY, {"bits": bits, "eventgroup_id": entry.eventgroup_id}


def _common_fields(entry: ServiceEntry | EventgroupEntry) -> dict[str, Any]:
    return {
        "type": entry.type,
        "first_1": entry.run_1.first,
        "first_2": entry.run_2.first,
        "counts": {"run_1": entry.run_1.count, "run_2": entry.run_2.count},
        "service_id": entry.service_id,
        "instance_id": entry.instance_id,
        "major_version": entry.major_version,
        "ttl": entry.ttl,
    }
