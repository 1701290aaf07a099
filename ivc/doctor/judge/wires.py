# SPDX-License-Identifier: Apache-2.0
"""Are two nodes on one wire? Is an address there only once?"""

from collections.abc import Iterator
from itertools import combinations

from ivc.doctor.case import Case, Place
from ivc.doctor.facts import Link, Route
from ivc.doctor.finding import error
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


_Wired = tuple[Place, Link, Wire]


def _pair(one: _Wired, other: _Wired) -> Iterator[Finding]:
    (a, _, wire), (b, link, back) = one, other
    route = a.host.routes.get(b.node.address, Route())
    if (b.host.id, link.index) in wire.ends or wire.is_open or back.is_open:
        return
    if not route.gateway and not route.problem:
        why = dict.fromkeys((*wire.stops, *back.stops))
        yield error(
            "no-wire",
            f"nodes {a.node.name} and {b.node.name}",
            "; ".join(why) or "two wires",
            "both on one bridge, or one wire, all of it up",
            "put both ports into one bridge (ip link set PORT master BRIDGE), and set bridge and "
            "ports up",
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
