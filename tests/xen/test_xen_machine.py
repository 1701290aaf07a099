# SPDX-License-Identifier: Apache-2.0
"""Running programs in a machine from outside: exact, bounded, and nothing stays behind."""

from __future__ import annotations

import time

import pytest

from ivc.lab.hosts import LabError
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.machine import Machine


@pytest.fixture(params=["dom0", "hmi"])
def machine(lab: XenLab, request: pytest.FixtureRequest) -> Machine:
    """The machine asked directly, and one that dom0 passes requests on to."""
    return lab.dom0 if request.param == "dom0" else lab.domU(request.param)


def lives(machine: Machine, pid: str) -> bool:
    return machine.run(["test", "-d", f"/proc/{pid}"], check=False).status == 0


def test_output_and_status_come_back(machine: Machine) -> None:
    done = machine.run(["sh", "-c", "echo one; echo two >&2; exit 3"], check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "one\n", "two\n")


def test_the_signal_that_ended_a_program_comes_back(machine: Machine) -> None:
    assert machine.run(["sh", "-c", "kill -9 $$"], check=False).status == -9


def test_a_failure_is_an_error_with_the_programs_words(machine: Machine) -> None:
    with pytest.raises(LabError, match=r"status 1: .*no-such-file"):
        machine.run(["env", "LC_ALL=C", "rm", "/no-such-file"])


def test_a_program_that_is_not_there_is_an_error(machine: Machine) -> None:
    with pytest.raises(LabError, match="no-such-program"):
        machine.run(["no-such-program"])


def test_variables_reach_the_program(machine: Machine) -> None:
    assert machine.run(["printenv", "IVC_X"], env={"IVC_X": "a b"}).stdout == "a b\n"


def test_a_file_comes_back_to_the_byte(machine: Machine) -> None:
    content = bytes(range(256)) * 1024
    machine.put(content, "/tmp/deep/er/file", mode=0o700)
    assert machine.get("/tmp/deep/er/file") == content
    assert machine.shell("stat -c %a /tmp/deep/er/file") == "700"


def test_output_is_seen_while_the_program_runs(machine: Machine) -> None:
    with machine.popen(["sh", "-c", "echo ready; exec sleep 1000"]) as process:
        process.wait_for("ready")
        assert process.status is None


def test_what_takes_too_long_is_an_error_and_killed_with_its_children(machine: Machine) -> None:
    with pytest.raises(LabError, match="takes too long"):
        machine.run(["sh", "-c", "sleep 1000 & echo $! >/tmp/child; wait"], timeout=3)
    child = machine.shell("cat /tmp/child")
    deadline = time.monotonic() + 30
    while lives(machine, child):
        assert time.monotonic() < deadline


def test_a_daemon_that_keeps_the_output_open_does_not_hold_its_starter(machine: Machine) -> None:
    started = machine.run(["sh", "-c", "setsid sleep 300 & echo $!"], timeout=60).stdout.strip()
    assert lives(machine, started)
    machine.run(["kill", started])


def test_open_input_lasts_until_it_is_ended(machine: Machine) -> None:
    with machine.popen(["sh", "-c", "echo ready; cat; echo ended"], open_input=True) as process:
        process.wait_for("ready")
        with pytest.raises(LabError, match="takes too long"):
            process.wait(1)
        process.end_input()
        assert process.wait(30).stdout == "ready\nended\n"


def test_without_input_a_program_finds_its_end_at_once(machine: Machine) -> None:
    assert machine.run(["cat"]).stdout == ""
