# SPDX-License-Identifier: Apache-2.0
"""One phase of the demo: one server, one client, one way to carry their messages."""

from __future__ import annotations

import contextlib
import enum
import json
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    JsonObject,
    read_status,
    running_controller,
    wrapper_environment,
)
from ivc.lab.hosts import Lab, LabError, stop
from ivc.lab.peers import common
from ivc.lab.wire import Counts, WireCounter

_END_SECONDS = 10.0


class Carrier(enum.StrEnum):
    """How a phase carries messages."""

    NETWORK = "network"
    """no wrapper at all"""
    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Pair:
    """Which stack serves and which calls."""

    server: str
    client: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What all phases share.

    `kill_controller` kills the controller before the peers start, the negative
    run; `library` is the wrapper.
    """

    count: int
    payload: int
    library: Path
    kill_controller: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds and resident memory of one process up to now."""

    role: str
    pid: int
    cpu_seconds: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one phase showed. `wire` is None where there is no bridge to look at."""

    server: JsonObject
    client: JsonObject
    wire: Counts | None
    usage: tuple[Usage, ...]
    status: JsonObject | None

    @property
    def sent_bytes(self) -> int:
        """UDP payload the applications handed to their sockets, SD not counted."""
        return int(self.server["bytes_sent"] + self.client["bytes_sent"])

    @property
    def wire_fraction(self) -> float | None:
        """Payload bytes that crossed the bridge, SD and set-up included, per byte sent."""
        if self.wire is None or not self.sent_bytes:
            return None
        return self.wire.udp_bytes / self.sent_bytes

    @property
    def messages(self) -> int:
        """Calls, answers and events sent."""
        return int(self.client["sent"] + self.server["sent"] + self.server["events"])

    @property
    def lost(self) -> int:
        """Calls without an answer and events that did not come."""
        return int(self.client["lost"] + self.client["events_lost"])

    @property
    def spoiled(self) -> int:
        """Messages that came twice or out of order, and reboots seen that were none."""
        reports = (self.server, self.client)
        return sum(
            int(report["twice"] + report["out_of_order"] + (report["reboots_detected"] or 0))
            for report in reports
        )


def run_phase(lab: Lab, pair: Pair, carrier: Carrier, settings: Settings) -> Outcome:
    """Start everything, let the client make its calls, look, end everything.

    Raises LabError when a process does not do its part; the text has its last words.
    """
    folder = lab.directory / f"{pair.server}-{pair.client}-{carrier}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        env: dict[str, str] = {}
        processes: dict[str, subprocess.Popen[str]] = {}
        counter = _wire_counter(lab, stack)
        before = counter.read() if counter else None
        if carrier is not Carrier.NETWORK:
            env = wrapper_environment(settings.library, folder)
            controller = stack.enter_context(running_controller(lab, carrier.value, folder))
            processes["controller"] = controller
            if settings.kill_controller:
                controller.kill()
                controller.wait()
                del processes["controller"]
        server = stack.enter_context(_peer(lab, SERVER_HOST, pair.server, settings, folder, env))
        client = stack.enter_context(_peer(lab, CLIENT_HOST, pair.client, settings, folder, env))
        processes |= {"server": server.process, "client": client.process}
        client_report = client.report(_patience(settings))
        usage = tuple(_usage(role, process.pid) for role, process in processes.items())
        status = read_status(folder) if "controller" in processes else None
        client.end()
        server_report = server.end()
        assert server_report is not None
        wire = _difference(counter.read(), before) if counter and before else None
    return Outcome(server_report, client_report, wire, usage, status)


class _Peer:
    """A running third-party program that reports in JSON lines."""

    def __init__(self, name: str, process: subprocess.Popen[str], words: Path) -> None:
        self.process = process
        self._name = name
        self._words = words

    def report(self, patience: float) -> JsonObject:
        """The next report; raises LabError if there is none in time."""
        line = _line(self.process.stdout, patience)
        if not line:
            raise LabError(f"{self._name} reports nothing {self._last_words()}")
        report = json.loads(line)
        assert isinstance(report, dict)
        return report

    def end(self) -> JsonObject | None:
        """Close its input, wait for its end; returns the report it made of it, if any."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        line = _line(self.process.stdout, _END_SECONDS)
        try:
            status = self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self._name} does not end {self._last_words()}") from None
        if status != 0:
            raise LabError(f"{self._name} fails {self._last_words()}")
        return json.loads(line) if line else None

    def _last_words(self) -> str:
        status = self.process.poll()
        words = self._words.read_text(errors="replace").strip()[-2000:]
        return f"(status {'running' if status is None else status}): {words or 'no message'}"


@contextlib.contextmanager
def _peer(
    lab: Lab, host: str, stack: str, settings: Settings, folder: Path, env: Mapping[str, str]
) -> Iterator[_Peer]:
    role = "server" if host == SERVER_HOST else "client"
    words = folder / f"{role}.stderr"
    options = ["--address", str(lab[host].address.ip), "--payload", str(settings.payload)]
    options += ["--count", str(settings.count)]
    with words.open("w") as stderr:
        process = lab[host].popen(
            [sys.executable, "-m", f"ivc.lab.peers.{stack}_{role}", *options],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield _Peer(f"{stack} {role}", process, words)
    finally:
        stop(process)


def _wire_counter(lab: Lab, stack: contextlib.ExitStack) -> WireCounter | None:
    if lab.bridge is None:
        return None
    ports = [str(host.port) for host in lab.hosts]
    return stack.enter_context(WireCounter(lab.bridge, ports))


def _difference(after: Counts, before: Counts) -> Counts:
    return Counts(
        after.udp_packets - before.udp_packets,
        after.udp_bytes - before.udp_bytes,
        after.other_packets - before.other_packets,
        after.drops - before.drops,
    )


def _usage(role: str, pid: int) -> Usage:
    process = psutil.Process(pid)
    times = process.cpu_times()
    return Usage(role, pid, round(times.user + times.system, 3), process.memory_info().rss)


def _patience(settings: Settings) -> float:
    """Discovery, plus a millisecond a call: ten times what the slowest path takes."""
    return 2 * common.DISCOVERY_SECONDS + settings.count / 1000


def _line(stream: IO[str] | None, patience: float) -> str:
    """One line from a pipe, "" at its end or when time is up."""
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], patience)
    return stream.readline() if ready else ""
