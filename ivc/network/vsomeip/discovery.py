# SPDX-License-Identifier: Apache-2.0
"""The section `service-discovery`."""

from dataclasses import fields as members_of
from ipaddress import IPv4Address
from typing import Any

from ivc.network import fields
from ivc.network.model import Endpoint, SdTiming, ServiceDiscovery, TtlFactor
from ivc.network.values import Place, Report, Table, Value, describe
from ivc.network.vsomeip.documents import Documents, merged, words

DEFAULT_SD = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.0"), 30490))

_MILLISECONDS = fields.whole("milliseconds")
_NUMBERS = {
    **dict.fromkeys(
        words(
            "initial_delay_min initial_delay_max repetitions_base_delay cyclic_offer_delay "
            "request_response_delay offer_debounce_time find_debounce_time "
            "find_initial_debounce_time stop_offer_watchdog_time offers_watchdog"
        ),
        _MILLISECONDS,
    ),
    "repetitions_max": fields.whole("a number of repetitions", 255),
    "find_initial_debounce_reps": fields.whole("a number of repetitions", 255),
    "max_remote_subscribers": fields.whole("a number of subscribers", 255, 1),
    "ttl": fields.whole("seconds", 0xFFFFFF, 1),
}
_KEYS = words("enable multicast port protocol") | {member.name for member in members_of(SdTiming)}
_INSTEAD = {"offer_watchdog_time": 'write "offers_watchdog"; vsomeip ignores this key'}
_STATES = frozenset({"suspended", "resumed"})


def read_service_discovery(
    documents: Documents, place: Place, report: Report
) -> tuple[ServiceDiscovery, Place]:
    """What a node says of service discovery, and where it would if it does not: in `place`."""
    table = merged(documents, "service-discovery", report)
    if table is None:
        return DEFAULT_SD, place.at("service-discovery")
    fields.warn_unknown(table, _KEYS, "service-discovery", report, _INSTEAD)
    _check_protocol(table.get("protocol"), report)
    enabled = fields.optional(table, "enable", fields.boolean, report)
    address = fields.optional(table, "multicast", fields.multicast, report)
    port = fields.optional(table, "port", fields.port, report)
    default = DEFAULT_SD.group
    group = Endpoint(address or default.address, port or default.port)
    return ServiceDiscovery(enabled is not False, group, _timing(table, report)), table.place


def _check_protocol(value: Value | None, report: Report) -> None:
    if value is None or fields.text(value, report, '"udp"') in {"udp", None}:
        return
    report.error(
        value.place, "bad-sd-protocol", describe(value), '"udp"', 'write "udp": SD has no other'
    )


def _timing(table: Table, report: Report) -> SdTiming:
    readers = {
        **_NUMBERS,
        "initial_state": _state,
        "wait_route_netlink_notification": fields.boolean,
        "ttl_factor_offers": _factors,
        "ttl_factor_subscriptions": _factors,
    }
    read: dict[str, Any] = {
        key: fields.optional(table, key, reader, report) for key, reader in readers.items()
    }
    timing = SdTiming(**{key: value for key, value in read.items() if value is not None})
    _check_delays(timing, table, report)
    _check_ttl(timing, table, report)
    return timing


def _state(value: Value, report: Report) -> str | None:
    written = fields.text(value, report)
    if written in _STATES or written in {"unknown", None}:
        return written if written in _STATES else None
    report.warning(
        value.place,
        "bad-state",
        describe(value),
        '"unknown", "suspended" or "resumed"',
        "write one of these; vsomeip takes anything else for unknown",
    )
    return None


def _factors(value: Value, report: Report) -> tuple[TtlFactor, ...]:
    return fields.each(value, _factor, report, "[ {...} ]")


def _factor(value: Value, report: Report) -> TtlFactor | None:
    entry = fields.table(value, report)
    if entry is None:
        return None
    fields.warn_unknown(entry, words("service instance ttl_factor"), "a TTL factor", report)
    service = fields.required(entry, "service", fields.identifier, '"0x..."', report)
    instance = fields.required(entry, "instance", fields.identifier, '"0x..."', report)
    read = fields.whole("a factor", least=1)
    factor = fields.required(entry, "ttl_factor", read, '"5"', report)
    if service is None or instance is None or factor is None:
        return None
    return TtlFactor(service, instance, factor)


def _check_delays(timing: SdTiming, table: Table, report: Report) -> None:
    if timing.initial_delay_min > timing.initial_delay_max:
        value = table.get("initial_delay_min") or table.items["initial_delay_max"]
        report.warning(
            value.place,
            "bad-delays",
            f"initial delays from {timing.initial_delay_min} to {timing.initial_delay_max} ms",
            "a minimum not above the maximum",
            "set both; vsomeip exchanges them",
        )


def _check_ttl(timing: SdTiming, table: Table, report: Report) -> None:
    if timing.ttl * 1000 > timing.cyclic_offer_delay or timing.cyclic_offer_delay == 0:
        return
    value = table.get("ttl") or table.items["cyclic_offer_delay"]
    report.warning(
        value.place,
        "short-ttl",
        f"offers that live {timing.ttl} s and are repeated every {timing.cyclic_offer_delay} ms",
        "a ttl longer than cyclic_offer_delay",
        "raise ttl (seconds) or lower cyclic_offer_delay (milliseconds); clients lose the "
        "service between two offers",
    )
