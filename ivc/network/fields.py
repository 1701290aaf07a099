# SPDX-License-Identifier: Apache-2.0
"""Read single fields: each returns the value, or None after noting what is wrong with it.

Identifiers are decimal or `0x` hex, ports are decimal only: that is how vsomeip reads them.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeVar

from ivc.network.model import PortRange
from ivc.network.values import Array, Report, Scalar, Table, Value, describe, quote

T = TypeVar("T")
Reader = Callable[[Value, Report], T | None]

_DECIMAL = re.compile(r"[0-9]{1,10}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}")
_ANY_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,8}")
_COMMENT = ("_", "$", "//")
_LOOKS_HEX = re.compile(r"[0-9]{4}")

LARGEST_ID = 0xFFFF
LARGEST_PORT = 0xFFFE


def table(value: Value, report: Report) -> Table | None:
    """A JSON object or TOML table."""
    if isinstance(value, Table):
        return value
    report.error(value.place, "bad-type", describe(value), "an object", "write { ... } here")
    return None


def tables(value: Value | None, report: Report) -> tuple[Table, ...]:
    """The objects of a list; a missing list is an empty one."""
    return each(value, table, report, "[ {...} ]")


def optional(found: Table, key: str, read: Reader[T], report: Report) -> T | None:
    """What `read` makes of the member `key`; None if there is none."""
    value = found.get(key)
    return read(value, report) if value is not None else None


def required(found: Table, key: str, read: Reader[T], example: str, report: Report) -> T | None:
    """As `optional`, but an absent member is noted."""
    if key not in found.items:
        report.error(
            found.place.at(key), "missing", f'no "{key}"', "one", f'write "{key}" : {example}'
        )
    return optional(found, key, read, report)


def each(value: Value | None, read: Reader[T], report: Report, example: str) -> tuple[T, ...]:
    """What `read` makes of the members of a list; a missing list is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, Array):
        report.error(value.place, "bad-type", describe(value), "a list", f"write {example}")
        return ()
    found = (read(item, report) for item in value.items)
    return tuple(item for item in found if item is not None)


def text(value: Value, report: Report, expected: str = "a string") -> str | None:
    """Any scalar, as it was written."""
    if isinstance(value, Scalar):
        return value.text
    report.error(value.place, "bad-type", describe(value), expected, "write one value here")
    return None


def up_to(largest: int, hex_expected: bool = True) -> Reader[int]:
    """A reader of ids up to `largest`: decimal, or hex with a lower-case `0x`.

    Four digits are doubted if `hex_expected`.
    """
    expected = f"an id from 0 to 0x{largest:x}, decimal or 0x hex"

    def read(value: Value, report: Report) -> int | None:
        written = text(value, report, expected)
        if written is None:
            return None
        number = _number(written)
        if number is not None and number <= largest:
            if hex_expected and _LOOKS_HEX.fullmatch(written) and _is_quoted(value):
                _warn_decimal(value, number, report)
            return number
        fix = f"write an id of at most 0x{largest:x}"
        if number is None and _ANY_HEX.fullmatch(written):
            fix = f'hex needs a lower-case 0x: write "0x{int(written, 16):04x}"'
        report.error(value.place, "bad-id", describe(value), expected, fix)
        return None

    return read


identifier = up_to(LARGEST_ID)
"""A service, instance, method, event, eventgroup or client id."""

user_id = up_to(0xFFFFFFFF, hex_expected=False)
"""A user or group id of Linux."""


def own_id(value: Value, report: Report) -> int | None:
    """The id of something that exists: 0 and 0xFFFF stand for none and any."""
    number = identifier(value, report)
    if number in {0, LARGEST_ID}:
        report.warning(
            value.place,
            "reserved-id",
            describe(value),
            "an id from 0x0001 to 0xfffe",
            "choose another id; this one means none or any, and entries with it are ignored",
        )
    return number


def hex_id(value: Value, report: Report) -> int | None:
    """An id vsomeip reads as hex with and without `0x`."""
    expected = f"an id from 0 to 0x{LARGEST_ID:x} in hex"
    written = text(value, report, expected)
    if written is None:
        return None
    if _ANY_HEX.fullmatch(written) and int(written, 16) <= LARGEST_ID:
        return int(written, 16)
    report.error(value.place, "bad-id", describe(value), expected, 'write "0x..."')
    return None


def _number(written: str) -> int | None:
    if _HEX.fullmatch(written):
        return int(written, 16)
    return int(written) if _DECIMAL.fullmatch(written) else None


def _is_quoted(value: Value) -> bool:
    return isinstance(value, Scalar) and not value.literal


def _warn_decimal(value: Value, number: int, report: Report) -> None:
    report.warning(
        value.place,
        "decimal-id",
        f"{describe(value)}, which is decimal {number} = 0x{number:04x}",
        "0x in front of a hex id",
        f'write "0x{number:04d}" if you mean hex, "0x{number:04x}" if you mean decimal',
    )


def port(value: Value, report: Report) -> int | None:
    """A UDP or TCP port from 1 to 65534, decimal only; 65535 is "no port" to vsomeip."""
    expected = f"a decimal port from 1 to {LARGEST_PORT}"
    written = text(value, report, expected)
    if written is None:
        return None
    if _DECIMAL.fullmatch(written) and 1 <= int(written) <= LARGEST_PORT:
        return int(written)
    if _HEX.fullmatch(written.lower()) and 1 <= int(written, 16) <= LARGEST_PORT:
        report.error(
            value.place,
            "hex-port",
            f"{describe(value)}, a hexadecimal port",
            expected,
            f'write "{int(written, 16)}"; vsomeip reads ports as decimal and would open none',
        )
    else:
        report.error(
            value.place, "bad-port", describe(value), expected, "write the port as a decimal number"
        )
    return None


def any_port(value: Value, report: Report, largest: int = LARGEST_PORT) -> int | None:
    """A port where vsomeip reads hex as well: of clients and of the routing host."""
    expected = f"a port from 1 to {largest}, decimal or 0x hex"
    written = text(value, report, expected)
    if written is None:
        return None
    found = _number(written)
    if found is not None and 1 <= found <= largest:
        return found
    report.error(value.place, "bad-port", describe(value), expected, "write a port in range")
    return None


def _end(value: Value, report: Report) -> int | None:
    """The end of a range of ports, where 65535 may stand for all that follow."""
    return any_port(value, report, 0xFFFF)


def port_range(value: Value, report: Report) -> PortRange | None:
    """An object with the ports `first` and `last`."""
    found = table(value, report)
    if found is None:
        return None
    warn_unknown(found, frozenset({"first", "last"}), "a range of ports", report)
    first = required(found, "first", _end, '"30491"', report)
    last = required(found, "last", _end, '"30499"', report)
    if first is None or last is None:
        return None
    if first <= last:
        return PortRange(first, last)
    report.error(
        value.place,
        "bad-range",
        f"{first} to {last}",
        "a first port that is not above the last",
        "exchange the two; vsomeip would use no port of this range",
    )
    return None


def address(value: Value, report: Report) -> IPv4Address | None:
    """An IPv4 address."""
    expected = "an IPv4 address"
    written = text(value, report, expected)
    if written is None:
        return None
    try:
        return IPv4Address(written)
    except AddressValueError:
        pass
    fix = "write four numbers from 0 to 255, such as 10.77.0.1"
    if _is_ipv6(written):
        fix = "IPv6 is not supported yet; give the node an IPv4 address"
    report.error(value.place, "bad-address", describe(value), expected, fix)
    return None


def _is_ipv6(written: str) -> bool:
    try:
        IPv6Address(written)
    except AddressValueError:
        return False
    return True


def unicast(value: Value, report: Report) -> IPv4Address | None:
    """An address one host can have."""
    found = address(value, report)
    if found is None or not (found.is_multicast or found.is_unspecified or int(found) == 2**32 - 1):
        return found
    report.error(
        value.place, "bad-address", describe(value), "a unicast address", "write the host's address"
    )
    return None


def multicast(value: Value, report: Report) -> IPv4Address | None:
    """A multicast group."""
    found = address(value, report)
    if found is None or found.is_multicast:
        return found
    report.error(
        value.place,
        "bad-multicast",
        describe(value),
        "a multicast address, 224.0.0.0 to 239.255.255.255",
        "write a group such as 224.224.224.245",
    )
    return None


def netmask(value: Value, report: Report) -> IPv4Address | None:
    """A netmask: ones, then zeros."""
    found = address(value, report)
    if found is None:
        return None
    zeros = ~int(found) & 0xFFFFFFFF
    if zeros & (zeros + 1) == 0:
        return found
    report.error(
        value.place,
        "bad-netmask",
        describe(value),
        "a netmask",
        'write one such as "255.255.255.0"',
    )
    return None


def prefix(value: Value, report: Report) -> IPv4Address | None:
    """A prefix length, as a netmask."""
    expected = "a prefix length, a decimal number from 0 to 32"
    written = text(value, report, expected)
    if written is None:
        return None
    if _DECIMAL.fullmatch(written) and int(written) <= 32:
        return IPv4Address((0xFFFFFFFF << (32 - int(written))) & 0xFFFFFFFF)
    report.error(value.place, "bad-netmask", describe(value), expected, 'write one such as "24"')
    return None


def whole(what: str, largest: int = 0xFFFFFFFF, least: int = 0) -> Reader[int]:
    """A reader of decimal numbers from `least` to `largest`.

    Anything else is a warning, and read as vsomeip does: the largest for what is larger, 0 for
    hex, and else its default.
    """
    expected = f"{what}, a decimal number from {least} to {largest}"

    def read(value: Value, report: Report) -> int | None:
        written = text(value, report, expected)
        if written is None:
            return None
        if _DECIMAL.fullmatch(written) and least <= int(written) <= largest:
            return int(written)
        taken = _taken(written, largest, least)
        fix = "vsomeip takes its default" if taken is None else f'vsomeip takes it for "{taken}"'
        number = _number(written)
        usable = number is not None and least <= number <= largest
        better = f'write "{number}"' if usable else "write another number"
        report.warning(value.place, "bad-number", describe(value), expected, f"{better}; {fix}")
        return taken

    return read


def _taken(written: str, largest: int, least: int) -> int | None:
    if re.fullmatch("[0-9]+", written) and written.strip("0"):
        return largest
    return 0 if _HEX.fullmatch(written) and least == 0 else None


def boolean(value: Value, report: Report) -> bool | None:
    """A vsomeip boolean: "true" is true, and everything else is silently false there."""
    written = text(value, report, '"true" or "false"')
    if written is None:
        return None
    if written not in {"true", "false"}:
        report.warning(
            value.place,
            "bad-boolean",
            describe(value),
            '"true" or "false"',
            'write "true" or "false"; vsomeip takes anything but "true" as false',
        )
    return written == "true"


def warn_unknown(
    found: Table,
    known: frozenset[str],
    what: str,
    report: Report,
    instead: Mapping[str, str] | None = None,
) -> None:
    """A warning for each key that is not one of `known`.

    `instead` has advice for keys that are often written and never read. Keys that begin with
    `_`, `$` or `//` are taken for comments.
    """
    for key, value in found.items.items():
        if key in known or key.startswith(_COMMENT):
            continue
        if instead and key in instead:
            report.warning(
                value.place,
                "ignored-key",
                f"the key {quote(key)}",
                "a key vsomeip reads",
                instead[key],
            )
            continue
        close = get_close_matches(key.lower(), known, 1)
        report.warning(
            value.place,
            "unknown-key",
            f"the key {quote(key)}",
            f"a key of {what}",
            f'write "{close[0]}"?' if close else "remove it, or check its spelling; it is ignored",
        )
