# SPDX-License-Identifier: Apache-2.0
"""Does traffic control hold up or drop what planned nodes send by the network?"""

from collections.abc import Iterator

from ivc.doctor.case import Case
from ivc.doctor.finding import about
from ivc.doctor.wires import End, wire_of
from ivc.errors import Finding, Severity


def judge_traffic(case: Case) -> Iterator[Finding]:
    """At nodes' interfaces, and at all that is on their wires."""
    ends = _ends(case)
    for host in case.facts.hosts:
        there = {link.name for link in host.links if (host.id, link.index) in ends}
        for control in host.controls:
            if control.link in there:
                yield about(
                    Severity.ERROR if control.loses_all else Severity.WARNING,
                    "traffic-control",
                    f"{host}, {control.link}",
                    f"{control.kind}, which {control.does}",
                    "nothing in the way of what planned nodes send by the network; what goes by "
                    "ring does not meet it",
                    f"{host.enter}{control.undo}",
                )


def _ends(case: Case) -> frozenset[End]:
    """Interfaces a message between planned nodes may pass."""
    wires = (
        wire_of(place.host, held[0], case.facts.hosts)
        for place in case.in_focus()
        if (held := place.host.holder(place.node.address)) is not None
    )
    return frozenset(end for wire in wires for end in wire.ends)
