# SPDX-License-Identifier: Apache-2.0
"""What programs of one host send each other at its loopback address: rings, at any port."""

from __future__ import annotations

import errno
import itertools
import select
from collections.abc import Iterator

import pytest
from remote import Agent, Remote, until
from stream_lab import Ends, StreamNet, Way, stream_socket

HERE = "127.0.0.1"


@pytest.fixture(params=[Way.NATIVE, Way.EAGER, Way.CHANNEL, Way.BLOCKING], ids=str)
def net(request: pytest.FixtureRequest, loopback_nets: dict[Way, StreamNet]) -> Iterator[StreamNet]:
    one = loopback_nets[request.param]
    yield one
    one.reset()


@pytest.fixture
def other(net: StreamNet) -> Iterator[Agent]:
    """One more program on the same host."""
    agent = net.fresh_agent("left")
    yield agent
    agent.close()


def connected(client: Agent, server: Agent) -> Ends:
    """A connection over loopback, at a port that nobody planned."""
    listener = stream_socket(server)
    listener.bind((HERE, 0))
    listener.listen(8)
    sock = stream_socket(client)
    sock.connect(tuple(listener.getsockname()))
    return Ends(sock, listener.accept()[0])


def udp_pair(sender: Agent, receiver: Agent) -> tuple[Remote, Remote]:
    """Two sockets at ports that nobody planned, the first connected to the second."""
    there = receiver.socket()
    there.bind((HERE, 0))
    here = sender.socket()
    here.connect(tuple(there.getsockname()))
    return here, there


def warm(net: StreamNet, here: Remote, there: Remote) -> None:
    """Say something until it goes by ring."""

    def by_ring() -> bool:
        here.send(b"warm %d" % next(numbers))
        there.recv(100)
        return net.counters(there)["rx_ring_msgs"] > 0

    numbers = itertools.count()
    if not net.native:
        until(by_ring, 5.0)


@pytest.mark.parametrize("same", [True, False], ids=["one process", "two processes"])
def test_a_connection(net: StreamNet, other: Agent, same: bool) -> None:
    ends = connected(net.left, net.left if same else other)
    if not net.native:
        net.promote(ends)
    before = net.counters(ends.server)
    ends.client.sendall(b"question")
    assert ends.server.recv(100) == b"question"
    ends.server.sendall(b"answer")
    assert ends.client.recv(100) == b"answer"
    ends.client.close()
    assert ends.server.recv(100) == b""
    if not net.native:
        assert net.counters(ends.server)["rx_net_bytes"] == before["rx_net_bytes"]


def test_one_thread_with_both_ends_uses_the_ring_from_the_first_byte(net: StreamNet) -> None:
    """Whoever waits for the flow cannot receive at the other end meanwhile."""
    ends = connected(net.left, net.left)
    readable = net.left.call("select", "epoll", ())
    readable.register(ends.server, select.EPOLLIN)
    ends.client.sendall(b"first")
    assert [event for _, event in readable.poll(2)] == [select.EPOLLIN]
    assert ends.server.recv(100) == b"first"
    if not net.native:
        assert net.counters(ends.server)["rx_ring_bytes"] == 5


@pytest.mark.parametrize("same", [True, False], ids=["one process", "two processes"])
def test_datagrams(net: StreamNet, other: Agent, same: bool) -> None:
    here, there = udp_pair(net.left, net.left if same else other)
    warm(net, here, there)
    before = net.counters(there)
    for number in range(100):
        here.send(b"%d" % number)
        assert there.recvfrom(100) == (b"%d" % number, (HERE, here.getsockname()[1]))
    if not net.native:
        after = net.counters(there)
        assert after["rx_ring_msgs"] - before["rx_ring_msgs"] == 100
        assert after["rx_net_msgs"] == before["rx_net_msgs"]


def test_a_socket_sends_to_itself(net: StreamNet) -> None:
    sock = net.left.socket()
    sock.bind((HERE, 0))
    me = tuple(sock.getsockname())
    sock.connect(me)
    warm(net, sock, sock)
    for number in range(10):
        sock.send(b"%d" % number)
    assert [sock.recvfrom(100) for _ in range(10)] == [(b"%d" % n, me) for n in range(10)]


def test_a_wildcard_socket_hears_by_ring(net: StreamNet, other: Agent) -> None:
    there = other.socket()
    there.bind(("0.0.0.0", 0))
    here = net.left.socket()
    here.connect((HERE, there.getsockname()[1]))
    warm(net, here, there)
    here.send(b"x")
    assert there.recvfrom(10) == (b"x", (HERE, here.getsockname()[1]))


def test_a_connection_to_itself_is_the_kernel_s(net: StreamNet) -> None:
    sock = stream_socket(net.left)
    sock.bind((HERE, 0))
    sock.connect(tuple(sock.getsockname()))
    for number in range(5):
        sock.sendall(b"%d" % number)
        assert sock.recv(10) == b"%d" % number


def test_other_addresses_of_the_host_are_the_kernel_s(net: StreamNet, other: Agent) -> None:
    listener = stream_socket(other)
    listener.bind((net.left.address, 0))
    listener.listen(1)
    sock = stream_socket(net.left)
    sock.connect(tuple(listener.getsockname()))
    accepted = listener.accept()[0]
    sock.sendall(b"question")
    assert accepted.recv(100) == b"question"
    assert net.counters(accepted)["rx_ring_bytes"] == 0


# ---- what one thread with both ends found -------------------------------------------------------


def on_rings(net: StreamNet) -> Ends:
    """A connection within one process, on rings if there are any."""
    ends = connected(net.left, net.left)
    if not net.native:
        net.promote(ends)
    return ends


def test_all_that_waits_is_counted(net: StreamNet) -> None:
    ends = on_rings(net)
    routines = net.left.module("routines")
    ends.client.sendall(b"1")
    assert routines.waiting(ends.server) == 1
    ends.client.sendall(b"22")
    ends.client.sendall(b"333")
    assert routines.waiting(ends.server) == 6


def test_poll_tells_all_that_was_asked(net: StreamNet) -> None:
    here, there = udp_pair(net.left, net.left)
    warm(net, here, there)
    here.send(b"x")
    assert net.left.module("routines").polled_twice(there) == [select.POLLIN | select.POLLOUT] * 2


def test_what_is_read_before_a_reset_leaves_the_error_to_others(net: StreamNet) -> None:
    ends = on_rings(net)
    ends.server.sendall(b"last words")
    ends.client.sendall(b"never read")
    ends.server.close()
    assert ends.client.recv(100) == b"last words"
    with pytest.raises(ConnectionResetError):
        ends.client.send(b"more")


def test_a_peer_that_has_shut_down_both_ways_answers_with_a_reset(net: StreamNet) -> None:
    ends = on_rings(net)
    assert net.left.module("routines").send_to_the_deaf(ends.client, ends.server) == errno.EPIPE
