# SPDX-License-Identifier: Apache-2.0
"""Ways: what rules can know of a flow before its first message, and what they say of it.

Pure functions of rules, network and header. Which services are at an endpoint is what the
configuration says; which instance a message is for follows from that, its service and its type.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from ivc.network.mapping import Path
from ivc.network.model import Endpoint, Network, Node, Protocol, ServiceInstance
from ivc.network.rules import Action, Rule
from ivc.someip import Header, MessageType
from ivc.someip.header import SD_SERVICE

Instances = frozenset[tuple[int, int]]
"""Service instances: (service id, instance id)."""

SD: Final[Instances] = frozenset({(SD_SERVICE, 0xFFFF)})
"""What is at the endpoints and groups of service discovery."""

PATHS: Final = {
    Action.DIRECT: Path.DIRECT,
    Action.RELAY: Path.RELAY,
    Action.NETWORK: Path.NETWORK,
    Action.DENY: Path.DENIED,
    Action.AUDIT: Path.RELAY,
    Action.MIRROR: Path.RELAY,
}
_NOTHING: Final[Instances] = frozenset()
_CALLS: Final = {MessageType.REQUEST, MessageType.REQUEST_NO_RETURN}


@dataclass(frozen=True, slots=True)
class Way:
    """From one node to another: with `here`, the service instances at the sender's end, and
    `there`, those at the receiver's. A client's end has none."""

    source: str
    destination: str
    protocol: Protocol = Protocol.UDP
    here: Instances = _NOTHING
    there: Instances = _NOTHING

    @property
    def back(self) -> "Way":
        """The other way between the same ends."""
        return Way(self.destination, self.source, self.protocol, self.there, self.here)

    @property
    def instances(self) -> Instances:
        """What its messages can be about."""
        return self.here | self.there


# ---- rules and whole flows --------------------------------------------------------------------


def may_match(rule: Rule, way: Way) -> bool:
    """Whether a message that goes this way may match."""
    return (
        rule.source in {None, way.source}
        and rule.destination in {None, way.destination}
        and rule.protocol in {None, way.protocol}
        and (rule.service is None or any(_is_about(rule, each) for each in way.instances))
    )


def covers(rule: Rule, way: Way) -> bool:
    """Whether every message that goes this way matches, if one may."""
    whole = rule.service is None or all(_is_about(rule, each) for each in way.instances)
    return whole and not rule.by_message


def candidates(rules: Sequence[Rule], way: Way) -> list[Rule]:
    """The rules that can be the first to match a message that goes this way, in their order.

    Behind a service's that has everything looked into: messages of services that are not there.
    """
    found: list[Rule] = []
    for rule in rules:
        if may_match(rule, way) and not any(earlier.covers(rule) for earlier in found):
            found.append(rule)
            looks = rule.service is not None and PATHS[rule.action] is Path.RELAY
            if covers(rule, way) and not looks:
                break
    return found


def may_answer(rules: Sequence[Rule], way: Way) -> bool:
    """Whether requests that go this way may be denied with an answer."""
    some = any(rule.answer for rule in rules)
    return some and any(rule.answer for rule in candidates(rules, way))


def may_deny(rules: Sequence[Rule], default: Path, way: Way) -> bool:
    """Whether a message that goes this way may be denied."""
    return default is Path.DENIED or any(
        rule.action is Action.DENY for rule in candidates(rules, way)
    )


def concerned(rules: Sequence[Rule], ways: Iterable[Way]) -> Iterable[Way]:
    """The ways with services rules are about: few of many, where each rule names one."""
    named = {rule.service for rule in rules}
    for way in ways:
        if None in named or any(service in named for service, _ in way.instances):
            yield way


def outlook(rules: Sequence[Rule], default: Path, way: Way) -> Path:
    """The path of a whole flow: what all of its messages take, or else the relay.

    Where requests may be denied with an answer, the relay has the way back too: to give it.
    """
    path = _outlook(rules, default, way)
    return Path.RELAY if path is Path.DIRECT and may_answer(rules, way.back) else path


def _outlook(rules: Sequence[Rule], default: Path, way: Way) -> Path:
    found = candidates(rules, way)
    paths = {PATHS[rule.action] for rule in found}
    if not found or not covers(found[-1], way):
        paths.add(default)
    return paths.pop() if len(paths) == 1 else Path.RELAY


def _is_about(rule: Rule, instance: tuple[int, int]) -> bool:
    return rule.service == instance[0] and rule.instance in {None, instance[1]}


# ---- rules and messages -----------------------------------------------------------------------


def first_match(rules: Sequence[Rule], way: Way, header: Header | None) -> Rule | None:
    """The rule a message goes by. What is no SOME/IP message (None) has only nodes and protocol."""
    return next((rule for rule in rules if _matches(rule, way, header)), None)


def _matches(rule: Rule, way: Way, header: Header | None) -> bool:
    if not may_match(rule, way):
        return False
    if header is None:
        return rule.service is None and not rule.by_message
    return (
        rule.service in {None, header.service_id}
        and rule.method in {None, header.method_id}
        and rule.client in {None, header.client_id}
        and rule.type in {None, header.base_type}
        and (rule.instance is None or (rule.service, rule.instance) in _addressed(way, header))
    )


def _addressed(way: Way, header: Header) -> Instances:
    """Instances of the message's service at the end that offers it: calls go there, and answers
    and events come from there; where only one end offers it, that end's."""
    sides = (way.there, way.here) if header.base_type in _CALLS else (way.here, way.there)
    for side in sides:
        found = frozenset(each for each in side if each[0] == header.service_id)
        if found:
            return found
    return _NOTHING


# ---- which ways there are ---------------------------------------------------------------------


def sd_groups(network: Network) -> set[Endpoint]:
    """Where nodes announce their services."""
    return {node.sd.group for node in network.nodes if node.sd is not None and node.sd.enabled}


def sd_ports(node: Node, network: Network) -> set[int]:
    """A node nobody describes may use any port of service discovery the others use."""
    if node.sd is not None:
        return {node.sd.port} if node.sd.enabled else set()
    return {group.port for group in sd_groups(network)}


def sd_endpoints(network: Network) -> set[Endpoint]:
    """Endpoints and groups of service discovery."""
    ends = {
        Endpoint(node.address, port) for node in network.nodes for port in sd_ports(node, network)
    }
    return ends | sd_groups(network)


class Offers:
    """What is offered where: service instances by endpoint, and by group and node."""

    def __init__(self, services: Iterable[ServiceInstance], discovery: Iterable[Endpoint]) -> None:
        """`discovery` are the endpoints and groups of service discovery."""
        at: dict[Endpoint, Instances] = defaultdict(frozenset)
        groups: dict[tuple[Endpoint, str], Instances] = defaultdict(frozenset)
        for one in services:
            instance = frozenset({(one.service, one.instance)})
            for endpoint in one.endpoints:
                at[endpoint] |= instance
            for group in one.eventgroups:
                if group.multicast is not None and one.node is not None:
                    groups[group.multicast, one.node] |= instance
        for end in discovery:
            at[end] |= SD
        self._at: Mapping[Endpoint, Instances] = dict(at)
        self._groups: Mapping[tuple[Endpoint, str], Instances] = dict(groups)
        self._on: dict[IPv4Address, list[Endpoint]] = defaultdict(list)
        self._services: dict[IPv4Address, set[int]] = defaultdict(set)
        for end, instances in self._at.items():
            self._on[end.address].append(end)
            self._services[end.address] |= {service for service, _ in instances}

    def services(self, address: IPv4Address) -> Set[int]:
        """The ids of all services at an address."""
        return self._services.get(address, set())

    def way(self, names: tuple[str, str], source: Endpoint, destination: Endpoint) -> Way:
        """The way from one endpoint to another, which may be a group, between two nodes."""
        here = self._of(source) | self._groups.get((destination, names[0]), _NOTHING)
        return Way(*names, source.protocol, here, self._of(destination))

    def ways(self, nodes: Sequence[Node]) -> Iterable[Way]:
        """Every way between two of these nodes that a socket of a client has a part in, or
        service discovery, or a group."""
        return dict.fromkeys(
            way for a in nodes for b in nodes if a is not b for way in self._between(a, b)
        )

    def _between(self, a: Node, b: Node) -> Iterable[Way]:
        names = (a.name, b.name)
        for end in self._on.get(a.address, ()):
            yield Way(*names, end.protocol, here=self._at[end])
        for end in self._on.get(b.address, ()):
            yield Way(*names, end.protocol, there=self._at[end])
        for group, node in self._groups:
            if node == a.name:
                yield Way(*names, here=self._groups[group, node])

    def _of(self, end: Endpoint) -> Instances:
        return self._at.get(end, _NOTHING)
