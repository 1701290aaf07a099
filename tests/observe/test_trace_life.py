# SPDX-License-Identifier: Apache-2.0
"""Traces begin and end while programs talk: the programs notice nothing, whatever they do."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO

import pytest
from trace_field import ADDRESSES, LIBRARY, ROOT, peers, tracing
from trace_rows import complaints, decode

import build
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    read_status,
    running_controller,
    wrapper_environment,
)
from ivc.lab.hosts import Lab, stop
from ivc.lab.peers import common
from ivc.observe.trace_names import Names
from ivc.observe.trace_session import Session, TextSink
from ivc.observe.trace_source import TraceSource
from ivc.shm.layout import TraceEvent
from ivc.shm.trace import WHOLE, Captured

PINGPONG = str(ROOT / "build" / "pingpong")
PORT = str(common.SERVER_PORT)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ADDRESSES) as made:
        yield made


def start_server(lab: Lab, env: Mapping[str, str], *more: str) -> subprocess.Popen[str]:
    host = lab[SERVER_HOST]
    command = [PINGPONG, "server", str(host.address.ip), PORT, *more]
    server = host.popen(command, env=env, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    return server


@pytest.mark.parametrize("more", [[], ["--tcp"]], ids=["udp", "tcp"])
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_traces_come_and_go_while_programs_talk(
    lab: Lab, tmp_path: Path, path: str, more: list[str]
) -> None:
    env = wrapper_environment(LIBRARY, tmp_path)
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    with ExitStack() as stack:
        stack.enter_context(running_controller(lab, path, tmp_path, "eager"))
        stack.callback(stop, start_server(lab, env, *more))
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
    assert seen > 0


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
            peers(lab, tmp_path, "opensomeip", "pysomeip", "--count", "500") as both,
        ):
            both.run(tmp_path)
            trace.end()
    assert decode(capture, ["frame.comment"])


def test_a_program_that_dies_leaves_what_it_sent(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "trace.pcapng"
    with (
        running_controller(lab, "direct", tmp_path),
        tracing(lab, tmp_path, "-w", str(capture)) as trace,
        peers(lab, tmp_path, "opensomeip", "pysomeip", "--count", "500") as both,
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
import os, socket, sys, time
far = (sys.argv[2], int(sys.argv[3]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
for number in range(200):
    sock.sendto(bytes(16), far)
    assert sock.recv(100)
    time.sleep(0.01)  # the controller gets to tell of the trace
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
        stack.callback(stop, start_server(lab, env))
        client = lab[CLIENT_HOST].popen(
            [sys.executable, "-c", FORKS, own, far, PORT], env=env, stdout=subprocess.PIPE
        )
        stack.callback(stop, client)
        assert client.communicate(timeout=30)[0] == "done\n"
        trace.end()
    rows = decode(capture, ["ip.src"])
    assert sum(row["ip.src"] == own for row in rows) >= 150


READS = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    while connection.recv(1 << 20):
        pass
"""

WRITES = """
import socket, sys, time
there = sys.argv[1], int(sys.argv[2])
with socket.create_connection(there) as first:
    for number in range(100):  # until it is traced
        first.sendall(b"0")
        time.sleep(0.005)
second = socket.create_connection(there)
for number in range(10):
    second.sendmsg([bytes(50_000), bytes(50_000)])
    time.sleep(0.02)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("promote", "event"), [("eager", TraceEvent.SENT), ("lazy", TraceEvent.NETWORK)]
)
def test_bytes_of_a_connection_are_whole_however_small_the_trace_ring(
    lab: Lab, tmp_path: Path, promote: str, event: TraceEvent
) -> None:
    env = wrapper_environment(LIBRARY, tmp_path)
    there = [str(lab[SERVER_HOST].address.ip), PORT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    seen: list[Captured] = []
    with running_controller(lab, "direct", tmp_path, promote), ExitStack() as stack:
        server = lab[SERVER_HOST].popen([sys.executable, "-c", READS, *there], env=env, **pipes)
        stack.callback(stop, server)
        assert server.stdout.readline() == "ready\n"
        source = stack.enter_context(closing(TraceSource(tmp_path, 18, WHOLE, everything=True)))
        sink = TextSink(len, lambda at: seen.append(at) or "")
        session = Session(sink, Names({}), [], 0, print)
        session.hear(source.first)
        client = lab[CLIENT_HOST].popen([sys.executable, "-c", WRITES, *there], env=env, **pipes)
        stack.callback(stop, client)
        while not select.select([client.stdout], [], [], 0.001)[0]:
            session.hear(source.news())
            session.turn()
        session.finish()
    long = [at for at in seen if at.length > 1]
    assert event in {at.event for at in long}
    assert sum(at.length for at in long) == 10 * 100_000
    assert [at for at in long if len(at.data) < at.length] == []


INTERRUPTED = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
for number in range(100):  # until it is traced
    sock.sendto(bytes(16), (sys.argv[2], 9))
    time.sleep(0.005)
sock.sendto(b"interrupt", (sys.argv[2], 9))
sock.recv(100)
"""


def has_trace_ring(process: subprocess.Popen[str]) -> bool:
    return "memfd:ivc-trace" in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_handler_that_hears_of_the_end_in_the_middle_of_a_send_has_it_unmapped_later(
    lab: Lab, tmp_path: Path
) -> None:
    other = tmp_path / "interrupting.so"
    source = Path(__file__).with_name("interrupting.c")
    subprocess.run([*build.COMPILE, "-shared", "-fPIC", source, "-o", other], check=True)
    env = dict(wrapper_environment(LIBRARY, tmp_path))
    env["LD_PRELOAD"] += f" {other}"
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running_controller(lab, "direct", tmp_path), ExitStack() as stack:
        trace = stack.enter_context(tracing(lab, tmp_path, "-o", "summary"))
        command = [sys.executable, "-c", INTERRUPTED, own, far]
        client = lab[CLIENT_HOST].popen(command, env=env, **pipes)
        stack.callback(stop, client)
        assert client.stdout.readline() == "inside\n"
        assert has_trace_ring(client)
        trace.end()
        read_status(tmp_path)  # by now it has been told
        client.stdin.write("\n")
        client.stdin.flush()
        deadline = time.monotonic() + 5
        while has_trace_ring(client):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.poll() is None


SENDS = """
import socket, sys, time
far = (sys.argv[2], int(sys.argv[3]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
for number in range(300):  # until it is on a ring
    sock.sendto(bytes(16), far)
    time.sleep(0.005)
print("warm", flush=True)
sys.stdin.readline()
for number in range(20000):
    sock.sendto(bytes(16), far)
    if number % 100 == 0:
        time.sleep(0.001)  # or its own ring is full
print("done", flush=True)
sys.stdin.read()
"""


def test_what_a_stopped_tracer_has_no_room_for_is_counted(lab: Lab, tmp_path: Path) -> None:
    """And the program waits for nobody."""
    env = wrapper_environment(LIBRARY, tmp_path)
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    capture = tmp_path / "trace.pcapng"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as stack:
        stack.enter_context(running_controller(lab, "direct", tmp_path))
        trace = stack.enter_context(tracing(lab, tmp_path, "-w", str(capture), "--buffer", "1"))
        stack.callback(stop, start_server(lab, env, "--one-way"))
        client = lab[CLIENT_HOST].popen(
            [sys.executable, "-c", SENDS, own, far, PORT], env=env, **pipes
        )
        stack.callback(stop, client)
        assert client.stdout.readline() == "warm\n"
        trace.process.send_signal(signal.SIGSTOP)
        client.stdin.write("go\n")
        client.stdin.flush()
        assert client.stdout.readline() == "done\n"
        sockets = read_status(tmp_path)["sockets"]
        trace.process.send_signal(signal.SIGCONT)
        _, words = trace.end()
    sent = sum(each["counters"]["tx_ring_msgs"] for each in sockets)
    found = re.search(r"(\d+) messages, and (\d+) there was no room for", words)
    assert found is not None, words
    assert int(found[2]) > 1000
    assert int(found[1]) + int(found[2]) == sent
    assert len(decode(capture, ["frame.comment"])) == int(found[1])


def writing(lab: Lab, run_dir: Path, file: str, stdout: IO[bytes]) -> subprocess.Popen[str]:
    """A trace that may not get as far as to say so."""
    command = [sys.executable, "-m", "ivc", "trace", "--run-dir", str(run_dir), "-w", file]
    return lab.hosts[0].popen(command, stdout=stdout, stderr=subprocess.PIPE)


def test_a_trace_that_cannot_be_written_ends_with_that(lab: Lab, tmp_path: Path) -> None:
    with running_controller(lab, "direct", tmp_path), Path("/dev/full").open("wb") as full:
        for file, name in ("-", "<stdout>"), ("/dev/full", "/dev/full"):
            trace = writing(lab, tmp_path, file, full)
            # Where that is only found out at the end, it is asked to.
            with suppress(subprocess.TimeoutExpired):
                trace.wait(timeout=1)
            trace.send_signal(signal.SIGINT)
            _, error = trace.communicate(timeout=30)
            assert f"cannot write {name}: No space left" in error
            assert "Traceback" not in error and "ignored" not in error
            assert trace.returncode == 1


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Whether it has a handler for this signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^SigCgt:\t(\w+)$", status, re.MULTILINE)
    return found is not None and int(found[1], 16) >> number - 1 & 1 == 1


def test_who_interrupts_twice_does_not_wait_for_a_reader(lab: Lab, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.set_blocking(writer, True)
    with (
        os.fdopen(reader, "rb"),
        os.fdopen(writer, "wb") as full,
        running_controller(lab, "direct", tmp_path),
    ):
        trace = writing(lab, tmp_path, "-", full)
        while trace.poll() is None and not catches(trace, signal.SIGTERM):
            time.sleep(0.01)
        trace.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            trace.wait(timeout=0.5)
        trace.send_signal(signal.SIGINT)
        assert trace.wait(timeout=10) == 130
