# SPDX-License-Identifier: Apache-2.0
"""Which interfaces are on one wire: through both ends of veths, and through bridges.

What is at the other end of anything else (a card, a tunnel, a guest's interface) is not known:
then a wire is `open`, and nothing follows from who is not on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ivc.doctor.facts import Host, Link

End = tuple[int, int]
"""An interface: id of its host, its number there."""


class Stop(NamedTuple):
    """Where a wire ends, in words, and what would lead on."""

    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class Wire:
    """Who is on it; and where it ends."""

    ends: frozenset[End]
    is_open: bool
    stops: tuple[Stop, ...]


def wire_of(host: Host, link: Link, hosts: Sequence[Host]) -> Wire:
    """All that can be reached from an interface."""
    names = {other.id: other for other in hosts}
    start = (host.id, link.index)
    seen, stops, is_open = {start}, list[Stop](), False
    waiting = [(start, False)]
    while waiting:
        at, barred = waiting.pop()
        there = names.get(at[0])
        found = there.link(at[1]) if there is not None else None
        if there is None or found is None or found.kind not in {"veth", "bridge"}:
            is_open = True
            continue
        if (stop := _stop(there, found, barred)) is not None:
            stops.append(stop)
            continue
        after = _next(there, found, at)
        if at != start and len(after) == 1 and found.kind == "veth":
            fix = f"{there.enter}ip link set {found.name} master BRIDGE"
            stops.append(Stop(f"{found.name} in {there} is in no bridge", fix))
        is_open = is_open or (found.kind == "veth" and found.peer is None)
        # What came in by an isolated port leaves a bridge by no other such port.
        barred = barred if found.kind == "bridge" else found.isolated
        waiting += [(end, barred and end != found.peer) for end in after if end not in seen]
        seen.update(after)
    return Wire(frozenset(seen), is_open, tuple(sorted(stops)))


def _stop(host: Host, link: Link, barred: bool) -> Stop | None:
    """Why nothing goes on from an interface, if that is so."""
    name = f"{link.name} in {host}"
    if not link.up:
        return Stop(f"{name} is down", f"{host.enter}ip link set {link.name} up")
    if not link.forwarding:
        fix = f"let spanning tree settle, or: {host.enter}bridge link set dev {link.name} state 3"
        return Stop(f"{name} does not forward", fix)
    if barred and link.isolated:
        fix = f"{host.enter}bridge link set dev {link.name} isolated off"
        return Stop(f"{name} and the port before it are isolated", fix)
    return None


def _next(host: Host, link: Link, at: End) -> list[End]:
    """Neighbours: the other end, the bridge it is in, the bridge's ports."""
    found = [link.peer] if link.peer is not None else []
    if link.master:
        found.append((host.id, link.master))
    if link.kind == "bridge":
        found += [(host.id, port.index) for port in host.links if port.master == link.index]
    return [end for end in found if end != at]
