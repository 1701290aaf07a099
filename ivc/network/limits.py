# SPDX-License-Identifier: Apache-2.0
"""What rings take of a Xen guest's kernel: pages it grants and event channels it opens.

Both are few. A region of a ring is granted by its owner, page by page, out of what gntalloc
allows all processes of the guest; a doorbell is an event channel, and a domain has 1023 of them
for everything it does (docs/xen.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ORDER_LEAST: Final = 13
"""A ring that would not fit is made smaller down to this order, and then refused."""

ORDER_MOST: Final = 21
"""The largest ring whose references fit into one control message (IVC_MSG_MAX_WORDS)."""


@dataclass(frozen=True, slots=True)
class Share:
    """An amount of both: what is there, or what something takes."""

    pages: int = 0
    ports: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(self.pages + other.pages, self.ports + other.ports)

    def __sub__(self, other: "Share") -> "Share":
        return Share(self.pages - other.pages, self.ports - other.ports)

    def __mul__(self, times: int) -> "Share":
        return Share(self.pages * times, self.ports * times)

    def part(self, parts: int) -> "Share":
        """One of so many parts."""
        return Share(self.pages // parts, self.ports // parts)

    def holds(self, other: "Share") -> bool:
        """Whether as much as `other` is there."""
        return self.pages >= other.pages and self.ports >= other.ports


NOTHING: Final = Share()

LIMITS: Final = Share(pages=1024, ports=1023)
"""What a guest has unless the mapping says otherwise: Linux's and Xen's own defaults."""

PROCESS: Final = Share(pages=8, ports=1)
"""A control connection: regions of 3 and 1 pages, 4 pages of statistics."""

CONTROLLER_PROCESS: Final = Share(pages=4)
"""The controller's half of it: regions of 3 and 1 pages, granted by its own domain."""

SOCKET: Final = Share(ports=2)
"""A doorbell which its own process can ring, too."""

RECEIVER: Final = Share(pages=1, ports=1)
"""The receiving end of a ring."""


def sender(order: int) -> Share:
    """The sending end of a ring with 2**order bytes of records."""
    return Share(pages=1 + (1 << (order - 12)), ports=1)


def relay(order: int) -> Share:
    """What a relayed flow takes of the controller's domain: an end of either ring."""
    return RECEIVER + sender(order)


def fitting(order: int, free: Iterable[Share], count: int = 1) -> int | None:
    """The order at most `order` with which `count` sending ends fit; None if none does.

    `free` is what is left for them in every place that must hold them.
    """
    places = list(free)
    for candidate in range(min(order, ORDER_MOST), min(order, ORDER_LEAST) - 1, -1):
        if all(place.holds(sender(candidate) * count) for place in places):
            return candidate
    return None
