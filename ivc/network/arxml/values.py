# SPDX-License-Identifier: Apache-2.0
"""Values of elements: each function returns the value, or None after noting what is wrong.

Unlike in vsomeip JSON a number may be decimal, `0x` hex, `0b` binary or, with a leading zero,
octal (AUTOSAR type PositiveInteger).
"""

import re
from ipaddress import IPv4Address
from typing import Final

from ivc.network import fields
from ivc.network.arxml.element import Element
from ivc.network.values import Report, Scalar, quote

_INTEGER: Final = re.compile(
    r"\+?(?:0[xX](?P<hex>[0-9a-fA-F]{1,16})|0[bB](?P<bin>[01]{1,64})|(?P<oct>0[0-7]{0,22})"
    r"|(?P<dec>[1-9][0-9]{0,19}))"
)
_BASES: Final = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}


def parse(text: str) -> int | None:
    """The number `text` stands for; None if it is none."""
    match = _INTEGER.fullmatch(text)
    if match is None or match.lastgroup is None:
        return None
    return int(match[match.lastgroup], _BASES[match.lastgroup])


def leaf(element: Element, tag: str, report: Report) -> Element | None:
    """The child that has a value; a second one with another value (of another file) is noted."""
    found = list(element.all(tag))
    for other in found[1:]:
        if other.text != found[0].text:
            report.warning(
                other.place,
                "second-definition",
                f"{tag} {quote(other.text)}",
                f"{quote(found[0].text)}, as in {found[0].file}:{found[0].line}",
                "make the files agree; the first one counts",
            )
    return found[0] if found else None


def required(element: Element, tag: str, report: Report) -> Element | None:
    """A child that must be there."""
    found = leaf(element, tag, report)
    if found is None:
        report.error(
            element.place, "missing", f"{element.tag} without {tag}", f"one {tag}", f"add <{tag}>"
        )
    return found


def number(element: Element | None, report: Report, largest: int, least: int = 0) -> int | None:
    """A number from `least` to `largest`."""
    if element is None:
        return None
    value = parse(element.text)
    if value is not None and least <= value <= largest:
        return value
    report.error(
        element.place,
        "bad-number",
        f"{element.tag} {quote(element.text)}",
        f"a number from {least} to {largest} (0x{largest:x}), decimal or 0x hex",
        "write a number in range",
    )
    return None


def identifier(element: Element | None, report: Report) -> int | None:
    """A service, instance, event or eventgroup id."""
    return number(element, report, fields.LARGEST_ID)


def port(element: Element | None, report: Report) -> int | None:
    """A UDP or TCP port."""
    return number(element, report, 0xFFFF, least=1)


def address(element: Element, report: Report) -> IPv4Address | None:
    """An IPv4 address, unicast or multicast."""
    return fields.address(scalar(element), report)


def scalar(element: Element) -> Scalar:
    """The text of a leaf as the readers of `ivc.network.fields` take it."""
    return Scalar(element.text, literal=False, place=element.place)
