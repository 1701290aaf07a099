# SPDX-License-Identifier: Apache-2.0
"""The section `services`: what the node offers, and what it knows of others."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from ivc.network import fields
from ivc.network.config import Port, ServiceConfig
from ivc.network.model import Protocol, ServiceInstance
from ivc.network.values import Place, Report, Table, Value, describe
from ivc.network.vsomeip.documents import Documents, entries, words
from ivc.network.vsomeip.events import read_eventgroups, read_events
from ivc.network.vsomeip.transport import read_debounces, read_segmentations

# `major` and `minor` are old keys; the versions are the application's, but good to know.
_SERVICE_KEYS = words(
    "service instance unicast reliable unreliable protocol events eventgroups debounce-times "
    "someip-tp multicast major minor"
)
_GROUPS = '"servicegroups" are not read since vsomeip 3.6: move the services into "services"'


def read_services(documents: Documents, report: Report) -> Iterator[ServiceConfig]:
    """The services of all documents; of each instance the first definition."""
    seen: dict[tuple[int, int], Place] = {}
    for table in (*entries(documents, "services", report), *_grouped(documents, report)):
        service = _service(table, report)
        if service is not None and not _is_repeated(service, seen, report):
            yield service


def _grouped(documents: Documents, report: Report) -> Iterator[Table]:
    """Services as old releases had them, in groups."""
    for group in entries(documents, "servicegroups", report):
        report.warning(group.place, "ignored-key", "a service group", "services", _GROUPS)
        yield from entries([group], "services", report)


def _is_repeated(
    service: ServiceConfig, seen: dict[tuple[int, int], Place], report: Report
) -> bool:
    instance = service.instance
    first = seen.setdefault((instance.service, instance.instance), service.place)
    if first is service.place:
        return False
    report.warning(
        service.place,
        "duplicate-service",
        f"service {instance} a second time",
        f"it once (the first is at {first.file}:{first.line})",
        "remove or renumber one; vsomeip ignores the second",
    )
    return True


def _service(table: Table, report: Report) -> ServiceConfig | None:
    fields.warn_unknown(table, _SERVICE_KEYS, "a service", report)
    _check_multicast(table, report)
    service = fields.required(table, "service", fields.own_id, '"0x..."', report)
    instance = fields.required(table, "instance", fields.own_id, '"0x..."', report)
    ports = tuple(_ports(table, report))
    tp_requests, tp_responses = read_segmentations(table, report)
    debounce_requests, debounce_responses = read_debounces(table, report)
    protocol = fields.optional(table, "protocol", fields.text, report)
    complete = ServiceInstance(
        service=service or 0,
        instance=instance or 0,
        node=None,
        major=fields.optional(table, "major", fields.up_to(0xFF), report),
        minor=fields.optional(table, "minor", fields.up_to(0xFFFFFFFF), report),
        events=read_events(table, {port.protocol for port in ports}, report),
        eventgroups=read_eventgroups(table, report),
        protocol="someip" if protocol is None else protocol,
        magic_cookies=_magic_cookies(table.get("reliable"), report),
        tp_requests=tp_requests,
        tp_responses=tp_responses,
        debounce_requests=debounce_requests,
        debounce_responses=debounce_responses,
    )
    address = _unicast(table, report)
    if service is None or instance is None:
        return None
    return ServiceConfig(table.place, complete, address, ports)


def _check_multicast(table: Table, report: Report) -> None:
    if (value := table.get("multicast")) is not None:
        report.warning(
            value.place,
            "ignored-multicast",
            '"multicast" of a service',
            '"multicast" of an eventgroup',
            "move it into the eventgroup; vsomeip ignores it here",
        )


def _unicast(table: Table, report: Report) -> IPv4Address | None:
    """The address of a service elsewhere; vsomeip takes 127.0.0.1 and "local" for the node's."""
    value = table.get("unicast")
    if value is None or describe(value) in {'"local"', '""'}:
        return None
    address = fields.unicast(value, report)
    return None if address is not None and address.is_loopback else address


def _ports(table: Table, report: Report) -> Iterator[Port]:
    for key, protocol in (("unreliable", Protocol.UDP), ("reliable", Protocol.TCP)):
        value = table.get(key)
        if key == "reliable" and isinstance(value, Table):
            value = _port_member(value, report)
        number = fields.port(value, report) if value is not None else None
        if value is not None and number is not None:
            yield Port(protocol, number, value.place)


def _port_member(table: Table, report: Report) -> Value | None:
    """The port in { "port" : "30510", "enable-magic-cookies" : "true" }."""
    fields.warn_unknown(table, words("port enable-magic-cookies"), "a port", report)
    fields.required(table, "port", lambda value, _: value, '"30510"', report)
    return table.get("port")


def _magic_cookies(reliable: Value | None, report: Report) -> bool:
    if not isinstance(reliable, Table):
        return False
    return bool(fields.optional(reliable, "enable-magic-cookies", fields.boolean, report))
