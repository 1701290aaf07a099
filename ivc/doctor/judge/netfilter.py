# SPDX-License-Identifier: Apache-2.0
"""Do netfilter rules let pass what planned nodes send by the network?"""

from collections.abc import Iterator
from typing import Final

from ivc.doctor.case import Case
from ivc.doctor.facts import Host
from ivc.doctor.finding import about, note
from ivc.doctor.netfilter import Drop, Ruleset
from ivc.doctor.packets import Packet, passed_on, received, sent
from ivc.doctor.wires import wire_of
from ivc.errors import Finding, Severity

_IN: Final = ("ingress", "prerouting", "input")
_OUT: Final = ("output", "postrouting", "egress")
_ACROSS: Final = ("prerouting", "forward", "postrouting")
_OWN: Final = ("ip", "inet", "netdev")


def judge_netfilter(case: Case) -> Iterator[Finding]:
    """One finding for each rule, with the first packet it concerns."""
    met: dict[tuple[str, str], tuple[Host, Drop, Packet]] = {}
    for host, drop, packet in _drops(case):
        key = (str(host), str(drop))
        if key not in met or (drop.certain and not met[key][1].certain):
            met[key] = (host, drop, packet)
    yield from (_finding(*one) for one in met.values())
    yield from _unknown(case)


def _drops(case: Case) -> Iterator[tuple[Host, Drop, Packet]]:
    rulesets: dict[int, Ruleset] = {}
    for host in case.facts.hosts:  # a host may have two names; the first is the planned one
        rulesets.setdefault(host.id, Ruleset(host.rules or ()))
    for place in case.in_focus():
        rules = rulesets[place.host.id]
        for packets, hooks in ((received, _IN), (sent, _OUT)):
            for packet in packets(case, place):
                yield from ((place.host, d, packet) for d in rules.drops(packet, hooks, _OWN))
    for host in _between(case):
        families = ("bridge", "ip", "inet") if host.bridge_netfilter else ("bridge",)
        for packet in passed_on(case) if host.rules else ():
            found = rulesets[host.id].drops(packet, _ACROSS, families)
            yield from ((host, drop, packet) for drop in found)


def _between(case: Case) -> list[Host]:
    """Whose bridges nodes are on; ours too, if there are nodes whose hosts are not in sight."""
    places = list(case.places())
    own = None if len(places) < len(case.nodes) else ""
    on_wires = {
        host
        for place in places
        if (held := place.host.holder(place.node.address)) is not None
        for host, _ in wire_of(place.host, held[0], case.facts.hosts).ends
    }
    ends = {place.host.id for place in places}
    return [
        host
        for host in case.facts.hosts
        if host.id not in ends
        and (host.id in on_wires or host.netns == own)
        and any(link.kind == "bridge" for link in host.links)
    ]


def _finding(host: Host, drop: Drop, packet: Packet) -> Finding:
    return about(
        Severity.ERROR if drop.certain else Severity.WARNING,
        "netfilter",
        f"{host}, {drop}",
        f"{packet} {'dropped' if drop.certain else 'perhaps dropped'}",
        "what planned nodes send each other to pass: rings begin on the network",
        f"{host.enter}{drop.fix}",
    )


def _unknown(case: Case) -> Iterator[Finding]:
    hosts = {place.host.id: place.host for place in case.in_focus()}
    for host in hosts.values():
        if host.rules is None:
            yield note(
                "netfilter-unknown",
                str(host),
                host.rules_problem,
                "rules that can be asked for",
                "look at them with nft list ruleset",
            )
