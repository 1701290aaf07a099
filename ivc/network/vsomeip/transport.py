# SPDX-License-Identifier: Apache-2.0
"""What a service says of its messages: segmentation (SOME/IP-TP) and debouncing (nPDU)."""

from collections.abc import Iterator

from ivc.network import fields
from ivc.network.model import Debounce, NpduTimings, Segmentation
from ivc.network.values import Report, Scalar, Table, Value
from ivc.network.vsomeip.documents import words

_TIME = fields.whole("milliseconds")
_SEPARATION = fields.whole("microseconds")
_SEGMENT = fields.whole("bytes of a segment", 0xFFFF, 16)
_LARGEST_SEGMENT = Segmentation(0).max_segment
_DEFAULTS = NpduTimings()


def read_segmentations(
    service: Table, report: Report
) -> tuple[tuple[Segmentation, ...], tuple[Segmentation, ...]]:
    """`someip-tp`: of requests and of responses."""
    table = fields.optional(service, "someip-tp", fields.table, report)
    if table is None:
        return (), ()
    known = words("client-to-service service-to-client")
    fields.warn_unknown(table, known, "someip-tp", report)
    example = '[ "0x0001" ]'
    requests = fields.each(table.get("client-to-service"), _segmentation, report, example)
    responses = fields.each(table.get("service-to-client"), _segmentation, report, example)
    return requests, responses


def _segmentation(value: Value, report: Report) -> Segmentation | None:
    if not isinstance(value, Table):
        method = fields.own_id(value, report)
        return Segmentation(method) if method is not None else None
    known = words("method max-segment-length separation-time")
    fields.warn_unknown(value, known, "a segmented method", report)
    method = fields.required(value, "method", fields.own_id, '"0x0001"', report)
    length = fields.optional(value, "max-segment-length", _segment_length, report)
    separation = fields.optional(value, "separation-time", _SEPARATION, report)
    if method is None:
        return None
    return Segmentation(method, length or _LARGEST_SEGMENT, separation or 0)


def _segment_length(value: Value, report: Report) -> int | None:
    length = _SEGMENT(value, report)
    if length is None or (length % 16 == 0 and length <= _LARGEST_SEGMENT):
        return length
    usable = min(length - length % 16, _LARGEST_SEGMENT)
    report.warning(
        value.place,
        "bad-segment",
        f'"{length}"',
        f"a multiple of 16, at most {_LARGEST_SEGMENT}",
        f'write "{usable}"; receivers drop longer segments',
    )
    return usable


def read_debounces(
    service: Table, report: Report
) -> tuple[tuple[Debounce, ...], tuple[Debounce, ...]]:
    """`debounce-times`: of requests and of responses."""
    table = fields.optional(service, "debounce-times", fields.table, report)
    if table is None:
        return (), ()
    fields.warn_unknown(table, words("requests responses"), "debounce-times", report)
    found = [
        tuple(_debounces(part, report)) if part is not None else ()
        for part in (fields.optional(table, key, fields.table, report) for key in _DIRECTIONS)
    ]
    return found[0], found[1]


_DIRECTIONS = ("requests", "responses")


def _debounces(table: Table, report: Report) -> Iterator[Debounce]:
    """Members are called by the method's id. What is missing is vsomeip's fixed default."""
    for key, value in table.items.items():
        method = fields.identifier(Scalar(key, literal=False, place=value.place), report)
        times = fields.table(value, report)
        if times is None:
            continue
        known = words("debounce-time maximum-retention-time")
        fields.warn_unknown(times, known, "the times of a method", report)
        debounce = fields.optional(times, "debounce-time", _TIME, report)
        retention = fields.optional(times, "maximum-retention-time", _TIME, report)
        if method is not None:
            yield Debounce(
                method,
                _DEFAULTS.debounce_request if debounce is None else debounce,
                _DEFAULTS.retention_request if retention is None else retention,
            )
