# SPDX-License-Identifier: Apache-2.0
"""Where Classic ECUs send service discovery.

No element says so outright. It is the multicast socket that carries the PDU with the SD message id
as header id; in descriptions without PDUs, a multicast socket on SD's port.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ivc.network.arxml import values
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.arxml.events import multicast_group
from ivc.network.model import Endpoint, ServiceDiscovery
from ivc.network.values import Report

_SD_MESSAGE = 0xFFFF8100
_SD_PORT = 30490
_FIRST_OCTETS = frozenset(str(first) for first in range(224, 240))


@dataclass(frozen=True, slots=True)
class _Group:
    """A group, the physical channel it is on, and the ECUs that are members."""

    endpoint: Endpoint
    channel: str
    ecus: frozenset[str]


class SdGroups:
    """The multicast groups of service discovery in `document`."""

    def __init__(self, document: Document, report: Report) -> None:
        self._document = document
        with_pdu = {socket.path for socket in self._with_sd_pdu()}
        self._groups: list[_Group] = []
        for socket in document.of_kind("SOCKET-ADDRESS"):
            endpoint = socket.one("APPLICATION-ENDPOINT")
            if endpoint is None or not _may_be_multicast(endpoint, document):
                continue
            group = multicast_group(endpoint, document, report)
            if group is None or (with_pdu and socket.path not in with_pdu):
                continue
            if with_pdu or group.port == _SD_PORT:
                self._groups.append(_Group(group, socket.path.rpartition("/")[0], _ecus(socket)))

    def of(self, ecu: Element, channel: str) -> ServiceDiscovery | None:
        """Service discovery of an ECU on a physical channel: by a group that it is a member of,
        or by one that names no members, or by the only one there is."""
        here = [group for group in self._groups if group.channel == channel]
        mine = [group for group in here if ecu.path in group.ecus]
        shared = [group for group in here if not group.ecus]
        for groups in (mine, shared, here, self._groups):
            endpoints = {group.endpoint for group in groups}
            if len(endpoints) == 1:
                return ServiceDiscovery(True, endpoints.pop())
        return None

    def _with_sd_pdu(self) -> Iterator[Element]:
        """Sockets with a connection that carries the SD PDU."""
        pdus = {
            pdu.path
            for pdu in self._document.of_kind("SO-CON-I-PDU-IDENTIFIER")
            if _has_sd_header(pdu)
        }
        for socket in self._document.of_kind("SOCKET-ADDRESS"):
            for connection in socket.all("STATIC-SOCKET-CONNECTIONS", "STATIC-SOCKET-CONNECTION"):
                references = connection.every("SO-CON-I-PDU-IDENTIFIER-REF")
                if any(reference.text in pdus for reference in references):
                    yield socket
                    yield from self._sockets(connection, "SOCKET-ADDRESS-REF")
        for bundle in self._document.of_kind("SOCKET-CONNECTION-BUNDLE"):
            if any(map(_has_sd_header, bundle.every("SOCKET-CONNECTION-IPDU-IDENTIFIER"))):
                yield from self._sockets(bundle, "SERVER-PORT-REF")
                yield from self._sockets(bundle, "CLIENT-PORT-REF")

    def _sockets(self, element: Element, tag: str) -> list[Element]:
        return self._document.resolve_all(element.every(tag), "SOCKET-ADDRESS")


def _has_sd_header(pdu: Element) -> bool:
    header = pdu.one("HEADER-ID")
    return header is not None and values.parse(header.text) == _SD_MESSAGE


def _ecus(socket: Element) -> frozenset[str]:
    """Paths of the ECUs that are members; empty if the socket does not say."""
    references = (
        *socket.all("MULTICAST-CONNECTOR-REFS", "MULTICAST-CONNECTOR-REF"),
        *socket.all("CONNECTOR-REF"),
    )
    return frozenset(reference.text.rpartition("/")[0] for reference in references)


def _may_be_multicast(endpoint: Element, document: Document) -> bool:
    """Whether the address begins like one: sockets of clients may have "ANY", or none at all."""
    network_endpoint = document.named(endpoint.one("NETWORK-ENDPOINT-REF"))
    if network_endpoint is None:
        return False
    address = network_endpoint.one(
        "NETWORK-ENDPOINT-ADDRESSES", "IPV-4-CONFIGURATION", "IPV-4-ADDRESS"
    )
    return address is not None and address.text[:3] in _FIRST_OCTETS
