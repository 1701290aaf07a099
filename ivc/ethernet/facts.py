# SPDX-License-Identifier: Apache-2.0
"""What dom0's network is made of, as facts that hold or do not; and the marks of those we made.

A mark is an alternative name (`ip link property`) of the interface the fact is about. It lives
exactly as long as what it marks: not longer, as a file would over a reboot or a card pulled out,
and not shorter, as a file in the controller's run directory would. Whoever reloads a firewall does
not lose it, and `ip link` shows it.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_MARK: Final = "ivc"
_SEPARATOR: Final = ","  # names of the mapping cannot have it, and an alternative name no "/"
_SLASH: Final = "_"


class Kind(IntEnum):
    """Kinds of facts, in the order in which they are made; undone in the reverse order."""

    BRIDGE = 1
    """`link` is there, and is a bridge"""
    FLOOD = 2
    """the bridge `link` sends multicast to all ports (no IGMP snooping)"""
    FORWARD = 3
    """what comes in by `link` may be routed"""
    MEMBER = 4
    """`link` is a port of the bridge `value`"""
    UP = 5
    """`link` is up; a port only now, so that its frames never were dom0's"""
    ADDRESS = 6
    """`link` has the address `value` (with its subnet)"""
    ROUTE = 7
    """the subnet `value` is on `link`, without a gateway"""


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One of them; `link` is the name of an interface."""

    kind: Kind
    link: str
    value: str = ""

    def about(self, link: str) -> bool:
        """Whether the fact cannot outlive `link`."""
        return self.link == link or (self.kind is Kind.MEMBER and self.value == link)

    def __str__(self) -> str:
        return _TEXTS[self.kind].format(fact=self)


_TEXTS: Final = {
    Kind.BRIDGE: "{fact.link} is a bridge",
    Kind.FLOOD: "{fact.link} sends multicast to all ports",
    Kind.FORWARD: "{fact.link} may be routed from",
    Kind.UP: "{fact.link} is up",
    Kind.ADDRESS: "{fact.link} has address {fact.value}",
    Kind.ROUTE: "{fact.value} is reached by {fact.link}",
    Kind.MEMBER: "{fact.link} is a port of {fact.value}",
}


def mark_of(fact: Fact) -> str:
    """The alternative name of `fact.link` that says we made the fact. Names are unique."""
    value = fact.value.replace("/", _SLASH)
    return _SEPARATOR.join((_MARK, fact.kind.name.lower(), value, fact.link))


def read_mark(name: str, link: str) -> Fact | None:
    """The fact an alternative name of `link` marks; None if it is somebody else's name.

    The last part is what makes it unique: the interface's name when it was marked.
    """
    parts = name.split(_SEPARATOR)
    if len(parts) != 4 or parts[0] != _MARK or parts[1].upper() not in Kind.__members__:
        return None
    kind = Kind[parts[1].upper()]
    has_slash = kind in {Kind.ADDRESS, Kind.ROUTE}
    return Fact(kind, link, parts[2].replace(_SLASH, "/") if has_slash else parts[2])
