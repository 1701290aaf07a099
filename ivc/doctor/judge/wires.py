# SPDX-License-Identifier: Apache-2.0
"""Are two nodes on one wire? Is an address there only once, and does all of it carry as much?"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from ivc.doctor.case import Case, Place
from ivc.doctor.facts import Link, Route
from ivc.doctor.finding import error, warning
from ivc.doctor.wires import Wire, wire_of
from ivc.errors import Finding


def judge_wires(case: Case) -> Iterator[Finding]:
    """See above; of pairs that are not routed, and whose interfaces are up."""
    wired = [
        (place, held[0], wire_of(place.host, held[0], case.facts.hosts))
        for place in case.places()
        if (held := place.host.holder(place.node.address)) and held[0].up and not held[0].loopback
    ]
    for one, other in combinations(wired, 2):
        in_focus = case.focus in (None, one[0].node.name, other[0].node.name)
        if in_focus and one[0].host.id != other[0].host.id:
            yield from _pair(one, other)
    for place, link, wire in wired:
        if case.focus in (None, place.node.name):
            yield from _twice(place, link, wire, case)
    yield from _narrow(wired, case)


_Wired = tuple[Place, Link, Wire]


def _pair(one: _Wired, other: _Wired) -> Iterator[Finding]:
    (a, _, wire), (b, link, back) = one, other
    route = a.host.routes.get(b.node.address, Route())
    together = (b.host.id, link.index) in wire.ends
    if together:
        yield from _same_mac(one, other)
    elif not (wire.is_open or back.is_open or route.gateway or route.problem):
        stops = dict.fromkeys((*wire.stops, *back.stops))
        yield error(
            "no-wire",
            f"nodes {a.node.name} and {b.node.name}",
            "; ".join(stop.found for stop in stops) or "two wires",
            "both on one bridge, or one wire, all of it up",
            "; ".join(stop.fix for stop in stops)
            or "put both ports into one bridge (ip link set PORT master BRIDGE)",
        )


def _twice(place: Place, link: Link, wire: Wire, case: Case) -> Iterator[Finding]:
    for host in case.facts.hosts:
        for other in host.links:
            end = (host.id, other.index)
            held = place.node.address in {own.ip for own in other.addresses}
            if held and end in wire.ends and end != (place.host.id, link.index):
                yield error(
                    "address-twice",
                    f"{host}, {other.name}",
                    f"{place.node.address}, the address of node {place.node.name} too",
                    "an address of its own",
                    f"{host.enter}ip address del {place.node.address} dev {other.name}; or another",
                )


def _same_mac(one: _Wired, other: _Wired) -> Iterator[Finding]:
    """A bridge sends what is for either to whoever has spoken last."""
    (a, own, _), (b, link, _) = one, other
    if own.mac and own.mac == link.mac:
        yield error(
            "mac-twice",
            f"nodes {a.node.name} and {b.node.name}",
            f"{own.mac} as the hardware address of both",
            "one of its own for each",
            f"{b.host.enter}ip link set {link.name} address MAC; on Xen: mac= in the guest's vif",
        )


def _narrow(wired: Sequence[_Wired], case: Case) -> Iterator[Finding]:
    """Interfaces that drop what others on their wire send."""
    told = set()
    for place, link, wire in wired:
        for host in case.facts.hosts:
            for other in host.links:
                end = (host.id, other.index)
                # A bridge's own is that of what is sent to the bridge.
                counts = end in wire.ends and end not in told and other.kind != "bridge"
                if counts and other.mtu < link.mtu and case.focus in (None, place.node.name):
                    told.add(end)
                    yield warning(
                        "other-mtu",
                        f"{host}, {other.name}",
                        f"an MTU of {other.mtu}",
                        f"{link.mtu}, as {place.where}, {link.name}: larger packets are lost",
                        f"{host.enter}ip link set {other.name} mtu {link.mtu}",
                    )
