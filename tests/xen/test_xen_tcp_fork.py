# SPDX-License-Identifier: Apache-2.0
"""A program of a guest forks with a connection that is on rings."""

from __future__ import annotations

from tcp_calls import ringed

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.control import running_controller
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.ways import Way

SECONDS = 120.0

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


def test_a_child_goes_on_with_a_connection_of_its_parents(lab: XenLab) -> None:
    """Nothing of a ring is there in a child: what is unread has to come by the kernel."""
    with running_controller(lab, promote="eager"):
        serves, calls = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
        there = [serves.address, str(common.SERVER_PORT)]
        env = Way.DIRECT.environment
        command = ["python3", "-c", SERVES, *there]
        with serves.popen(command, env=env, open_input=True) as serving:
            serving.wait_for("ready", SECONDS)
            with calls.popen(["python3", "-c", ASKS, *there], env=env) as calling:
                calling.wait_for("asked", SECONDS)
                assert ringed(lab) > 0
                serving.end_input()
                serving.wait_for("child 0", SECONDS)
                calling.wait_for("answered", SECONDS)
