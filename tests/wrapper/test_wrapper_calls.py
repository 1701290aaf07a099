# SPDX-License-Identifier: Apache-2.0
"""Each call that sends or receives, one datagram at a time."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import time
from typing import Any

import pytest
from remote import Remote
from wrapper_lab import RING_BYTES, Carried, Mode, Net

UDP_MAX = 65507
SO_TIMESTAMP = 29  # Python does not name it
IP_PKTINFO = 8
PKTINFO = struct.Struct("=i4s4s")

# ---- every way to send --------------------------------------------------------

WAYS_TO_SEND: dict[str, Any] = {
    "send": lambda s, data: s.send(data),
    "sendmsg": lambda s, data: s.sendmsg([data[:3], b"", data[3:]]),
    "write": lambda s, data: s.agent.module("os").write(s.fileno(), data),
    "writev": lambda s, data: s.agent.module("os").writev(s.fileno(), [data[:1], data[1:]]),
}


@pytest.mark.parametrize("way", WAYS_TO_SEND)
def test_a_connected_socket_sends(net: Net, way: str) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    net.expect(server, Carried.RINGS)
    assert WAYS_TO_SEND[way](client, b"a datagram") == 10
    assert server.recv(100) == b"a datagram"


@pytest.mark.parametrize("way", ["sendto", "sendmsg"])
def test_an_unconnected_socket_sends(net: Net, way: str) -> None:
    client, server, address = net.pair()
    if way == "sendto":
        assert client.sendto(b"a datagram", address) == 10
    else:
        assert client.sendmsg([b"a ", b"data", b"gram"], [], 0, address) == 10
    assert server.recv(100) == b"a datagram"


def test_sendmmsg_sends_each(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    net.expect(server, Carried.RINGS)
    assert client.agent.module("routines").sendmmsg(client.fileno(), [b"one", b"two"]) == 2
    assert [server.recv(100), server.recv(100)] == [b"one", b"two"]


def test_sending_without_destination_fails(net: Net) -> None:
    client, _, _ = net.pair(claim=Carried.NOTHING)
    with pytest.raises(OSError) as raised:
        client.send(b"whereto?")
    assert raised.value.errno == errno.EDESTADDRREQ


def test_sending_too_much_fails_and_the_next_goes_on(net: Net) -> None:
    client, server, address = net.pair()
    with pytest.raises(OSError) as raised:
        client.agent.module("routines").send_numbered(client, address, 0, 1, UDP_MAX + 1)
    assert raised.value.errno == errno.EMSGSIZE
    client.sendto(b"next", address)
    assert server.recv(100) == b"next"


# ---- every way to receive -----------------------------------------------------


def by_recv_into(sock: Remote) -> Any:
    buffer = sock.agent.module("routines").buffer(100)
    length = sock.recv_into(buffer)
    return buffer.tobytes()[:length]


def by_readv(sock: Remote) -> Any:
    one, two = (sock.agent.module("routines").buffer(size) for size in (4, 100))
    length = sock.agent.module("os").readv(sock.fileno(), [one, two])
    return (one.tobytes() + two.tobytes())[:length]


WAYS_TO_RECEIVE: dict[str, Any] = {
    "recv": lambda s: s.recv(100),
    "recvfrom": lambda s: s.recvfrom(100)[0],
    "recvmsg": lambda s: s.recvmsg(100)[0],
    "recv_into": by_recv_into,
    "recvmmsg": lambda s: s.agent.module("routines").recvmmsg(s.fileno(), 1, 0)[0],
    "read": lambda s: s.agent.module("os").read(s.fileno(), 100),
    "readv": by_readv,
}


@pytest.mark.parametrize("way", WAYS_TO_RECEIVE)
def test_a_datagram_is_received(net: Net, way: str) -> None:
    client, server, address = net.pair()
    client.sendto(b"a datagram", address)
    assert WAYS_TO_RECEIVE[way](server) == b"a datagram"


@pytest.mark.parametrize("way", WAYS_TO_RECEIVE)
def test_a_blocked_call_wakes_for_a_datagram(net: Net, way: str) -> None:
    client, server, address = net.pair()
    if way in ("recv_into", "readv"):
        waiting = server.start.recv(100)  # made of several requests: cannot run in a thread
    elif way == "recvmmsg":
        waiting = server.agent.module("routines").start.recvmmsg(server.fileno(), 1, 0)
    elif way == "read":
        waiting = server.agent.module("os").start.read(server.fileno(), 100)
    else:
        waiting = getattr(server.start, way)(100)
    assert waiting.pending()
    client.sendto(b"wake up", address)
    assert b"wake up" in flat(waiting.join())


def flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def test_the_source_is_reported(net: Net) -> None:
    client, server, address = net.pair(back=True, claim=Carried.RINGS)
    client.sendto(b"request", address)
    data, source = server.recvfrom(100)
    assert (data, source) == (b"request", client.getsockname())
    server.sendto(b"answer", source)
    assert client.recvfrom(100) == (b"answer", address)


def test_the_source_of_a_wildcard_client_is_its_host(net: Net) -> None:
    server, address = net.server()
    client = net.left.socket()
    client.bind(("0.0.0.0", 0))
    net.warm(client, server, address)
    client.sendto(b"request", address)
    assert server.recvfrom(100)[1] == (net.left.address, client.getsockname()[1])


def test_a_client_that_never_binds_is_carried_too(net: Net) -> None:
    server, address = net.server()
    client = net.left.socket()
    client.connect(address)
    net.warm(client, server)
    client.send(b"request")
    assert server.recvfrom(100) == (b"request", client.getsockname())


def test_a_server_on_the_wildcard_address_receives(net: Net) -> None:
    port = net.port()
    server = net.right.socket()
    server.bind(("0.0.0.0", port))
    client = net.client()
    net.warm(client, server, (net.right.address, port))
    client.sendto(b"request", (net.right.address, port))
    assert server.recv(100) == b"request"


@pytest.mark.parametrize("bound", ["address", "wildcard"])
def test_packet_information_is_the_kernels(net: Net, bound: str) -> None:
    port = net.port()
    server = net.right.socket()
    server.bind((net.right.address if bound == "address" else "0.0.0.0", port))
    server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    client = net.client()
    net.warm(client, server, (net.right.address, port))
    client.sendto(b"request", (net.right.address, port))
    data, ancillary, flags, source = server.recvmsg(100, 200)
    ((level, kind, packed),) = ancillary
    interface = server.agent.module("socket").if_nametoindex("eth0")
    here = socket.inet_aton(net.right.address)
    assert (data, flags, source) == (b"request", 0, client.getsockname())
    assert (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO)
    assert PKTINFO.unpack(packed) == (interface, here, here)


def test_packet_information_without_room_is_marked_as_cut(net: Net) -> None:
    client, server, address = net.pair()
    server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    client.sendto(b"request", address)
    data, ancillary, flags, _ = server.recvmsg(100, 8)
    assert (data, ancillary, flags) == (b"request", [], socket.MSG_CTRUNC)


# ---- flags and lengths --------------------------------------------------------


def test_peek_leaves_the_datagram(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"first", address)
    client.sendto(b"second", address)
    assert server.recv(100, socket.MSG_PEEK) == b"first"
    assert server.recvfrom(100, socket.MSG_PEEK) == (b"first", client.getsockname())
    assert [server.recv(100), server.recv(100)] == [b"first", b"second"]


def test_peek_shows_what_comes_next_whoever_sends_meanwhile(net: Net) -> None:
    client, server, address = net.pair()
    other = net.client()
    net.warm(other, server, address)
    client.sendto(b"first", address)
    assert server.recv(100, socket.MSG_PEEK) == b"first"
    other.sendto(b"other", address)
    time.sleep(0.05)
    assert server.recv(100) == b"first"
    assert server.recv(100) == b"other"


def test_peek_at_a_kernels_datagram_shows_what_comes_next(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    other = net.client()
    net.warm(other, server, address, claim=Carried.NOTHING)
    # Too large for the ring.
    other.agent.module("routines").send_numbered(other, address, 1, 2, RING_BYTES // 2)
    time.sleep(0.05)
    assert server.recv(4) == b"\0\0\0\1"
    assert server.recv(4, socket.MSG_PEEK) == b"\0\0\0\2"
    client.sendto(b"by ring", address)
    time.sleep(0.05)
    assert server.recv(4) == b"\0\0\0\2"
    assert server.recv(100) == b"by ring"


def test_a_short_buffer_cuts_the_datagram_and_the_next_is_whole(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"0123456789", address)
    client.sendto(b"next", address)
    data, _, flags, _ = server.recvmsg(4)
    assert (data, flags) == (b"0123", socket.MSG_TRUNC)
    assert server.recv(100) == b"next"


def test_trunc_reports_the_real_length(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"0123456789", address)
    client.sendto(b"next", address)
    buffer = server.agent.module("routines").buffer(4)
    assert server.recv_into(buffer, 4, socket.MSG_TRUNC) == 10
    assert server.recv(100) == b"next"


def test_a_buffer_of_no_bytes_takes_a_datagram(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"lost", address)
    client.sendto(b"next", address)
    assert server.recvmsg(0)[0] == b""  # Python's recv(0) asks nobody
    assert server.recv(100) == b"next"


def test_empty_datagrams_are_datagrams(net: Net) -> None:
    client, server, address = net.pair()
    assert client.sendto(b"", address) == 0
    client.sendto(b"next", address)
    assert server.recvfrom(100) == (b"", client.getsockname())
    assert server.recv(100) == b"next"


@pytest.mark.parametrize("how", ["MSG_DONTWAIT", "O_NONBLOCK"])
def test_nothing_there_is_eagain(net: Net, how: str) -> None:
    client, server, address = net.pair()
    if how == "O_NONBLOCK":
        server.setblocking(False)
    flags = socket.MSG_DONTWAIT if how == "MSG_DONTWAIT" else 0
    with pytest.raises(BlockingIOError):
        server.recv(100, flags)
    client.sendto(b"now", address)
    time.sleep(0.05)
    assert server.recv(100, flags) == b"now"


@pytest.mark.parametrize("way", ["ioctl", "fcntl"])
def test_blocking_can_be_turned_off_and_on_again(net: Net, way: str) -> None:
    client, server, address = net.pair()

    def turn(blocking: bool) -> None:
        if way == "ioctl":
            server.setblocking(blocking)
        else:
            server.agent.module("os").set_blocking(server.fileno(), blocking)

    turn(False)
    with pytest.raises(BlockingIOError):
        server.recv(100)
    turn(True)
    waiting = server.start.recv(100)
    assert waiting.pending()
    client.sendto(b"here", address)
    assert waiting.join() == b"here"


def test_fionread_is_the_size_of_the_next_datagram(net: Net) -> None:
    client, server, address = net.pair()

    def fionread() -> int:
        raw = server.agent.module("fcntl").ioctl(server.fileno(), 0x541B, bytes(4))
        return int.from_bytes(raw, "little")

    assert fionread() == 0
    client.sendto(b"123", address)
    client.sendto(b"12345", address)
    time.sleep(0.05)
    assert fionread() == 3
    server.recv(100)
    assert fionread() == 5


def test_fionread_is_the_size_of_the_next_datagram_of_several_senders(net: Net) -> None:
    client, server, address = net.pair()
    other = net.client()
    net.warm(other, server, address)
    client.sendto(b"123", address)
    other.sendto(b"12345", address)
    time.sleep(0.05)
    for _ in range(2):
        raw = server.agent.module("fcntl").ioctl(server.fileno(), 0x541B, bytes(4))
        assert len(server.recv(100)) == int.from_bytes(raw, "little")


# ---- sizes --------------------------------------------------------------------


def test_all_sizes_arrive_in_order(net: Net) -> None:
    """Small ones by ring; what is more than half a ring by the kernel; as sent."""
    client, server, address = net.pair(claim=Carried.MIXED)
    limit = RING_BYTES // 2
    sizes = [4, UDP_MAX, 5, limit - 200, limit + 1, 6, 40000, 1400, UDP_MAX, 4, 4, 50000, 9000]
    routines = client.agent.module("routines")
    for number, size in enumerate(sizes):
        routines.send_numbered(client, address, number, 1, size)
        if number % 2:  # the kernel's buffer holds few of the large ones
            for expected in (number - 1, number):
                data = server.recv(70000)
                assert (int.from_bytes(data[:4], "big"), len(data)) == (expected, sizes[expected])
    assert len(server.recv(70000)) == sizes[-1]


# ---- connected ----------------------------------------------------------------


def test_a_connected_socket_refuses_others(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    net.expect(server, Carried.RINGS)
    stranger = net.client()
    for number in range(20):
        stranger.sendto(b"let me in %d" % number, server.getsockname())
        time.sleep(0.002)
    client.send(b"known")
    assert server.recv(100) == b"known"
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        server.recv(100, socket.MSG_DONTWAIT)


def test_connect_changes_the_peer(net: Net) -> None:
    first, first_address = net.server()
    second, second_address = net.server()
    client = net.client()
    client.connect(first_address)
    net.warm(client, first)
    client.connect(second_address)
    net.warm(client, second)
    client.send(b"for the second")
    assert second.recv(100) == b"for the second"
    client.connect(first_address)
    client.send(b"for the first")
    assert first.recv(100) == b"for the first"
    first.sendto(b"from the first", client.getsockname())
    assert client.recv(100) == b"from the first"


def test_disconnecting_makes_it_open_to_all(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    here = server.getsockname()
    server.agent.module("routines").disconnect(server)
    # The kernel forgets neither an address nor a port that bind() was given.
    assert server.getsockname() == here
    stranger = net.client()
    net.warm(stranger, server, here)
    stranger.sendto(b"let me in", here)
    assert server.recvfrom(100) == (b"let me in", stranger.getsockname())
    client.send(b"me too")
    assert server.recv(100) == b"me too"


def test_a_peer_that_is_gone_refuses(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    server.close()

    def refused() -> bool:
        try:
            client.send(b"anybody there?")
            client.recv(100, socket.MSG_DONTWAIT)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False
        return False

    deadline = time.monotonic() + 3
    while not refused():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_send_to_a_closed_peer_succeeds_and_the_receive_is_refused(net: Net) -> None:
    """ICMP answers the first; the error is told by the next call. Relayed, dom0 hears first."""
    if net.mode is Mode.RELAY:
        return test_a_peer_that_is_gone_refuses(net)
    client, server = net.connected_pair(claim=Carried.NOTHING)
    server.close()
    assert client.send(b"anybody there?") == 14
    time.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)
    return None


def test_refusal_is_an_event_for_poll(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    poll = client.agent.module("select").poll()
    poll.register(client, select.POLLIN)
    server.close()
    deadline = time.monotonic() + 3
    while not poll.poll(20):
        assert time.monotonic() < deadline
        client.send(b"anybody there?")
    assert poll.poll(0)[0][1] & select.POLLERR
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


# ---- time-outs and shutdown ---------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_receive_timeout(net: Net, when: str) -> None:
    """SO_RCVTIMEO, set before or after the socket got on rings."""
    server, address = net.server()
    packed = struct.pack("ll", 0, 150_000)
    if when == "before":
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
    client = net.client()
    net.warm(client, server, address)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
    took, error = server.agent.module("routines").timed_recv(server)
    assert error == errno.EAGAIN
    assert 0.145 <= took < 0.35
    client.sendto(b"in time", address)
    assert server.recv(100) == b"in time"


def test_python_timeout(net: Net) -> None:
    """settimeout() makes the socket non-blocking and polls."""
    client, server, address = net.pair()
    server.settimeout(0.1)
    with pytest.raises(TimeoutError):
        server.recv(100)
    waiting = server.start.recv(100)
    client.sendto(b"in time", address)
    assert waiting.join() == b"in time"


def test_shutdown_wakes_a_blocked_receiver(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    waiting = server.start.recv(100)
    assert waiting.pending()
    with pytest.raises(OSError) as raised:
        server.shutdown(socket.SHUT_RDWR)
    assert raised.value.errno == errno.ENOTCONN  # and yet it wakes
    assert waiting.join() == b""


def test_after_shutdown_what_came_before_is_still_there(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"before", address)
    time.sleep(0.05)
    with pytest.raises(OSError):
        server.shutdown(socket.SHUT_RD)
    assert server.recv(100) == b"before"
    assert server.recv(100) == b""


def test_after_shutdown_sending_is_a_broken_pipe(net: Net) -> None:
    client, server = net.connected_pair(claim=Carried.NOTHING)
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        client.send(b"too late")
    server.send(b"the other way")
    assert client.recv(100) == b"the other way"


# ---- options rings do not honour ---------------------------------------------


def test_a_socket_with_timestamps_goes_back_to_the_network(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    routines = client.agent.module("routines")
    routines.send_numbered(client, address, 0, 10, 100)
    server.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
    routines.send_numbered(client, address, 10, 10, 100)
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):  # a call, in which it hears that the relay has gone
        client.recv(100, socket.MSG_DONTWAIT)
    numbers = server.agent.module("routines").receive_numbers(server, 0.2)
    assert numbers[-10:] == list(range(10, 20))
    assert numbers == sorted(set(numbers))
    client.sendto(b"stamped", address)
    data, ancillary, _, _ = server.recvmsg(100, 100)
    assert data == b"stamped"
    assert [(level, kind) for level, kind, _ in ancillary] == [(socket.SOL_SOCKET, SO_TIMESTAMP)]
    if not net.native:
        assert (net.described(server)["path"], net.described(server)["reason"]) == (
            "network",
            "OPTION",
        )


def test_a_filter_is_obeyed(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    server.agent.module("routines").attach_filter_that_drops_all(server)
    time.sleep(0.05)
    client.sendto(b"filtered", address)
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        server.recv(100, socket.MSG_DONTWAIT)


def test_fcntl_flags_are_the_kernels(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    server.setblocking(False)
    flags = server.agent.module("fcntl").fcntl(server.fileno(), fcntl.F_GETFL)
    assert flags & 0o4000
