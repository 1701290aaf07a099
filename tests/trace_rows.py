# SPDX-License-Identifier: Apache-2.0
"""What tshark reads in a trace of the demo's service."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ivc.lab.peers import common

COMPLAINTS = ("_ws.expert.severity", "_ws.malformed")
PORTS = (
    f"udp.port=={common.SD_PORT}",
    f"udp.port=={common.SERVER_PORT}",
    f"udp.port=={common.CLIENT_PORT}",
    f"tcp.port=={common.SERVER_PORT}",
)
ERROR = 0x800000
"""Wireshark's PI_ERROR."""

Row = dict[str, str]


def tshark() -> str:
    program = shutil.which("tshark")
    if program is None:
        pytest.fail("tshark is missing: apt-get install --no-install-recommends tshark")
    return program


def fields_of(names: Sequence[str]) -> list[str]:
    """tshark's arguments for a line of fields for each frame, its complaints among them."""
    arguments = ["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=;"]
    for port in PORTS:
        arguments += ["-d", f"{port},someip"]
    for name in (*names, *COMPLAINTS):
        arguments += ["-e", name]
    return arguments


def rows_of(text: str, names: Sequence[str]) -> list[Row]:
    keys = (*names, *COMPLAINTS)
    return [dict(zip(keys, line.split("\t"), strict=True)) for line in text.split("\n")[:-1]]


def decode(capture: Path, names: Sequence[str], *more: str) -> list[Row]:
    """What tshark reads in a file."""
    command = [tshark(), "-r", str(capture), *fields_of(names), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return rows_of(done.stdout, names)


def messages(rows: Sequence[Row], kind: str) -> list[Row]:
    """Of the demo's service."""
    service = f"0x{common.SERVICE:04x}"
    ours = [row for row in rows if row["someip.serviceid"] == service]
    return [row for row in ours if row["someip.messagetype"] == kind]


def calls(rows: Sequence[Row], kind: str, made: int) -> int:
    """How many of some `made`, and those before the first: what a process sends before the
    controller has got to tell it of the trace is not there, and then everything is."""
    sessions = sorted(int(row["someip.sessionid"], 16) for row in messages(rows, kind))
    assert sessions == list(range(sessions[0], sessions[0] + len(sessions)))
    assert sessions[0] < made / 5
    return len(sessions) + sessions[0] - 1


def complaints(rows: Sequence[Row]) -> list[Row]:
    """Frames that are malformed, or have an expert error."""
    return [
        row
        for row in rows
        if row["_ws.malformed"]
        or any(int(each) >= ERROR for each in row["_ws.expert.severity"].split(";") if each)
    ]
