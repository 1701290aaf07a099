# SPDX-License-Identifier: Apache-2.0
"""Nodes while they are put together from elements that lie far apart."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Final

from ivc.network.arxml.element import Element
from ivc.network.arxml.sockets import Interface
from ivc.network.config import DEFAULT_NETMASK, NodeConfig, ServiceConfig
from ivc.network.model import Client, Endpoint, Node, ServiceDiscovery
from ivc.network.values import Report

DEFAULT_SD: Final = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.0"), 30490))


@dataclass(slots=True)
class Participant:
    """One address of an ECU or machine, and what runs there."""

    owner: Element
    interface: Interface
    services: dict[tuple[int, int], ServiceConfig] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    sd: ServiceDiscovery | None = None


class Participants:
    """All nodes found so far."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._found: dict[tuple[str, str], Participant] = {}

    def at(self, owner: Element, interface: Interface) -> Participant:
        """The node of this ECU or machine with this address."""
        key = owner.path, str(interface.address)
        return self._found.setdefault(key, Participant(owner, interface))

    def offer(self, participant: Participant, service: ServiceConfig) -> None:
        """Add a service, or the other transport of one that is there."""
        key = service.instance.service, service.instance.instance
        known = participant.services.get(key)
        if known is None:
            participant.services[key] = service
            return
        if {port.protocol for port in known.ports} & {port.protocol for port in service.ports}:
            self._report.warning(
                service.place,
                "duplicate-service",
                f"service {service.instance} a second time",
                f"it once (the first is at {known.place.file}:{known.place.line})",
                "remove or renumber one; the first one counts",
            )
            return
        participant.services[key] = _joined(known, service)

    def configs(self, aliases: dict[str, tuple[str, ...]]) -> list[NodeConfig]:
        """The nodes; `aliases` are further names by path of the owner.

        A node is called like its machine or ECU, one of several addresses like ECU.ENDPOINT.
        """
        return [
            self._config(participant, aliases.get(participant.owner.path, ()))
            for participant in self._found.values()
        ]

    def _config(self, participant: Participant, aliases: tuple[str, ...]) -> NodeConfig:
        owner, interface = participant.owner, participant.interface
        names = (*aliases, owner.name, owner.path)
        if sum(path == owner.path for path, _ in self._found) > 1:
            names = tuple(f"{name}.{interface.name}" for name in names)
        sd = participant.sd
        if sd is None:
            self._report.warning(
                owner.place,
                "no-sd",
                f"nothing that says where {owner.tag} {owner.name} sends service discovery",
                "a multicast socket with the SD header id, or SOMEIP-SERVICE-DISCOVERY",
                f"add it; {DEFAULT_SD.group} is taken, vsomeip's default",
            )
        node = Node(
            name=names[0],
            address=interface.address,
            netmask=interface.netmask or DEFAULT_NETMASK,
            sd=sd or DEFAULT_SD,
            clients=tuple(dict.fromkeys(participant.clients)),
        )
        return NodeConfig(
            names=names,
            place=owner.place,
            node=node,
            unicast_place=interface.place,
            sd=sd or DEFAULT_SD,
            sd_place=owner.place,
            services=tuple(participant.services.values()),
        )


def _joined(known: ServiceConfig, other: ServiceConfig) -> ServiceConfig:
    one, two = known.instance, other.instance
    groups = {group.eventgroup: group for group in (*two.eventgroups, *one.eventgroups)}
    events = {event.event: event for event in (*two.events, *one.events)}
    instance = replace(
        one,
        events=tuple(events[key] for key in sorted(events)),
        eventgroups=tuple(groups[key] for key in sorted(groups)),
    )
    return replace(known, instance=instance, ports=(*known.ports, *other.ports))
