# SPDX-License-Identifier: Apache-2.0
"""`ivc trace` of the demo's programs: tshark reads all of it, and counts what they counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from trace_field import (
    ADDRESSES,
    JsonObject,
    Row,
    complaints,
    decode,
    peers,
    tracing,
)

from ivc.lab.control import running_controller
from ivc.lab.hosts import Lab
from ivc.lab.peers import common

CALLS = 500
FIELDS = (
    *("frame.comment", "frame.interface_name", "frame.time_epoch", "ip.src", "udp.srcport"),
    *("someip.serviceid", "someip.methodid", "someip.messagetype", "someip.sessionid"),
    "someipsd.entry.type",
)
REQUEST, NOTIFICATION, RESPONSE = "0x00", "0x02", "0x80"


@dataclass(frozen=True)
class Traced:
    """One run of two programs, and its trace."""

    rows: list[Row]
    words: str
    server: JsonObject
    client: JsonObject
    status: JsonObject

    def messages(self, kind: str) -> int:
        """Of the demo's service."""
        return sum(
            row["someip.messagetype"].split(";").count(kind)
            for row in self.rows
            if f"0x{common.SERVICE:04x}" in row["someip.serviceid"]
        )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ADDRESSES) as made:
        yield made


def run(lab: Lab, path: str, server: str, client: str, folder: Path) -> Traced:
    capture = folder / "trace.pcapng"
    with (
        running_controller(lab, path, folder),
        tracing(lab, folder, "-w", str(capture), "--all") as trace,
        peers(lab, folder, server, client, "--count", str(CALLS)) as both,
    ):
        reports = both.run(folder)
        _, words = trace.end()
    return Traced(decode(capture, FIELDS), words, *reports)


@pytest.fixture(scope="module", params=["opensomeip", "pysomeip"])
def traced(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory):
    server = str(request.param)
    client = "pysomeip" if server == "opensomeip" else "opensomeip"
    return run(lab, "direct", server, client, tmp_path_factory.mktemp(f"of-{server}"))


def test_tshark_has_nothing_against_any_of_it(traced: Traced) -> None:
    assert traced.rows
    assert complaints(traced.rows) == []


def test_as_many_calls_answers_and_events_as_the_programs_counted(traced: Traced) -> None:
    # The first by the kernel, the rest by ring.
    counts = [traced.messages(kind) for kind in (REQUEST, RESPONSE, NOTIFICATION)]
    assert counts == [traced.client["sent"], traced.server["sent"], traced.server["events"]]


def test_each_message_on_a_ring_is_there_once(traced: Traced) -> None:
    on_rings = sum("path=direct" in row["frame.comment"] for row in traced.rows)
    sockets = traced.status["sockets"]
    assert on_rings >= sum(socket["counters"]["tx_ring_msgs"] for socket in sockets) > CALLS


def test_service_discovery_is_decoded(traced: Traced) -> None:
    assert any(row["someipsd.entry.type"] for row in traced.rows)


def test_a_call_is_before_its_answer(traced: Traced) -> None:
    """On rings; what goes by the kernel is traced when it has gone."""
    direct = [row for row in traced.rows if "path=direct" in row["frame.comment"]]
    calls = [row for row in traced.rows if row["someip.messagetype"] == REQUEST]
    seen = {row["someip.sessionid"] for row in calls if row not in direct}
    for row in direct:
        if row["someip.messagetype"] == REQUEST:
            seen.add(row["someip.sessionid"])
        elif row["someip.messagetype"] == RESPONSE:
            assert row["someip.sessionid"] in seen


def test_times_never_go_back(traced: Traced) -> None:
    times = [
        row["frame.time_epoch"] for row in traced.rows if "path=direct" in row["frame.comment"]
    ]
    assert times == sorted(times)
    assert all(len(each.partition(".")[2]) == 9 for each in times)


def test_each_flow_is_an_interface_with_the_names_of_its_nodes(traced: Traced) -> None:
    flows = {
        (row["ip.src"], row["udp.srcport"]): row["frame.interface_name"] for row in traced.rows
    }
    names = Counter(row["frame.interface_name"] for row in traced.rows)
    assert len(names) >= len(flows)
    assert any(name.startswith("hmi 10.77.0.1:") and " > adas " in name for name in names)


def test_it_says_how_many_there_were(traced: Traced) -> None:
    assert f"{len(traced.rows)} messages\n" in traced.words
