# SPDX-License-Identifier: Apache-2.0
"""The options of service discovery: addresses and properties that entries refer to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar

from construct import Construct

from ivc.someip import schema
from ivc.someip.convert import decode, encode
from ivc.someip.errors import ParseError
from ivc.someip.schema import OPTION, OPTION_SIZE

Address = IPv4Address | IPv6Address

_CONFIGURATION, _LOAD_BALANCING, _PROTECTION = 0x01, 0x02, 0x03
_MAC_GROUPCAST, _SELECTIVE = 0x15, 0x20
_IPV4, _IPV6 = 0x04, 0x06  # to be added to the role of an address option


class Protocol(IntEnum):
    """Transport protocols an endpoint can name; the numbers are IANA's."""

    TCP = 0x06
    UDP = 0x11


@dataclass(frozen=True, slots=True)
class AddressOption:
    """Address, transport protocol (a Protocol, or an unknown number) and port.

    What it means is the subclass's; its `role` and the IP version make the type byte.
    """

    role: ClassVar[int]

    address: Address
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class EndpointOption(AddressOption):
    """Where a service, or a subscriber, is reached (types 0x04 and 0x06)."""

    role: ClassVar[int] = 0x00


@dataclass(frozen=True, slots=True)
class MulticastOption(AddressOption):
    """Where events of an eventgroup are sent to by multicast (types 0x14 and 0x16)."""

    role: ClassVar[int] = 0x10


@dataclass(frozen=True, slots=True)
class SdEndpointOption(AddressOption):
    """Replaces the sender's address; no entry refers to it (types 0x24 and 0x26)."""

    role: ClassVar[int] = 0x20


@dataclass(frozen=True, slots=True)
class ConfigurationOption:
    """Strings "key" or "key=value" in their order, repeated keys included (type 0x01).

    A key alone has the value None; "key=" has an empty one.
    """

    items: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class LoadBalancingOption:
    """Which of several instances to prefer: the lowest priority, then by weight (type 0x02)."""

    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class ProtectionOption:
    """Alive counter and checksum; historic, vsomeip's only (type 0x03)."""

    alive_counter: int
    crc: int


@dataclass(frozen=True, slots=True)
class MacGroupcastOption:
    """Where something that is not SOME/IP is sent to on layer 2 (type 0x15).

    `address`: 6 bytes; `ether_type`: its protocol, for example 0x22F0 for IEEE 1722;
    `identifier`: what tells it apart in that protocol (Open SOME/IP SD 1253).
    """

    address: bytes
    ether_type: int
    identifier: bytes


@dataclass(frozen=True, slots=True)
class SelectiveOption:
    """Client ids an eventgroup is meant for; vsomeip's only (type 0x20)."""

    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An option of another type; `body` is everything after the type byte."""

    type: int
    body: bytes


Option = (
    EndpointOption
    | MulticastOption
    | SdEndpointOption
    | ConfigurationOption
    | LoadBalancingOption
    | ProtectionOption
    | MacGroupcastOption
    | SelectiveOption
    | UnknownOption
)


def parse_option(data: bytes, offset: int, path: str) -> tuple[Option, int]:
    """Read the option at `offset`; return it and the offset where it ends.

    Raises ParseError, its path being `path` and the field. An unknown type is no error.
    """
    start = offset + OPTION_SIZE
    fields, _ = decode(OPTION, data[offset:start], path)
    end = start + fields.length
    if end > len(data):
        raise ParseError(f"{path}.length", f"{fields.length}, but {len(data) - start} are left")
    return _read_body(fields.type, data[start:end], path), end


def build_option(option: Option, path: str) -> bytes:
    """The bytes of `option`. Raises BuildError, its path being `path` and the field."""
    kind, body = _write_body(option, path)
    return encode(OPTION, {"length": len(body), "type": kind}, path) + body


def _read_body(kind: int, body: bytes, path: str) -> Option:
    if kind not in _READERS:
        return UnknownOption(kind, body)
    layout, make = _READERS[kind]
    # Only the configuration option can leave bytes over, after its end mark: no one reads them.
    fields, _ = decode(layout, body, path)
    return make(fields)


def _address_readers(make: type[EndpointOption | MulticastOption | SdEndpointOption]) -> "_Readers":
    def ipv4(fields: Any) -> Option:
        return make(IPv4Address(fields.address), fields.protocol, fields.port)

    def ipv6(fields: Any) -> Option:
        return make(IPv6Address(fields.address), fields.protocol, fields.port)

    return {
        make.role + _IPV4: (schema.IPV4_BODY, ipv4),
        make.role + _IPV6: (schema.IPV6_BODY, ipv6),
    }


def _configuration(fields: Any) -> Option:
    strings = fields.strings[:-1]  # the last one is the end mark
    return ConfigurationOption(tuple(_split_item(string) for string in strings))


def _split_item(string: bytes) -> tuple[bytes, bytes | None]:
    key, equals, value = string.partition(b"=")
    return key, value if equals else None


_Readers = dict[int, tuple[Construct, Callable[[Any], Option]]]

_READERS: _Readers = {
    **_address_readers(EndpointOption),
    **_address_readers(MulticastOption),
    **_address_readers(SdEndpointOption),
    _CONFIGURATION: (schema.CONFIGURATION_BODY, _configuration),
    _LOAD_BALANCING: (
        schema.LOAD_BALANCING_BODY,
        lambda fields: LoadBalancingOption(fields.priority, fields.weight),
    ),
    _PROTECTION: (
        schema.PROTECTION_BODY,
        lambda fields: ProtectionOption(fields.alive_counter, fields.crc),
    ),
    _MAC_GROUPCAST: (
        schema.MAC_GROUPCAST_BODY,
        lambda fields: MacGroupcastOption(fields.address, fields.ether_type, fields.identifier),
    ),
    _SELECTIVE: (
        schema.SELECTIVE_BODY,
        lambda fields: SelectiveOption(tuple(fields.clients)),
    ),
}


def _write_body(option: Option, path: str) -> tuple[int, bytes]:
    """Type byte and body."""
    match option:
        case UnknownOption(kind, body):
            return kind, body
        case ConfigurationOption(items):
            strings = [_join_item(*item) for item in items]
            fields: dict[str, Any] = {"strings": [*strings, b""]}
            return _CONFIGURATION, encode(schema.CONFIGURATION_BODY, fields, path)
        case LoadBalancingOption(priority, weight):
            fields = {"priority": priority, "weight": weight}
            return _LOAD_BALANCING, encode(schema.LOAD_BALANCING_BODY, fields, path)
        case ProtectionOption(alive_counter, crc):
            fields = {"alive_counter": alive_counter, "crc": crc}
            return _PROTECTION, encode(schema.PROTECTION_BODY, fields, path)
        case MacGroupcastOption(address, ether_type, identifier):
            fields = {"address": address, "ether_type": ether_type, "identifier": identifier}
            return _MAC_GROUPCAST, encode(schema.MAC_GROUPCAST_BODY, fields, path)
        case SelectiveOption(clients):
            return _SELECTIVE, encode(schema.SELECTIVE_BODY, {"clients": clients}, path)
        case _:
            return _write_address(option, path)


def _write_address(option: AddressOption, path: str) -> tuple[int, bytes]:
    fields = {
        "address": option.address.packed,
        "protocol": option.protocol,
        "port": option.port,
    }
    if option.address.version == 4:
        return option.role + _IPV4, encode(schema.IPV4_BODY, fields, path)
    return option.role + _IPV6, encode(schema.IPV6_BODY, fields, path)


def _join_item(key: bytes, value: bytes | None) -> bytes:
    return key if value is None else key + b"=" + value
