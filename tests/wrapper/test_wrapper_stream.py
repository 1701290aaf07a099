# SPDX-License-Identifier: Apache-2.0
"""TCP over rings: each call, back-pressure, and how connections end."""

from __future__ import annotations

import errno
import select
import socket
import struct
import termios
import time
from typing import Any

import pytest
from remote import Remote, until
from stream_lab import DONTROUTE, Ends, StreamNet, Way, stream_socket

from ivc.controller.client import read_status

RESET = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


def test_bytes_go_both_ways(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"question")
    assert ends.server.recv(100) == b"question"
    ends.server.send(b"answer")
    assert ends.client.recv(100) == b"answer"


def test_it_is_rings_that_carry_them(wrapped_stream_net: StreamNet) -> None:
    ends = wrapped_stream_net.connect()
    before = wrapped_stream_net.counters(ends.server)
    ends.client.send(b"x" * 1000)
    assert ends.server.recv(2000) == b"x" * 1000
    after = wrapped_stream_net.counters(ends.server)
    assert after["rx_ring_bytes"] == before["rx_ring_bytes"] + 1000
    assert after["rx_net_bytes"] == before["rx_net_bytes"]
    described = wrapped_stream_net.described(ends.server)
    assert (described["protocol"], described["path"], described["reason"]) == (
        "tcp",
        "relay" if wrapped_stream_net.way is Way.RELAY else "direct",
        "NONE",
    )


# ---- every way to send and to receive ---------------------------------------------

WAYS_TO_SEND: dict[str, Any] = {
    "send": lambda s, data: s.send(data),
    "sendall": lambda s, data: s.sendall(data) or len(data),
    "sendmsg": lambda s, data: s.sendmsg([data[:3], b"", data[3:]]),
    "write": lambda s, data: s.agent.module("os").write(s.fileno(), data),
    "writev": lambda s, data: s.agent.module("os").writev(s.fileno(), [data[:1], data[1:]]),
}
WAYS_TO_RECEIVE: dict[str, Any] = {
    "recv": lambda s: s.recv(100),
    "recvfrom": lambda s: s.recvfrom(100)[0],
    "recvmsg": lambda s: s.recvmsg(100)[0],
    "read": lambda s: s.agent.module("os").read(s.fileno(), 100),
}


@pytest.mark.parametrize("way", WAYS_TO_SEND)
def test_each_way_to_send(stream_net: StreamNet, way: str) -> None:
    ends = stream_net.connect()
    assert WAYS_TO_SEND[way](ends.client, b"some bytes") == 10
    assert ends.server.recv(100) == b"some bytes"


@pytest.mark.parametrize("way", WAYS_TO_RECEIVE)
def test_each_way_to_receive(stream_net: StreamNet, way: str) -> None:
    ends = stream_net.connect()
    ends.client.send(b"some bytes")
    assert WAYS_TO_RECEIVE[way](ends.server) == b"some bytes"


def test_recvfrom_reports_no_address(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"x")
    assert ends.server.recvfrom(10) == (b"x", None)


def test_a_short_buffer_leaves_the_rest(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"0123456789")
    assert [ends.server.recv(n) for n in (1, 3, 100)] == [b"0", b"123", b"456789"]


def test_one_receive_takes_what_several_sends_gave(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    for n, flags in enumerate((0, DONTROUTE, 0, 0, DONTROUTE)):
        ends.client.send(b"%d" % n * 3, flags)
    until(lambda: ends.server.recv(100, socket.MSG_PEEK) == b"000111222333444")
    assert ends.server.recv(100) == b"000111222333444"


@pytest.mark.parametrize("cork", [0, 1], ids=["nagle", "cork"])
def test_what_goes_by_ring_waits_for_nothing_the_kernel_holds_back(
    wrapped_stream_net: StreamNet, cork: int
) -> None:
    if wrapped_stream_net.way is Way.RELAY:
        pytest.skip("what goes by the kernel ends a relayed connection's way by ring")
    ends = wrapped_stream_net.connect()
    ends.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, cork)
    begin = time.monotonic()
    for _ in range(3):  # the first is on its way, the others wait for its acknowledgement
        ends.client.send(b"by kernel, ", DONTROUTE)
    ends.client.send(b"by ring")
    assert ends.server.recv(40, socket.MSG_WAITALL) == b"by kernel, " * 3 + b"by ring"
    assert time.monotonic() - begin < 0.1, "TCP_CORK holds back for 0.2 s"
    assert ends.client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    assert ends.client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == cork


def test_a_peek_leaves_what_it_shows(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"by ring, ")
    ends.client.send(b"by kernel, ", DONTROUTE)
    ends.client.send(b"by ring")
    assert ends.server.recv(3, socket.MSG_PEEK) == b"by "
    everything = ends.server.recv(27, socket.MSG_PEEK | socket.MSG_WAITALL)
    assert everything == b"by ring, by kernel, by ring"
    assert ends.server.recv(9) == b"by ring, "
    assert ends.server.recv(100) == b"by kernel, by ring"
    with pytest.raises(BlockingIOError):
        ends.server.recv(1, socket.MSG_DONTWAIT)


def test_a_peek_may_count_without_a_look(stream_net: StreamNet) -> None:
    """MSG_TRUNC: nothing is copied, and the buffer need not be one."""
    ends = stream_net.connect()
    ends.client.send(b"by ring")
    ends.client.send(b", by the kernel", DONTROUTE)
    until(lambda: len(ends.server.recv(100, socket.MSG_PEEK)) == 22)
    buffer = ends.server.agent.module("routines").buffer(100)
    assert ends.server.recv_into(buffer, 100, socket.MSG_PEEK | socket.MSG_TRUNC) == 22
    assert buffer.tobytes() == bytes(100)
    assert ends.server.recv(100) == b"by ring, by the kernel"


def test_waitall_waits_for_all(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    waiting = ends.server.start.recv(10, socket.MSG_WAITALL)
    ends.client.send(b"0123")
    assert waiting.pending()
    ends.client.send(b"45", DONTROUTE)
    ends.client.send(b"6789 and more")
    assert waiting.join() == b"0123456789"
    assert ends.server.recv(100) == b" and more"


def test_waitall_ends_with_the_connection(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    waiting = ends.server.start.recv(10, socket.MSG_WAITALL)
    ends.client.send(b"0123")
    ends.client.close()
    assert waiting.join() == b"0123"
    assert ends.server.recv(10) == b""


def test_nothing_there_is_eagain(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    with pytest.raises(BlockingIOError):
        ends.server.recv(10, socket.MSG_DONTWAIT)
    ends.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.server.recv(10)


def test_a_receive_timeout_ends_in_eagain(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    seconds, error = ends.server.agent.module("routines").timed_recv(ends.server)
    assert error == errno.EAGAIN
    assert 0.09 < seconds < 1


@pytest.mark.parametrize("flags", [0, DONTROUTE], ids=["ring", "kernel"])
def test_a_blocked_receive_wakes(stream_net: StreamNet, flags: int) -> None:
    ends = stream_net.connect()
    waiting = ends.server.start.recv(100)
    assert waiting.pending()
    ends.client.send(b"wake up", flags)
    assert waiting.join() == b"wake up"


def test_bytes_queued_are_counted(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"x" * 1000)
    ends.client.send(b"x" * 500, DONTROUTE)
    fcntl = ends.server.agent.module("fcntl")

    def queued() -> int:
        raw = fcntl.ioctl(ends.server.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(raw, "little")

    until(lambda: queued() == 1500)
    ends.server.recv(400)
    assert queued() == 1100


def test_bytes_not_yet_read_by_the_peer_are_counted(wrapped_stream_net: StreamNet) -> None:
    ends = wrapped_stream_net.connect()
    fcntl = ends.client.agent.module("fcntl")

    def unread() -> int:
        raw = fcntl.ioctl(ends.client.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(raw, "little")

    ends.client.send(b"x" * 1000)
    if wrapped_stream_net.way is not Way.RELAY:  # which has taken them by now, or not
        assert unread() == 1000
    ends.server.recv(1000)
    until(lambda: unread() == 0)


# ---- readiness -----------------------------------------------------------------------


def _poll(sock: Remote, events: int, timeout: int) -> int:
    poller = sock.agent.call("select", "poll", ())
    poller.register(sock, events)
    return sum(found for _, found in poller.poll(timeout))


def test_poll_tells_of_both_roads(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    assert _poll(ends.server, select.POLLIN, 0) == 0
    for flags in (0, DONTROUTE):
        ends.client.send(b"x", flags)
        assert _poll(ends.server, select.POLLIN, 1000) == select.POLLIN
        ends.server.recv(10)
        assert _poll(ends.server, select.POLLIN, 0) == 0


def test_select_tells_what_can_be_read_and_written(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"x")
    sets = ends.server.agent.module("select")
    both = [ends.server], [ends.server], []
    until(lambda: [len(found) for found in sets.select(*both, 1)] == [1, 1, 0])


def test_a_connection_can_be_written_to(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    assert _poll(ends.client, select.POLLOUT, 0) == select.POLLOUT


@pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])
def test_epoll_tells_of_both_roads(stream_net: StreamNet, edge: int) -> None:
    ends = stream_net.connect()
    epoll = ends.server.agent.call("select", "epoll", ())
    epoll.register(ends.server, select.EPOLLIN | edge)
    for flags in (0, DONTROUTE, 0):
        assert epoll.poll(0.02) == []
        ends.client.send(b"x", flags)
        assert [events for _, events in epoll.poll(2)] == [select.EPOLLIN]
        assert ends.server.recv(10) == b"x"


def test_epoll_tells_of_writing_by_edge_once(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(1)] == [select.EPOLLOUT]
    assert epoll.poll(0.02) == []
    epoll.modify(ends.client, select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(1)] == [select.EPOLLOUT]


def test_an_edge_of_writing_is_not_told_again_for_a_change_of_path(stream_net: StreamNet) -> None:
    ends = stream_net.connect(rings=False)
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(1)] == [select.EPOLLOUT]
    if not stream_net.native:
        stream_net.promote(ends)
    assert epoll.poll(0.02) == []
    ends.client.send(b"!", socket.MSG_OOB)  # by the kernel from now on
    assert epoll.poll(0.02) == []
    ends.client.send(b"last")
    assert epoll.poll(0.02) == []


def test_an_edge_of_writing_is_told_to_who_was_told_to_wait(stream_net: StreamNet) -> None:
    ends = stream_net.connect(rings=False)
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(1)] == [select.EPOLLOUT]
    sent = ends.client.agent.module("routines").send_until_refused(ends.client)
    assert epoll.poll(0.02) == []
    routines = ends.server.agent.module("routines")
    reading = routines.start.receive_exactly(ends.server, sent)
    assert [events for _, events in epoll.poll(5)] == [select.EPOLLOUT]
    reading.join()


def _fill(sock: Remote) -> int:
    return int(sock.agent.module("routines").send_until_full(sock))


def test_asking_for_output_wakes_a_thread_asleep_in_the_set(stream_net: StreamNet) -> None:
    """As a program with two threads does: one sleeps, the other has just filled the connection."""
    ends = stream_net.connect()
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLIN | select.EPOLLET)
    waiting = epoll.start.poll(20)
    assert waiting.pending()
    sent = ends.client.agent.module("routines").send_until_refused(ends.client)
    epoll.modify(ends.client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    assert ends.server.agent.module("routines").receive_exactly(ends.server, sent) == sent
    assert [events for _, events in waiting.join()] == [select.EPOLLOUT]


def test_a_set_long_idle_tells_that_a_full_connection_can_be_written_to(
    stream_net: StreamNet,
) -> None:
    ends = stream_net.connect()
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(1)] == [select.EPOLLOUT]
    assert ends.client.agent.module("routines").poll_in_vain(epoll) == 0
    sent = ends.client.agent.module("routines").send_until_refused(ends.client)
    waiting = epoll.start.poll(20)
    assert ends.server.agent.module("routines").receive_exactly(ends.server, sent) == sent
    assert [events for _, events in waiting.join()] == [select.EPOLLOUT]


def test_a_set_long_idle_tells_of_the_end(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLIN)
    assert ends.client.agent.module("routines").poll_in_vain(epoll) == 0
    ends.server.send(b"last")
    ends.server.close()
    for expected in (b"last", b""):
        assert [events for _, events in epoll.poll(2)] == [select.EPOLLIN]
        assert ends.client.recv(100) == expected


def test_a_thread_asleep_in_a_set_hears_of_room_that_another_had_used_up(
    stream_net: StreamNet,
) -> None:
    """However long it sleeps: what is idle for long is not looked at any more."""
    ends = stream_net.connect()
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(5)] == [select.EPOLLOUT]
    waiting = epoll.start.poll(20)
    assert waiting.pending(2)
    sent = ends.client.agent.module("routines").send_until_refused(ends.client)
    assert ends.server.agent.module("routines").receive_exactly(ends.server, sent) == sent
    assert [events for _, events in waiting.join()] == [select.EPOLLOUT]


@pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])
def test_a_full_connection_can_be_written_to_again_once_read(
    stream_net: StreamNet, edge: int
) -> None:
    ends = stream_net.connect()
    sent = _fill(ends.client)
    epoll = ends.client.agent.call("select", "epoll", ())
    epoll.register(ends.client, select.EPOLLOUT | edge)
    assert epoll.poll(0.05) == []
    assert _poll(ends.client, select.POLLOUT, 0) == 0
    waiting = epoll.start.poll(5)
    assert ends.server.agent.module("routines").receive_exactly(ends.server, sent) == sent
    assert [events for _, events in waiting.join()] == [select.EPOLLOUT]
    assert ends.client.send(b"more") == 4


def test_waiting_to_write_costs_no_processor(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    _fill(ends.client)
    routines = ends.client.agent.module("routines")
    before = routines.cpu_seconds()
    assert _poll(ends.client, select.POLLOUT, 500) == 0
    assert routines.cpu_seconds() - before < 0.2


# ---- back-pressure ---------------------------------------------------------------------


def test_a_writer_nobody_reads_has_the_kernels_buffer_too(wrapped_stream_net: StreamNet) -> None:
    if wrapped_stream_net.way is Way.RELAY:
        pytest.skip("what a relay has not passed on the kernel must not overtake")
    ends = wrapped_stream_net.connect()
    before = wrapped_stream_net.counters(ends.client)["tx_net_bytes"]
    assert ends.client.agent.module("routines").timed_sendall(ends.client, 400_000)[0] < 1
    assert wrapped_stream_net.counters(ends.client)["tx_net_bytes"] > before
    assert ends.server.agent.module("routines").receive_exactly(ends.server, 400_000) == 400_000


def test_who_still_reads_what_the_kernel_has_is_waited_for(
    wrapped_stream_net: StreamNet,
) -> None:
    """A reader has much of the kernel's to read before it can touch the ring."""
    if wrapped_stream_net.way is Way.RELAY:
        pytest.skip("what goes by the kernel ends a relayed connection's way by ring")

    def stayed() -> bool:
        ends = wrapped_stream_net.connect()
        ends.client.sendall(bytes(60_000), DONTROUTE)
        before = wrapped_stream_net.counters(ends.client)["tx_net_bytes"]
        sending = ends.client.start.sendall(bytes(400_000))
        for _ in range(100):  # for longer than an unread ring is borne
            ends.server.recv(600, socket.MSG_WAITALL)
        took = wrapped_stream_net.counters(ends.client)["tx_net_bytes"] - before
        assert ends.server.agent.module("routines").receive_exactly(ends.server, 400_000) == 400_000
        sending.join()
        return took == 0

    assert any(stayed() for _ in range(3)), "a machine that stalls may spoil one"


def test_a_blocked_writer_goes_on_when_somebody_reads(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    size = 24_000_000
    sending = ends.client.agent.module("routines").start.timed_sendall(ends.client, size)
    assert sending.pending(0.2)
    assert ends.server.agent.module("routines").receive_exactly(ends.server, size) == size
    sending.join()


def test_a_send_timeout_ends_in_eagain(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100_000))
    _fill(ends.client)
    seconds, error = ends.client.agent.module("routines").timed_send(ends.client)
    assert error == errno.EAGAIN
    assert 0.09 < seconds < 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_writer_that_chose_a_small_buffer_waits_soon(stream_net: StreamNet, when: str) -> None:
    """Set on the listener, too: what it accepts has it."""
    listener, address = stream_net.listen()
    if when == "before":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = stream_socket(stream_net.left)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    ends = Ends(client, listener.accept()[0])
    if not stream_net.native:
        stream_net.promote(ends)
    if when == "after":
        ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert ends.server.agent.module("routines").send_until_refused(ends.server) < 30_000


# ---- ends --------------------------------------------------------------------------------

ENDINGS = ["close", "shutdown", "reset"]


def _end(sock: Remote, how: str) -> None:
    if how == "shutdown":
        sock.shutdown(socket.SHUT_WR)
        return
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def _receive_to_the_end(sock: Remote) -> tuple[bytes, list[Any]]:
    data, ends = b"", []
    while len(ends) < 2:
        try:
            got = sock.recv(100)
        except OSError as error:
            ends.append(error.errno)
            continue
        data += got
        if not got:
            ends.append("end")
    return data, ends


@pytest.mark.parametrize("flags", [0, DONTROUTE], ids=["ring", "kernel"])
@pytest.mark.parametrize("how", ENDINGS)
def test_all_sent_before_the_end_arrives_and_then_the_end(
    stream_net: StreamNet, how: str, flags: int
) -> None:
    ends = stream_net.connect()
    ends.client.send(b"last ", 0)
    ends.client.send(b"words", flags)
    if flags:  # a reset destroys what the kernel has not delivered, natively too
        until(lambda: len(ends.server.recv(100, socket.MSG_PEEK)) == 10)
    _end(ends.client, how)
    time.sleep(0.02)
    data, last = _receive_to_the_end(ends.server)
    assert data == b"last words"
    assert last == ([errno.ECONNRESET, "end"] if how == "reset" else ["end", "end"])


@pytest.mark.parametrize("how", ENDINGS)
def test_a_blocked_receive_hears_of_the_end(stream_net: StreamNet, how: str) -> None:
    ends = stream_net.connect()
    waiting = ends.server.start.recv(100)
    assert waiting.pending()
    _end(ends.client, how)
    if how == "reset":
        with pytest.raises(ConnectionResetError):
            waiting.join()
    else:
        assert waiting.join() == b""


@pytest.mark.parametrize("how", ENDINGS)
def test_poll_tells_of_the_end_as_the_kernel_does(stream_net: StreamNet, how: str) -> None:
    ends = stream_net.connect()
    _end(ends.client, how)
    expected = select.POLLIN | select.POLLRDHUP
    if how == "reset":
        expected |= select.POLLHUP | select.POLLERR
    asked = select.POLLIN | select.POLLRDHUP
    until(lambda: _poll(ends.server, asked, 1000) == expected)


def test_half_closed_the_other_way_goes_on(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"question")
    ends.client.shutdown(socket.SHUT_WR)
    assert ends.server.recv(100) == b"question"
    assert ends.server.recv(100) == b""
    ends.server.send(b"a late answer")
    assert ends.client.recv(100) == b"a late answer"
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"no more")


def test_closing_with_bytes_unread_resets(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"never read")
    until(lambda: ends.server.recv(100, socket.MSG_PEEK) == b"never read")
    ends.server.close()
    with pytest.raises(ConnectionResetError):
        ends.client.recv(100)


def test_closing_with_bytes_in_the_ring_unread_resets(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"never read")
    time.sleep(0.05)
    ends.server.close()
    with pytest.raises(ConnectionResetError):
        ends.client.recv(100)


def test_writing_to_a_closed_peer_fails_at_last(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.server.close()
    time.sleep(0.02)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(20):
            ends.client.send(b"anybody there?")
            time.sleep(0.01)


def test_a_killed_peer_is_heard_of(stream_net: StreamNet) -> None:
    agent = stream_net.fresh_agent("left")
    ends = stream_net.connect(client=agent)
    ends.client.send(b"last words")
    agent.close()
    assert ends.server.recv(100) == b"last words"
    assert ends.server.recv(100) == b""
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(20):
            ends.server.send(b"anybody there?")
            time.sleep(0.01)


def test_so_error_tells_of_a_reset_once(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    _end(ends.client, "reset")
    until(lambda: _poll(ends.server, select.POLLIN, 1000) & select.POLLERR)
    assert ends.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert ends.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert ends.server.recv(100) == b""


def test_a_closed_connection_leaves_nothing_behind(wrapped_stream_net: StreamNet) -> None:
    ends = wrapped_stream_net.connect()
    local = "{}:{}".format(*ends.client.getsockname())
    ends.client.close()
    ends.server.close()

    def flows() -> list[str]:
        found = read_status(wrapped_stream_net.run_dir)["flows"]
        return [one["from"] for one in found if local in (one["from"], one["to"])]

    until(lambda: not flows())


# ---- life -----------------------------------------------------------------------------------


def test_a_connection_made_without_waiting(stream_net: StreamNet) -> None:
    listener, address = stream_net.listen()
    client = stream_socket(stream_net.left)
    client.setblocking(False)
    epoll = stream_net.left.call("select", "epoll", ())
    epoll.register(client, select.EPOLLIN | select.EPOLLET)
    assert client.connect_ex(address) == errno.EINPROGRESS
    epoll.modify(client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    assert [events for _, events in epoll.poll(2)] == [select.EPOLLOUT]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    server, _ = listener.accept()
    ends = Ends(client, server)
    client.setblocking(True)
    if not stream_net.native:
        stream_net.promote(ends)
    server.send(b"hello")
    until(lambda: epoll.poll(1) != [])
    assert client.recv(10) == b"hello"


def test_a_refused_connection_is_refused(stream_net: StreamNet) -> None:
    listener, address = stream_net.listen()
    listener.close()
    client = stream_socket(stream_net.left)
    with pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_a_young_connection_stays_on_the_network(stream_nets: dict[Way, StreamNet]) -> None:
    net = stream_nets[Way.LAZY]
    ends = net.connect(rings=False)
    ends.client.send(b"short")
    assert ends.server.recv(10) == b"short"
    assert net.described(ends.client)["reason"] == "SHORT_LIVED"
    net.reset()


def test_a_child_goes_on_with_the_connection(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"for the child")
    assert ends.server.agent.module("routines").fork_and_serve(ends.server) == 0
    assert ends.client.recv(100) == b"seen: for the child"
    ends.client.send(b"for the parent")
    assert ends.server.recv(100) == b"for the parent"


def test_out_of_band_data_takes_the_network(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"before")
    ends.client.send(b"!", socket.MSG_OOB)
    ends.client.send(b"after")
    until(lambda: ends.server.recv(1, socket.MSG_OOB) == b"!")
    assert ends.server.recv(6, socket.MSG_WAITALL) == b"before"
    assert ends.server.recv(5, socket.MSG_WAITALL) == b"after"


def test_sendfile_is_in_order(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"head ")
    assert ends.client.agent.module("routines").sendfile(ends.client, b"from a file") == 11
    ends.client.send(b" tail")
    assert ends.server.recv(21, socket.MSG_WAITALL) == b"head from a file tail"


def test_sendfile_goes_by_ring(wrapped_stream_net: StreamNet) -> None:
    ends = wrapped_stream_net.connect()
    before = wrapped_stream_net.counters(ends.server)
    data = bytes(range(256)) * 300
    received = ends.server.start.recv(len(data), socket.MSG_WAITALL)
    assert ends.client.agent.module("routines").sendfile(ends.client, data) == len(data)
    assert received.join() == data
    after = wrapped_stream_net.counters(ends.server)
    assert after["rx_ring_bytes"] - before["rx_ring_bytes"] == len(data)


def test_sendfile_moves_what_it_moves_in_the_kernel(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    data = bytes(range(256)) * 100
    sent = ends.client.agent.module("routines").send_files(ends.client, data)
    size = len(data)
    assert sent == [3, 2, 3, 5, size - 5, size, 0, 0]
    assert ends.server.recv(1 + size, socket.MSG_WAITALL) == data[1:4] + data[2:]


def test_sendfile_of_a_full_connection_says_so(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.setblocking(False)
    data, sent = bytes(range(256)) * 1000, 0
    with pytest.raises(BlockingIOError):
        while sent < 1 << 28:
            sent += ends.client.agent.module("routines").sendfile(ends.client, data)
    ends.server.settimeout(2)
    seen = b""
    while len(seen) < sent:
        seen += ends.server.recv(1 << 16)
    assert len(seen) == sent


BAD_SENDFILES = {
    "no bytes": (0, 0),
    "too many": (-1, errno.EINVAL),
    "no offset": (-1, errno.EFAULT),
    "no file": (-1, errno.EBADF),
}


@pytest.mark.parametrize("what", BAD_SENDFILES)
def test_a_sendfile_that_cannot_be_moves_nothing(stream_net: StreamNet, what: str) -> None:
    ends = stream_net.connect()
    done = ends.client.agent.module("routines").bad_sendfile(ends.client, what)
    assert tuple(done) == BAD_SENDFILES[what]
    ends.client.send(b"more")
    assert ends.server.recv(200) == b"more"


@pytest.mark.parametrize("what", BAD_SENDFILES)
def test_a_sendfile_that_cannot_be_leaves_the_connection_on_rings(
    wrapped_stream_net: StreamNet, what: str
) -> None:
    ends = wrapped_stream_net.connect()
    ends.client.agent.module("routines").bad_sendfile(ends.client, what)
    before = wrapped_stream_net.counters(ends.client)["tx_ring_bytes"]
    ends.client.send(b"more")
    assert wrapped_stream_net.counters(ends.client)["tx_ring_bytes"] == before + 4
