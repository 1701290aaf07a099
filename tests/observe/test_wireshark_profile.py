# SPDX-License-Identifier: Apache-2.0
"""The profile for Wireshark: tshark takes it, and names services, events and eventgroups by it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_trace_file import Field, call
from trace_rows import tshark

from ivc import someip
from ivc.errors import IvcError
from ivc.network import load
from ivc.observe.wireshark import profile, write_profile
from ivc.plan import build_plan

CONFIG = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def plan() -> dict[str, object]:
    loaded = load([CONFIG / "hmi.json", CONFIG / "adas.json"], CONFIG / "mapping.toml")
    document: dict[str, object] = json.loads(build_plan(loaded.network, loaded.mapping).to_json())
    return document


def read(capture: Path, config: Path, *fields: str) -> list[list[str]]:
    command = [tshark(), "-r", str(capture), "-C", "ivc", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    env = os.environ | {"WIRESHARK_CONFIG_DIR": str(config)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    return [line.split("\t") for line in done.stdout.split("\n")[:-1]]


def test_messages_are_decoded_with_names(plan: dict[str, object], tmp_path: Path) -> None:
    write_profile(tmp_path / "profiles" / "ivc", plan)
    field = Field()
    field.put(someip.Header(0x1234, 0x8001, message_type=2).build(0))
    (row,) = read(
        field.write(tmp_path / "trace.pcapng"), tmp_path, "someip.servicename", "someip.methodname"
    )
    assert row == ["adas.1234", "event.8001"]


def test_what_is_no_letter_does_no_harm(tmp_path: Path) -> None:
    service = {"service": "0x1234", "node": 'a"b\\cé', "endpoints": ["10.77.0.2:30509"]}
    service |= {"events": [], "eventgroups": []}
    write_profile(tmp_path / "profiles" / "ivc", {"services": [service], "groups": []})
    field = Field()
    field.put(call())
    (row,) = read(field.write(tmp_path / "trace.pcapng"), tmp_path, "someip.servicename")
    assert row == ['a"b\\cé.1234']


def test_each_port_and_id_is_there_once(plan: dict[str, object]) -> None:
    for name, text in profile(plan).items():
        if name != "preferences":
            lines = text.splitlines()
            assert len(lines) == len(set(lines)) > 0, name


def test_a_folder_that_cannot_be_is_told_of(plan: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IvcError, match="name another folder"):
        write_profile(tmp_path / "file", plan)
