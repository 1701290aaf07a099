# SPDX-License-Identifier: Apache-2.0
"""TCP over rings: bytes that go past the wrapper are found by the kernel's counts."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest
from remote import Remote, until
from stream_lab import DONTROUTE, StreamNet, Way

import build
from ivc.controller.client import read_status

PAUSE_S = 0.005  # more than the age of the counts a sender trusts


def test_bytes_sent_past_the_wrapper_keep_their_place(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    routines = ends.client.agent.module("routines")
    for number in range(3):
        ends.client.send(b"ours %d, " % number)
        time.sleep(PAUSE_S)
        routines.send_past(ends.client, b"theirs %d, " % number)
        time.sleep(PAUSE_S)
    ends.client.send(b"the end")
    expected = b"".join(b"ours %d, theirs %d, " % (n, n) for n in range(3)) + b"the end"
    assert ends.server.recv(len(expected), socket.MSG_WAITALL) == expected
    if not stream_net.native:
        assert stream_net.described(ends.client)["reason"] == "FOREIGN_IO"


@pytest.mark.parametrize("how", ["recv", "select"])
def test_bytes_received_past_the_wrapper_are_not_waited_for(
    stream_net: StreamNet, how: str
) -> None:
    ends = stream_net.connect()
    routines, sets = (ends.server.agent.module(name) for name in ("routines", "select"))
    ends.client.send(b"theirs", DONTROUTE)
    until(lambda: sets.select([ends.server], [], [], 1)[0] != [])
    assert routines.recv_past(ends.server, 6) == b"theirs"
    ends.client.send(b"ours")
    if how == "select":
        assert sets.select([ends.server], [], [], 1)[0] != []
    assert ends.server.recv(100) == b"ours"
    ends.client.send(b"and on")
    assert ends.server.recv(100) == b"and on"
    if not stream_net.native and stream_net.way is not Way.RELAY:  # it has left already
        assert stream_net.described(ends.server)["reason"] == "FOREIGN_IO"


def test_the_other_direction_goes_on(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.server.send(b"under way ")
    ends.client.agent.module("routines").send_past(ends.client, b"theirs")
    time.sleep(PAUSE_S)
    ends.client.send(b", ours")
    ends.server.send(b"and more")
    assert ends.client.recv(18, socket.MSG_WAITALL) == b"under way and more"
    assert ends.server.recv(12, socket.MSG_WAITALL) == b"theirs, ours"


@pytest.mark.parametrize("pieces", [1, 40])
def test_what_rings_hold_is_handed_over_to_the_byte(stream_net: StreamNet, pieces: int) -> None:
    """Some of a record is read, then stdio takes over; the sender waits for an answer."""
    stream_net.needs_handing_over()
    ends = stream_net.connect()
    data = bytes(range(250)) * 4
    for _ in range(pieces):
        ends.client.send(data)
    assert ends.server.recv(333, socket.MSG_WAITALL) == data[:333]
    answer = ends.client.start.recv(10)
    rest = ends.server.agent.module("routines").start.stdio_read(ends.server, pieces * 1000 - 333)
    assert rest.join() == (data * pieces)[333:]
    ends.server.send(b"thanks")
    assert answer.join() == b"thanks"
    ends.client.send(b"and more")
    assert ends.server.recv(10) == b"and more"


# ---- io_uring -------------------------------------------------------------------

CHUNKS = 1500


@pytest.fixture(scope="module")
def uring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that echoes a connection by read and write, then by io_uring, in turns."""
    program = tmp_path_factory.mktemp("uring") / "uring"
    source = Path(__file__).with_name("uring.c")
    subprocess.run([*build.COMPILE, source, "-o", program], check=True)
    return program


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_program_that_uses_io_uring_stays_right(
    stream_net: StreamNet, uring: Path, when: str
) -> None:
    """With its io_uring there from the beginning, or made once the connection is on rings."""
    listener, address = stream_net.listen(stream_net.left)
    command = [str(uring), address[0], str(address[1]), when]
    host = stream_net.lab["right"]
    program = host.popen(command, env=stream_net.env, stdout=subprocess.PIPE)
    try:
        sock, _ = listener.accept()
        routines = sock.agent.module("routines")
        if when == "later":
            await_rings(stream_net, sock, routines)
        assert routines.converse_in_chunks(sock, CHUNKS) == CHUNKS
        if not stream_net.native:
            assert "FOREIGN_IO" in reasons(stream_net, sock)
            assert (stream_net.counters(sock)["tx_ring_msgs"] > 0) == (when == "later")
        sock.close()
        assert program.communicate(timeout=5)[0] == "done\n"
    finally:
        program.kill()
        program.communicate()


def await_rings(net: StreamNet, sock: Remote, routines: Remote) -> None:
    """Well before the program makes its io_uring."""
    for _ in range(50):
        assert routines.converse_in_chunks(sock, 10) == 10
        if net.native or net.counters(sock)["tx_ring_msgs"]:
            return
        time.sleep(0.05)


def reasons(net: StreamNet, sock: Remote) -> list[str]:
    """What either end of a connection says: whoever finds out first takes both off the rings."""
    ends = ["{}:{}".format(*name) for name in (sock.getsockname(), sock.getpeername())]
    return [one["reason"] for one in read_status(net.run_dir)["sockets"] if one["local"] in ends]
