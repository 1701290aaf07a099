# SPDX-License-Identifier: Apache-2.0
"""What planned nodes send each other by the kernel's network: the first of each kind, as a value.

Service discovery always goes that way before rings are there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import permutations

from ivc.doctor.case import Case, Place
from ivc.network.model import Endpoint, Node


@dataclass(frozen=True, slots=True)
class Packet:
    """None: it is not known."""

    source: IPv4Address
    destination: Endpoint
    source_port: int | None = None
    comes_by: str | None = None
    goes_by: str | None = None

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}"


def received(case: Case, place: Place) -> Iterator[Packet]:
    """What comes in at a node's host, from other hosts."""
    held = place.host.holder(place.node.address)
    link = held[0].name if held is not None else None
    for other in _others(case, place):
        for port, end in _between(case, other, place.node):
            yield Packet(other.address, end, port, comes_by=link)


def sent(case: Case, place: Place) -> Iterator[Packet]:
    """What goes out."""
    held = place.host.holder(place.node.address)
    link = held[0].name if held is not None else None
    for other in _others(case, place):
        for port, end in _between(case, place.node, other):
            yield Packet(place.node.address, end, port, goes_by=link)


def passed_on(case: Case) -> Iterator[Packet]:
    """What a host between them has to let pass; what has both ends outside is none of ours."""
    for a, b in permutations(case.nodes, 2):
        ends = {a.name, b.name}
        if ends & case.inside and (case.focus is None or case.focus in ends):
            yield from (Packet(a.address, end, port) for port, end in _between(case, a, b))


def _others(case: Case, place: Place) -> Iterator[Node]:
    here = {known.node.name for known in case.places() if known.host.id == place.host.id}
    return (node for node in case.nodes if node.name not in here)


def _between(case: Case, a: Node, b: Node) -> Iterator[tuple[int | None, Endpoint]]:
    """Source port and destination of what `a` sends `b`: discovery, and requests."""
    for sender in (a.sd,) if a.sd is not None and a.sd.enabled else ():
        yield sender.port, sender.group
        if b.sd is not None and b.sd.enabled:
            yield sender.port, Endpoint(b.address, b.sd.port)
    for service in case.plan.services if case.plan is not None else ():
        if service.node == b.name:
            yield from ((None, end) for end in service.endpoints)
