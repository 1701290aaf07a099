# SPDX-License-Identifier: Apache-2.0
"""Read single fields: each returns the value, or None after noting what is wrong with it.

Identifiers are decimal or `0x` hex, ports are decimal only: that is how vsomeip reads them.
"""

import re
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from ivc.network.values import Array, Report, Scalar, Table, Value, describe, quote

_DECIMAL = re.compile(r"[0-9]{1,10}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}")
_ANY_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,8}")
_LOOKS_HEX = re.compile(r"[0-9]{4}")

LARGEST_ID = 0xFFFF


def table(value: Value, report: Report) -> Table | None:
    """A JSON object or TOML table."""
    if isinstance(value, Table):
        return value
    report.error(value.place, "bad-type", describe(value), "an object", "write { ... } here")
    return None


def tables(value: Value | None, report: Report) -> tuple[Table, ...]:
    """The objects of a list; a missing list is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, Array):
        report.error(
            value.place, "bad-type", describe(value), "a list of objects", "write [ {...} ] here"
        )
        return ()
    found = (table(item, report) for item in value.items)
    return tuple(item for item in found if item is not None)


def text(value: Value, report: Report, expected: str = "a string") -> str | None:
    """Any scalar, as it was written."""
    if isinstance(value, Scalar):
        return value.text
    report.error(value.place, "bad-type", describe(value), expected, "write one value here")
    return None


def identifier(value: Value, report: Report, largest: int = LARGEST_ID) -> int | None:
    """A service, instance, event or eventgroup id: decimal, or hex with a lower-case `0x`."""
    expected = f"an id from 0 to 0x{largest:x}, decimal or 0x hex"
    written = text(value, report, expected)
    if written is None:
        return None
    number = _number(written)
    if number is not None and number <= largest:
        if _LOOKS_HEX.fullmatch(written) and isinstance(value, Scalar) and not value.literal:
            _warn_decimal(value, number, report)
        return number
    fix = f"write an id of at most 0x{largest:x}"
    if number is None and _ANY_HEX.fullmatch(written):
        fix = f'hex needs a lower-case 0x: write "0x{int(written, 16):04x}"'
    report.error(value.place, "bad-id", describe(value), expected, fix)
    return None


def _number(written: str) -> int | None:
    if _HEX.fullmatch(written):
        return int(written, 16)
    return int(written) if _DECIMAL.fullmatch(written) else None


def _warn_decimal(value: Scalar, number: int, report: Report) -> None:
    report.warning(
        value.place,
        "decimal-id",
        f"{describe(value)}, which is decimal {number} = 0x{number:04x}",
        "0x in front of a hex id",
        f'write "0x{value.text}" if you mean hex, "0x{number:04x}" if you mean decimal',
    )


def port(value: Value, report: Report) -> int | None:
    """A UDP or TCP port from 1 to 65535, decimal only."""
    expected = "a decimal port from 1 to 65535"
    written = text(value, report, expected)
    if written is None:
        return None
    if _DECIMAL.fullmatch(written) and 1 <= int(written) <= 0xFFFF:
        return int(written)
    if _HEX.fullmatch(written.lower()) and 1 <= int(written, 16) <= 0xFFFF:
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
    length = number(value, report, "a prefix length", 32)
    return None if length is None else IPv4Address((0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF)


def number(value: Value, report: Report, what: str, largest: int) -> int | None:
    """A decimal number from 0 to `largest`."""
    expected = f"{what}, a decimal number from 0 to {largest}"
    written = text(value, report, expected)
    if written is None:
        return None
    if _DECIMAL.fullmatch(written) and int(written) <= largest:
        return int(written)
    report.error(value.place, "bad-number", describe(value), expected, "write a number in range")
    return None


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


def warn_unknown(found: Table, known: frozenset[str], what: str, report: Report) -> None:
    """A warning for each key that is not one of `known`."""
    for key, value in found.items.items():
        if key in known:
            continue
        close = get_close_matches(key, known, 1)
        report.warning(
            value.place,
            "unknown-key",
            f"the key {quote(key)}",
            f"a key of {what}",
            f'write "{close[0]}"?' if close else "remove it, or check its spelling; it is ignored",
        )
