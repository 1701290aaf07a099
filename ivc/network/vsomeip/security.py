# SPDX-License-Identifier: Apache-2.0
"""Who may, and how it is protected: security, acceptances, secure services, E2E, partitions."""

from collections.abc import Iterator

from ivc.network import fields
from ivc.network.model import (
    Acceptance,
    E2eProtection,
    InternalServices,
    PortRange,
    Security,
    ServiceRef,
)
from ivc.network.values import Array, Report, Scalar, Table, Value, describe
from ivc.network.vsomeip.documents import Documents, entries, merged, words

_POLICY_KEYS = words("credentials allow deny")
_E2E_KEYS = words("service_id event_id variant profile")
_E2E_PARAMETERS = words(
    "crc_offset counter_offset data_id data_id_mode data_id_nibble_offset data_length "
    "min_data_length max_data_length max_delta_counter"
)
_VARIANTS = frozenset({"protector", "checker", "both"})
_PROFILES = frozenset({"CRC8", "CRC32", "P04", "P05", "P07"})


def read_security(documents: Documents, report: Report) -> Security | None:
    """The rules for programs of the node; None where the section is absent."""
    table = merged(documents, "security", report)
    if table is None:
        return None
    known = words("check_credentials allow_remote_clients policies")
    fields.warn_unknown(table, known, "security", report)
    policies = entries([table], "policies", report)
    for policy in policies:
        fields.warn_unknown(policy, _POLICY_KEYS, "a policy", report)
        if {"allow", "deny"} <= policy.items.keys():
            report.warning(
                policy.place,
                "allow-and-deny",
                '"allow" and "deny" in one policy',
                "one of them",
                "make two policies of it; to vsomeip the second of the two overrides the first",
            )
    enforced = fields.optional(table, "check_credentials", fields.boolean, report)
    remote = fields.optional(table, "allow_remote_clients", fields.boolean, report)
    return Security(bool(enforced), remote is not False, len(policies))


def service_ref(value: Value, report: Report) -> ServiceRef | None:
    """An object with the ids `service` and `instance`."""
    table = fields.table(value, report)
    if table is None:
        return None
    fields.warn_unknown(table, words("service instance"), "a service instance", report)
    service = fields.required(table, "service", fields.own_id, '"0x..."', report)
    instance = fields.required(table, "instance", fields.own_id, '"0x..."', report)
    if service is None or instance is None:
        return None
    return ServiceRef(service, instance)


def read_secure_services(documents: Documents, report: Report) -> tuple[ServiceRef, ...]:
    """Services accepted on secure ports only."""
    return _refs(documents, "secure-services", service_ref, report)


def _partition(value: Value, report: Report) -> tuple[ServiceRef, ...] | None:
    return fields.each(value, service_ref, report, "[ {...} ]") or None


def read_partitions(documents: Documents, report: Report) -> tuple[tuple[ServiceRef, ...], ...]:
    """Groups of services whose clients use sockets of their own."""
    return _refs(documents, "partitions", _partition, report)


def _refs(
    documents: Documents, key: str, read: fields.Reader[fields.T], report: Report
) -> tuple[fields.T, ...]:
    lists = (fields.each(document.get(key), read, report, "[ ... ]") for document in documents)
    return tuple(item for found in lists for item in found)


# ---- services never looked for outside --------------------------------------------------------


def read_internal_services(documents: Documents, report: Report) -> tuple[InternalServices, ...]:
    """Ranges of services; ids are always hex there."""
    found = (_internal(entry, report) for entry in entries(documents, "internal_services", report))
    return tuple(services for services in found if services is not None)


def _internal(entry: Table, report: Report) -> InternalServices | None:
    fields.warn_unknown(entry, words("first last"), "internal services", report)
    first = fields.required(entry, "first", lambda v, r: _bound(v, 0, r), '"0x..."', report)
    last = fields.required(entry, "last", lambda v, r: _bound(v, 0xFFFF, r), '"0x..."', report)
    if first is None or last is None:
        return None
    if first.service <= last.service and first.instance <= last.instance:
        return InternalServices(first, last)
    report.error(
        entry.place,
        "bad-range",
        f"{first} to {last}",
        "a first id that is not above the last",
        "exchange the two; vsomeip ignores this range",
    )
    return None


def _bound(value: Value, instance: int, report: Report) -> ServiceRef | None:
    if not isinstance(value, Table):
        service = fields.hex_id(value, report)
        return ServiceRef(service, instance) if service is not None else None
    fields.warn_unknown(value, words("service instance"), "a service instance", report)
    service = fields.required(value, "service", fields.hex_id, '"0x..."', report)
    given = fields.optional(value, "instance", fields.hex_id, report)
    if service is None:
        return None
    return ServiceRef(service, instance if given is None else given)


# ---- secure channels --------------------------------------------------------------------------


def read_acceptances(documents: Documents, report: Report) -> tuple[Acceptance, ...]:
    """Peers that want a secure channel."""
    found = (_acceptance(entry, report) for entry in entries(documents, "acceptances", report))
    return tuple(acceptance for acceptance in found if acceptance is not None)


def _acceptance(entry: Table, report: Report) -> Acceptance | None:
    fields.warn_unknown(entry, words("address path reliable unreliable"), "an acceptance", report)
    address = fields.required(entry, "address", fields.unicast, '"ADDRESS"', report)
    udp = tuple(_accepted(entry.get("unreliable"), report))
    tcp = tuple(_accepted(entry.get("reliable"), report))
    if address is None:
        return None
    return Acceptance(
        address,
        paths=_paths(entry.get("path"), report),
        udp_optional=tuple(ports for kind, ports in udp if kind == "optional"),
        udp_secure=tuple(ports for kind, ports in udp if kind == "secure"),
        tcp_optional=tuple(ports for kind, ports in tcp if kind == "optional"),
        tcp_secure=tuple(ports for kind, ports in tcp if kind == "secure"),
    )


def _paths(value: Value | None, report: Report) -> tuple[str, ...]:
    if isinstance(value, Array):
        return fields.each(value, fields.text, report, '[ "PATH" ]')
    path = fields.text(value, report) if value is not None else None
    return (path,) if path is not None else ()


def _accepted(value: Value | None, report: Report) -> Iterator[tuple[str, PortRange]]:
    """Kind and ports of each entry; an entry with a kind alone only keeps its default ports."""
    for entry in fields.tables(value, report):
        fields.warn_unknown(entry, words("type port first last"), "accepted ports", report)
        kind = fields.optional(entry, "type", _accepted_kind, report) or "optional"
        if "port" in entry.items:
            port = fields.optional(entry, "port", fields.port, report)
            first = last = port
        else:
            first = fields.optional(entry, "first", fields.port, report)
            last = fields.optional(entry, "last", fields.port, report)
        if first is not None and last is not None:
            yield kind, PortRange(first, last)


def _accepted_kind(value: Value, report: Report) -> str | None:
    return _one_of(value, frozenset({"optional", "secure"}), "bad-port-type", report)


def _one_of(value: Value, words: frozenset[str], code: str, report: Report) -> str | None:
    written = fields.text(value, report)
    if written is None or written in words:
        return written
    expected = ", ".join(f'"{word}"' for word in sorted(words))
    report.warning(value.place, code, describe(value), expected, "write one of these")
    return None


# ---- end-to-end protection --------------------------------------------------------------------


def read_e2e(documents: Documents, report: Report) -> tuple[bool, tuple[E2eProtection, ...]]:
    """Whether messages are protected end to end, and which."""
    tables = [fields.optional(document, "e2e", fields.table, report) for document in documents]
    sections = [table for table in tables if table is not None]
    enabled = False
    found: list[E2eProtection | None] = []
    for table in sections:
        fields.warn_unknown(table, words("e2e_enabled protected"), "e2e", report)
        enabled |= bool(fields.optional(table, "e2e_enabled", fields.boolean, report))
        found += [_protection(entry, report) for entry in entries([table], "protected", report)]
    return enabled, tuple(protection for protection in found if protection is not None)


def _protection(entry: Table, report: Report) -> E2eProtection | None:
    fields.warn_unknown(entry, _E2E_KEYS | _E2E_PARAMETERS, "an E2E protection", report)
    service = fields.required(entry, "service_id", fields.identifier, '"0x..."', report)
    event = fields.required(entry, "event_id", fields.identifier, '"0x8001"', report)
    variant = fields.required(entry, "variant", _variant, '"protector"', report)
    profile = fields.required(entry, "profile", _profile, '"P04"', report)
    if service is None or event is None:
        return None
    parameters = sorted(
        (key, value.text)
        for key, value in entry.items.items()
        if key not in _E2E_KEYS and isinstance(value, Scalar)
    )
    return E2eProtection(service, event, variant or "", profile or "", tuple(parameters))


def _variant(value: Value, report: Report) -> str | None:
    return _one_of(value, _VARIANTS, "bad-e2e", report)


def _profile(value: Value, report: Report) -> str | None:
    return _one_of(value, _PROFILES, "bad-e2e", report)
