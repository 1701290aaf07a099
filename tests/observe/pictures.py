# SPDX-License-Identifier: Apache-2.0
"""Pictures to look at: few nodes, many, and some with names nobody should have."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address

from ivc.network import (
    Endpoint,
    External,
    Mapping,
    Network,
    Node,
    NodeMapping,
    Path,
    Promote,
    Rule,
    ServiceDiscovery,
    ServiceInstance,
    XenDomain,
)
from ivc.observe.topology import Topology, topology
from ivc.plan import build_plan

SD = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.245"), 30490))
MASK = IPv4Address("255.255.255.0")

Picture = Callable[..., Topology]


@cache
def made(
    names: tuple[str, ...],
    *rules: Rule,
    outside: tuple[str, ...] = (),
    domain: str | None = None,
    path: Path = Path.DIRECT,
) -> Topology:
    """A picture of these nodes, each with one service, in this domain or one each."""
    numbered = {name: number for number, name in enumerate((*names, *outside), start=1)}
    nodes = [Node(name, address(number), MASK, SD) for name, number in numbered.items()]
    services = [
        ServiceInstance(0x1000 + number, 1, name, (Endpoint(address(number), 30500),))
        for name, number in numbered.items()
    ]
    homes = [
        NodeMapping(name, XenDomain(name=domain or f"vm-{name}") if name in names else External())
        for name in numbered
    ]
    network = Network(tuple(sorted(nodes, key=lambda node: node.name)), tuple(services))
    mapping = replace(Mapping(tuple(homes), path), rules=rules, promote=Promote.NEVER)
    return topology(build_plan(network, mapping))


def address(number: int) -> IPv4Address:
    """Of the node of that number."""
    return IPv4Address(f"10.77.0.{number}")
