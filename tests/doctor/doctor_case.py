# SPDX-License-Identifier: Apache-2.0
"""A sound case made of plain values, for judges: no root, no network, no controller."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from ivc import __version__
from ivc.doctor.case import Case
from ivc.doctor.elf import Elf
from ivc.doctor.examine import judge
from ivc.doctor.facts import (
    Controller,
    Facts,
    Host,
    KnownNode,
    Library,
    Link,
    Machine,
    Process,
    Program,
    Route,
)
from ivc.network.mapping import Mapping, NodeMapping
from ivc.network.model import (
    Domain,
    Endpoint,
    LocalHost,
    Network,
    Node,
    ServiceDiscovery,
    ServiceInstance,
)
from ivc.plan import build_plan

GROUP = Endpoint(IPv4Address("224.224.224.245"), 30490)
SUBNET = IPv4Network("10.77.0.0/24")
HERE = Elf(62, 64, "/lib64/ld-linux-x86-64.so.2")
LIBRARY = Library("/usr/lib/libivcsock.so", "", 1, HERE, True)
PROGRAM = Program("ecu", "/usr/bin/ecu", elf=HERE)
BRIDGE_HOST = 1


def node(number: int) -> Node:
    address = SUBNET[number]
    return Node(f"n{number}", address, SUBNET.netmask, ServiceDiscovery(True, GROUP))


def sound(count: int = 2, domain: Domain | None = None) -> Case:
    """That many nodes, each in a namespace of its own, on one bridge."""
    nodes = tuple(node(number) for number in range(1, count + 1))
    services = tuple(
        ServiceInstance(0x1000 + at, 1, one.name, (Endpoint(one.address, 30500 + at),))
        for at, one in enumerate(nodes)
    )
    network = Network(nodes, services)
    mapped = tuple(NodeMapping(one.name, domain or LocalHost(f"ns-{one.name}")) for one in nodes)
    plan = build_plan(network, Mapping(mapped))
    known = tuple(KnownNode(n.name, str(n.address), str(n.domain)) for n in plan.nodes)
    controller = Controller("/run/ivc", "", False, __version__, 1, 1, "direct", known)
    hosts = tuple(_host(at, nodes) for at in range(count))
    facts = Facts(
        Machine(cpus=64, memory=1 << 40),
        Process(),
        LIBRARY,
        controller,
        PROGRAM,
        (*hosts, _bridge(count)) if domain is None else (),
    )
    return Case(facts, network, plan)


def _host(at: int, nodes: tuple[Node, ...]) -> Host:
    own = nodes[at].address
    links = (
        Link(1, "lo", loopback=True, addresses=(IPv4Interface("127.0.0.1/8"),)),
        Link(2, "eth0", "veth", addresses=(IPv4Interface(f"{own}/24"),), peer=(1, 10 + at)),
    )
    routes = {to: Route("eth0") for to in (GROUP.address, *(n.address for n in nodes))}
    return Host(f"ns-{nodes[at].name}", 100 + at, "", links, routes)


def _bridge(count: int) -> Host:
    ports = (Link(10 + at, f"p{at}", "veth", master=2, peer=(100 + at, 2)) for at in range(count))
    return Host("dom0", BRIDGE_HOST, "", (Link(2, "br0", "bridge"), *ports))


def changed(case: Case, **changes: Any) -> Case:
    """With other facts: machine=..., program=..., each a dictionary of what differs."""
    facts = case.facts
    for name, change in changes.items():
        facts = replace(facts, **{name: replace(getattr(facts, name), **change)})
    return replace(case, facts=facts)


def with_host(case: Case, at: int, **change: Any) -> Case:
    """With one host changed."""
    hosts = list(case.facts.hosts)
    hosts[at] = replace(hosts[at], **change)
    return replace(case, facts=replace(case.facts, hosts=tuple(hosts)))


def with_link(case: Case, host: int, link: int, **change: Any) -> Case:
    """With one interface of one host changed."""
    links = list(case.facts.hosts[host].links)
    links[link] = replace(links[link], **change)
    return with_host(case, host, links=tuple(links))


def told(case: Case) -> set[tuple[str, str]]:
    """Severity and code of all that is found."""
    return {(one.severity.value, one.code) for one in judge(case)}
