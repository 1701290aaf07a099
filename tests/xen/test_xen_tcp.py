# SPDX-License-Identifier: Apache-2.0
"""Third-party SOME/IP stacks over TCP from guest to guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.control import read_status, running_controller
from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.vifs import payload_bytes
from ivc.lab.xen.ways import Way

STACKS = Path(__file__).parents[1] / "wrapper" / "someip_streams.py"
PROGRAM = "/tmp/someip_streams.py"
CALLS = 300
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def tcp_lab(lab: XenLab) -> Iterator[XenLab]:
    """Connections go over rings from their first byte."""
    for name in GUESTS:
        lab.domU(name).put(STACKS.read_bytes(), PROGRAM)
    with running_controller(lab, promote="eager"):
        yield lab


def ringed(lab: XenLab) -> int:
    """Bytes received by ring on TCP sockets that are open now."""
    sockets = read_status(lab)["sockets"]
    tcp = [one["counters"] for one in sockets if one["protocol"] == "tcp"]
    return sum(counters["rx_ring_bytes"] for counters in tcp)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("opensomeip", "pysomeip"),
        ("pysomeip", "opensomeip"),
        pytest.param("opensomeip", "opensomeip", marks=pytest.mark.full),
        pytest.param("pysomeip", "pysomeip", marks=pytest.mark.full),
    ],
)
def test_every_call_over_tcp_is_answered_by_memory(
    tcp_lab: XenLab, client: str, server: str
) -> None:
    serves, calls = tcp_lab.domU(SERVER_HOST), tcp_lab.domU(CLIENT_HOST)
    there = [serves.address, str(common.SERVER_PORT)]
    env = Way.DIRECT.environment
    before = payload_bytes(tcp_lab, calls)
    with serves.popen(
        ["python3", PROGRAM, server, "server", *there], env=env, open_input=True
    ) as serving:
        serving.wait_for("ready", PATIENCE_S)
        command = [client, "client", calls.address, *there, str(CALLS)]
        with calls.popen(["python3", PROGRAM, *command], env=env, open_input=True) as calling:
            calling.wait_for("\n", PATIENCE_S)
            assert calling.stdout == f"{CALLS} of {CALLS}\n"
            by_ring = ringed(tcp_lab)
            calling.end_input()
            calling.wait(PATIENCE_S)
        serving.end_input()
        serving.wait(PATIENCE_S)
    crossed = payload_bytes(tcp_lab, calls) - before
    assert by_ring > 0
    assert crossed < 0.02 * by_ring, (crossed, by_ring)


SERVES = """
import os, socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection, _ = listener.accept()
def answer(count):
    for _ in range(count):
        connection.sendall(connection.recv(16, socket.MSG_WAITALL))
answer(100)
sys.stdin.read()  # the ring has more by then, which nobody has read
child = os.fork()
if child == 0:
    answer(10)
    os._exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

ASKS = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for number in range(100):
    connection.sendall(number.to_bytes(16))
    assert connection.recv(16, socket.MSG_WAITALL) == number.to_bytes(16)
print("asked", flush=True)
for number in range(10):
    connection.sendall(number.to_bytes(16))
for number in range(10):
    assert connection.recv(16, socket.MSG_WAITALL) == number.to_bytes(16)
print("answered", flush=True)
"""


def test_a_child_goes_on_with_a_connection_of_its_parents(tcp_lab: XenLab) -> None:
    """Nothing of a ring is there in a child: what is unread has to come by the kernel."""
    serves, calls = tcp_lab.domU(SERVER_HOST), tcp_lab.domU(CLIENT_HOST)
    there = [serves.address, str(common.SERVER_PORT)]
    env = Way.DIRECT.environment
    command = ["python3", "-c", SERVES, *there]
    with serves.popen(command, env=env, open_input=True) as serving:
        serving.wait_for("ready", PATIENCE_S)
        with calls.popen(["python3", "-c", ASKS, *there], env=env) as calling:
            calling.wait_for("asked", PATIENCE_S)
            assert ringed(tcp_lab) > 0
            serving.end_input()
            serving.wait_for("child 0", PATIENCE_S)
            calling.wait_for("answered", PATIENCE_S)
