# SPDX-License-Identifier: Apache-2.0
"""Does each host know the way to the groups of service discovery, and to the other nodes?"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from ivc.doctor.case import Case, Place
from ivc.doctor.facts import Link, Route
from ivc.doctor.finding import error, warning
from ivc.errors import Finding


def judge_routes(case: Case) -> Iterator[Finding]:
    """Hosts without their address are told of elsewhere."""
    for place in case.in_focus():
        held = place.host.holder(place.node.address)
        if held is None or held[0].loopback or not held[0].up:
            continue
        sd = place.node.sd
        if sd is not None and sd.enabled:
            yield from _group(place, held[0], sd.group.address)
        for node in case.nodes:
            # A host is told what its own addresses are by its own table.
            if place.host.holder(node.address) is None:
                yield from _node(place, held[0], node.name, node.address)


def _group(place: Place, link: Link, group: IPv4Address) -> Iterator[Finding]:
    route = place.host.routes.get(group, Route(link.name))
    fix = f"{place.host.enter}ip route add {group}/32 dev {link.name}"
    if route.problem:
        yield error(
            "no-multicast-route",
            place.where,
            f"{group}: {route.problem}",
            f"a route for service discovery's group by {link.name}",
            fix,
        )
    elif route.link != link.name:
        yield warning(
            "multicast-elsewhere",
            place.where,
            f"{group} by {route.link}",
            f"by {link.name}, which has {place.node.address}",
            fix,
        )


def _node(place: Place, link: Link, name: str, address: IPv4Address) -> Iterator[Finding]:
    route = place.host.routes.get(address, Route(link.name))
    if route.problem:
        yield error(
            "no-route",
            place.where,
            f"{address} (node {name}): {route.problem}",
            "a way to each other node",
            f"put both into one subnet, or: {place.host.enter}ip route add {address} via ROUTER",
        )
    elif route.gateway:
        yield warning(
            "routed",
            place.where,
            f"node {name} behind router {route.gateway}",
            "both in one subnet: routers do not pass on service discovery's multicast",
            "give both addresses of one subnet, on one bridge",
        )
    elif route.link != link.name:
        yield warning(
            "other-way",
            place.where,
            f"node {name} by {route.link}",
            f"by {link.name}, which has {place.node.address}",
            f"{place.host.enter}ip route add {address} dev {link.name}",
        )
