# SPDX-License-Identifier: Apache-2.0
"""Service instances of Classic ECUs, in both modellings.

Up to AUTOSAR 4.4 an instance lies in the application endpoint it uses; from 4.5 on it lies in a
SERVICE-INSTANCE-COLLECTION-SET and refers to its endpoints. The instances themselves look alike.
"""

from collections.abc import Iterator, Sequence

from ivc.errors import Severity
from ivc.network.arxml import sockets, values
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.arxml.events import Events
from ivc.network.arxml.participants import Participant, Participants
from ivc.network.arxml.sd import SdGroups
from ivc.network.arxml.sockets import Interface, Transport
from ivc.network.config import ServiceConfig
from ivc.network.model import Client, Protocol, ServiceInstance
from ivc.network.values import Report, quote

_CONNECTOR = "ETHERNET-COMMUNICATION-CONNECTOR"
_ANY_INSTANCE = 0xFFFF


def read_classic(document: Document, participants: Participants, report: Report) -> None:
    """Add the ECUs that offer or use services to `participants`."""
    _Classic(document, participants, report).read()


class _Classic:
    def __init__(self, document: Document, participants: Participants, report: Report) -> None:
        self._document = document
        self._participants = participants
        self._report = report
        self._events = Events(document, report)
        self._sd = SdGroups(document, report)

    def read(self) -> None:
        for instance, endpoints in self._instances("PROVIDED-SERVICE-INSTANCE"):
            self._provided(instance, endpoints)
        for instance, endpoints in self._instances("CONSUMED-SERVICE-INSTANCE"):
            self._consumed(instance, endpoints)

    def _instances(self, tag: str) -> Iterator[tuple[Element, Sequence[Element]]]:
        """Service instances with the application endpoints they use."""
        for endpoint in self._document.of_kind("APPLICATION-ENDPOINT"):
            for instance in endpoint.all(f"{tag}S", tag):
                yield instance, [endpoint]
        for collection in self._document.of_kind("SERVICE-INSTANCE-COLLECTION-SET"):
            for instance in collection.all("SERVICE-INSTANCES", tag):
                yield instance, self._local_endpoints(instance)

    def _local_endpoints(self, instance: Element) -> list[Element]:
        references = [
            reference
            for local in instance.all("LOCAL-UNICAST-ADDRESSS")
            for reference in local.every("APPLICATION-ENDPOINT-REF")
        ]
        if not references:
            self._report.warning(
                instance.place,
                "no-endpoint",
                f"{instance.tag} {quote(instance.name)} at no endpoint",
                "LOCAL-UNICAST-ADDRESSS with its sockets",
                "add them, or name the ECU's extract; without them it is left out",
            )
        return self._document.resolve_all(references, "APPLICATION-ENDPOINT")

    def _at(self, endpoint: Element) -> tuple[Participant, Transport] | None:
        """The node an application endpoint belongs to, and its port."""
        report = self._report
        network_endpoint = self._document.resolve(
            values.required(endpoint, "NETWORK-ENDPOINT-REF", report), "NETWORK-ENDPOINT"
        )
        transport = sockets.transport(endpoint, report)
        interface = sockets.interface(network_endpoint, report) if network_endpoint else None
        ecu = self._ecu(endpoint, network_endpoint) if network_endpoint else None
        if network_endpoint is None or ecu is None or interface is None or transport is None:
            return None
        if not self._is_unicast(interface):
            return None
        participant = self._participants.at(ecu, interface)
        participant.sd = participant.sd or self._sd.of(
            ecu, network_endpoint.path.rpartition("/")[0]
        )
        return participant, transport

    def _is_unicast(self, interface: Interface) -> bool:
        if not (interface.address.is_multicast or interface.address.is_unspecified):
            return True
        self._report.error(
            interface.place,
            "bad-address",
            f'"{interface.address}", the address of a service',
            "a unicast address",
            "write the ECU's address",
        )
        return False

    def _ecu(self, endpoint: Element, network_endpoint: Element) -> Element | None:
        """The ECU by the socket's connector, or by the connector that has the address."""
        socket = self._document.owner(endpoint)
        reference = socket.one("CONNECTOR-REF") if socket is not None else None
        if reference is not None:
            connector = self._document.resolve(reference, _CONNECTOR)
            return self._document.owner(connector) if connector is not None else None
        for connector in self._document.of_kind(_CONNECTOR):
            if any(
                ref.text == network_endpoint.path for ref in connector.every("NETWORK-ENDPOINT-REF")
            ):
                return self._document.owner(connector)
        place = socket.place if socket is not None else endpoint.place
        self._report.error(
            place,
            "no-ecu",
            "a SOCKET-ADDRESS with services that belongs to no ECU",
            f"CONNECTOR-REF to an ECU's {_CONNECTOR}",
            "add it, or name the ARXML file that describes the ECU too",
        )
        return None

    def _provided(self, instance: Element, endpoints: Sequence[Element]) -> None:
        report = self._report
        service = values.identifier(values.required(instance, "SERVICE-IDENTIFIER", report), report)
        number = values.identifier(values.required(instance, "INSTANCE-IDENTIFIER", report), report)
        major, minor = self._version(instance)
        located = [at for endpoint in endpoints if (at := self._at(endpoint)) is not None]
        over_tcp = any(transport.protocol is Protocol.TCP for _, transport in located)
        events, groups = self._events.of(instance, service, over_tcp)
        ports = [sockets.fixed_port(transport, instance, report) for _, transport in located]
        if service is None or number is None:
            return
        offered = ServiceInstance(
            service,
            number,
            node=None,
            major=major,
            minor=minor,
            events=events,
            eventgroups=groups,
        )
        for (participant, _), port in zip(located, ports, strict=True):
            if port is not None:
                config = ServiceConfig(instance.place, offered, None, (port,))
                self._participants.offer(participant, config)

    def _version(self, instance: Element) -> tuple[int | None, int | None]:
        """Major and minor version; in the old modelling they lie in the SD configuration."""
        report = self._report
        config = instance.one("SD-SERVER-CONFIG")
        major = values.leaf(instance, "MAJOR-VERSION", report)
        minor = values.leaf(instance, "MINOR-VERSION", report)
        if config is not None:
            major = major or values.leaf(config, "SERVER-SERVICE-MAJOR-VERSION", report)
            minor = minor or values.leaf(config, "SERVER-SERVICE-MINOR-VERSION", report)
        return values.number(major, report, 0xFF), values.number(minor, report, 0xFFFFFFFF)

    def _consumed(self, instance: Element, endpoints: Sequence[Element]) -> None:
        service, number = self._consumed_ids(instance)
        for endpoint in endpoints:
            at = self._at(endpoint)
            if at is None or service is None or number is None:
                continue
            participant, transport = at
            ports = (transport.port,) if transport.port is not None else ()
            tcp = transport.protocol is Protocol.TCP
            participant.clients.append(
                Client(
                    service,
                    number,
                    udp_ports=() if tcp else ports,
                    tcp_ports=ports if tcp else (),
                )
            )

    def _consumed_ids(self, instance: Element) -> tuple[int | None, int | None]:
        """Ids of what is consumed; in the old modelling those of the instance referred to."""
        report = self._report
        reference = instance.one("PROVIDED-SERVICE-INSTANCE-REF")
        if instance.one("SERVICE-IDENTIFIER") is None and reference is not None:
            provided = self._document.resolve(  # the extract of one ECU may lack its servers
                reference, "PROVIDED-SERVICE-INSTANCE", severity=Severity.WARNING
            )
            if provided is None:
                return None, None
            instance = provided
        service = values.identifier(values.required(instance, "SERVICE-IDENTIFIER", report), report)
        found = values.required(instance, "INSTANCE-IDENTIFIER", report)
        if found is not None and found.text == "ALL":
            return service, _ANY_INSTANCE
        return service, values.identifier(found, report)
