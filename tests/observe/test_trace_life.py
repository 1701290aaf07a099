# SPDX-License-Identifier: Apache-2.0
"""Traces begin and end while programs talk: the programs notice nothing, whatever they do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from trace_field import ADDRESSES, LIBRARY, ROOT, complaints, decode, peers, tracing

from ivc.lab.control import CLIENT_HOST, SERVER_HOST, running_controller, wrapper_environment
from ivc.lab.hosts import Lab, stop
from ivc.lab.peers import common

PINGPONG = str(ROOT / "build" / "pingpong")
PORT = str(common.SERVER_PORT)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ADDRESSES) as made:
        yield made


@pytest.mark.parametrize("more", [[], ["--tcp"]], ids=["udp", "tcp"])
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_traces_come_and_go_while_programs_talk(
    lab: Lab, tmp_path: Path, path: str, more: list[str]
) -> None:
    env = wrapper_environment(LIBRARY, tmp_path)
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    with ExitStack() as stack:
        stack.enter_context(running_controller(lab, path, tmp_path, "eager"))
        server = lab[SERVER_HOST].popen([PINGPONG, "server", far, PORT, *more], env=env)
        stack.callback(stop, server)
        command = [PINGPONG, "client", own, "0", far, PORT, "--numbered", "--pause", "50", *more]
        client = lab[CLIENT_HOST].popen(
            [*command, "--count", "100000"], env=env, stdout=subprocess.PIPE
        )
        stack.callback(stop, client)
        seen = 0
        for number in range(5):
            capture = tmp_path / f"{number}.pcapng"
            with tracing(lab, tmp_path, "-w", str(capture)) as trace:
                trace.end()
            rows = decode(capture, ["frame.comment"])
            seen += len(rows)
        assert client.poll() is None
        client.send_signal(2)
        report = json.loads(client.communicate(timeout=30)[0])
    assert (report["lost"], report["strange"]) == (0, 0)
    assert report["sent"] > 0
    assert seen > 0 or (path, more) == ("relay", ["--tcp"])


def test_a_tracer_that_is_killed_ends_it(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "second.pcapng"
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-w", str(tmp_path / "first.pcapng")) as first,
    ):
        first.process.kill()
        first.process.wait()
        with (
            tracing(lab, tmp_path, "-w", str(capture)) as trace,
            peers(lab, tmp_path, "opensomeip", "pysomeip", "--count", "50") as both,
        ):
            both.run(tmp_path)
            trace.end()
    assert decode(capture, ["frame.comment"])


def test_a_program_that_dies_leaves_what_it_sent(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "trace.pcapng"
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-w", str(capture)) as trace,
        peers(lab, tmp_path, "opensomeip", "pysomeip", "--count", "50") as both,
    ):
        both.report("client")
        for process in both.processes.values():
            process.kill()
            process.wait()
        trace.end()
    rows = decode(capture, ["someip.messagetype"])
    assert sum(row["someip.messagetype"] == "0x80" for row in rows) > 25
    assert complaints(rows) == []


FORKS = """
import os, socket, sys
far = (sys.argv[2], int(sys.argv[3]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
for number in range(200):
    sock.sendto(bytes(16), far)
    assert sock.recv(100)
    if number == 100:
        if os.fork() == 0:
            sock.sendto(bytes(16), far)
            os._exit(0)
        os.wait()
        assert sock.recv(100)
print("done")
"""


def test_a_program_that_forks_goes_on(lab: Lab, tmp_path: Path) -> None:
    env = wrapper_environment(LIBRARY, tmp_path)
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    capture = tmp_path / "trace.pcapng"
    with ExitStack() as stack:
        stack.enter_context(running_controller(lab, "direct", tmp_path))
        trace = stack.enter_context(tracing(lab, tmp_path, "-w", str(capture), "--all"))
        server = lab[SERVER_HOST].popen([PINGPONG, "server", far, PORT], env=env)
        stack.callback(stop, server)
        client = lab[CLIENT_HOST].popen(
            [sys.executable, "-c", FORKS, own, far, PORT], env=env, stdout=subprocess.PIPE
        )
        stack.callback(stop, client)
        assert client.communicate(timeout=30)[0] == "done\n"
        trace.end()
    rows = decode(capture, ["ip.src"])
    assert sum(row["ip.src"] == own for row in rows) >= 150
