# SPDX-License-Identifier: Apache-2.0
"""A SOME/IP service interface deployment: the ids of a service, its events and eventgroups."""

from dataclasses import dataclass

from ivc.network.arxml import values
from ivc.network.arxml.document import Document
from ivc.network.arxml.element import Element
from ivc.network.model import Event, Eventgroup
from ivc.network.values import Report


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment says; eventgroups with the path they are referred to by."""

    service: int
    major: int | None
    minor: int | None
    events: tuple[Event, ...]
    eventgroups: tuple[tuple[str, Eventgroup], ...]


def read_deployment(deployment: Element, document: Document, report: Report) -> Deployment | None:
    """Read a SOMEIP-SERVICE-INTERFACE-DEPLOYMENT; None without a service id."""
    found = values.required(deployment, "SERVICE-INTERFACE-ID", report)
    service = values.identifier(found, report)
    version = deployment.one("SERVICE-INTERFACE-VERSION")
    major = version.one("MAJOR-VERSION") if version is not None else None
    minor = version.one("MINOR-VERSION") if version is not None else None
    events = _events(deployment, report)
    groups = _eventgroups(deployment, events, document, report)
    if service is None:
        return None
    return Deployment(
        service,
        values.number(major, report, 0xFF),
        values.number(minor, report, 0xFFFFFFFF),
        tuple(sorted(events.values())),
        groups,
    )


def _events(deployment: Element, report: Report) -> dict[str, Event]:
    """Events and notifiers of fields, by path."""
    events = {}
    fields = deployment.all("FIELD-DEPLOYMENTS", "SOMEIP-FIELD-DEPLOYMENT", "NOTIFIER")
    found = [(event, True) for event in fields]
    found += [
        (event, False) for event in deployment.all("EVENT-DEPLOYMENTS", "SOMEIP-EVENT-DEPLOYMENT")
    ]
    for event, is_field in found:
        number = values.identifier(values.required(event, "EVENT-ID", report), report)
        protocol = event.one("TRANSPORT-PROTOCOL")
        if number is not None:
            reliable = protocol is not None and protocol.text == "TCP"
            events[event.path] = Event(number, is_field, reliable)
    return events


def _eventgroups(
    deployment: Element, events: dict[str, Event], document: Document, report: Report
) -> tuple[tuple[str, Eventgroup], ...]:
    groups = []
    for group in deployment.all("EVENT-GROUPS", "SOMEIP-EVENT-GROUP"):
        number = values.identifier(values.required(group, "EVENT-GROUP-ID", report), report)
        members = document.resolve_all(
            group.all("EVENT-REFS", "EVENT-REF"), "SOMEIP-EVENT-DEPLOYMENT", "NOTIFIER"
        )
        ids = sorted(events[member.path].event for member in members if member.path in events)
        if number is not None:
            groups.append((group.path, Eventgroup(number, tuple(ids))))
    return tuple(sorted(groups, key=lambda item: item[1].eventgroup))
