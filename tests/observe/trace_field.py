# SPDX-License-Identifier: Apache-2.0
"""Traces of the demo's programs on the laboratory's hosts."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ivc.lab.control import CLIENT_HOST, SERVER_HOST, read_status, wrapper_environment
from ivc.lab.hosts import Lab, stop

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "build" / "libivcsock.so"
ADDRESSES = {CLIENT_HOST: "10.77.0.1/24", SERVER_HOST: "10.77.0.2/24"}
PATIENCE_S = 20.0
JsonObject = dict[str, Any]


class Trace:
    """A running `ivc trace`."""

    def __init__(self, lab: Lab, run_dir: Path, *options: str, stdout: int | IO[Any] | None = None):
        host = lab.bridge or lab.hosts[0]
        self.process = host.popen(
            [sys.executable, "-m", "ivc", "trace", "--run-dir", str(run_dir), *options],
            stdout=stdout if stdout is not None else subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.words: list[str] = []
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self.until("tracing")

    def until(self, what: str) -> None:
        """Wait until it has said so."""
        deadline = time.monotonic() + PATIENCE_S
        stream = self.process.stderr
        assert stream is not None
        while what not in "".join(self.words):
            assert time.monotonic() < deadline, self.words
            if select.select([stream], [], [], 0.1)[0]:
                text = stream.read()
                assert text or self.process.poll() is None, self.words
                self.words.append(text or "")

    def end(self) -> tuple[str, str]:
        """Interrupt it; what it printed, and what it said."""
        time.sleep(0.05)  # what was sent last is there
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, err
        return out or "", "".join(self.words) + err


@contextlib.contextmanager
def tracing(lab: Lab, run_dir: Path, *options: str, stdout: Any = None) -> Iterator[Trace]:
    trace = Trace(lab, run_dir, *options, stdout=stdout)
    try:
        yield trace
    finally:
        stop(trace.process)


class Peers:
    """A server and a client of the demo, whose own counts are kept."""

    def __init__(self, lab: Lab, run_dir: Path, server: str, client: str, *options: str) -> None:
        env = wrapper_environment(LIBRARY, run_dir)
        self.processes = {}
        for role, stack, host in (("server", server, SERVER_HOST), ("client", client, CLIENT_HOST)):
            command = [sys.executable, "-m", f"ivc.lab.peers.{stack}_{role}"]
            command += ["--address", str(lab[host].address.ip), *options]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.processes[role] = lab[host].popen(command, env=env, **pipes)

    def run(self, run_dir: Path) -> tuple[JsonObject, JsonObject, JsonObject]:
        """Let them talk to the end: reports of server and client, and the status before it."""
        client = self.report("client")
        status = read_status(run_dir)
        self._end("client")
        self._end("server")
        server = self.report("server")
        return server, client, status

    def stop(self) -> None:
        for process in self.processes.values():
            stop(process)

    def report(self, role: str) -> JsonObject:
        stream = self.processes[role].stdout
        assert stream is not None
        assert select.select([stream], [], [], PATIENCE_S)[0], f"{role} says nothing"
        report = json.loads(stream.readline())
        assert isinstance(report, dict)
        return report

    def _end(self, role: str) -> None:
        stdin = self.processes[role].stdin
        assert stdin is not None
        stdin.close()


@contextlib.contextmanager
def peers(lab: Lab, run_dir: Path, server: str, client: str, *options: str) -> Iterator[Peers]:
    both = Peers(lab, run_dir, server, client, *options)
    try:
        yield both
    finally:
        both.stop()
