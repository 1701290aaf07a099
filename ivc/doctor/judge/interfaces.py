# SPDX-License-Identifier: Apache-2.0
"""Has each host the address its node is configured with, on an interface that works?"""

from collections.abc import Iterator
from ipaddress import IPv4Interface

from ivc.doctor.case import Case, Place
from ivc.doctor.facts import Link
from ivc.doctor.finding import error, warning
from ivc.errors import Finding


def judge_interfaces(case: Case) -> Iterator[Finding]:
    """See above."""
    for place in case.in_focus():
        if place.host.problem:
            yield _no_host(place)
            continue
        held = place.host.holder(place.node.address)
        if held is None:
            yield _no_address(place)
        else:
            yield from _link(place, *held)
        yield from _loopback(place)


def _no_host(place: Place) -> Finding:
    name = place.host.netns
    if place.host.id:
        return error(
            "not-permitted",
            place.where,
            place.host.problem,
            "a network namespace this user may enter",
            "run ivc doctor as root",
        )
    return error(
        "no-host",
        place.where,
        place.host.problem,
        "the network namespace the mapping names",
        f"make it: ip netns add {name}; or correct host in the mapping",
    )


def _no_address(place: Place) -> Finding:
    own = [f"{ip} on {link.name}" for link in place.host.links for ip in link.addresses]
    address = IPv4Interface(f"{place.node.address}/{place.node.netmask}")
    return error(
        "no-address",
        place.where,
        f"{', '.join(own) or 'no address'}",
        f"{address}, as the node is configured",
        f"{place.host.enter}ip address add {address} dev {_candidate(place)}; or correct unicast",
    )


def _candidate(place: Place) -> str:
    device = place.node.device
    names = [link.name for link in place.host.links if not link.loopback]
    return device or (names[0] if len(names) == 1 else "INTERFACE")


def _link(place: Place, link: Link, own: IPv4Interface) -> Iterator[Finding]:
    where, node, enter = f"{place.where}, {link.name}", place.node, place.host.enter
    if not link.up:
        yield error(
            "link-down",
            where,
            "the interface is down",
            "up",
            f"{enter}ip link set {link.name} up",
        )
    elif not link.carrier:
        yield error(
            "no-carrier",
            where,
            "no carrier",
            "an interface whose other end is up",
            "set its other end up: the bridge's port, the vif, or the cable",
        )
    if node.device not in (None, link.name):
        yield error(
            "other-device",
            where,
            f"{node.address} on {link.name}",
            f"on {node.device}, as device says",
            "move the address, or correct device in the configuration",
        )
    if link.loopback:
        return
    if node.sd is not None and own.netmask != node.netmask:
        yield warning(
            "other-netmask",
            where,
            f"{own.netmask} ({own})",
            f"{node.netmask}, as the node is configured",
            f"correct netmask, or: {enter}ip address replace {own.ip}/"
            f"{IPv4Interface(f'{own.ip}/{node.netmask}').network.prefixlen} dev {link.name}",
        )
    if node.sd is not None and node.sd.enabled and not link.multicast:
        yield error(
            "no-multicast",
            where,
            "an interface without multicast",
            "one that service discovery can use",
            f"{enter}ip link set {link.name} multicast on",
        )


def _loopback(place: Place) -> Iterator[Finding]:
    """What a host sends to its own address goes by the loopback interface."""
    for link in place.host.links:
        if link.loopback and not link.up:
            yield warning(
                "loopback-down",
                f"{place.where}, {link.name}",
                "the interface is down: programs of the node do not reach each other",
                "up",
                f"{place.host.enter}ip link set {link.name} up",
            )
