# SPDX-License-Identifier: Apache-2.0
"""What a picture of a plan shows: a pure value made from the plan, whatever it is drawn with.

Text in it comes from the user's files, character by character: who draws it escapes it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from ivc.network import Endpoint, Path, Protocol, ServiceInstance, XenDomain
from ivc.plan import Decision, Plan, PlannedNode
from ivc.reasons import Reason

ORDER = (Path.DIRECT, Path.RELAY, Path.NETWORK, Path.DENIED)
"""Of paths, in legends."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node, or an address outside that is no node's but offers something; `id` is its own."""

    id: int
    name: str
    address: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A domain and the nodes in it."""

    title: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """What goes between two nodes inside by one path; `ways` says of each way what it is."""

    a: int
    b: int
    path: Path
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole. Those `outside` reach everybody by Ethernet and only so."""

    path: Path
    is_xen: bool
    boxes: tuple[Box, ...]
    outside: tuple[Member, ...]
    links: tuple[Link, ...]

    @property
    def inside(self) -> tuple[Member, ...]:
        """The nodes of all domains, in the order of the boxes."""
        return tuple(member for box in self.boxes for member in box.members)

    def by_path(self, path: Path) -> tuple[Link, ...]:
        """The links of one path."""
        return tuple(link for link in self.links if link.path is path)


def topology(plan: Plan) -> Topology:
    """The picture of a plan. Same plan, same picture."""
    services = defaultdict(list)
    for service in plan.services:
        services[service.node].append(service)
    inside = [node for node in plan.nodes if node.inside]
    boxes: dict[str, list[Member]] = defaultdict(list)
    for node in inside:
        boxes[str(node.domain)].append(_member(node, services[node.name]))
    outside = [_member(node, services[node.name]) for node in plan.nodes if not node.inside]
    return Topology(
        path=plan.path,
        is_xen=any(isinstance(node.domain, XenDomain) for node in inside),
        boxes=tuple(Box(title, tuple(members)) for title, members in boxes.items()),
        outside=(*outside, *_strangers(services[None], len(plan.nodes))),
        links=tuple(_links(plan, inside, services)),
    )


def _member(node: PlannedNode, services: Iterable[ServiceInstance]) -> Member:
    return Member(node.id, node.name, str(node.address), tuple(map(str, services)))


def _strangers(services: Iterable[ServiceInstance], nodes: int) -> Iterator[Member]:
    """Addresses that belong to no node, numbered from where the nodes end."""
    offered: dict[str, list[str]] = defaultdict(list)
    for service in services:
        for host in sorted({end.address for end in service.endpoints}):
            offered[str(host)].append(str(service))
    for number, (address, names) in enumerate(offered.items(), start=nodes + 1):
        yield Member(number, "(no node)", address, tuple(names))


# ---- links ------------------------------------------------------------------------------------

_Way = tuple[str, Endpoint, Endpoint]
"""What it is, where it starts and where it ends."""

_Services = dict[str | None, list[ServiceInstance]]


def _links(plan: Plan, inside: Iterable[PlannedNode], services: _Services) -> Iterator[Link]:
    discovery = {known.node: known.endpoint for known in plan.endpoints if known.is_sd}
    for a, b in combinations(inside, 2):
        there: list[_Way] = []
        back: list[_Way] = []
        if a.name in discovery and b.name in discovery:
            there.append(("service discovery", discovery[a.name], discovery[b.name]))
            back.append(("service discovery", discovery[b.name], discovery[a.name]))
        for own, other, out, home in ((a, b, there, back), (b, a, back, there)):
            for what, end in _offered(services[own.name]):
                client = Endpoint(other.address, 0, end.protocol)
                out.append((what, end, client))
                home.append((what, client, end))
        there += _multicast(services[a.name], a)
        back += _multicast(services[b.name], b)
        yield from _pair(plan, (a, b), there, back)


def _offered(services: Iterable[ServiceInstance]) -> Iterator[tuple[str, Endpoint]]:
    for service in services:
        for end in service.endpoints:
            yield f"{service} {end.protocol}", end


def _multicast(services: Iterable[ServiceInstance], node: PlannedNode) -> Iterator[_Way]:
    for service in services:
        groups = {group.multicast for group in service.eventgroups if group.multicast}
        udp = (end for end in service.endpoints if end.protocol is Protocol.UDP)
        source = next(udp, Endpoint(node.address, 0))
        for group in sorted(groups):
            yield f"{service} multicast", source, group


def _pair(
    plan: Plan, ends: tuple[PlannedNode, PlannedNode], there: list[_Way], back: list[_Way]
) -> Iterator[Link]:
    """One link for each path; what takes it one way only says which."""
    a, b = ends
    found: dict[tuple[str, Decision], list[str]] = defaultdict(list)
    for sender, receiver, ways in ((a, b, there), (b, a, back)):
        for what, source, destination in ways:
            member = receiver.address if destination.address.is_multicast else None
            decision = plan.decide(source, destination, member)
            found[what, decision].append(f"{sender.name} to {receiver.name}")
    for path in ORDER:
        told = tuple(
            _told(what, decision, directions)
            for (what, decision), directions in found.items()
            if decision.path is path
        )
        if told:
            yield Link(a.id, b.id, path, told)


def _told(what: str, decision: Decision, directions: list[str]) -> str:
    where = f", {directions[0]}" if len(set(directions)) == 1 else ""
    why = f" ({decision.reason.name})" if decision.reason is not Reason.NONE else ""
    return f"{what}{where}{why}"
