# SPDX-License-Identifier: Apache-2.0
"""Service instances of Adaptive machines, from their manifests.

MACHINE-DESIGN                                address, service discovery
SOMEIP-SERVICE-INTERFACE-DEPLOYMENT           service id, events, eventgroups
PROVIDED-, REQUIRED-SOMEIP-SERVICE-INSTANCE   instance id, of which deployment
SOMEIP-SERVICE-INSTANCE-TO-MACHINE-MAPPING    which instance at which port of which machine
"""

from collections import defaultdict
from collections.abc import Iterator

from ivc.network.arxml import sockets, values
from ivc.network.arxml.deployment import Deployment, read_deployment
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.arxml.participants import DEFAULT_SD, Participant, Participants
from ivc.network.arxml.sockets import Interface, Transport
from ivc.network.config import ServiceConfig
from ivc.network.model import (
    Client,
    Endpoint,
    Eventgroup,
    Protocol,
    ServiceDiscovery,
    ServiceInstance,
)
from ivc.network.values import Report, quote

_PROVIDED = "PROVIDED-SOMEIP-SERVICE-INSTANCE"
_REQUIRED = "REQUIRED-SOMEIP-SERVICE-INSTANCE"
_DEPLOYMENT = "SOMEIP-SERVICE-INTERFACE-DEPLOYMENT"
_ANY_INSTANCE = 0xFFFF


def read_adaptive(document: Document, participants: Participants, report: Report) -> None:
    """Add the machines that offer or use services to `participants`."""
    reader = _Adaptive(document, participants, report)
    for mapping in document.of_kind("SOMEIP-SERVICE-INSTANCE-TO-MACHINE-MAPPING"):
        reader.read(mapping)


def machine_names(document: Document) -> dict[str, tuple[str, ...]]:
    """Names of the machines by path of their MACHINE-DESIGN."""
    names: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for machine in document.of_kind("MACHINE"):
        design = document.named(machine.one("MACHINE-DESIGN-REF"))
        if design is not None:
            names[design.path] += (machine.name,)
    return names


class _Adaptive:
    def __init__(self, document: Document, participants: Participants, report: Report) -> None:
        self._document = document
        self._participants = participants
        self._report = report

    def read(self, mapping: Element) -> None:
        """Read one mapping of instances to a machine."""
        participant = self._machine(mapping)
        transports = list(self._transports(mapping))
        instances = self._document.resolve_all(
            mapping.all("SERVICE-INSTANCE-REFS", "SERVICE-INSTANCE-REF"), _PROVIDED, _REQUIRED
        )
        for instance in instances:
            deployment = self._deployment(instance)
            if participant is None or deployment is None:
                continue
            if instance.tag == _PROVIDED:
                self._provided(instance, mapping, deployment, participant, transports)
            else:
                self._required(instance, deployment, participant, transports)

    def _machine(self, mapping: Element) -> Participant | None:
        reference = values.required(mapping, "COMMUNICATION-CONNECTOR-REF", self._report)
        connector = self._document.resolve(reference, "ETHERNET-COMMUNICATION-CONNECTOR")
        if connector is None:
            return None
        machine = self._document.owner(connector)
        interface = self._interface(connector)
        if machine is None or interface is None:
            return None
        participant = self._participants.at(machine, interface)
        participant.sd = participant.sd or self._service_discovery(machine)
        return participant

    def _interface(self, connector: Element) -> Interface | None:
        """The first unicast address of the connector."""
        references = [
            *connector.all("UNICAST-NETWORK-ENDPOINT-REF"),
            *connector.all("UNICAST-NETWORK-ENDPOINT-REFS", "UNICAST-NETWORK-ENDPOINT-REF"),
        ]
        if not references:
            self._report.error(
                connector.place,
                "no-address",
                f"connector {quote(connector.name)} without address",
                "UNICAST-NETWORK-ENDPOINT-REF (-REFS from R20-11 on)",
                "add the machine's network endpoint",
            )
            return None
        endpoints = self._document.resolve_all(references, "NETWORK-ENDPOINT")
        return sockets.interface(endpoints[0], self._report) if endpoints else None

    def _service_discovery(self, machine: Element) -> ServiceDiscovery | None:
        for tag in ("SERVICE-DISCOVER-CONFIGS", "SERVICE-DISCOVERY-CONFIGS"):
            config = machine.one(tag, "SOMEIP-SERVICE-DISCOVERY")
            if config is None:
                continue
            report = self._report
            port = values.port(
                values.required(config, "SOMEIP-SERVICE-DISCOVERY-PORT", report), report
            )
            reference = values.required(config, "MULTICAST-SD-IP-ADDRESS-REF", report)
            endpoint = self._document.resolve(reference, "NETWORK-ENDPOINT")
            interface = sockets.interface(endpoint, report) if endpoint is not None else None
            if interface is None or port is None:
                return DEFAULT_SD  # what is wrong is noted
            group = sockets.multicast(interface.address, port, interface.place, report)
            return ServiceDiscovery(True, group) if group is not None else DEFAULT_SD
        return None

    def _transports(self, mapping: Element) -> Iterator[Transport]:
        for tag, protocol in (("UDP-PORT", Protocol.UDP), ("TCP-PORT", Protocol.TCP)):
            written = values.leaf(mapping, tag, self._report)
            if written is not None:
                port = values.number(written, self._report, 0xFFFF)
                if port is not None:
                    yield Transport(protocol, port or None, written.place)
            endpoint = self._document.resolve(mapping.one(f"{tag}-REF"), "AP-APPLICATION-ENDPOINT")
            transport = sockets.transport(endpoint, self._report) if endpoint is not None else None
            if transport is not None:
                yield transport

    def _deployment(self, instance: Element) -> Deployment | None:
        tag = "SERVICE-INTERFACE-DEPLOYMENT-REF"
        reference = instance.one("SERVICE-INTERFACE-REF")  # its name up to 18-10
        if reference is None:
            reference = values.required(instance, tag, self._report)
        found = self._document.resolve(reference, _DEPLOYMENT)
        if found is None:
            return None
        return read_deployment(found, self._document, self._report)

    def _provided(
        self,
        instance: Element,
        mapping: Element,
        deployment: Deployment,
        participant: Participant,
        transports: list[Transport],
    ) -> None:
        report = self._report
        number = values.identifier(values.required(instance, "SERVICE-INSTANCE-ID", report), report)
        groups = tuple(self._eventgroups(instance, mapping, deployment))
        if not transports:
            report.error(
                mapping.place,
                "no-port",
                f"{instance.tag} {quote(instance.name)} at no port",
                "UDP-PORT or TCP-PORT (-REF from R22-11 on)",
                "add the port it is offered at",
            )
        ports = [sockets.fixed_port(transport, instance, report) for transport in transports]
        known = tuple(port for port in ports if port is not None)
        if number is None or not known:
            return
        offered = ServiceInstance(
            deployment.service,
            number,
            node=None,
            major=deployment.major,
            minor=deployment.minor,
            events=deployment.events,
            eventgroups=groups,
        )
        self._participants.offer(participant, ServiceConfig(instance.place, offered, None, known))

    def _eventgroups(
        self, instance: Element, mapping: Element, deployment: Deployment
    ) -> Iterator[Eventgroup]:
        """The deployment's eventgroups, with multicast as this instance has it."""
        offered = {
            reference.text: group
            for group in instance.all("PROVIDED-EVENT-GROUPS", "SOMEIP-PROVIDED-EVENT-GROUP")
            if (reference := group.one("EVENT-GROUP-REF")) is not None
        }
        known = {path for path, _ in deployment.eventgroups}
        for path, group in offered.items():
            if path not in known:
                self._document.resolve(group.one("EVENT-GROUP-REF"), "SOMEIP-EVENT-GROUP")
        for path, eventgroup in deployment.eventgroups:
            provided = offered.get(path)
            if provided is None:
                yield eventgroup
                continue
            threshold = values.number(provided.one("MULTICAST-THRESHOLD"), self._report, 255)
            multicast = self._multicast(provided) or self._multicast(mapping)
            yield Eventgroup(
                eventgroup.eventgroup,
                eventgroup.events,
                multicast if threshold else None,
                threshold or 0,
            )

    def _multicast(self, element: Element) -> Endpoint | None:
        """Of a provided eventgroup; up to 18-10 of the mapping to the machine."""
        address = element.one("IPV-4-MULTICAST-IP-ADDRESS")
        port = values.port(element.one("EVENT-MULTICAST-UDP-PORT"), self._report)
        if address is None or port is None:
            return None
        found = values.address(address, self._report)
        if found is None:
            return None
        return sockets.multicast(found, port, address.place, self._report)

    def _required(
        self,
        instance: Element,
        deployment: Deployment,
        participant: Participant,
        transports: list[Transport],
    ) -> None:
        found = values.required(instance, "REQUIRED-SERVICE-INSTANCE-ID", self._report)
        if found is not None and found.text == "ALL":
            number: int | None = _ANY_INSTANCE
        else:
            number = values.identifier(found, self._report)
        if number is None:
            return
        ports = {
            protocol: tuple(
                transport.port
                for transport in transports
                if transport.protocol is protocol and transport.port is not None
            )
            for protocol in Protocol
        }
        participant.clients.append(
            Client(
                deployment.service,
                number,
                udp_ports=ports[Protocol.UDP],
                tcp_ports=ports[Protocol.TCP],
            )
        )
