# SPDX-License-Identifier: Apache-2.0
"""What bounds the node's messages: how long they wait, and how large they are."""

from collections.abc import Iterator

from ivc.network import fields
from ivc.network.model import NpduTimings, PayloadLimits, PortPayload
from ivc.network.values import Place, Report
from ivc.network.vsomeip.documents import Documents, entries, first, words

_TIME = fields.whole("milliseconds")
_SIZE = fields.whole("bytes of payload", least=1)

# Key in the file, member of NpduTimings.
_NPDU = {
    "debounce-time-request": "debounce_request",
    "debounce-time-response": "debounce_response",
    "max-retention-time-request": "retention_request",
    "max-retention-time-response": "retention_response",
}


def read_npdu_timings(documents: Documents, place: Place, report: Report) -> NpduTimings:
    """The node's nPDU times. Whoever leaves one out gets a default that hides any transport."""
    value = first(documents, "npdu-default-timings", report)
    table = fields.table(value, report) if value is not None else None
    if table is None:
        if value is None:
            _warn_defaults(place.at("npdu-default-timings"), list(_NPDU), report)
        return NpduTimings()
    fields.warn_unknown(table, frozenset(_NPDU), "npdu-default-timings", report)
    missing = [key for key in _NPDU if key not in table.items]
    if missing:
        _warn_defaults(table.place, missing, report)
    read = {member: fields.optional(table, key, _TIME, report) for key, member in _NPDU.items()}
    return NpduTimings(**{member: time for member, time in read.items() if time is not None})


def _warn_defaults(place: Place, missing: list[str], report: Report) -> None:
    some = missing if len(missing) < len(_NPDU) else ["npdu-default-timings"]
    report.warning(
        place,
        "npdu-defaults",
        f"no {', '.join(f'{chr(34)}{key}{chr(34)}' for key in some)}",
        "the times vsomeip may hold messages back",
        f'set {", ".join(missing)} to "0"; the defaults (2 and 5 ms, both ways) add 10 ms to '
        "every round trip, whatever the transport",
    )


def read_payload_limits(documents: Documents, report: Report) -> PayloadLimits:
    """The largest payloads, of the node and of single ports."""
    limits = {
        member: fields.whole("bytes of payload")(value, report)
        for member, key in (("local", "local"), ("tcp", "reliable"), ("udp", "unreliable"))
        if (value := first(documents, f"max-payload-size-{key}", report)) is not None
    }
    return PayloadLimits(**limits, ports=tuple(_ports(documents, report)))


def _ports(documents: Documents, report: Report) -> Iterator[PortPayload]:
    for entry in entries(documents, "payload-sizes", report):
        fields.warn_unknown(entry, words("unicast ports"), "payload-sizes", report)
        address = fields.required(entry, "unicast", fields.unicast, '"ADDRESS"', report)
        for item in entries([entry], "ports", report):
            fields.warn_unknown(item, words("port max-payload-size"), "a payload size", report)
            port = fields.required(item, "port", fields.port, '"30510"', report)
            size = fields.required(item, "max-payload-size", _SIZE, '"5000"', report)
            if address is not None and port is not None and size is not None:
                yield PortPayload(address, port, size)
