# SPDX-License-Identifier: Apache-2.0
"""What a plan takes of the kernel of each Xen guest, and what of it does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from ivc.network import limits
from ivc.network.limits import Share


@dataclass(frozen=True, slots=True)
class Rings:
    """Ends of rings of one class in one guest: how many send, how many receive."""

    order: int
    sending: int
    receiving: int

    def need(self, order: int) -> Share:
        """What they take with rings of that order."""
        return limits.sender(order) * self.sending + limits.RECEIVER * self.receiving


@dataclass(frozen=True, slots=True)
class PlannedGuest:
    """One guest, with everything its nodes may come to use at once.

    `need` is with rings as large as asked for; `orders` are what they are made with where that is
    more than there is (None: some are refused even when smallest).
    """

    domain: str
    nodes: tuple[str, ...]
    limits: Share
    need: Share
    asked: tuple[tuple[str, int], ...]
    orders: tuple[tuple[str, int | None], ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is made smaller, and what does not fit, with the figure."""
        lines = []
        for (name, asked), (_, made) in zip(self.asked, self.orders, strict=True):
            if made is None:
                lines.append(f"{name} rings do not all fit: {self._figure()}")
            elif made < asked:
                lines.append(
                    f"{name} rings are made smaller, {1 << made} bytes instead of {1 << asked}: "
                    f"{self._figure()}"
                )
        return tuple(lines)

    def _figure(self) -> str:
        return (
            f"{self.need.pages} of {self.limits.pages} pages, "
            f"{self.need.ports} of {self.limits.ports} ports"
        )


def plan_guest(
    domain: str, nodes: Mapping[str, int], has: Share, classes: Mapping[str, Rings]
) -> PlannedGuest:
    """`nodes` are its nodes and the sockets of each; one process a node is reckoned with.

    The classes are made to fit in the order given, the first keeps its size longest.
    """
    fixed = limits.PROCESS * len(nodes) + limits.SOCKET * sum(nodes.values())
    orders: dict[str, int | None] = {name: rings.order for name, rings in classes.items()}
    for name, rings in reversed(list(classes.items())):
        free = has - fixed - limits.RECEIVER * rings.receiving
        for other, others in classes.items():
            if other != name:
                free -= others.need(orders[other] or limits.ORDER_LEAST)
        orders[name] = limits.fitting(rings.order, [free], rings.sending)
    need = fixed
    for rings in classes.values():
        need += rings.need(rings.order)
    asked = tuple((name, rings.order) for name, rings in classes.items())
    return PlannedGuest(domain, tuple(nodes), has, need, asked, tuple(orders.items()))
