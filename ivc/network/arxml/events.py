# SPDX-License-Identifier: Apache-2.0
"""Events and eventgroups of Classic service instances.

An EVENT-HANDLER is an eventgroup of the server. Its events are the PDUs it switches on and off: a
PDU's header id is the SOME/IP message id, service and event.
"""

from collections import defaultdict
from collections.abc import Iterator

from ivc.errors import Severity
from ivc.network.arxml import sockets, values
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.model import Endpoint, Event, Eventgroup
from ivc.network.values import Report, quote

_EVENT_BIT = 0x8000


class Events:
    """Finds the eventgroups of service instances in `document`."""

    def __init__(self, document: Document, report: Report) -> None:
        self._document = document
        self._report = report
        self._routed: dict[str, list[Element]] = defaultdict(list)  # by routing group
        for identifier in document.of_kind("SOCKET-CONNECTION-IPDU-IDENTIFIER"):
            for reference in identifier.every("ROUTING-GROUP-REF"):
                self._routed[reference.text].append(identifier)

    def of(
        self, instance: Element, service: int | None, over_tcp: bool
    ) -> tuple[tuple[Event, ...], tuple[Eventgroup, ...]]:
        """Events and eventgroups of a provided service instance, sorted by id.

        `over_tcp` says how events of the old modelling travel, whose PDUs do not say it.
        """
        events: dict[int, Event] = {}
        groups: dict[int, Eventgroup] = {}
        for handler in instance.all("EVENT-HANDLERS", "EVENT-HANDLER"):
            own = sorted(self._events(handler, service, over_tcp), key=lambda event: event.event)
            events |= {event.event: event for event in own}
            group = self._group(handler, tuple(dict.fromkeys(event.event for event in own)))
            if group is not None:
                groups[group.eventgroup] = group
        return (
            tuple(events[key] for key in sorted(events)),
            tuple(groups[key] for key in sorted(groups)),
        )

    def _events(self, handler: Element, service: int | None, over_tcp: bool) -> Iterator[Event]:
        for kind, reliable in (("UDP", False), ("TCP", True)):
            references = handler.every(f"I-PDU-IDENTIFIER-{kind}-REF")
            for pdu in self._document.resolve_all(references, "SO-CON-I-PDU-IDENTIFIER"):
                yield from self._event(pdu, service, reliable)
        references = handler.all("ROUTING-GROUP-REFS", "ROUTING-GROUP-REF")
        for routing in self._document.resolve_all(references, "SO-AD-ROUTING-GROUP"):
            for pdu in self._routed[routing.path]:
                yield from self._event(pdu, service, over_tcp)

    def _event(self, pdu: Element, service: int | None, reliable: bool) -> Iterator[Event]:
        header = values.number(
            values.leaf(pdu, "HEADER-ID", self._report), self._report, 0xFFFFFFFF
        )
        if header is not None and header >> 16 == service and header & _EVENT_BIT:
            yield Event(header & 0xFFFF, is_reliable=reliable)

    def _group(self, handler: Element, events: tuple[int, ...]) -> Eventgroup | None:
        report = self._report
        consumed = self._document.resolve_all(
            handler.all("CONSUMED-EVENT-GROUP-REFS", "CONSUMED-EVENT-GROUP-REF"),
            "CONSUMED-EVENT-GROUP",
            severity=Severity.WARNING,  # the extract of one ECU may lack its clients
        )
        found = values.leaf(handler, "EVENT-GROUP-IDENTIFIER", report) or next(
            (id for group in consumed if (id := group.one("EVENT-GROUP-IDENTIFIER"))), None
        )
        if found is None:
            report.warning(
                handler.place,
                "no-eventgroup-id",
                f"EVENT-HANDLER {quote(handler.name)} without id",
                "EVENT-GROUP-IDENTIFIER, of itself or of a CONSUMED-EVENT-GROUP it refers to",
                "add it; the eventgroup is left out",
            )
            return None
        number = values.identifier(found, report)
        threshold = values.number(handler.one("MULTICAST-THRESHOLD"), report, 255)
        multicast = self._multicast([handler, *consumed])
        if multicast is not None and not threshold:
            report.warning(
                handler.place,
                "unused-multicast",
                "a multicast group without MULTICAST-THRESHOLD",
                "the number of subscribers from which on to use it",
                "add MULTICAST-THRESHOLD; without it the group is never used",
            )
        if number is None:
            return None
        return Eventgroup(number, events, multicast, threshold or 0)

    def _multicast(self, elements: list[Element]) -> Endpoint | None:
        """The first multicast endpoint any of the elements refers to."""
        references = [
            reference
            for element in elements
            for reference in (
                *element.all("APPLICATION-ENDPOINT-REF"),
                *element.all(
                    "EVENT-MULTICAST-ADDRESSS",
                    "APPLICATION-ENDPOINT-REF-CONDITIONAL",
                    "APPLICATION-ENDPOINT-REF",
                ),
            )
        ]
        for endpoint in self._document.resolve_all(references, "APPLICATION-ENDPOINT"):
            group = multicast_group(endpoint, self._document, self._report)
            if group is not None:
                return group
        return None


def multicast_group(endpoint: Element, document: Document, report: Report) -> Endpoint | None:
    """Multicast group and port of an application endpoint; None if its address is unicast."""
    network_endpoint = document.resolve(endpoint.one("NETWORK-ENDPOINT-REF"), "NETWORK-ENDPOINT")
    if network_endpoint is None:
        return None
    interface = sockets.interface(network_endpoint, report)
    transport = sockets.transport(endpoint, report)
    if interface is None or transport is None:
        return None
    return sockets.group(interface.address, transport.port)
