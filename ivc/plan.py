# SPDX-License-Identifier: Apache-2.0
"""The plan: everything that follows from network and mapping, before anything is touched.

A plan is a frozen value: no I/O, no clock, no identity. Equal input gives an equal plan and the
same bytes of JSON. A file written for a client names no services it uses, so every pair of nodes
inside is planned; the rings themselves are made when somebody sends.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
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
from ivc.network.rules import Action, CopyTo, Rule
from ivc.network.ways import (
    SD,
    Offers,
    Way,
    candidates,
    concerned,
    first_match,
    may_answer,
    may_deny,
    may_match,
    outlook,
    sd_endpoints,
    sd_groups,
    sd_ports,
)
from ivc.plan_guests import PlannedGuest, plan_guest
from ivc.plan_guests import Rings as GuestRings
from ivc.reasons import Reason
from ivc.someip import Header, ReturnCode

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
    "PlannedWay",
    "build_plan",
]

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Decision:
    """How datagrams from one endpoint to another travel, and why.

    A path that is denied for datagrams is one to the controller, which drops them; connections
    are left to the network. `order` is log2 of the bytes of records of the ring; 0 where there is
    no ring.
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

    `port` is set for groups and streams only, `node` and `domain` for nodes inside only. A stream
    at port 0 is any connection from its address to itself.
    """

    kind: MatchKind
    address: IPv4Address
    port: int = 0
    node: int = 0
    domain: Domain | None = None
    eager: bool = False
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node with its number (from 1, by name). `ring` overrides the order of its rings.

    `limits` is what a Xen guest's kernel has for rings; `loopback` says that what it sends itself
    goes over rings too.
    """

    id: int
    name: str
    address: IPv4Address
    domain: Domain
    ring: int | None = None
    limits: Share | None = None
    loopback: bool = False

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

    `path` is the one of all their flows, or the mapping's default where rules make them differ.
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
class PlannedWay:
    """One way between two nodes inside, and the numbers of the rules that have a say in it.

    `services` are those at either end, in the words of a plan.
    """

    source: str
    destination: str
    protocol: Protocol
    services: tuple[str, ...]
    path: Path
    reason: Reason
    rules: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be built. All members are sorted; see `build_plan`.

    `ways` are those `rules` have a say in; all others go by `path`.
    """

    path: Path
    rings: Rings
    nodes: tuple[PlannedNode, ...]
    services: tuple[ServiceInstance, ...]
    endpoints: tuple[PlannedEndpoint, ...]
    groups: tuple[PlannedGroup, ...]
    pairs: tuple[PlannedPair, ...]
    guests: tuple[PlannedGuest, ...] = ()
    promote: Promote = Promote.NEVER
    rules: tuple[Rule, ...] = ()
    ways: tuple[PlannedWay, ...] = ()
    # Not planned, but direct flows that faults are about are relayed.
    faults: tuple[Rule, ...] = field(default=(), compare=False)
    # Look-up tables made from the members above.
    _by_address: Map[IPv4Address, PlannedNode] = field(init=False, repr=False, compare=False)
    _known: Map[Endpoint, bool] = field(init=False, repr=False, compare=False)
    _group: Map[Endpoint, bool] = field(init=False, repr=False, compare=False)
    _offers: Offers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def index(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        index("_by_address", {node.address: node for node in self.nodes})
        index("_known", {known.endpoint: known.is_sd for known in self.endpoints})
        index("_group", {group.endpoint: group.is_sd for group in self.groups})
        discovery = {end for known in (self._known, self._group) for end in known if known[end]}
        index("_offers", Offers(self.services, discovery))

    def decide(
        self, source: Endpoint, destination: Endpoint, member: IPv4Address | None = None
    ) -> Decision:
        """The path of datagrams from `source` (a real address, not 0.0.0.0) to `destination`.

        `destination` may be a multicast group, and `member` a node that receives it; without one
        the answer is of the member that is nearest to having rings. The answer for a connection
        holds for both ways, that for datagrams for one.
        """
        if Protocol.TCP in {source.protocol, destination.protocol}:
            return self._decide_stream(source, destination)
        return self._decide_datagram(source, destination, member)

    def way(
        self, source: Endpoint, destination: Endpoint, member: IPv4Address | None = None
    ) -> Way | None:
        """What rules know of a flow; None if it is not between two nodes inside."""
        sender = self._by_address.get(source.address)
        receiver = self._by_address.get(member or destination.address)
        if sender is None or receiver is None or not (sender.inside and receiver.inside):
            return None
        return self._offers.way((sender.name, receiver.name), source, destination)

    def judge(
        self, way: Way | None, header: Header | None
    ) -> tuple[Action, ReturnCode | CopyTo | None]:
        """What becomes of a message of a flow the relay has; None: of what is no message.

        And what it is to be answered with if it is denied, or where its copy goes.
        """
        rule = first_match(self.rules, way, header) if way is not None else None
        if rule is not None:
            return rule.action, rule.copy_to if rule.action is Action.MIRROR else rule.answer
        return Action.DENY if self.path is Path.DENIED else Action(self.path.value), None

    def answers(self, source: Endpoint, destination: Endpoint) -> bool:
        """Whether requests from `source` to `destination` may be denied with an answer."""
        way = self.way(source, destination)
        return way is not None and may_answer(self.rules, way)

    def may_deny(self, way: Way | None) -> bool:
        """Whether messages of a flow the relay has may be denied."""
        return way is not None and may_deny(self.rules, self.path, way)

    def _decide_stream(self, source: Endpoint, destination: Endpoint) -> Decision:
        """As for datagrams, but for what is not carried, or not so, for TCP."""
        if self.promote is Promote.NEVER:
            return _network(Reason.NOT_UDP)
        ways = ((source, destination), (destination, source))
        found = [self._decide_datagram(*way, None) for way in ways]
        # An end that is no node's, or outside, tells more as the one that sends.
        off = next((one for one in found if not one.order), None)
        if off is not None:
            return off
        nodes = [self._by_address[end.address] for end in ways[0]]
        guest = any(isinstance(node.domain, XenDomain) for node in nodes)
        # A guest's pages are scarce: there rings are as large as for datagrams.
        order = _order(self.rings.event if guest else self.rings.stream, nodes)
        return _stream_decision({one.path for one in found}, order)

    def _decide_datagram(
        self, source: Endpoint, destination: Endpoint, member: IPv4Address | None
    ) -> Decision:
        sender = self._by_address.get(source.address)
        if sender is None:
            return _network(Reason.NO_NODE)
        if not sender.inside:
            return _network(Reason.EXTERNAL)
        if destination in self._group:
            return self._decide_group(sender, source, destination, member)
        return self._decide_unicast(sender, source, destination)

    def _decide_group(
        self,
        sender: PlannedNode,
        source: Endpoint,
        group: Endpoint,
        member: IPv4Address | None,
    ) -> Decision:
        members = [member] if member else [node.address for node in self.nodes if node.inside]
        ways = [self.way(source, group, each) for each in members]
        paths = {self._path(way) for way in ways} or {self.path}
        best = next(path for path in _NEAREST if path in paths)
        return self._on(best, (sender,), self._group[group])

    def _decide_unicast(
        self, sender: PlannedNode, source: Endpoint, destination: Endpoint
    ) -> Decision:
        receiver = self._by_address.get(destination.address)
        if destination.address.is_multicast or destination.address == _BROADCAST:
            return _network(Reason.NOT_PLANNED)
        if receiver is sender:
            return self._decide_loopback(sender)
        if receiver is None and destination.address.is_loopback:
            return _network(Reason.SAME_NODE)
        if receiver is None or not receiver.inside:
            return _network(Reason.EXTERNAL)
        kinds = [self._known[end] for end in (source, destination) if end in self._known]
        if not kinds:
            return _network(Reason.NOT_PLANNED)
        path = self._path(self.way(source, destination))
        return self._on(path, (sender, receiver), all(kinds))

    def _decide_loopback(self, node: PlannedNode) -> Decision:
        """Between programs of one node. No rule is about that, and no relay looks inside."""
        if not node.loopback:
            return _network(Reason.SAME_NODE)
        path = Path.NETWORK if self.path is Path.NETWORK else Path.DIRECT
        return self._on(path, (node,), is_sd=False)

    def _path(self, way: Way | None) -> Path:
        if way is None:
            return self.path
        path = outlook(self.rules, self.path, way)
        is_faulty = any(may_match(fault, way) for fault in self.faults)  # of UDP, all of them
        return Path.RELAY if is_faulty and path is Path.DIRECT else path

    def _on(self, path: Path, ends: Iterable[PlannedNode], is_sd: bool) -> Decision:
        if path is Path.NETWORK:
            return _network(Reason.RULE)
        order = self.rings.sd if is_sd else _order(self.rings.event, ends)
        return Decision(path, _REASONS[path], order)

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
        always = self.promote is Promote.EAGER
        for one in self.nodes:
            own = Endpoint(one.address, 0, Protocol.TCP)
            if one.loopback and self._decide_stream(own, own).path is Path.DIRECT:
                yield MatchEntry(MatchKind.STREAM, one.address, eager=always)
        for known in self.endpoints:
            end, node = known.endpoint, self._by_address.get(known.endpoint.address)
            tcp = end.protocol is Protocol.TCP and self.promote is not Promote.NEVER
            paths = self._paths_to(end) if tcp and node is not None and node.inside else set()
            if paths:
                # What a relay is to look at it has to have from the first byte on.
                eager = always or paths != {Path.DIRECT}
                yield MatchEntry(MatchKind.STREAM, end.address, end.port, eager=eager)

    def _paths_to(self, end: Endpoint) -> set[Path]:
        """How connections of others to an endpoint go, of those on rings."""
        clients = (Endpoint(node.address, 0, Protocol.TCP) for node in self.nodes if node.inside)
        found = (
            self._decide_stream(client, end) for client in clients if client.address != end.address
        )
        return {decision.path for decision in found if decision.order}

    def to_json(self) -> str:
        """The plan as JSON text: same plan, same bytes."""
        return planview.to_json(self)

    def render_table(self) -> str:
        """The plan as tables for people."""
        return planview.render_table(self)


_BROADCAST = IPv4Address("255.255.255.255")

_REASONS = {
    Path.DIRECT: Reason.NONE,
    Path.RELAY: Reason.NONE,
    Path.NETWORK: Reason.RULE,
    Path.DENIED: Reason.DENIED,
}

_NEAREST = (Path.DIRECT, Path.RELAY, Path.DENIED, Path.NETWORK)
"""Of several members of a group, whose path says whether there are rings at all."""

_HOPS = {Path.NETWORK: 0, Path.DIRECT: 1, Path.RELAY: 2, Path.DENIED: 2}


def _network(reason: Reason) -> Decision:
    return Decision(Path.NETWORK, reason)


def _stream_decision(paths: Set[Path], order: int = 0) -> Decision:
    """What comes of the paths of its two ways for a connection, which has one."""
    path = next(iter(paths)) if len(paths) == 1 else Path.RELAY
    return Decision(path, _REASONS[path], order)


def _order(default: int, ends: Iterable[PlannedNode]) -> int:
    """The larger of what the two nodes ask for, or else the default."""
    return max((node.ring for node in ends if node.ring is not None), default=default)


def _match_node(node: PlannedNode) -> MatchEntry:
    if node.inside:
        return MatchEntry(
            MatchKind.NODE, node.address, 0, node.id, node.domain, loopback=node.loopback
        )
    return MatchEntry(MatchKind.EXTERNAL, node.address)


# ---- building ---------------------------------------------------------------------------------


def build_plan(network: Network, mapping: Mapping, path: Path | None = None) -> Plan:
    """Plan `network` as `mapping` says, but by `path` instead of its default, if one is given.

    Raises `PlanError` if a node is not mapped.
    """
    if path is not None:
        mapping = replace(mapping, path=path)
    nodes = tuple(
        _planned_node(number, node, mapping)
        for number, node in enumerate(sorted(network.nodes, key=lambda node: node.name), start=1)
    )
    offers = Offers(network.services, sd_endpoints(network))
    return Plan(
        path=mapping.path,
        rings=mapping.rings,
        nodes=nodes,
        services=network.services,
        endpoints=_endpoints(network),
        groups=_groups(network),
        pairs=_pairs(nodes, network, mapping, offers),
        guests=_guests(nodes, network, mapping),
        promote=mapping.promotion,
        rules=mapping.rules,
        ways=_ways(nodes, network, mapping, offers),
    )


def _planned_node(number: int, node: Node, mapping: Mapping) -> PlannedNode:
    entry: NodeMapping | None = mapping.node(node.name)
    if entry is None:
        raise PlanError(f"node {node.name} is not in the mapping")
    return PlannedNode(
        number,
        node.name,
        node.address,
        entry.domain,
        entry.ring,
        entry.limits,
        entry.loopback,
    )


def _endpoints(network: Network) -> tuple[PlannedEndpoint, ...]:
    sd = {
        Endpoint(node.address, port): node.name
        for node in network.nodes
        for port in sd_ports(node, network)
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
    sd = sd_groups(network)
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
    loads = {node.name: _Load(has_sd=bool(sd_ports(node, network))) for node in network.nodes}
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
    nodes: Iterable[PlannedNode], network: Network, mapping: Mapping, offers: Offers
) -> tuple[PlannedPair, ...]:
    loads = _loads(network)
    inside = [node for node in nodes if node.inside]
    return tuple(_pair(a, b, loads, offers, mapping) for a, b in combinations(inside, 2))


def _pair(
    a: PlannedNode, b: PlannedNode, loads: Map[str, _Load], offers: Offers, mapping: Mapping
) -> PlannedPair:
    one, other = loads[a.name], loads[b.name]
    order = _order(mapping.rings.event, (a, b))
    known = offers.services(a.address) | offers.services(b.address)
    rules = [rule for rule in mapping.rules if rule.service is None or rule.service in known]
    flows = Counter(
        (size, outlook(rules, mapping.path, _way(*ways, end, offers)) if rules else mapping.path)
        for ways in ((a, b), (b, a))
        for size, end in _flows(loads[ways[0].name], loads[ways[1].name], mapping.rings, order)
    )
    paths = {path for _, path in flows}
    path = paths.pop() if len(paths) == 1 else mapping.path
    return PlannedPair(
        a=a.name,
        b=b.name,
        path=path,
        reason=_REASONS[path],
        services=(*one.services, *other.services),
        sd_order=mapping.rings.sd,
        order=order,
        flows=sum(count for (_, path), count in flows.items() if _HOPS[path] > 0),
        memory=sum(
            count * _HOPS[path] * _flow_bytes(size) for (size, path), count in flows.items()
        ),
    )


def _flows(
    one: _Load, other: _Load, rings: Rings, order: int
) -> Iterable[tuple[int, Endpoint | None]]:
    """The flows one way, with the order of their rings and the end that is known: None for
    discovery, by group and unicast; the one's or the other's endpoint; the one's group."""
    if one.has_sd and other.has_sd:
        yield from [(rings.sd, None)] * 2
    for end in one.udp | other.udp:
        yield order, end
    for group in one.groups:
        yield order, group


def _way(a: PlannedNode, b: PlannedNode, end: Endpoint | None, offers: Offers) -> Way:
    names = (a.name, b.name)
    if end is None:
        return Way(*names, here=SD, there=SD)
    if end.address == a.address:
        return offers.way(names, end, Endpoint(b.address, 0))
    return offers.way(names, Endpoint(a.address, 0), end)


def _ways(
    nodes: Iterable[PlannedNode], network: Network, mapping: Mapping, offers: Offers
) -> tuple[PlannedWay, ...]:
    if not mapping.rules:
        return ()
    inside = {node.name for node in nodes if node.inside}
    ways = offers.ways([node for node in network.nodes if node.name in inside])
    found = (_planned_way(way, mapping) for way in concerned(mapping.rules, ways))
    ruled = {way for way in found if way.rules}
    return tuple(sorted(ruled, key=lambda w: (w.source, w.destination, w.protocol, w.services)))


def _planned_way(way: Way, mapping: Mapping) -> PlannedWay:
    path = outlook(mapping.rules, mapping.path, way)
    decision = Decision(path, _REASONS[path])
    if way.protocol is Protocol.TCP:
        decision = _planned_stream({path, outlook(mapping.rules, mapping.path, way.back)}, mapping)
    return PlannedWay(
        way.source,
        way.destination,
        way.protocol,
        tuple(sorted(map(_instance, way.instances))),
        decision.path,
        decision.reason,
        tuple(rule.number for rule in candidates(mapping.rules, way)),
    )


def _planned_stream(paths: Set[Path], mapping: Mapping) -> Decision:
    if mapping.promotion is Promote.NEVER:
        return _network(Reason.NOT_UDP)
    if Path.NETWORK in paths:
        return _network(Reason.RULE)
    return _stream_decision(paths)


def _instance(instance: tuple[int, int]) -> str:
    service, number = instance
    return "service discovery" if instance in SD else f"0x{service:04x}.0x{number:04x}"


def _guests(
    nodes: Iterable[PlannedNode], network: Network, mapping: Mapping
) -> tuple[PlannedGuest, ...]:
    if mapping.path is Path.NETWORK and not mapping.rules:
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
                order = max(order, _order(mapping.rings.event, (node, other)))
    classes = {
        "sd": GuestRings(mapping.rings.sd, sd, sd),
        "event": GuestRings(order, sending, receiving),
    }
    assert here[0].limits is not None
    return plan_guest(domain, sockets, here[0].limits, classes)


def _flow_bytes(order: int) -> int:
    """A flow's two regions (core/layout.h): control page and records, and a control page."""
    return _PAGE + (1 << order) + _PAGE
