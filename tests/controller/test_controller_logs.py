# SPDX-License-Identifier: Apache-2.0
"""What the controller says: text or JSON, from a level on, and no flood of it."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from controller_lab import running_lab

from ivc.controller.logs import BURST, PERIOD_S, Json, Limit, Text

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = [str(ROOT / "examples" / f"{name}.json") for name in ("hmi", "adas")]
FILES += ["--mapping", str(ROOT / "examples" / "mapping.toml")]


class Clock:
    """Time as a test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger, and what comes of it as text."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(Limit(clock))
    handler.setFormatter(Text())
    log = logging.getLogger("test")
    log.propagate = False
    log.addHandler(handler)
    yield log, out
    log.removeHandler(handler)


def test_one_place_is_heard_so_often_and_no_more(
    told: tuple[logging.Logger, io.StringIO],
) -> None:
    log, out = told
    for number in range(1000):
        log.warning("turned away: %d", number)
    lines = out.getvalue().splitlines()
    assert lines[0] == "ivc controller: WARNING: turned away: 0"
    assert len(lines) == BURST + 1
    assert lines[-1].endswith(f"{BURST} (more like it are left out for {PERIOD_S:.0f} s)")


def test_other_places_are_heard_meanwhile(told: tuple[logging.Logger, io.StringIO]) -> None:
    log, out = told
    for _ in range(1000):
        log.warning("turned away")
    log.warning("something else")
    assert out.getvalue().endswith("ivc controller: WARNING: something else\n")


def test_afterwards_it_says_how_many_were_left_out(
    told: tuple[logging.Logger, io.StringIO], clock: Clock
) -> None:
    log, out = told
    for number in range(BURST + 8):
        clock.now += PERIOD_S if number == BURST + 7 else 0
        log.warning("turned away")
    assert out.getvalue().endswith("turned away (6 like it were left out before)\n")


def test_what_is_said_now_and_then_is_never_left_out(
    told: tuple[logging.Logger, io.StringIO], clock: Clock
) -> None:
    log, out = told
    for _ in range(100):
        clock.now += PERIOD_S / BURST
        log.warning("turned away")
    assert out.getvalue() == "ivc controller: WARNING: turned away\n" * 100


def record(message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("ivc.x", level, "x.py", 1, message, None, None)


def test_text_cannot_disturb_a_terminal() -> None:
    assert Text().format(record("a\x1b[2Jb")) == "ivc controller: WARNING: a?[2Jb"


def test_json_is_one_object_a_line() -> None:
    text = Json().format(record('line one\nline "two"\x1b'))
    assert "\n" not in text
    read = json.loads(text)
    assert read["message"] == 'line one\nline "two"\x1b'
    assert (read["level"], read["source"]) == ("warning", "ivc.x")
    assert read["time"].endswith("+00:00")


@contextmanager
def controller(run_dir: Path, *options: str, **environment: str) -> Iterator[list[str]]:
    """A controller that is ready, and what it has said until then; its terminal is read on."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ivc", "controller", *FILES, "--run-dir", str(run_dir)]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stderr=theirs, env={**os.environ, **environment}
    )
    os.close(theirs)
    lines: list[str] = []
    terminal = os.fdopen(ours, newline="\r\n")
    try:
        while not any("ready" in line for line in lines):
            lines.append(terminal.readline().rstrip())
        yield lines
    finally:
        process.terminate()
        with suppress(OSError):  # nobody is there any more
            while line := terminal.readline():
                lines.append(line.rstrip())
        process.wait(10)
        terminal.close()


def test_ready_is_told_as_ever_and_missing_hosts_in_colour(tmp_path: Path) -> None:
    with controller(tmp_path, NO_COLOR="", TERM="xterm") as lines:
        assert lines[-1].startswith("ivc controller: ready (2 nodes, path direct, ")
        assert lines[0].startswith("ivc controller: \x1b[33mWARNING\x1b[0m: nodes ")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    with controller(tmp_path, **{"TERM": "xterm", **environment}) as lines:
        assert lines[0].startswith("ivc controller: WARNING: nodes ")


def test_every_line_is_json_if_so_ordered(tmp_path: Path) -> None:
    with controller(tmp_path, "--log-format", "json") as lines:
        read = [json.loads(line) for line in lines]
    assert read[-1]["message"].startswith("ready (2 nodes")
    assert [one["level"] for one in read] == ["warning", "info"]


def test_ready_is_told_at_any_level(tmp_path: Path) -> None:
    with controller(tmp_path, "--log-level", "error") as lines:
        assert len(lines) == 1 and lines[0].startswith("ivc controller: ready ")


def test_a_peer_cannot_flood_it(tmp_path: Path) -> None:
    with controller(tmp_path) as lines:
        for _ in range(300):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                peer.connect(str(tmp_path / "control"))
                peer.send(b"no message of the protocol")
                peer.settimeout(10)
                with suppress(ConnectionResetError):
                    assert peer.recv(1) == b""  # it has been heard, and turned away
    complaints = [line for line in lines if "disconnected" in line]
    assert 0 < len(complaints) <= 2 * BURST


def test_hosts_that_are_missing_are_told_of_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {f"n{number}": f"10.0.0.{number}" for number in range(1, 2 * BURST)}
    with running_lab(tmp_path, nodes=nodes):
        pass
    (told,) = [text for text in caplog.messages if "exist (yet)" in text]
    assert all(f"{name} (" in told for name in nodes)
