# SPDX-License-Identifier: Apache-2.0
"""Events and eventgroups of a service."""

from collections.abc import Set

from ivc.network import fields
from ivc.network.model import Endpoint, Event, Eventgroup, Protocol
from ivc.network.values import Array, Report, Table, Value
from ivc.network.vsomeip.documents import entries, words

_EVENT_KEYS = words("event is_field is_reliable cycle change_resets_cycle update_on_change")
_EVENT_INSTEAD = {"update-cycle": 'write "cycle" (milliseconds); vsomeip ignores this key'}
_EVENTGROUP_KEYS = words("eventgroup events multicast threshold")
_EVENTGROUP_INSTEAD = {
    "is_multicast": 'write "multicast" : { "address" : ..., "port" : ... } and "threshold"; '
    "vsomeip ignores this key"
}
_CYCLE = fields.whole("milliseconds between two notifications")
_THRESHOLD = fields.whole("a number of subscribers", 255)


def read_events(service: Table, protocols: Set[Protocol], report: Report) -> tuple[Event, ...]:
    """The events of a service that has ports of `protocols`; the first definition of each."""
    events: dict[int, Event] = {}
    for entry in entries([service], "events", report):
        event = _event(entry, protocols, report)
        if event is not None and events.setdefault(event.event, event) is not event:
            report.warning(
                entry.place,
                "duplicate-event",
                f"event 0x{event.event:04x} a second time",
                "each event once",
                "remove or renumber one; vsomeip ignores the second",
            )
    return tuple(events.values())


def _event(entry: Table, protocols: Set[Protocol], report: Report) -> Event | None:
    fields.warn_unknown(entry, _EVENT_KEYS, "an event", report, _EVENT_INSTEAD)
    event = fields.required(entry, "event", fields.own_id, '"0x8001"', report)
    reliable = fields.optional(entry, "is_reliable", fields.boolean, report)
    resets = fields.optional(entry, "change_resets_cycle", fields.boolean, report)
    on_change = fields.optional(entry, "update_on_change", fields.boolean, report)
    if reliable is None:
        reliable = protocols == {Protocol.TCP}
    else:
        _check_transport(entry, reliable, protocols, report)
    if not event:  # nobody can tell, or 0: vsomeip drops it
        return None
    return Event(
        event,
        is_field=bool(fields.optional(entry, "is_field", fields.boolean, report)),
        is_reliable=reliable,
        cycle=fields.optional(entry, "cycle", _CYCLE, report) or 0,
        change_resets_cycle=bool(resets),
        update_on_change=on_change is not False,
    )


def _check_transport(
    entry: Table, reliable: bool, protocols: Set[Protocol], report: Report
) -> None:
    needed = Protocol.TCP if reliable else Protocol.UDP
    if protocols and needed not in protocols:
        key = "reliable" if reliable else "unreliable"
        report.warning(
            entry.items["is_reliable"].place,
            "event-without-port",
            f"an event sent by {needed.upper()} of a service without such a port",
            f'"{key}" in the service',
            f'give the service a port "{key}", or change is_reliable; no node gets this event',
        )


def read_eventgroups(service: Table, report: Report) -> tuple[Eventgroup, ...]:
    """The eventgroups of a service; the last definition of each."""
    groups: dict[int, Eventgroup] = {}
    for entry in entries([service], "eventgroups", report):
        group = _eventgroup(entry, service, report)
        if group is None:
            continue
        if group.eventgroup in groups:
            report.warning(
                entry.place,
                "duplicate-eventgroup",
                f"eventgroup 0x{group.eventgroup:04x} a second time",
                "each eventgroup once",
                "put all of it into one entry; vsomeip keeps the last",
            )
        groups[group.eventgroup] = group
    return tuple(groups.values())


def _eventgroup(entry: Table, service: Table, report: Report) -> Eventgroup | None:
    fields.warn_unknown(entry, _EVENTGROUP_KEYS, "an eventgroup", report, _EVENTGROUP_INSTEAD)
    threshold = fields.optional(entry, "threshold", _THRESHOLD, report)
    multicast = fields.optional(entry, "multicast", _group, report)
    if multicast is not None:
        _check_multicast(entry, threshold, service, report)
    events = fields.each(entry.get("events"), fields.identifier, report, '[ "0x8001" ]')
    _check_first_only(entry.get("events"), report)
    if "multicast" in entry.items and "eventgroup" not in entry.items:
        _report_group_alone(entry, report)
        return None
    group = fields.required(entry, "eventgroup", fields.own_id, '"0x0001"', report)
    return Eventgroup(group, events, multicast, threshold or 0) if group else None


def _report_group_alone(entry: Table, report: Report) -> None:
    report.error(
        entry.place.at("eventgroup"),
        "group-without-eventgroup",
        'a multicast group without "eventgroup"',
        "the eventgroup it is for",
        'write "eventgroup" : "0x..."; vsomeip drops the whole entry',
    )


def _check_first_only(value: Value | None, report: Report) -> None:
    if isinstance(value, Array) and len(value.items) > 1:
        others = len(value.items) - 1
        report.warning(
            value.items[1].place,
            "first-event-only",
            f"{others} more event{'s' if others > 1 else ''} in an eventgroup",
            "one: vsomeip reads the first and loses the others",
            "make sure the application names this eventgroup in offer_event() for each of them",
        )


def _check_multicast(entry: Table, threshold: int | None, service: Table, report: Report) -> None:
    if threshold == 0 or "threshold" not in entry.items:
        report.warning(
            entry.place.at("threshold"),
            "unused-multicast",
            "a multicast group with threshold 0",
            "the number of subscribers from which on to use it",
            'write "threshold" : "1"; with 0 the group is never used',
        )
    if "reliable" in service.items and "unreliable" not in service.items:
        report.warning(
            entry.items["multicast"].place,
            "multicast-without-udp",
            "a multicast group of a service without UDP port",
            '"unreliable" in the service',
            'give the service a port "unreliable", or remove the group; it is never used',
        )


def _group(value: Value, report: Report) -> Endpoint | None:
    table = fields.table(value, report)
    if table is None:
        return None
    fields.warn_unknown(table, words("address port"), "a multicast group", report)
    address = fields.required(table, "address", fields.multicast, '"224.225.226.233"', report)
    port = fields.required(table, "port", fields.port, '"32344"', report)
    return Endpoint(address, port) if address is not None and port is not None else None
