# SPDX-License-Identifier: Apache-2.0
"""Services in the status document: who offers one, who uses it, who listens to its groups.

Planned services, and what is known of them: which process holds
an endpoint, whose flows begin or end there, who has joined the group of an eventgroup, and, of what
is relayed, which nodes were notified of events and what service discovery says.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Any

from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.dispatch import Dispatcher
from ivc.controller.flows import Flow
from ivc.controller.protocol import Address
from ivc.controller.registry import Socket
from ivc.network import Endpoint, Eventgroup, Protocol, ServiceInstance
from ivc.someip import MessageType

Document = dict[str, Any]
_Place = tuple[Address, bool]
"""An address and port; whether it is of TCP."""


_Said = tuple[int | None, str]
"""An eventgroup, None for the service itself; and an endpoint."""


class ServicesTold:
    """What is asked for each service, looked up once for all."""

    def __init__(
        self, dispatcher: Dispatcher, dcc: DataCommunicationController, clock: float
    ) -> None:
        self._registry = dispatcher.registry
        self._heard = dcc.discovery.heard
        self._said: defaultdict[tuple[int, int], list[_Said]] = defaultdict(list)
        for topic, ends in dcc.discovery.told(clock).items():
            self._said[topic.service, topic.instance] += [(topic.eventgroup, end) for end in ends]
        self._streams: defaultdict[Address, list[Socket]] = defaultdict(list)
        self._to: defaultdict[_Place, list[Flow]] = defaultdict(list)
        self._from: defaultdict[_Place, list[Flow]] = defaultdict(list)
        self._notified = _notified(dcc)
        self._members: defaultdict[Address, list[Socket]] = defaultdict(list)
        for socket in self._registry.sockets():
            if socket.is_stream:
                self._streams[socket.local].append(socket)
            for group in socket.groups:
                self._members[Address(group, socket.local.port)].append(socket)
        for flow in dispatcher.flows.flows.values():
            spec = flow.spec
            self._to[spec.destination, spec.stream].append(flow)
            if not spec.destination.is_multicast:
                self._from[spec.source, spec.stream].append(flow)

    def of(self, service: ServiceInstance) -> Document:
        """One planned service."""
        ends = [*map(_place, service.endpoints)]
        return {
            "service": service.service,
            "instance": service.instance,
            "node": service.node,
            "endpoints": [str(end) for end in service.endpoints],
            "servers": _told(socket for end in ends for socket in self._bound(*end)),
            "clients": _told(socket for end in ends for socket in self._clients(end)),
            "notified": sorted(self._notified.get((service.service, service.instance), ())),
            "eventgroups": [self._eventgroup(group) for group in service.eventgroups],
            "discovery": self._discovery(service),
        }

    def _discovery(self, service: ServiceInstance) -> Document | None:
        """What service discovery has said of it; None: nothing of that has come by the relay."""
        if not self._heard:
            return None
        said = self._said.get((service.service, service.instance), [])
        return {
            "offered_at": [end for group, end in said if group is None],
            "subscribers": [
                {"eventgroup": group, "endpoint": end, "node": self._node(end)}
                for group, end in said
                if group is not None
            ],
        }

    def _node(self, end: str) -> str | None:
        """Of an endpoint's address."""
        host = end.rpartition(":")[0]
        places = self._registry.hosts.places
        return next((one.name for one in places if str(IPv4Address(one.ip)) == host), None)

    def _bound(self, address: Address, stream: bool) -> Iterable[Socket]:
        """Sockets that receive what is sent to an endpoint of a node inside."""
        if stream:
            return self._streams.get(address, ())
        place = self._registry.hosts.at(address.ip)
        return [
            socket
            for socket in self._registry.at_port(address.port)
            if place is not None
            and socket.host == place.host
            and socket.local.ip in (0, address.ip)
        ]

    def _clients(self, end: _Place) -> Iterator[Socket]:
        yield from (flow.spec.sender for flow in self._to.get(end, ()))
        yield from (flow.spec.receiver for flow in self._from.get(end, ()))

    def _eventgroup(self, group: Eventgroup) -> Document:
        return {
            "eventgroup": group.eventgroup,
            "multicast": str(group.multicast) if group.multicast else None,
            "members": _told(self._members.get(_place(group.multicast)[0], ()))
            if group.multicast
            else [],
        }


def _place(end: Endpoint) -> _Place:
    return Address(int(end.address), end.port), end.protocol is Protocol.TCP


def _notified(dcc: DataCommunicationController) -> dict[tuple[int, int], set[str]]:
    """Nodes that events of a service instance were passed on to."""
    found: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for kind in dcc.kinds.values():
        header, way = kind.header, kind.way
        if header is None or way is None or header.base_type != MessageType.NOTIFICATION:
            continue
        if kind.counts.messages > kind.counts.denied:
            for instance in way.here:
                if instance[0] == header.service_id:
                    found[instance].add(way.destination)
    return found


def _told(sockets: Iterable[Socket]) -> list[Document]:
    """Each socket once."""
    return [
        {
            "pid": socket.process.identity.pid,
            "command": socket.process.identity.command,
            "node": socket.place.name if socket.place is not None else None,
            "socket": socket.number,
        }
        for socket in dict.fromkeys(sockets)
    ]
