# SPDX-License-Identifier: Apache-2.0
"""Hosts come, reach each other, and go without a trace."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ivc.lab import hosts
from ivc.lab.hosts import Lab, LabError, Mode

MEMBERS = {"hmi": "10.77.0.1/24", "adas": "10.77.0.2/24"}

HOLD_A_LAB = """
import sys, time
from ivc.lab.hosts import Lab, ended_by_signals
with ended_by_signals(), Lab({"hmi": "10.77.0.1/24"}) as lab:
    lab["hmi"].popen(["sleep", "100"])
    print(lab.directory.name, flush=True)
    time.sleep(100)
"""

RECEIVE_ONE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5000))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
             socket.inet_aton("224.1.1.1") + socket.inet_aton("10.77.0.2"))
s.settimeout(5)
print("ready", flush=True)
print(s.recvfrom(100), flush=True)
"""

SEND_ONE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"hello", (sys.argv[1], 5000))
"""


def traces(tag: str) -> list[str]:
    """Everything that carries a laboratory's tag: namespaces, folders."""
    places = (Path("/run/netns"), Path(tempfile.gettempdir()))
    return [str(path) for place in places if place.is_dir() for path in place.glob(f"{tag}*")]


@pytest.mark.parametrize("destination", ["10.77.0.2", "224.1.1.1"])
def test_a_host_reaches_the_other(lab: Lab, destination: str) -> None:
    receiver = lab["adas"].popen([sys.executable, "-c", RECEIVE_ONE], stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    lab["hmi"].run(sys.executable, "-c", SEND_ONE, destination)
    output, _ = receiver.communicate(timeout=10)
    assert "b'hello', ('10.77.0.1'" in output


def test_nothing_remains_after_the_block() -> None:
    with Lab(MEMBERS) as lab:
        tag = lab.directory.name
        assert len(traces(tag)) == 4  # two hosts, dom0, the folder
    assert traces(tag) == []


def test_nothing_remains_after_an_error_in_the_block() -> None:
    with pytest.raises(ZeroDivisionError), Lab(MEMBERS) as lab:
        tag = lab.directory.name
        1 / 0  # noqa: B018
    assert traces(tag) == []


def test_nothing_remains_when_building_fails() -> None:
    lab = Lab({"hmi": "10.77.0.1/24", "a/b": "10.77.0.2/24"})  # no name for a namespace
    with pytest.raises(LabError), lab:
        pass
    assert traces(lab.directory.name) == []


def hold_a_lab() -> tuple[subprocess.Popen[str], str]:
    """Another process with a laboratory, and the laboratory's tag."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    tag = process.stdout.readline().strip()
    assert traces(tag)
    return process, tag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_remains_after_a_signal(number: signal.Signals) -> None:
    process, tag = hold_a_lab()
    process.send_signal(number)
    process.wait(10)
    assert traces(tag) == []


def test_programs_die_with_a_killed_laboratory() -> None:
    process, tag = hold_a_lab()
    namespace = Path(f"/run/netns/{tag}-hmi").stat().st_ino
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 5
    while inhabitants(namespace) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert inhabitants(namespace) == []
    hosts.remove_leftovers()


def inhabitants(namespace: int) -> list[str]:
    """Processes in a network namespace, by its inode."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "net").stat().st_ino == namespace:
                found.append(process.name)
        except OSError:  # it has just ended
            continue
    return found


def test_the_next_run_removes_what_a_killed_one_left() -> None:
    process, tag = hold_a_lab()
    process.kill()
    process.wait(10)
    assert traces(tag)
    with Lab(MEMBERS):
        assert traces(tag) == []


def test_leftovers_of_the_living_are_left_alone() -> None:
    process, tag = hold_a_lab()
    before = traces(tag)
    hosts.remove_leftovers()
    assert traces(tag) == before
    process.terminate()
    process.wait(10)


def test_a_preload_reaches_the_program_and_not_its_helpers(lab: Lab) -> None:
    # A helper would complain on standard error that the library does not exist.
    command = lab["hmi"].command(["env"], {"LD_PRELOAD": "libno.so"})
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "LD_PRELOAD=libno.so" in done.stdout
    assert done.stderr.count("libno.so") == 1


def test_the_process_id_is_the_programs_own(lab: Lab) -> None:
    process = lab["hmi"].popen(["sh", "-c", "echo $$"], stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=10)
    assert int(output) == process.pid


def test_without_namespaces_hosts_are_addresses() -> None:
    with Lab({"hmi": "127.77.0.1/8"}, Mode.LOOPBACK) as lab:
        assert lab.bridge is None
        assert lab["hmi"].run("echo", "here") == "here\n"
        assert traces(lab.directory.name) == [str(lab.directory)]


def test_the_mode_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IVC_LAB", "loopback")
    assert hosts.available_mode() is Mode.LOOPBACK


def test_a_signal_at_any_moment_leaves_nothing() -> None:
    for delay in range(0, 150, 10):  # milliseconds: before, while, and after building
        process = subprocess.Popen([sys.executable, "-c", HOLD_A_LAB], stdout=subprocess.DEVNULL)
        time.sleep(0.1 + delay / 1000)
        process.terminate()
        process.wait(10)
        assert traces(f"{hosts.PREFIX}-{process.pid}-") == []


def test_who_has_no_namespaces_is_told_why() -> None:
    code = "import os; from ivc.lab.hosts import *; os.environ['PATH'] = '/none'"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(available_mode(), why_no_namespaces())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "loopback unshare: No such file or directory\n"
