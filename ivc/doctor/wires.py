# SPDX-License-Identifier: Apache-2.0
"""Which interfaces are on one wire: through both ends of veths, and through bridges.

What is at the other end of anything else (a card, a tunnel, a guest's interface) is not known:
then a wire is `open`, and nothing follows from who is not on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ivc.doctor.facts import Host, Link

End = tuple[int, int]
"""An interface: id of its host, its number there."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Who is on it; and in words where it ends."""

    ends: frozenset[End]
    is_open: bool
    stops: tuple[str, ...]


def wire_of(host: Host, link: Link, hosts: Sequence[Host]) -> Wire:
    """All that can be reached from an interface."""
    names = {other.id: other for other in hosts}
    start = (host.id, link.index)
    seen, waiting, stops, is_open = {start}, [start], [], False
    while waiting:
        at = waiting.pop()
        there = names.get(at[0])
        found = there.link(at[1]) if there is not None else None
        if there is None or found is None or found.kind not in {"veth", "bridge"}:
            is_open = True
            continue
        if not found.up:
            stops.append(f"{found.name} in {there} is down")
            continue
        after = _next(there, found, at)
        if at != start and len(after) == 1 and found.kind == "veth":
            stops.append(f"{found.name} in {there} is in no bridge")
        is_open = is_open or (found.kind == "veth" and found.peer is None)
        waiting += [end for end in after if end not in seen]
        seen.update(after)
    return Wire(frozenset(seen), is_open, tuple(sorted(stops)))


def _next(host: Host, link: Link, at: End) -> list[End]:
    """Neighbours: the other end, the bridge it is in, the bridge's ports."""
    found = [link.peer] if link.peer is not None else []
    if link.master:
        found.append((host.id, link.master))
    if link.kind == "bridge":
        found += [(host.id, port.index) for port in host.links if port.master == link.index]
    return [end for end in found if end != at]
