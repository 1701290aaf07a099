# SPDX-License-Identifier: Apache-2.0
"""Six directions at once between two guests and an ECU outside, all of them namespaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ethernet_field import VIFS, Field, field_of_namespaces
from six_ways import (
    CAPTURE,
    INSIDE,
    PEER,
    SERVICES,
    OnRings,
    Seen,
    SixWays,
    calls_between,
    captured,
    events_between,
    payload_between_guests,
    peer_arguments,
    talk,
)

from ivc.controller.client import read_status
from ivc.lab.control import wrapper_environment, wrapper_library

ROOT = Path(__file__).parent.parent.parent


class Program:
    """A program of a host, for the time of a `with` block."""

    def __init__(self, field: Field, host: str, *argv: str) -> None:
        self._process = subprocess.Popen(
            field.command(host, *argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()


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


def peer(field: Field, name: str, env: dict[str, str]) -> Program:
    """A node's program."""
    settings = (f"{key}={value}" for key, value in env.items())
    command = ["env", *settings, sys.executable, str(PEER)]
    return Program(field, name, *command, *peer_arguments(name, field.addresses[name]))


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
        listening = [sys.executable, str(CAPTURE), *VIFS.values()]
        capture = stack.enter_context(Program(field, "dom0", *listening))
        assert capture.answer() == "ready\n"
        peers = {
            name: stack.enter_context(peer(field, name, env if name in INSIDE else {}))
            for name in SERVICES
        }
        calls, reports = talk(peers)
        status = read_status(run_dir) if rings else {}
        capture.end_input()
        yield Seen(field.addresses, calls, reports, captured(capture.answer(), VIFS), status)


class TestSixWays(SixWays):
    """With rings and without."""


@pytest.mark.parametrize("seen", ["rings"], indirect=True)
class TestOnRings(OnRings):
    """With rings."""


@pytest.mark.parametrize("seen", ["kernel"], indirect=True)
def test_without_ivc_all_between_guests_crosses_their_interfaces(seen: Seen) -> None:
    """Which shows that the capture would see it."""
    for kind in ("udp", "tcp"):
        crossed = payload_between_guests(seen, kind)
        assert set(crossed) == set(calls_between(seen.addresses, kind, *INSIDE))
    crossed = payload_between_guests(seen, "event")
    assert set(crossed) == set(events_between(seen.addresses, *INSIDE))
