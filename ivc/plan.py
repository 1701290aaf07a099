# SPDX-License-Identifier: Apache-2.0
"""The plan: everything that follows from network and mapping, before anything is touched.

A plan is a frozen value: no I/O, no clock, no identity. Equal input gives an equal plan and the
same bytes of JSON. A file written for a client names no services it uses, so every pair of nodes
inside is planned; the rings themselves are made when somebody sends.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from itertools import combinations

from ivc import planview
from ivc.errors import PlanError
from ivc.network.limits import Share
from ivc.network.mapping import Mapping, NodeMapping, Path, Promote, Rings
from ivc.network.model import (
    Domain,
    Endpoint,
    External,
    Network,
    Node,
    Protocol,
    ServiceInstance,
    XenDomain,
)
from ivc.plan_guests import PlannedGuest, plan_guest
from ivc.plan_guests import Rings as GuestRings
from ivc.reasons import Reason

__all__ = [
    "Decision",
    "MatchEntry",
    "MatchKind",
    "Path",
    "Plan",
    "PlannedEndpoint",
    "PlannedGroup",
    "PlannedNode",
    "PlannedPair",
    "build_plan",
]

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Decision:
    """How datagrams from one endpoint to another travel, and why.

    `order` is log2 of the bytes of records of the ring; 0 where there is no ring.
    """

    path: Path
    reason: Reason
    order: int = 0


class MatchKind(IntEnum):
    """Kinds of match table entries (enum ivc_match_kind in core/pages.h)."""

    NODE = 1
    GROUP = 2
    EXTERNAL = 3
    STREAM = 4


@dataclass(frozen=True, slots=True)
class MatchEntry:
    """One entry of the match table; `domain` stands for the network namespace to look up.

    `port` is set for groups and streams only, `node` and `domain` for nodes inside only.
    """

    kind: MatchKind
    address: IPv4Address
    port: int = 0
    node: int = 0
    domain: Domain | None = None
    eager: bool = False


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node with its number (from 1, by name). `ring` overrides the order of its rings.

    `limits` is what a Xen guest's kernel has for rings.
    """

    id: int
    name: str
    address: IPv4Address
    domain: Domain
    ring: int | None = None
    limits: Share | None = None

    @property
    def inside(self) -> bool:
        """Whether rings can reach the node."""
        return not isinstance(self.domain, External)


@dataclass(frozen=True, slots=True)
class PlannedEndpoint:
    """A configured SOME/IP endpoint: service discovery (`is_sd`), or that of `services`."""

    endpoint: Endpoint
    node: str | None
    is_sd: bool
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A multicast group: of service discovery (`is_sd`), or of eventgroups of `services`."""

    endpoint: Endpoint
    is_sd: bool
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedPair:
    """Two nodes inside and what may lie between them.

    `flows` and `memory` (bytes) are the worst case for one client socket for each service:
    service discovery by group and unicast both ways, each eventgroup's multicast, and requests
    and answers of each UDP endpoint.
    """

    a: str
    b: str
    path: Path
    reason: Reason
    services: tuple[str, ...]
    sd_order: int
    order: int
    flows: int
    memory: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be built. All members are sorted; see `build_plan`."""

    path: Path
    rings: Rings
    nodes: tuple[PlannedNode, ...]
    services: tuple[ServiceInstance, ...]
    endpoints: tuple[PlannedEndpoint, ...]
    groups: tuple[PlannedGroup, ...]
    pairs: tuple[PlannedPair, ...]
    guests: tuple[PlannedGuest, ...] = ()
    promote: Promote = Promote.NEVER
    # Look-up tables made from the members above.
    _by_address: Map[IPv4Address, PlannedNode] = field(init=False, repr=False, compare=False)
    _known: Map[Endpoint, bool] = field(init=False, repr=False, compare=False)
    _group: Map[Endpoint, bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def index(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        index("_by_address", {node.address: node for node in self.nodes})
        index("_known", {known.endpoint: known.is_sd for known in self.endpoints})
        index("_group", {group.endpoint: group.is_sd for group in self.groups})

    def decide(self, source: Endpoint, destination: Endpoint) -> Decision:
        """The path of datagrams from `source` (a real address, not 0.0.0.0) to `destination`.

        `destination` may be a multicast group. Between two nodes the same answer holds for the way
        back.
        """
        if Protocol.TCP in {source.protocol, destination.protocol}:
            return self._decide_stream(source, destination)
        return self._decide_datagram(source, destination)

    def _decide_stream(self, source: Endpoint, destination: Endpoint) -> Decision:
        """As for datagrams, but for what is not carried, or not so, for TCP."""
        if self.promote is Promote.NEVER:
            return _network(Reason.NOT_UDP)
        decision = self._decide_datagram(source, destination)
        return _network(Reason.STREAM_RELAY) if decision.path is Path.RELAY else decision

    def _decide_datagram(self, source: Endpoint, destination: Endpoint) -> Decision:
        sender = self._by_address.get(source.address)
        if sender is None:
            return _network(Reason.NO_NODE)
        if not sender.inside:
            return _network(Reason.EXTERNAL)
        if destination in self._group:
            return self._by_rule((sender,), self._group[destination])
        return self._decide_unicast(sender, source, destination)

    def _decide_unicast(
        self, sender: PlannedNode, source: Endpoint, destination: Endpoint
    ) -> Decision:
        receiver = self._by_address.get(destination.address)
        if destination.address.is_multicast or destination.address == _BROADCAST:
            return _network(Reason.NOT_PLANNED)
        if receiver is sender or (receiver is None and destination.address.is_loopback):
            return _network(Reason.SAME_NODE)
        if receiver is None or not receiver.inside:
            return _network(Reason.EXTERNAL)
        kinds = [self._known[end] for end in (source, destination) if end in self._known]
        if not kinds:
            return _network(Reason.NOT_PLANNED)
        return self._by_rule((sender, receiver), all(kinds))

    def _by_rule(self, ends: Iterable[PlannedNode], is_sd: bool) -> Decision:
        order = self.rings.sd if is_sd else _order(self.rings, ends)
        return _RULED.get(self.path) or Decision(self.path, Reason.NONE, order)

    def match_entries(self) -> tuple[MatchEntry, ...]:
        """What the match table (core/pages.h) holds, but for the network namespaces' inodes."""
        nodes = [_match_node(node) for node in self.nodes]
        outside = {known.endpoint.address for known in self.endpoints if known.node is None}
        strangers = [MatchEntry(MatchKind.EXTERNAL, address) for address in sorted(outside)]
        groups = [
            MatchEntry(MatchKind.GROUP, group.endpoint.address, group.endpoint.port)
            for group in self.groups
        ]
        return (*nodes, *groups, *strangers, *self._match_streams())

    def _match_streams(self) -> Iterable[MatchEntry]:
        """TCP endpoints that may go over rings; without them no wrapper touches a TCP socket."""
        eager = self.promote is Promote.EAGER
        for known in self.endpoints:
            end, node = known.endpoint, self._by_address.get(known.endpoint.address)
            tcp = end.protocol is Protocol.TCP and self.promote is not Promote.NEVER
            if tcp and node is not None and node.inside and self.path is Path.DIRECT:
                yield MatchEntry(MatchKind.STREAM, end.address, end.port, eager=eager)

    def to_json(self) -> str:
        """The plan as JSON text: same plan, same bytes."""
        return planview.to_json(self)

    def render_table(self) -> str:
        """The plan as tables for people."""
        return planview.render_table(self)


_BROADCAST = IPv4Address("255.255.255.255")

_RULED = {
    Path.NETWORK: Decision(Path.NETWORK, Reason.RULE),
    Path.DENIED: Decision(Path.DENIED, Reason.DENIED),
}


def _network(reason: Reason) -> Decision:
    return Decision(Path.NETWORK, reason)


def _order(rings: Rings, ends: Iterable[PlannedNode]) -> int:
    """The larger of what the two nodes ask for, or else the event class."""
    return max((node.ring for node in ends if node.ring is not None), default=rings.event)


def _match_node(node: PlannedNode) -> MatchEntry:
    if node.inside:
        return MatchEntry(MatchKind.NODE, node.address, 0, node.id, node.domain)
    return MatchEntry(MatchKind.EXTERNAL, node.address)


# ---- building ---------------------------------------------------------------------------------


def build_plan(network: Network, mapping: Mapping) -> Plan:
    """Plan `network` as `mapping` says. Raises `PlanError` if a node is not mapped."""
    nodes = tuple(
        _planned_node(number, node, mapping)
        for number, node in enumerate(sorted(network.nodes, key=lambda node: node.name), start=1)
    )
    return Plan(
        path=mapping.path,
        rings=mapping.rings,
        nodes=nodes,
        services=network.services,
        endpoints=_endpoints(network),
        groups=_groups(network),
        pairs=_pairs(nodes, network, mapping),
        guests=_guests(nodes, network, mapping),
        promote=_promotion(mapping),
    )


def _promotion(mapping: Mapping) -> Promote:
    """What the mapping says of TCP; else only where its rings have been tried: on Linux hosts."""
    if mapping.promote is not None:
        return mapping.promote
    on_xen = any(isinstance(node.domain, XenDomain) for node in mapping.nodes)
    return Promote.NEVER if on_xen else Promote.LAZY


def _planned_node(number: int, node: Node, mapping: Mapping) -> PlannedNode:
    entry: NodeMapping | None = mapping.node(node.name)
    if entry is None:
        raise PlanError(f"node {node.name} is not in the mapping")
    return PlannedNode(number, node.name, node.address, entry.domain, entry.ring, entry.limits)


def _sd_groups(network: Network) -> set[Endpoint]:
    return {node.sd.group for node in network.nodes if node.sd is not None and node.sd.enabled}


def _sd_ports(node: Node, network: Network) -> set[int]:
    """A node nobody describes may use any SD port the others use."""
    if node.sd is not None:
        return {node.sd.port} if node.sd.enabled else set()
    return {group.port for group in _sd_groups(network)}


def _endpoints(network: Network) -> tuple[PlannedEndpoint, ...]:
    sd = {
        Endpoint(node.address, port): node.name
        for node in network.nodes
        for port in _sd_ports(node, network)
    }
    users: dict[tuple[Endpoint, str | None], list[str]] = defaultdict(list)
    for service in network.services:
        for endpoint in service.endpoints:
            if endpoint not in sd:
                users[endpoint, service.node].append(str(service))
    planned = [PlannedEndpoint(endpoint, name, True) for endpoint, name in sd.items()]
    planned += [
        PlannedEndpoint(endpoint, node, False, tuple(sorted(set(services))))
        for (endpoint, node), services in users.items()
    ]
    return tuple(sorted(planned, key=lambda known: known.endpoint))


def _groups(network: Network) -> tuple[PlannedGroup, ...]:
    sd = _sd_groups(network)
    users: dict[Endpoint, set[str]] = defaultdict(set)
    for service in network.services:
        for group in service.eventgroups:
            if group.multicast is not None and group.multicast not in sd:
                users[group.multicast].add(str(service))
    planned = [PlannedGroup(endpoint, True) for endpoint in sd]
    planned += [PlannedGroup(group, False, tuple(sorted(who))) for group, who in users.items()]
    return tuple(sorted(planned, key=lambda group: group.endpoint))


@dataclass(slots=True)
class _Load:
    """What one node adds to each of its pairs."""

    services: list[str] = field(default_factory=list)
    udp: set[Endpoint] = field(default_factory=set)
    groups: set[Endpoint] = field(default_factory=set)
    has_sd: bool = False


def _loads(network: Network) -> dict[str, _Load]:
    loads = {node.name: _Load(has_sd=bool(_sd_ports(node, network))) for node in network.nodes}
    for service in network.services:
        if service.node is None:
            continue
        load = loads[service.node]
        load.services.append(f"{service}@{service.node}")
        load.udp.update(end for end in service.endpoints if end.protocol is Protocol.UDP)
        load.groups.update(
            group.multicast for group in service.eventgroups if group.multicast is not None
        )
    return loads


def _pairs(
    nodes: Iterable[PlannedNode], network: Network, mapping: Mapping
) -> tuple[PlannedPair, ...]:
    loads = _loads(network)
    inside = [node for node in nodes if node.inside]
    return tuple(_pair(a, b, loads, mapping) for a, b in combinations(inside, 2))


def _pair(a: PlannedNode, b: PlannedNode, loads: Map[str, _Load], mapping: Mapping) -> PlannedPair:
    one, other = loads[a.name], loads[b.name]
    order = _order(mapping.rings, (a, b))
    ruled = _RULED.get(mapping.path)
    sd_flows = 4 if one.has_sd and other.has_sd else 0
    flows = 2 * len(one.udp | other.udp) + len(one.groups) + len(other.groups)
    hops = 0 if ruled else 2 if mapping.path is Path.RELAY else 1
    memory = sd_flows * _flow_bytes(mapping.rings.sd) + flows * _flow_bytes(order)
    return PlannedPair(
        a=a.name,
        b=b.name,
        path=mapping.path,
        reason=ruled.reason if ruled else Reason.NONE,
        services=(*one.services, *other.services),
        sd_order=mapping.rings.sd,
        order=order,
        flows=0 if ruled else sd_flows + flows,
        memory=hops * memory,
    )


def _guests(
    nodes: Iterable[PlannedNode], network: Network, mapping: Mapping
) -> tuple[PlannedGuest, ...]:
    if mapping.path in _RULED:
        return ()
    loads = _loads(network)
    inside = [node for node in nodes if node.inside]
    members: dict[str, list[PlannedNode]] = defaultdict(list)
    for node in inside:
        if node.limits is not None:
            members[str(node.domain)].append(node)
    return tuple(
        _guest(domain, here, inside, loads, mapping) for domain, here in sorted(members.items())
    )


def _guest(
    domain: str,
    here: Sequence[PlannedNode],
    inside: Sequence[PlannedNode],
    loads: Map[str, _Load],
    mapping: Mapping,
) -> PlannedGuest:
    """The worst case, as for a pair: one client socket for each service of somebody else."""
    sd = sending = receiving = 0
    order = mapping.rings.event
    sockets: dict[str, int] = {}
    for node in here:
        own = loads[node.name]
        sockets[node.name] = len(own.udp) + (2 if own.has_sd else 0)
        for other in inside:
            if other is not node:
                theirs = loads[other.name]
                sd += 2 if own.has_sd and theirs.has_sd else 0
                sending += len(own.udp | theirs.udp) + len(own.groups)
                receiving += len(own.udp | theirs.udp) + len(theirs.groups)
                sockets[node.name] += len(theirs.udp) + len(theirs.groups)
                order = max(order, _order(mapping.rings, (node, other)))
    classes = {
        "sd": GuestRings(mapping.rings.sd, sd, sd),
        "event": GuestRings(order, sending, receiving),
    }
    assert here[0].limits is not None
    return plan_guest(domain, sockets, here[0].limits, classes)


def _flow_bytes(order: int) -> int:
    """A flow's two regions (core/layout.h): control page and records, and a control page."""
    return _PAGE + (1 << order) + _PAGE
