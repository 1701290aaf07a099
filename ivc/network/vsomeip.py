# SPDX-License-Identifier: Apache-2.0
"""Read a node from vsomeip JSON, as vsomeip 3 would read it.

One node may be spread over several documents (a configuration folder): the first definition of a
setting counts, services of all documents are taken together. Only what a plan needs is read; what
vsomeip would pass over in silence is a finding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from ivc.network import fields
from ivc.network.model import Endpoint, Event, Eventgroup, Protocol, ServiceDiscovery
from ivc.network.values import Array, Place, Report, Table, Value, describe

DEFAULT_NETMASK = IPv4Address("255.255.255.0")
DEFAULT_SD = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.0"), 30490))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every key vsomeip 3 knows, also those a plan has no use for: anything else is a slip.
_TOP_KEYS = _words(
    "unicast netmask prefix device network diagnosis diagnosis_mask routing uds-preferred "
    "applications services servicegroups internal_services clients service-discovery "
    "npdu-default-timings max-payload-size-local max-payload-size-reliable "
    "max-payload-size-unreliable buffer-shrink-threshold payload-sizes "
    "endpoint-queue-limit-external endpoint-queue-limit-local endpoint-queue-limits "
    "udp-receive-buffer-size network-options tcp-restart-aborts-max tcp-connect-time-max "
    "file-permissions security acceptances secure-services partitions "
    "supports_selective_broadcasts request_debounce_time dispatching logging tracing watchdog "
    "local-clients-keepalive e2e plugins routing-credentials shutdown_timeout "
    "security-update-whitelist suppress_missing_event_logs"
)
_SERVICE_KEYS = _words(
    "service instance unicast reliable unreliable protocol events eventgroups debounce-times "
    "someip-tp multicast major minor"
)
_EVENT_KEYS = _words("event is_field is_reliable cycle change_resets_cycle update_on_change")
_EVENTGROUP_KEYS = _words("eventgroup events multicast threshold is_multicast")
_SD_KEYS = _words(
    "enable multicast port protocol initial_delay_min initial_delay_max repetitions_base_delay "
    "repetitions_max ttl cyclic_offer_delay request_response_delay find_initial_debounce_reps "
    "find_initial_debounce_time offer_debounce_time find_debounce_time ttl_factor_offers "
    "ttl_factor_subscriptions max_remote_subscribers initial_state "
    "wait_route_netlink_notification stop_offer_watchdog_time offers_watchdog"
)


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service and where it was written."""

    protocol: Protocol
    port: int
    place: Place


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One entry of `services`. `unicast` is None for a service of this very node."""

    place: Place
    service: int
    instance: int
    unicast: IPv4Address | None
    ports: tuple[Port, ...]
    major: int | None
    minor: int | None
    events: tuple[Event, ...]
    eventgroups: tuple[Eventgroup, ...]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the documents of one node say.

    `names` are those a mapping may call it by: of its folder and files, then of applications.
    """

    names: tuple[str, ...]
    place: Place
    unicast: IPv4Address | None
    unicast_place: Place
    netmask: IPv4Address
    sd: ServiceDiscovery
    sd_place: Place
    services: tuple[ServiceConfig, ...]


def read_node(names: Sequence[str], documents: Sequence[Table], report: Report) -> NodeConfig:
    """Read one node, called `names` by its files; there is at least one name and document."""
    for document in documents:
        fields.warn_unknown(document, _TOP_KEYS, "a vsomeip configuration", report)
    unicast = _first(documents, "unicast", report)
    sd = _first(documents, "service-discovery", report)
    place = documents[0].place
    services = tuple(_services(documents, report))
    _check_npdu(documents, place, services, report)
    return NodeConfig(
        names=(*names, *_applications(documents, report)),
        place=place,
        unicast=_unicast(unicast, place, report),
        unicast_place=unicast.place if unicast else place.at("unicast"),
        netmask=_netmask(documents, report),
        sd=_service_discovery(sd, report),
        sd_place=sd.place if sd else place.at("service-discovery"),
        services=services,
    )


def _first(documents: Sequence[Table], key: str, report: Report) -> Value | None:
    """The first definition of a setting; later ones are ignored by vsomeip, and noted."""
    found = [value for document in documents if (value := document.get(key)) is not None]
    for later in found[1:]:
        report.warning(
            later.place,
            "second-definition",
            f'another "{key}"',
            f"one in the whole folder (the first is in {found[0].place.file})",
            "remove one of the two; the first one counts",
        )
    return found[0] if found else None


def _unicast(value: Value | None, place: Place, report: Report) -> IPv4Address | None:
    if value is not None:
        return fields.unicast(value, report)
    report.error(
        place.at("unicast"),
        "no-unicast",
        'no "unicast"',
        "the node's own address",
        'write "unicast" : "ADDRESS"; vsomeip would use 127.0.0.1 and talk to nobody outside',
    )
    return None


def _netmask(documents: Sequence[Table], report: Report) -> IPv4Address:
    mask = _first(documents, "netmask", report)
    prefix = _first(documents, "prefix", report)
    found = None
    if mask is not None:
        found = fields.netmask(mask, report)
    elif prefix is not None:
        found = fields.prefix(prefix, report)
    return found if found is not None else DEFAULT_NETMASK


def _applications(documents: Sequence[Table], report: Report) -> tuple[str, ...]:
    entries = (
        entry.get("name")
        for document in documents
        for entry in fields.tables(document.get("applications"), report)
    )
    names = (fields.text(name, report) for name in entries if name is not None)
    return tuple(name for name in names if name is not None)


def _service_discovery(value: Value | None, report: Report) -> ServiceDiscovery:
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return DEFAULT_SD
    fields.warn_unknown(table, _SD_KEYS, "service-discovery", report)
    _check_sd_protocol(table.get("protocol"), report)
    enable, group, port = table.get("enable"), table.get("multicast"), table.get("port")
    enabled = fields.boolean(enable, report) if enable is not None else None
    address = fields.multicast(group, report) if group is not None else None
    number = fields.port(port, report) if port is not None else None
    default = DEFAULT_SD.group
    endpoint = Endpoint(address or default.address, number or default.port)
    return ServiceDiscovery(enabled is not False, endpoint)


def _check_sd_protocol(value: Value | None, report: Report) -> None:
    if value is None or fields.text(value, report, '"udp"') in {"udp", None}:
        return
    report.error(
        value.place, "bad-sd-protocol", describe(value), '"udp"', 'write "udp": SD has no other'
    )


def _check_npdu(
    documents: Sequence[Table], place: Place, services: Sequence[ServiceConfig], report: Report
) -> None:
    if not services or any("npdu-default-timings" in document.items for document in documents):
        return
    report.warning(
        place.at("npdu-default-timings"),
        "npdu-defaults",
        'no "npdu-default-timings"',
        "the times vsomeip may hold messages back",
        "set debounce-time-request, debounce-time-response, max-retention-time-request and "
        'max-retention-time-response to "0"; the defaults add 10 ms to every round trip',
    )


def _services(documents: Sequence[Table], report: Report) -> Iterator[ServiceConfig]:
    seen: dict[tuple[int, int], Place] = {}
    for document in documents:
        for table in fields.tables(document.get("services"), report):
            service = _service(table, report)
            if service is None or _is_repeated(service, seen, report):
                continue
            yield service


def _is_repeated(
    service: ServiceConfig, seen: dict[tuple[int, int], Place], report: Report
) -> bool:
    first = seen.setdefault((service.service, service.instance), service.place)
    if first is service.place:
        return False
    report.warning(
        service.place,
        "duplicate-service",
        f"service 0x{service.service:04x} instance 0x{service.instance:04x} a second time",
        f"it once (the first is at {first.file}:{first.line})",
        "remove or renumber one; vsomeip ignores the second",
    )
    return True


def _service(table: Table, report: Report) -> ServiceConfig | None:
    fields.warn_unknown(table, _SERVICE_KEYS, "a service", report)
    _check_service_multicast(table, report)
    service = _required_id(table, "service", report)
    instance = _required_id(table, "instance", report)
    unicast = table.get("unicast")
    ports = tuple(_ports(table, report))
    address = fields.unicast(unicast, report) if unicast is not None else None
    major = _optional_id(table, "major", 0xFF, report)
    minor = _optional_id(table, "minor", 0xFFFFFFFF, report)
    events = tuple(_events(table, report))
    groups = tuple(_eventgroups(table, report))
    if service is None or instance is None:
        return None
    return ServiceConfig(
        table.place, service, instance, address, ports, major, minor, events, groups
    )


def _check_service_multicast(table: Table, report: Report) -> None:
    if (value := table.get("multicast")) is not None:
        report.warning(
            value.place,
            "ignored-multicast",
            '"multicast" of a service',
            '"multicast" of an eventgroup',
            "move it into the eventgroup; vsomeip ignores it here",
        )


def _required_id(table: Table, key: str, report: Report) -> int | None:
    value = table.get(key)
    if value is not None:
        return fields.identifier(value, report)
    report.error(table.place.at(key), "missing", f'no "{key}"', "an id", f'write "{key}" : "0x..."')
    return None


def _optional_id(table: Table, key: str, largest: int, report: Report) -> int | None:
    value = table.get(key)
    return fields.identifier(value, report, largest) if value is not None else None


def _ports(table: Table, report: Report) -> Iterator[Port]:
    for key, protocol in (("unreliable", Protocol.UDP), ("reliable", Protocol.TCP)):
        value = table.get(key)
        if isinstance(value, Table):  # { "port" : "30510", "enable-magic-cookies" : "true" }
            value = _port_member(value, report)
        number = fields.port(value, report) if value is not None else None
        if value is not None and number is not None:
            yield Port(protocol, number, value.place)


def _port_member(table: Table, report: Report) -> Value | None:
    fields.warn_unknown(table, frozenset({"port", "enable-magic-cookies"}), "a port", report)
    if (value := table.get("port")) is None:
        report.error(
            table.place.at("port"), "missing", 'no "port"', "a port", 'write "port" : "30510"'
        )
    return value


def _events(table: Table, report: Report) -> Iterator[Event]:
    for entry in fields.tables(table.get("events"), report):
        fields.warn_unknown(entry, _EVENT_KEYS, "an event", report)
        event = _required_id(entry, "event", report)
        is_field = entry.get("is_field")
        is_reliable = entry.get("is_reliable")
        field = fields.boolean(is_field, report) if is_field is not None else None
        reliable = fields.boolean(is_reliable, report) if is_reliable is not None else None
        if event is not None:
            yield Event(event, bool(field), bool(reliable))


def _eventgroups(table: Table, report: Report) -> Iterator[Eventgroup]:
    for entry in fields.tables(table.get("eventgroups"), report):
        fields.warn_unknown(entry, _EVENTGROUP_KEYS, "an eventgroup", report)
        group = _required_id(entry, "eventgroup", report)
        at = entry.get("threshold")
        threshold = fields.number(at, report, "a threshold", 255) if at is not None else None
        multicast = _group_endpoint(entry.get("multicast"), report)
        if multicast is not None and not threshold:
            _warn_threshold(entry, report)
        if group is not None:
            yield Eventgroup(group, _event_ids(entry, report), multicast, threshold or 0)


def _warn_threshold(entry: Table, report: Report) -> None:
    report.warning(
        entry.place.at("threshold"),
        "unused-multicast",
        "a multicast group with threshold 0",
        "the number of subscribers from which on to use it",
        'write "threshold" : "1"; with 0 the group is never used',
    )


def _event_ids(entry: Table, report: Report) -> tuple[int, ...]:
    value = entry.get("events")
    if value is None:
        return ()
    if not isinstance(value, Array):
        report.error(
            value.place, "bad-type", describe(value), "a list of event ids", 'write [ "0x8001" ]'
        )
        return ()
    ids = (fields.identifier(item, report) for item in value.items)
    return tuple(event for event in ids if event is not None)


def _group_endpoint(value: Value | None, report: Report) -> Endpoint | None:
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return None
    fields.warn_unknown(table, frozenset({"address", "port"}), "a multicast group", report)
    address, port = table.get("address"), table.get("port")
    for key, member in (("address", address), ("port", port)):
        if member is None:
            report.error(
                table.place.at(key), "missing", f'no "{key}"', f"the group's {key}", f'add "{key}"'
            )
    group = fields.multicast(address, report) if address is not None else None
    number = fields.port(port, report) if port is not None else None
    return Endpoint(group, number) if group is not None and number is not None else None
