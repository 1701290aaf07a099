# SPDX-License-Identifier: Apache-2.0
"""Traced messages as lines and as JSON; filters that cannot be; the command's own errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_trace_file import NAMES, REAL, Field, call, stream

from ivc import someip
from ivc.cli import main
from ivc.observe.trace_filter import FilterError, read_filter
from ivc.observe.trace_session import TextSink
from ivc.observe.trace_text import Compact, Json
from ivc.shm.layout import RecordKind, TraceEvent
from ivc.shm.relay import Effect


def lines(field: Field, shown: type[Compact] | type[Json]) -> list[str]:
    out: list[bytes] = []
    field.run(TextSink(lambda data: out.append(bytes(data)), shown(NAMES, REAL).render))
    return b"".join(out).decode().splitlines()


def documents(field: Field) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(field, Json)]


def test_a_line_says_who_what_and_which_way() -> None:
    field = Field()
    field.put(call(b"abc"), 5)
    (line,) = lines(field, Compact)
    assert line.endswith(
        ".000000005 direct  sent     hmi 10.77.0.1:40000 > adas 10.77.0.2:30509 udp "
        "0x1234.0x0421 REQUEST client 0x0001 session 1 3 bytes"
    )


def test_each_message_of_a_datagram_has_a_line() -> None:
    field = Field()
    field.put(call(session=1) + call(session=2) + b"rest")
    first, second, rest = lines(field, Compact)
    assert "session 1" in first and "session 2" in second
    assert "no SOME/IP (4 bytes" in rest


def test_verdict_and_faults_are_in_it() -> None:
    field = Field()
    field.put(call(), event=TraceEvent.DROPPED, faults=1 << Effect.DROP)
    assert " relay   dropped,drop " in lines(field, Compact)[0]


def test_what_is_missing_is_said_before_the_next() -> None:
    field = Field()
    field.put(call(), lost=7)
    assert "7 before it are not in the trace" in lines(field, Compact)[0]


def test_entries_of_service_discovery_are_named() -> None:
    field = Field()
    entry = someip.EventgroupEntry(someip.EntryType.SUBSCRIBE, 0x1234, 1, 1, 0, 5)
    payload = someip.SdMessage((entry,)).build()
    field.put(someip.Header(0xFFFF, 0x8100, message_type=2).build(len(payload)) + payload)
    assert lines(field, Compact)[0].endswith(": SUBSCRIBE 0x1234.0x0001 eventgroup 0x0005 ttl 0")


def test_segments_say_where_they_belong() -> None:
    field = Field()
    for segment in someip.segment(someip.Message(someip.Header(1, 1, 1, 1), bytes(2000))):
        field.put(segment.build())
    first, second = lines(field, Compact)
    assert "segment at 0, more" in first
    assert "segment at 1392, last" in second


def test_a_message_of_a_connection_is_told_of_when_it_is_whole() -> None:
    field = Field()
    stream(field, call(bytes(10), session=1) + call(session=2), [5])
    first, second, third = lines(field, Compact)
    assert first.endswith("tcp 5 bytes")
    assert "session 1" in second and "session 2" in third


def test_a_connection_of_which_bytes_are_missing_is_read_anew() -> None:
    field = Field()
    field.put(call(bytes(10))[:5], position=0, kind=RecordKind.STREAM)
    field.put(call(session=9), position=100, kind=RecordKind.STREAM)
    assert "session 9" in lines(field, Compact)[1]


def test_json_has_it_all() -> None:
    field = Field()
    field.put(call(b"abc"), 5, lost=2, event=TraceEvent.PASSED, faults=1 << Effect.DELAY, flow=3)
    assert documents(field) == [
        {
            "time_ns": REAL + 5,
            "path": "relay",
            "verdict": "passed",
            "faults": ["delay"],
            "protocol": "udp",
            "from": "hmi",
            "to": "adas",
            "source": "10.77.0.1:40000",
            "destination": "10.77.0.2:30509",
            "flow": 3,
            "length": 19,
            "latency_ns": None,
            "lost_before": 2,
            "messages": [
                {
                    "service": "0x1234",
                    "method": "0x0421",
                    "client": "0x0001",
                    "session": 1,
                    "type": "REQUEST",
                    "return_code": 0,
                    "payload_length": 3,
                }
            ],
        }
    ]


def test_an_address_of_no_node_stands_for_itself() -> None:
    field = Field()
    field.put(call(), source=(0x01020304, 1))
    assert documents(field)[0]["from"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "expected KEY=VALUE"),
        ("colour=red", "expected KEY=VALUE"),
        ("service=", "expected KEY=VALUE"),
        ("service=1 service=2", "once each"),
        ("service=0x10000", "an id, 0 to 0xffff"),
        ("method=x", "an id, 0 to 0xffff"),
        ("node=hmj", "write node=hmi?"),
        ("type=request", "expected one of REQUEST"),
        ("path=diret", "write path=direct?"),
        ("verdict=ok", "expected one of sent"),
        ("protocol=sctp", "expected one of"),
    ],
)
def test_a_filter_nobody_understands_is_refused_with_a_remedy(text: str, problem: str) -> None:
    with pytest.raises(FilterError, match="-f: found") as caught:
        read_filter(text, ["hmi", "adas"])
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "options", [["--buffer", "0"], ["--buffer", "x"], ["--snaplen", "0"], ["-o", "xml"]]
)
def test_options_that_cannot_be_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["trace", *options])


def test_without_a_controller_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "--run-dir", str(tmp_path)]) == 5
    assert "no controller answers" in capsys.readouterr().err


def test_a_file_is_always_pcapng(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "-w", "x", "-o", "json"]) == 2
    assert "-o: found beside -w" in capsys.readouterr().err
