# SPDX-License-Identifier: Apache-2.0
"""`ivc trace -o summary`: messages counted by service and method, and what they took."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_trace_file import ADAS, HMI, NAMES, Field, call

from ivc import someip
from ivc.observe.trace_summary import SummarySink, Times
from ivc.shm.layout import TraceEvent


def written(field: Field, *, as_json: bool) -> str:
    out: list[bytes] = []
    field.run(SummarySink(lambda data: out.append(bytes(data)), NAMES, as_json=as_json))
    return b"".join(out).decode()


def summary(field: Field) -> dict[str, Any]:
    document = json.loads(written(field, as_json=True))
    assert isinstance(document, dict)
    return document


def test_messages_of_a_kind_are_counted_together() -> None:
    field = Field()
    for session in range(1, 6):
        field.put(call(b"abc", session=session))
    (row,) = summary(field)["messages"]
    assert (row["service"], row["method"], row["type"]) == ("0x1234", "0x0421", "REQUEST")
    assert (row["from"], row["to"], row["path"]) == ("hmi", "adas", "direct")
    assert (row["messages"], row["bytes"]) == (5, 15)


def test_each_message_of_a_datagram_is_counted_and_what_is_none_is_not() -> None:
    field = Field()
    field.put(call(session=1) + call(session=2) + b"rest")
    assert [row["messages"] for row in summary(field)["messages"]] == [2]


def test_what_became_of_them_is_told_apart() -> None:
    field = Field()
    field.put(call())
    field.put(call(), event=TraceEvent.DENIED)
    assert {row["verdict"] for row in summary(field)["messages"]} == {"sent", "denied"}


def test_a_message_in_segments_is_one_message() -> None:
    field = Field()
    for session in (1, 2):
        whole = someip.Message(someip.Header(0x1234, 0x0421, 1, session), bytes(4000))
        for segment in someip.segment(whole):
            field.put(segment.build())
    (row,) = summary(field)["messages"]
    assert (row["type"], row["messages"], row["bytes"]) == ("REQUEST", 2, 8000)


def test_what_is_no_message_is_counted_by_itself() -> None:
    field = field_of(b"rubbish")
    field.put(call() + b"rest")
    assert summary(field)["skipped"] == 2


def test_what_is_missing_is_told_also_if_nothing_came_after_it() -> None:
    field = Field()
    lost = 0
    while lost < 7:
        lost += not field.rings[0].writer.put(call(), HMI, ADAS, time=1)
    assert summary(field)["lost"] == 7


def test_the_table_tells_beneath_what_it_does_not_have() -> None:
    *_, last = written(field_of(b"rubbish"), as_json=False).splitlines()
    assert last == "no SOME/IP, or not whole: 1"


def test_whoever_was_never_timed_has_no_times() -> None:
    field = Field()
    field.put(call(), event=TraceEvent.DENIED)
    (row,) = summary(field)["messages"]
    assert (row["timed"], row["p50_us"], row["p99_us"], row["max_us"]) == (0, None, None, None)
    assert written(field_of(call()), as_json=False).splitlines()[1].split()[-1] == "-"


def field_of(data: bytes) -> Field:
    field = Field()
    field.put(data)
    return field


def test_the_table_has_a_line_for_each_kind() -> None:
    title, row = written(field_of(call()), as_json=False).splitlines()
    assert title.split()[:3] == ["service", "method", "type"]
    assert row.split()[:3] == ["0x1234", "0x0421", "REQUEST"]


@pytest.mark.parametrize("most", [100, 10_000, 10_000_000])
def test_times_are_a_hundredth_too_small_at_most(most: int) -> None:
    times = Times()
    for number in range(1, 101):
        times.add(number * most // 100)
    for percent in (50, 99):
        exact = percent * most / 100 / 1000
        found = times.within_us(percent)
        assert found is not None and 0.98 * exact <= found <= exact
    assert times.most == most
