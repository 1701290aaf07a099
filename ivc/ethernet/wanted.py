# SPDX-License-Identifier: Apache-2.0
"""What dom0's network shall be for the external nodes of a plan: pure, comparable."""

from dataclasses import dataclass
from ipaddress import IPv4Network

from ivc.ethernet.facts import Fact, Kind
from ivc.ethernet.rules import Table, build_table
from ivc.network.ethernet import Ethernet, distant, subnets
from ivc.network.mapping import Mapping
from ivc.network.model import LocalHost, Network
from ivc.plan import Plan


@dataclass(frozen=True, slots=True)
class Wanted:
    """Facts that shall hold, sorted, and the table of nftables; both empty: nothing is needed.

    `bridge` and `interface` are as the mapping names them.
    """

    bridge: str = ""
    interface: str = ""
    facts: tuple[Fact, ...] = ()
    rules: Table = ()


NOTHING = Wanted()


def wanted(network: Network, plan: Plan, mapping: Mapping) -> Wanted:
    """What `plan` needs of dom0; `NOTHING` without an external node or without `[ethernet]`."""
    ethernet = mapping.ethernet
    if ethernet is None or all(node.inside for node in plan.nodes):
        return NOTHING
    facts = [*_bridge(ethernet), *_own(ethernet), *_routes(ethernet, network, plan)]
    inside = [(node.name, node.address) for node in plan.nodes if node.inside]
    routes = any(fact.kind is Kind.FORWARD for fact in facts)
    router = ethernet.address.ip if ethernet.address is not None and routes else None
    rules = build_table(ethernet.interface, inside, router)
    return Wanted(ethernet.bridge, ethernet.interface, tuple(sorted(set(facts))), rules)


def _bridge(ethernet: Ethernet) -> list[Fact]:
    """Bridge and interface, and multicast for all.

    With snooping, and somebody outside who asks who is in which group, the bridge gives multicast
    only to ports that answered. Service discovery must also reach ECUs that never do.
    """
    bridge, interface = ethernet.bridge, ethernet.interface
    return [
        Fact(Kind.BRIDGE, bridge),
        Fact(Kind.FLOOD, bridge),
        Fact(Kind.MEMBER, interface, bridge),
        Fact(Kind.UP, bridge),
        Fact(Kind.UP, interface),
    ]


def _own(ethernet: Ethernet) -> list[Fact]:
    if ethernet.address is None:
        return []
    return [Fact(Kind.ADDRESS, ethernet.bridge, str(ethernet.address))]


def _routes(ethernet: Ethernet, network: Network, plan: Plan) -> list[Fact]:
    """Where nodes are in different subnets dom0 routes; it has to know where all of them are.

    A node in dom0 itself sends to groups by the bridge.
    """
    places = {node.name for node in plan.nodes if node.inside}
    inside = [node for node in network.nodes if node.name in places]
    far = distant((node for node in network.nodes if node.name not in places), inside)
    known = ethernet.address.network if ethernet.address is not None else None
    needed: list[IPv4Network] = []
    if far:
        needed += [IPv4Network(node.address) for node in far]
        needed += subnets(inside)
    needed = [net for net in needed if known is None or not net.subnet_of(known)]
    if any(node.domain == LocalHost(None) for node in plan.nodes):
        needed += [IPv4Network(group.endpoint.address) for group in plan.groups]
    facts = [Fact(Kind.ROUTE, ethernet.bridge, str(net)) for net in needed]
    return [*facts, Fact(Kind.FORWARD, ethernet.bridge)] if far else facts
