# SPDX-License-Identifier: Apache-2.0
"""Where the nodes of the plan really are: the plan, seen from the machine it runs on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ivc.network import Domain
from ivc.network.limits import Share
from ivc.plan import MatchKind, Plan
from ivc.platform import Platform


@dataclass(frozen=True, slots=True)
class Place:
    """An inside node and its host. `host` is None while the host does not exist.

    `limits` is what the kernel of a Xen guest has for rings; `quiesced` says that its domain
    shall have none.
    """

    id: int
    name: str
    ip: int
    host: int | None
    limits: Share | None = None
    quiesced: bool = False


@dataclass(frozen=True, slots=True)
class Hosts:
    """All inside nodes. Comparable: a change means that hosts came, went or were replaced.

    `has_external` says that somebody on Ethernet may listen too; `granted`, that memory is
    granted from domain to domain.
    """

    places: tuple[Place, ...]
    has_external: bool
    granted: bool
    # Look-up tables made from the places: every message of every process asks.
    _at: Mapping[int, Place] = field(init=False, repr=False, compare=False)
    _on: Mapping[int, tuple[Place, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        on: dict[int, tuple[Place, ...]] = {}
        for place in self.places:
            if place.host is not None:
                on[place.host] = (*on.get(place.host, ()), place)
        object.__setattr__(self, "_at", {place.ip: place for place in reversed(self.places)})
        object.__setattr__(self, "_on", on)

    def at(self, ip: int) -> Place | None:
        """The inside node with this unicast address."""
        return self._at.get(ip)

    def on(self, host: int) -> tuple[Place, ...]:
        """The nodes that run on a host."""
        return self._on.get(host, ())

    def is_quiesced(self, ip: int) -> bool:
        """Whether the inside node with this unicast address shall have no rings."""
        place = self.at(ip)
        return place is not None and place.quiesced

    def may_share(self, one: int, other: int) -> bool:
        """Whether programs on two hosts, or on one, can have a ring without us between them.

        Not two of one Xen domain: a guest with page tables of its own (PVH, HVM) that maps a page
        it has granted itself loses it from its RAM, since Xen knows one place for a frame
        (`guest_physmap_add_entry`), and its kernel goes on to use the hole.
        """
        return not self.granted or one != other

    def limits(self, host: int) -> Share | None:
        """What a host's kernel has for rings; None if there is no telling, or no end."""
        return next((place.limits for place in self.on(host)), None)

    def owner(self, host: int, ip: int) -> Place | None:
        """The node of a socket on `host` bound to `ip`.

        A wildcard or group address belongs to the only node of the host; where there are several
        it belongs to none of them.
        """
        here = self.on(host)
        if ip == 0 or ip >> 28 == 0xE:
            return here[0] if len(here) == 1 else None
        return next((place for place in here if place.ip == ip), None)


def locate(plan: Plan, platform: Platform, quiesced: Collection[Domain] = ()) -> Hosts:
    """Resolve every node of the plan on this machine, as of now."""
    places = (
        Place(
            node.id,
            node.name,
            int(node.address),
            platform.resolve(node.domain),
            node.limits,
            node.domain in quiesced,
        )
        for node in plan.nodes
        if node.inside
    )
    outside = any(entry.kind is MatchKind.EXTERNAL for entry in plan.match_entries())
    return Hosts(tuple(places), outside, platform.pages is not None)
