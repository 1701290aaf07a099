# SPDX-License-Identifier: Apache-2.0
"""Programs of others over TCP: the same as without the wrapper, by ring."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asio_lab import CONNECTIONS, compile_asio
from remote import until
from stream_lab import StreamNet, Way
from wrapper_lab import FIRST_PORT, PORTS

from ivc.controller.client import read_status
from ivc.lab.hosts import stop

STACKS = Path(__file__).with_name("someip_streams.py")
CALLS = 20_000 if os.environ.get("IVC_FULL") else 500
ROUNDS = 30 if os.environ.get("IVC_FULL") else 7
PORT = FIRST_PORT + PORTS - 10


@contextmanager
def served(net: StreamNet, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program on `right` that has said "ready"."""
    host = net.lab["right"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = host.popen(list(command), env=net.env, **pipes)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield server
    finally:
        stop(server)


def ringed(net: StreamNet, pid: int) -> int:
    """Bytes a process has received by ring."""
    sockets = read_status(net.run_dir)["sockets"]
    return sum(one["counters"]["rx_ring_bytes"] for one in sockets if one["pid"] == pid)


@pytest.mark.parametrize("server", ["opensomeip", "pysomeip"])
@pytest.mark.parametrize("client", ["opensomeip", "pysomeip"])
def test_every_call_is_answered(stream_net: StreamNet, client: str, server: str) -> None:
    left, right = (stream_net.lab[name] for name in ("left", "right"))
    here, there = str(left.address.ip), str(right.address.ip)
    program = [sys.executable, str(STACKS)]
    with served(stream_net, *program, server, "server", there, str(PORT)) as serving:
        asks = [*program, client, "client", here, there, str(PORT), str(CALLS)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        asking = left.popen(asks, env=stream_net.env, **pipes)
        try:
            assert asking.stdout is not None
            assert asking.stdout.readline() == f"{CALLS} of {CALLS}\n"
            if not stream_net.native:
                assert ringed(stream_net, serving.pid) > 0
        finally:
            stop(asking)


ECHO_SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    connection = listener.accept()[0]
    while data := connection.recv(100):
        connection.sendall(data)
"""
ECHO_CLIENT = """
import socket, sys, time
for line in sys.stdin:
    end = time.monotonic() + 0.3
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    while time.monotonic() < end:
        connection.sendall(line.encode())
        assert connection.recv(100) == line.encode()
    print("echoed", flush=True)
"""


def test_a_program_with_nothing_but_tcp_finds_a_controller_that_came_later(
    stream_net: StreamNet, tmp_path: Path
) -> None:
    left, right = (stream_net.lab[name] for name in ("left", "right"))
    there = [str(right.address.ip), str(PORT + 1)]
    late = tmp_path / "late"
    with served(stream_net, sys.executable, "-c", ECHO_SERVER, *there):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        env = stream_net.env | {"IVC_RUN_DIR": str(late)}
        client = left.popen([sys.executable, "-c", ECHO_CLIENT, *there], env=env, **pipes)
        try:
            assert client.stdin is not None and client.stdout is not None

            def echoes() -> bool:
                client.stdin.write("hello\n")
                client.stdin.flush()
                assert client.stdout.readline() == "echoed\n"
                return stream_net.native or ringed(stream_net, client.pid) > 0

            assert echoes() == stream_net.native
            late.symlink_to(stream_net.run_dir)
            until(echoes, 10.0)
        finally:
            stop(client)


# ---- boost.asio ---------------------------------------------------------------


@pytest.fixture(scope="module")
def asio_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_asio(CONNECTIONS, tmp_path_factory.mktemp("asio"), "-O1")


def test_asio_lives_as_without_the_wrapper(stream_net: StreamNet, asio_peer: str) -> None:
    left, right = (stream_net.lab[name] for name in ("left", "right"))
    here, there, port = str(left.address.ip), str(right.address.ip), str(PORT + 1)
    with served(stream_net, asio_peer, "server", there, port, str(ROUNDS)) as serving:
        command = [asio_peer, "client", here, there, port, str(ROUNDS)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        client = left.popen(command, env=stream_net.env, **pipes)
        assert client.stdout is not None
        told = [client.stdout.readline().rstrip() for _ in range(ROUNDS)]
        if stream_net.way not in (Way.NATIVE, Way.LAZY):  # too short for lazy on a busy machine
            assert ringed(stream_net, client.pid) > 0
        client.communicate(timeout=5)
        answered, _ = serving.communicate(timeout=10)
        assert (client.returncode, serving.returncode) == (0, 0)
    good = "300 right, strange 0, timer goes on, all answered, left 0"
    assert told == [f"round {n}: {good}" for n in range(ROUNDS)]
    ends = [line.partition("then ")[2] for line in answered.splitlines()]
    assert all(line.startswith("answered 300, strange 0") for line in answered.splitlines())
    # After a half-close the end comes first, and the reset meets nobody any more.
    assert sorted(ends) == sorted(
        "End of file" if n % 3 == 0 else "Connection reset by peer" for n in range(ROUNDS)
    )
