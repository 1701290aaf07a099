# SPDX-License-Identifier: Apache-2.0
"""The sections `routing` and `applications`: which programs there are, and who owns the sockets."""

from ivc.network import fields
from ivc.network.model import Application, GuestPorts, PortRange, Routing
from ivc.network.values import Report, Scalar, Table, Value
from ivc.network.vsomeip.documents import Documents, entries, first, words

_APPLICATION_KEYS = words(
    "name id max_dispatchers max_dispatch_time threads io_thread_nice status_log_interval "
    "version_log_interval request_debounce_time plugins debounce has_session_handling "
    "overlay event_loop_periodicity max_detached_thread_wait_time"
)
_HOST_PORT = 31490


def read_applications(documents: Documents, report: Report) -> tuple[Application, ...]:
    """The programs of the node; of each name the first definition."""
    found: dict[str, Application] = {}
    ids: dict[int, str] = {}
    for entry in entries(documents, "applications", report):
        application = _application(entry, report)
        if application is None:
            continue
        if found.setdefault(application.name, application) is not application:
            report.warning(
                entry.place,
                "duplicate-application",
                f"application {application.name!a} a second time",
                "each application once",
                "remove one of the two; vsomeip ignores the second",
            )
        elif application.id is not None:
            _check_id(entry, application, ids, report)
    return tuple(found.values())


def _application(entry: Table, report: Report) -> Application | None:
    fields.warn_unknown(entry, _APPLICATION_KEYS, "an application", report)
    name = fields.required(entry, "name", fields.text, '"hmi"', report)
    number = fields.optional(entry, "id", fields.identifier, report)
    return Application(name, number) if name is not None else None


def _check_id(entry: Table, application: Application, ids: dict[int, str], report: Report) -> None:
    owner = ids.setdefault(application.id or 0, application.name)
    if owner != application.name:
        report.warning(
            entry.items["id"].place,
            "duplicate-client-id",
            f"0x{application.id:04x}, the client id of application {owner!a} too",
            "one id for each application",
            "choose another id, or leave it out; vsomeip ignores the second",
        )


def read_routing(documents: Documents, report: Report) -> Routing | None:
    """The program that owns the node's sockets; None if none is named."""
    value = first(documents, "routing", report)
    if isinstance(value, Scalar):
        return Routing(value.text)
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return None
    fields.warn_unknown(table, words("host guests"), "routing", report)
    host = fields.required(table, "host", fields.table, '{ "name" : "hmi" }', report)
    guests = fields.optional(table, "guests", fields.table, report)
    return _routing(host, guests, report) if host is not None else None


def _routing(host: Table, guests: Table | None, report: Report) -> Routing:
    fields.warn_unknown(host, words("name uid gid unicast port"), "the routing host", report)
    if guests is not None:
        fields.warn_unknown(guests, words("unicast ports"), "the routing guests", report)
    address = guests and fields.optional(guests, "unicast", fields.unicast, report)
    return Routing(
        host=fields.optional(host, "name", fields.text, report) or "",
        uid=fields.optional(host, "uid", fields.user_id, report),
        gid=fields.optional(host, "gid", fields.user_id, report),
        address=fields.optional(host, "unicast", fields.unicast, report),
        port=fields.optional(host, "port", fields.any_port, report) or _HOST_PORT,
        guest_address=address or None,
        guest_ports=_guest_ports(guests, report),
    )


def _guest_ports(guests: Table | None, report: Report) -> tuple[GuestPorts, ...]:
    value = guests.get("ports") if guests is not None else None
    return fields.each(value, _guest, report, "[ {...} ]")


def _guest(value: Value, report: Report) -> GuestPorts | None:
    """Ports of one user, or a list of ranges for everybody."""
    if not isinstance(value, Table):
        return GuestPorts(None, None, _ranges(value, report))
    if {"first", "last"} & value.items.keys():
        _report_bare_range(value, report)
        return None
    fields.warn_unknown(value, words("uid gid ranges"), "ports of guests", report)
    uid = fields.required(value, "uid", fields.user_id, '"1000"', report)
    gid = fields.required(value, "gid", fields.user_id, '"1000"', report)
    return GuestPorts(uid, gid, _ranges(value.get("ranges"), report))


def _ranges(value: Value | None, report: Report) -> tuple[PortRange, ...]:
    return fields.each(value, fields.port_range, report, "[ {...} ]")


def _report_bare_range(value: Table, report: Report) -> None:
    report.warning(
        value.place,
        "ignored-range",
        "a range of ports right in the list",
        'a list of ranges, or { "uid" : ..., "gid" : ..., "ranges" : [ ... ] }',
        "put the range into brackets of its own, [ [ {...} ] ]; vsomeip ignores it here and "
        "takes 31492 to 31999",
    )
