# SPDX-License-Identifier: Apache-2.0
"""The counter on the bridge counts exactly, or says that it could not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ivc.lab.hosts import Lab
from ivc.lab.wire import WireCounter

SEND = """
import socket, sys
address, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(count):
    s.sendto(bytes(size), (address, 5000))
"""

STREAM = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as s:
    s.sendall(bytes(int(sys.argv[2])))
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
"""

LISTENER = """
import socket
listener = socket.create_server(("", 5000))
print(flush=True)
with listener.accept()[0] as s:
    while s.recv(65536):
        pass
"""

RECEIVER = (
    "import socket, time; s = socket.socket(2, 2); s.bind(('', 5000)); print(); time.sleep(99)"
)


@pytest.fixture
def counter(lab: Lab) -> Iterator[WireCounter]:
    # A receiver, or else the kernel answers with ICMP errors.
    receiver = lab["adas"].popen([sys.executable, "-uc", RECEIVER], stdout=subprocess.PIPE)
    assert lab.bridge is not None and receiver.stdout is not None
    receiver.stdout.readline()
    with WireCounter(lab.bridge, [str(host.port) for host in lab.hosts]) as counter:
        yield counter
    receiver.kill()
    receiver.communicate()


def send(lab: Lab, size: int, count: int, address: str = "10.77.0.2") -> None:
    lab["hmi"].run(sys.executable, "-c", SEND, address, str(size), str(count))


@pytest.mark.parametrize("size", [0, 1, 64, 1472])
def test_payload_is_counted_to_the_byte(lab: Lab, counter: WireCounter, size: int) -> None:
    send(lab, size, 1000)
    counts = counter.read()
    assert (counts.udp_packets, counts.udp_bytes, counts.drops) == (1000, 1000 * size, 0)


@pytest.mark.parametrize("size", [1, 64, 100_000])
def test_payload_of_tcp_is_counted_to_the_byte(lab: Lab, counter: WireCounter, size: int) -> None:
    listener = lab["adas"].popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE)
    assert listener.stdout is not None
    listener.stdout.readline()
    lab["hmi"].run(sys.executable, "-c", STREAM, "10.77.0.2", str(size))
    listener.communicate()
    counts = counter.read()
    assert (counts.tcp_bytes, counts.udp_bytes, counts.drops) == (size, 0, 0)


def test_multicast_counts_once_however_many_ports_it_leaves_by(
    lab: Lab, counter: WireCounter
) -> None:
    send(lab, 100, 50, "224.1.1.1")
    assert counter.read().udp_bytes == 5000


def test_fragments_count_without_their_headers(lab: Lab, counter: WireCounter) -> None:
    send(lab, 60000, 3)
    assert counter.read().udp_bytes == 180000


def test_what_stays_inside_a_host_does_not_count(lab: Lab, counter: WireCounter) -> None:
    send(lab, 100, 10, "127.0.0.1")
    assert counter.read().udp_packets == 0


def test_what_could_not_be_counted_is_told(lab: Lab, counter: WireCounter) -> None:
    sent = 120_000  # more than the ring holds
    os.kill(counter.pid, signal.SIGSTOP)
    send(lab, 64, sent)
    os.kill(counter.pid, signal.SIGCONT)
    counts = counter.read()
    assert counts.drops > 0
    assert counts.udp_packets + counts.other_packets + counts.drops >= sent
