# SPDX-License-Identifier: Apache-2.0
"""Two nodes inside, one outside, each with a service: all six directions at once, UDP and TCP.

Everybody finds everybody once, whatever is between two guests stays inside and is on rings, and
what comes from or goes to the ECU outside crosses the wire, once.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ethernet_field import ADDRESSES, GROUP, Field, field_of_namespaces
from six_ways_peer import CALLS, EVENTS

from ivc.controller.client import read_status
from ivc.lab.control import wrapper_environment, wrapper_library

ROOT = Path(__file__).parent.parent.parent
SERVICES = {"hmi": "1001", "adas": "1002", "tcu": "1003"}
INSIDE = ("hmi", "adas")


class Frame(NamedTuple):
    """One IPv4 packet on the wire."""

    source: str
    destination: str
    payload: bytes


class Wire:
    """All IPv4 that crosses tcu's interface, from now on."""

    def __init__(self, field: Field) -> None:
        with field.inside("tcu"):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.bind(("eth0", 3))
        self._socket.settimeout(0.1)
        self.frames: list[Frame] = []
        self._ended = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended:
            try:
                frame = self._socket.recv(65536)
            except TimeoutError:
                continue
            if frame[12:14] == b"\x08\x00":
                ends = (str(IPv4Address(frame[at : at + 4])) for at in (26, 30))
                self.frames.append(Frame(*ends, frame[34:]))

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()


@contextmanager
def controller(field: Field) -> Iterator[Path]:
    """A controller for the field; the value is its run directory."""
    run_dir = field.folder / "run"
    command = [sys.executable, "-m", "ivc", "controller", *field.write_files()]
    command += ["--run-dir", str(run_dir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("ready" in line for line in process.stderr)
            yield run_dir
        finally:
            process.terminate()


@contextmanager
def peer(field: Field, name: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A node's program."""
    others = [number for other, number in SERVICES.items() if other != name]
    words = [name, ADDRESSES[name], SERVICES[name], *others]
    command = ["env", *(f"{key}={value}" for key, value in env.items()), sys.executable]
    command += [str(Path(__file__).parent / "six_ways_peer.py"), *words]
    with subprocess.Popen(
        field.command(name, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def order(peers: dict[str, subprocess.Popen[str]], what: str) -> dict[str, Any]:
    """Give all an order at once; what each answers."""
    for process in peers.values():
        assert process.stdin is not None
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
    return {name: json.loads(answer(process)) for name, process in peers.items()}


class Seen(NamedTuple):
    """What there is to judge by."""

    calls: dict[str, dict[str, int]]
    reports: dict[str, Any]
    frames: list[Frame]
    status: dict[str, Any]


@pytest.fixture(scope="module", params=["kernel", "rings"])
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """One run, with programs under the wrapper or without."""

    rings = request.param == "rings"
    folder, promote = tmp_path_factory.mktemp("six"), "eager" if rings else "never"
    with field_of_namespaces(folder, promote=promote) as field, ExitStack() as stack:
        field.done("apply")  # as at boot: first the bridge, then the guests
        field.plug_guests()
        assert field.talks("hmi", "tcu") and field.talks("adas", "tcu")
        env: dict[str, str] = {}
        if rings:
            run_dir = stack.enter_context(controller(field))
            env = wrapper_environment(wrapper_library(ROOT), run_dir)
        wire = Wire(field)
        stack.callback(wire.close)
        peers = {
            name: stack.enter_context(peer(field, name, env if name in INSIDE else {}))
            for name in SERVICES
        }
        assert [answer(process) for process in peers.values()] == ["ready\n"] * 3
        calls = order(peers, "go")
        time.sleep(1.2)  # offers and subscriptions are renewed in the meantime
        reports = order(peers, "report")
        status = read_status(run_dir) if rings else {}
        yield Seen(calls, reports, list(wire.frames), status)


def test_everybody_finds_everybody_once(seen: Seen) -> None:
    for name, report in seen.reports.items():
        others = sorted(f"{SERVICES[o]}@{ADDRESSES[o]}" for o in SERVICES if o != name)
        assert (report["found"], report["lost"]) == (others, [])
        assert report["subscribers"] == 2


def test_no_discovery_message_is_lost_or_comes_twice(seen: Seen) -> None:
    for name, report in seen.reports.items():
        assert (report["jumps"], report["reboots"]) == ([], 0)
        assert set(report["heard"]) >= {ADDRESSES[o] for o in SERVICES if o != name}


def test_every_call_is_answered_once_in_all_six_directions(seen: Seen) -> None:
    for name, calls in seen.calls.items():
        others = [SERVICES[other] for other in SERVICES if other != name]
        assert calls == {f"{other} {kind}": CALLS for other in others for kind in ("UDP", "TCP")}


def test_every_event_comes_once_in_order_in_all_six_directions(seen: Seen) -> None:
    for name, report in seen.reports.items():
        assert report["events"] == {
            ADDRESSES[o]: [f"{o}>event:{n}." for n in range(EVENTS)] for o in SERVICES if o != name
        }


def test_nothing_between_guests_is_on_the_wire(seen: Seen) -> None:
    guests = {ADDRESSES[name] for name in INSIDE}
    assert not [frame for frame in seen.frames if {frame.source, frame.destination} <= guests]
    for one, other in itertools.permutations(INSIDE):
        mark = f"{one}>{SERVICES[other]}:".encode()
        assert not [frame for frame in seen.frames if mark in frame.payload]


def test_what_is_for_outside_or_from_there_crosses_the_wire_once(seen: Seen) -> None:
    """Each datagram and each event, with its answer."""
    found = Counter(
        (frame.source, match[0])
        for frame in seen.frames
        for match in re.findall(rb"(\w+>(?:\w+:udp|event):\d+\.)", frame.payload)
        for match in [(match.decode(),)]
    )
    expected = Counter[tuple[str, str]]()
    for guest in INSIDE:
        for number in range(CALLS):
            for asking, asked in ((guest, "tcu"), ("tcu", guest)):
                text = f"{asking}>{SERVICES[asked]}:udp:{number}."
                expected[ADDRESSES[asking], text] += 1
                expected[ADDRESSES[asked], text] += 1
        for number in range(EVENTS):
            expected[ADDRESSES[guest], f"{guest}>event:{number}."] += 1
            expected[ADDRESSES["tcu"], f"tcu>event:{number}."] += 1
    assert found == expected


def test_offers_cross_the_wire_once(seen: Seen) -> None:
    for name, address in ADDRESSES.items():
        sessions = [
            int.from_bytes(frame.payload[18:20], "big")  # behind 8 bytes of UDP
            for frame in seen.frames
            if (frame.source, frame.destination) == (address, GROUP)
            and frame.payload[8:12] == b"\xff\xff\x81\x00"
        ]
        assert len(sessions) > 2 and len(set(sessions)) == len(sessions), name


@pytest.mark.parametrize("seen", ["rings"], indirect=True)
def test_guests_are_on_rings_and_the_ecu_outside_is_not(seen: Seen) -> None:
    guests = {ADDRESSES[name] for name in INSIDE}
    ends = {flow[end].partition(":")[0] for flow in seen.status["flows"] for end in ("from", "to")}
    assert guests <= ends <= {*guests, GROUP}
    for port in (30501, 30502):
        (counters,) = (
            sock["counters"]
            for sock in seen.status["sockets"]
            if sock["local"].endswith(f":{port}") and sock["protocol"] == "udp"
        )
        # To the other guest by ring but for the first few, to the ECU outside by the network.
        assert counters["tx_ring_msgs"] > (CALLS + EVENTS) // 2
        assert counters["tx_net_msgs"] >= CALLS + EVENTS
