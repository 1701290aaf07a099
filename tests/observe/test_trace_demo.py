# SPDX-License-Identifier: Apache-2.0
"""`ivc trace` of the demo's programs: tshark reads all of it, and counts what they counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from trace_field import ADDRESSES, LIBRARY, ROOT, JsonObject, peers, tracing
from trace_rows import (
    Row,
    calls,
    complaints,
    decode,
    fields_of,
    messages,
    rows_of,
    tshark,
)

from ivc.controller.client import add_fault
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    read_status,
    running_controller,
    wrapper_environment,
)
from ivc.lab.hosts import Lab, stop
from ivc.lab.peers import common

CALLS = 500
STREAMS = ROOT / "tests" / "wrapper" / "someip_streams.py"
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
    counts = [
        calls(traced.rows, REQUEST, CALLS),
        calls(traced.rows, RESPONSE, CALLS),
        len(messages(traced.rows, NOTIFICATION)),
    ]
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


def test_most_messages_say_how_long_they_took(traced: Traced) -> None:
    found = [re.search(r" latency=(\d+)ns$", row["frame.comment"]) for row in traced.rows]
    assert sum(1 for each in found if each) > len(traced.rows) / 2
    assert all(0 < int(each[1]) < 10**9 for each in found if each)


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


# ---- relayed


@pytest.fixture(scope="module")
def relayed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return run(lab, "relay", "opensomeip", "pysomeip", tmp_path_factory.mktemp("relayed"))


def test_what_is_relayed_is_told_of_by_the_relay_alone(relayed: Traced) -> None:
    comments = {row["frame.comment"].partition(" latency")[0] for row in relayed.rows}
    assert comments == {"path=relay verdict=passed", "path=network verdict=sent"}
    assert complaints(relayed.rows) == []


def test_relayed_are_as_many_as_the_programs_counted(relayed: Traced) -> None:
    counts = [
        calls(relayed.rows, REQUEST, CALLS),
        calls(relayed.rows, RESPONSE, CALLS),
        len(messages(relayed.rows, NOTIFICATION)),
    ]
    assert counts == [relayed.client["sent"], relayed.server["sent"], relayed.server["events"]]


def test_faults_are_marked_in_the_trace_of_programs(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "trace.pcapng"
    order = {"match": {"service": common.SERVICE, "type": "NOTIFICATION"}}
    with (
        running_controller(lab, "relay", tmp_path),
        tracing(lab, tmp_path, "-w", str(capture), "-f", "verdict=dropped") as trace,
        peers(lab, tmp_path, "opensomeip", "pysomeip", "--count", "200") as both,
    ):
        add_fault(tmp_path, order | {"effect": "drop", "chance": 1.0})
        _, client, _ = both.run(tmp_path)
        trace.end()
    rows = decode(capture, FIELDS)
    assert client["events_lost"] == len(rows) > 0
    assert {row["frame.comment"] for row in rows} == {"path=relay verdict=dropped fault=drop"}
    assert {row["someip.messagetype"] for row in rows} == {NOTIFICATION}


# ---- segments

TP_FIELDS = (*FIELDS, "someip.tp.offset", "someip.tp.reassembled.length")
TP_MESSAGES = 60
TP_PEER = str(Path(__file__).with_name("tp_peer.py"))


@pytest.fixture(scope="module")
def segmented(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], int]:
    """Long messages that opensomeip has cut: what is traced, and how many segments there were."""
    folder = tmp_path_factory.mktemp("segmented")
    capture = folder / "trace.pcapng"
    env = wrapper_environment(LIBRARY, folder)
    there, here = (str(lab[host].address.ip) for host in (SERVER_HOST, CLIENT_HOST))
    command = [sys.executable, TP_PEER]
    with running_controller(lab, "direct", folder), ExitStack() as stack:
        options = {"env": env, "stdout": subprocess.PIPE}
        server = lab[SERVER_HOST].popen([*command, "server", str(TP_MESSAGES), there], **options)
        stack.callback(stop, server)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        with tracing(lab, folder, "-w", str(capture), "--all") as trace:
            client = lab[CLIENT_HOST].popen(
                [*command, "client", str(TP_MESSAGES), here, there], **options
            )
            stack.callback(stop, client)
            sent, got = client.communicate(timeout=60)[0], server.communicate(timeout=60)[0]
            trace.end()
    assert sent == got
    return decode(capture, TP_FIELDS), int(sent)


def test_every_segment_is_there_and_decoded(segmented: tuple[list[Row], int]) -> None:
    rows, sent = segmented
    assert complaints(rows) == []
    traced = [row for row in rows if row["someip.tp.offset"]]
    # What a process sends before it has been told of the trace is not there.
    missing = sent - len(traced)
    assert 0 <= missing < sent / 5
    assert sum("path=direct" in row["frame.comment"] for row in traced) > sent / 2


def test_tshark_puts_every_message_together(segmented: tuple[list[Row], int]) -> None:
    rows, _ = segmented
    whole = [row["someip.tp.reassembled.length"] for row in rows]
    lengths = [length for length in whole if length]
    first = int(next(row for row in rows if row["someip.tp.offset"])["someip.sessionid"], 16)
    assert TP_MESSAGES - first <= len(lengths) <= TP_MESSAGES
    assert set(lengths) == {"5000"}


# ---- live


def test_the_same_can_be_watched_live_through_a_pipe(lab: Lab, tmp_path: Path) -> None:
    command = [tshark(), "-l", "-i", "-", *fields_of(FIELDS)]
    with (
        running_controller(lab, "direct", tmp_path),
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as shark,
        tracing(lab, tmp_path, "-w", "-", "--all", stdout=shark.stdin) as trace,
        peers(lab, tmp_path, "pysomeip", "opensomeip", "--count", str(CALLS)) as both,
    ):
        assert shark.stdin is not None and shark.stdout is not None
        first = shark.stdout.readline()  # while they still talk, or wait
        assert both.processes["client"].poll() is None
        reports = both.run(tmp_path)
        trace.end()
        shark.stdin.close()
        rest = shark.stdout.read()
    traced = Traced(rows_of(first + rest, FIELDS), "", *reports)
    assert complaints(traced.rows) == []
    assert calls(traced.rows, REQUEST, CALLS) == traced.client["sent"] == CALLS


def test_a_reader_that_goes_ends_it(lab: Lab, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-w", "-", stdout=writer) as trace,
    ):
        os.close(writer)
        os.close(reader)
        with peers(lab, tmp_path, "pysomeip", "opensomeip", "--count", "10"):
            assert trace.process.wait(20) == 0
        trace.until("whoever read it has gone")


# ---- text


def test_a_summary_counts_by_method_and_says_how_long_they_took(lab: Lab, tmp_path: Path) -> None:
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-o", "summary-json", "--for", "10") as trace,
        peers(lab, tmp_path, "pysomeip", "opensomeip", "--count", "1000") as both,
    ):
        _, client, status = both.run(tmp_path)
        out, _ = trace.process.communicate(timeout=30)
    (row,) = (
        row
        for row in json.loads(out)["messages"]
        if (row["method"], row["type"]) == (f"0x{common.METHOD:04x}", "REQUEST")
    )
    by_ring = sum(
        socket["counters"]["tx_ring_msgs"]
        for socket in status["sockets"]
        if socket["node"] == "hmi"
    )
    assert client["sent"] / 2 < row["messages"] <= by_ring
    assert row["timed"] > row["messages"] / 2
    assert 0 < row["p50_us"] <= row["p99_us"] <= row["max_us"]


def test_lines_of_json_count_the_same(lab: Lab, tmp_path: Path) -> None:
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-o", "json", "--all", "-f", "type=REQUEST") as trace,
        peers(lab, tmp_path, "pysomeip", "opensomeip", "--count", "100") as both,
    ):
        _, client, _ = both.run(tmp_path)
        out, _ = trace.end()
    sessions = [json.loads(line)["messages"][0]["session"] for line in out.splitlines()]
    assert sessions == list(range(sessions[0], client["sent"] + 1))
    assert sessions[0] < 20


# ---- TCP


@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize("stack", ["opensomeip", "pysomeip"])
def test_calls_over_tcp_are_decoded(lab: Lab, tmp_path: Path, stack: str, path: str) -> None:
    capture = tmp_path / "trace.pcapng"
    env = wrapper_environment(LIBRARY, tmp_path)
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    port = str(common.SERVER_PORT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    program = [sys.executable, str(STREAMS), stack]
    with ExitStack() as stack_of:
        stack_of.enter_context(running_controller(lab, path, tmp_path, "eager"))
        trace = stack_of.enter_context(tracing(lab, tmp_path, "-w", str(capture), "--all"))
        server = lab[SERVER_HOST].popen([*program, "server", far, port], env=env, **pipes)
        stack_of.callback(stop, server)
        assert server.stdout.readline() == "ready\n"
        client = lab[CLIENT_HOST].popen(
            [*program, "client", own, far, port, str(CALLS)], env=env, **pipes
        )
        stack_of.callback(stop, client)
        assert client.stdout.readline() == f"{CALLS} of {CALLS}\n"
        status = read_status(tmp_path)
        trace.end()
    rows = decode(capture, FIELDS)
    assert complaints(rows) == []
    kinds = Counter(kind for row in rows for kind in row["someip.messagetype"].split(";"))
    assert (kinds[REQUEST], kinds[RESPONSE]) == (CALLS, CALLS)
    assert sum(socket["counters"]["tx_ring_msgs"] for socket in status["sockets"]) > CALLS
