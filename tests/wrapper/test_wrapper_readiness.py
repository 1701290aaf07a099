# SPDX-License-Identifier: Apache-2.0
"""poll, select and epoll: one truthful event a descriptor, whatever carries the data."""

from __future__ import annotations

import errno
import select
import socket
import time

import pytest
from remote import Remote
from wrapper_lab import RING_BYTES, Carried, Net

IN = select.POLLIN
EPOLL_CTL_ADD, EPOLL_CTL_MOD = 1, 3


def drain(sock: Remote) -> list[bytes]:
    """Receive until there is nothing."""
    got = []
    while True:
        try:
            got.append(sock.recv(100, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return got


def epoll_with(sock: Remote, events: int = select.EPOLLIN) -> Remote:
    """A set with one socket."""
    epoll = sock.agent.module("select").epoll()
    epoll.register(sock, events)
    assert isinstance(epoll, Remote)
    return epoll


# ---- poll ---------------------------------------------------------------------


def test_poll_wakes_for_a_datagram(net: Net) -> None:
    client, server, address = net.pair()
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN)
    waiting = poll.start.poll(5000)
    assert waiting.pending()
    client.sendto(b"wake up", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert server.recv(100, socket.MSG_DONTWAIT) == b"wake up"


def test_poll_reports_until_drained(net: Net) -> None:
    client, server, address = net.pair()
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN)
    client.sendto(b"1", address)
    client.sendto(b"2", address)
    assert poll.poll(2000) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"
    assert poll.poll(2000) == [(server.fileno(), IN)]
    assert server.recv(100) == b"2"
    assert poll.poll(0) == []


def test_poll_times_out_in_time(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN)
    took, _ = server.agent.module("routines").timed_poll(poll, 120)
    assert 0.118 <= took < 0.3


def test_the_largest_timeout_waits_and_an_impossible_one_is_invalid(net: Net) -> None:
    client, server, address = net.pair()
    routines = server.agent.module("routines")
    for seconds, nanoseconds in ((-1, 0), (0, 1_000_000_000)):
        with pytest.raises(OSError) as raised:
            routines.ppoll(server.fileno(), seconds, nanoseconds)
        assert raised.value.errno == errno.EINVAL
    waiting = routines.start.ppoll(server.fileno(), (1 << 63) - 1, 0)
    assert waiting.pending()
    client.sendto(b"wake up", address)
    assert waiting.join() == 1
    assert server.recv(100) == b"wake up"


def test_a_socket_with_the_number_of_one_closed_in_a_poll_gets_rings(net: Net) -> None:
    closed = net.right.socket()
    poll = net.right.module("select").poll()
    poll.register(closed, select.POLLPRI)
    number = closed.fileno()
    waiting = poll.start.poll(400)
    time.sleep(0.1)
    closed.close()
    server, address = net.server()
    assert server.fileno() == number
    waiting.join()
    net.warm(net.client(), server, address, claim=Carried.NOTHING)


def test_poll_over_sockets_and_pipes(net: Net) -> None:
    client, server, address = net.pair()
    system = server.agent.module("os")
    reader, writer = system.pipe()
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN | select.POLLOUT)
    poll.register(reader, select.POLLIN)
    assert poll.poll(1000) == [(server.fileno(), select.POLLOUT)]
    system.write(writer, b"x")
    client.sendto(b"data", address)
    time.sleep(0.05)
    assert sorted(poll.poll(1000)) == sorted(
        [(server.fileno(), select.POLLIN | select.POLLOUT), (reader, select.POLLIN)]
    )
    poll.modify(server, select.POLLOUT)
    assert dict(poll.poll(1000))[server.fileno()] == select.POLLOUT
    assert server.recv(100) == b"data"
    system.close(reader)
    assert dict(poll.poll(1000))[reader] == select.POLLNVAL
    system.close(writer)


def test_a_pipe_wakes_a_poll_that_holds_a_socket_on_rings(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    system = server.agent.module("os")
    reader, writer = system.pipe()
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN)
    poll.register(reader, select.POLLIN)
    waiting = poll.start.poll(5000)
    assert waiting.pending()
    system.write(writer, b"x")
    assert waiting.join() == [(reader, IN)]
    system.close(reader)
    system.close(writer)


# ---- select -------------------------------------------------------------------


def test_select_wakes_for_a_datagram(net: Net) -> None:
    client, server, address = net.pair()
    waiting = server.agent.module("select").start.select([server], [], [], 5.0)
    assert waiting.pending()
    client.sendto(b"wake up", address)
    readable, writable, exceptional = waiting.join()
    assert (len(readable), writable, exceptional) == (1, [], [])
    assert server.recv(100, socket.MSG_DONTWAIT) == b"wake up"


def test_select_tells_only_what_is_ready(net: Net) -> None:
    client, server, address = net.pair()
    other, _ = net.server()
    fds = [server.fileno(), other.fileno()]
    selector = server.agent.module("select")
    assert selector.select(fds, fds, [], 0) == ([], fds, [])
    client.sendto(b"data", address)
    time.sleep(0.05)
    assert selector.select(fds, [], [], 1) == ([server.fileno()], [], [])
    assert server.recv(100) == b"data"
    assert selector.select(fds, [], [], 0.05) == ([], [], [])


# ---- epoll: level -------------------------------------------------------------


def test_level_epoll_wakes_for_a_datagram(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server)
    waiting = epoll.start.poll(5)
    assert waiting.pending()
    client.sendto(b"wake up", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert server.recv(100, socket.MSG_DONTWAIT) == b"wake up"
    assert epoll.poll(0) == []


def test_level_epoll_reports_until_drained(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server)
    client.sendto(b"1", address)
    client.sendto(b"2", address)
    for expected in (b"1", b"2"):
        assert epoll.poll(2) == [(server.fileno(), IN)]
        assert epoll.poll(2) == [(server.fileno(), IN)]
        assert server.recv(100) == expected
    assert epoll.poll(0.02) == []


def test_output_is_reported_beside_input(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLOUT)
    assert epoll.poll(1) == [(server.fileno(), select.EPOLLOUT)]
    client.sendto(b"data", address)
    time.sleep(0.05)
    assert epoll.poll(1) == [(server.fileno(), select.EPOLLIN | select.EPOLLOUT)]
    assert server.recv(100) == b"data"


def test_epoll_times_out_in_time(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    epoll = epoll_with(server)
    took, _ = server.agent.module("routines").timed_poll(epoll, 0.12)
    assert 0.118 <= took < 0.3


def test_a_socket_added_before_bind_is_reported(net: Net) -> None:
    """boost.asio registers a socket when it is made."""
    server = net.right.socket()
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    address = (net.right.address, net.port())
    server.bind(address)
    drained = epoll.poll(0)  # natively an unbound datagram socket is ready for nothing
    client = net.client()
    net.warm(client, server, address)
    epoll.poll(0)
    client.sendto(b"data", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert server.recv(100) == b"data"
    assert drained == []


def test_data_is_returned_untouched(net: Net) -> None:
    client, server, address = net.pair()
    routines = server.agent.module("routines")
    epoll = server.agent.module("select").epoll()
    data = 0xFFFF_FFFF_8000_0001
    routines.epoll_ctl(epoll.fileno(), EPOLL_CTL_ADD, server.fileno(), select.EPOLLIN, data)
    client.sendto(b"1", address)
    assert routines.epoll_wait(epoll.fileno(), 8, 2000) == [(data, IN)]
    routines.epoll_ctl(epoll.fileno(), EPOLL_CTL_MOD, server.fileno(), select.EPOLLIN, 7)
    assert routines.epoll_wait(epoll.fileno(), 8, 2000) == [(7, IN)]
    assert server.recv(100) == b"1"


def test_data_given_before_bind_is_returned_untouched(net: Net) -> None:
    server = net.right.socket()
    routines = server.agent.module("routines")
    epoll = server.agent.module("select").epoll()
    data = 0x0123_4567_89AB_CDEF
    routines.epoll_ctl(epoll.fileno(), EPOLL_CTL_ADD, server.fileno(), select.EPOLLIN, data)
    address = (net.right.address, net.port())
    server.bind(address)
    client = net.client()
    net.warm(client, server, address)
    client.sendto(b"1", address)
    assert routines.epoll_wait(epoll.fileno(), 8, 2000) == [(data, IN)]
    assert server.recv(100) == b"1"


def test_what_the_kernel_holds_of_ours_is_like_nothing_of_a_program(wrapped_net: Net) -> None:
    """Programs set 32 bits of the 64 (`data.fd`); the others are half of something else."""
    _, server, _ = wrapped_net.pair(claim=Carried.NOTHING)
    held = server.agent.module("routines").epoll_data(epoll_with(server).fileno())
    assert len(held) == 3  # the socket's, its bell's, the mail's
    assert all(data & 0xFFFFFFFF >= 1 << 30 and data >> 56 for data in held)


@pytest.mark.parametrize("whose", ["high", "low"])
def test_data_with_half_a_token_in_it_comes_back(net: Net, whose: str) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    routines, system = server.agent.module("routines"), server.agent.module("os")
    epoll = epoll_with(server)
    wanted = []
    for held in routines.epoll_data(epoll.fileno()):
        reader, writer = system.pipe()
        data = held >> 32 << 32 | reader if whose == "high" else 0x7F08 << 32 | held & 0xFFFFFFFF
        routines.epoll_ctl(epoll.fileno(), EPOLL_CTL_ADD, reader, select.EPOLLIN, data)
        system.write(writer, b"1")
        wanted.append((data, select.EPOLLIN))
    assert sorted(routines.epoll_wait(epoll.fileno(), 10, 2000)) == sorted(wanted)


def test_errors_of_epoll_ctl_are_the_kernels(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    epoll = epoll_with(server)
    with pytest.raises(FileExistsError):
        epoll.register(server, select.EPOLLIN)
    epoll.unregister(server)
    with pytest.raises(FileNotFoundError):
        epoll.unregister(server)
    with pytest.raises(FileNotFoundError):
        epoll.modify(server, select.EPOLLIN)
    with pytest.raises(OSError) as raised:
        epoll.register(4000, select.EPOLLIN)
    assert raised.value.errno == errno.EBADF


def test_a_socket_taken_out_is_not_reported(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server)
    epoll.unregister(server)
    client.sendto(b"data", address)
    time.sleep(0.05)
    assert epoll.poll(0.02) == []
    epoll.register(server, select.EPOLLIN)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert server.recv(100) == b"data"


def test_a_closed_socket_is_not_reported(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    epoll = epoll_with(server)
    client.sendto(b"data", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    server.close()
    assert epoll.poll(0.05) == []


def test_timers_and_eventfds_in_the_set_go_on(net: Net) -> None:
    client, server, address = net.pair()
    system = server.agent.module("os")
    epoll = epoll_with(server)
    event = system.eventfd(0)
    epoll.register(event, select.EPOLLIN)
    timer = server.agent.module("routines").timer(0.05)
    epoll.register(timer, select.EPOLLIN)
    waiting = epoll.start.poll(5)
    assert waiting.join() == [(timer, IN)]
    system.read(timer, 8)
    waiting = epoll.start.poll(5)
    assert waiting.pending(0.05)
    system.eventfd_write(event, 1)
    assert waiting.join() == [(event, IN)]
    client.sendto(b"data", address)
    time.sleep(0.05)
    assert sorted(epoll.poll(2)) == sorted([(event, IN), (server.fileno(), IN)])
    assert server.recv(100) == b"data"
    system.close(event)
    system.close(timer)


@pytest.mark.parametrize("most", [1, 2])
def test_no_descriptor_starves_with_room_for_few_events(net: Net, most: int) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server)
    event = server.agent.module("os").eventfd(1)
    epoll.register(event, select.EPOLLIN)
    client.sendto(b"data", address)
    time.sleep(0.05)
    seen = {fd for _ in range(6) for fd, _ in epoll.poll(1, most)}
    assert seen == {server.fileno(), event}
    assert server.recv(100) == b"data"
    server.agent.module("os").close(event)


def test_an_event_of_ring_and_kernel_is_one_beside_others(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    epoll = epoll_with(server)
    event = server.agent.module("os").eventfd(1)
    epoll.register(event, select.EPOLLIN)
    # Too large for the ring: the kernel has it, and the rings are looked at, too.
    client.agent.module("routines").send_numbered(client, address, 1, 1, RING_BYTES // 2)
    time.sleep(0.05)
    assert sorted(epoll.poll(1)) == sorted([(event, IN), (server.fileno(), IN)])
    server.agent.module("os").close(event)
    server.recv(100)


def test_two_sockets_take_turns_with_room_for_one_event(net: Net) -> None:
    one, first, to_first = net.pair()
    two, second, to_second = net.pair()
    epoll = epoll_with(first)
    epoll.register(second, select.EPOLLIN)
    one.sendto(b"data", to_first)
    two.sendto(b"data", to_second)
    time.sleep(0.05)
    seen = {fd for _ in range(6) for fd, _ in epoll.poll(1, 1)}
    assert seen == {first.fileno(), second.fileno()}
    assert [first.recv(100), second.recv(100)] == [b"data", b"data"]


# ---- epoll: edge --------------------------------------------------------------


def test_an_edge_is_told_once(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    client.sendto(b"1", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert epoll.poll(0.05) == []
    assert server.recv(100) == b"1"
    assert epoll.poll(0.02) == []


def test_new_data_is_a_new_edge_though_the_old_is_not_drained(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    client.sendto(b"1", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    waiting = epoll.start.poll(5)
    assert waiting.pending()
    client.sendto(b"2", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert drain(server) == [b"1", b"2"]


def test_modifying_tells_the_edge_again(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    client.sendto(b"1", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert epoll.poll(0.02) == []
    epoll.modify(server, select.EPOLLIN | select.EPOLLET)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


def test_adding_a_socket_with_data_is_an_edge(net: Net) -> None:
    client, server, address = net.pair()
    client.sendto(b"1", address)
    time.sleep(0.05)
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


@pytest.mark.parametrize("size", [1, RING_BYTES // 2], ids=["ring", "kernel"])
def test_modifying_wakes_a_thread_asleep_in_the_set(net: Net, size: int) -> None:
    client, server, address = net.pair(claim=Carried.MIXED if size == 1 else Carried.NOTHING)
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    client.agent.module("routines").send_numbered(client, address, 1, 1, size)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    waiting = epoll.start.poll(20)
    assert waiting.pending()
    epoll.modify(server, select.EPOLLIN | select.EPOLLET)
    assert waiting.join() == [(server.fileno(), IN)]
    assert server.recv(100)[:4] == b"\0\0\0\1"


@pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])
def test_a_socket_added_to_a_set_somebody_sleeps_in_is_told(net: Net, edge: int) -> None:
    """Even where it is nobody else who sleeps, so that no ring was asked for its bell."""
    client, server, address = net.pair()
    epoll = server.agent.module("select").epoll()
    waiting = epoll.start.poll(20)
    assert waiting.pending()
    epoll.register(server, select.EPOLLIN | edge)
    client.sendto(b"1", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


def test_an_edge_program_never_sleeps_on_data(net: Net) -> None:
    """Many rounds of: wait, drain to EAGAIN, answer."""
    client, server, address = net.pair(back=True)
    server.setblocking(False)
    epoll = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    job = server.agent.module("routines").start.echo_by_edge(epoll, server, b"end")
    count = client.agent.module("routines").ping(client, address, 300)
    client.sendto(b"end", address)
    assert (count, job.join()) == (300, 300)


# ---- epoll: one shot ----------------------------------------------------------


@pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])
def test_oneshot_fires_once_until_modified(net: Net, edge: int) -> None:
    client, server, address = net.pair()
    events = select.EPOLLIN | select.EPOLLONESHOT | edge
    epoll = epoll_with(server, events)
    client.sendto(b"1", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    client.sendto(b"2", address)
    time.sleep(0.05)
    assert epoll.poll(0.05) == []
    epoll.modify(server, events)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert epoll.poll(0.02) == []
    assert drain(server) == [b"1", b"2"]


def test_oneshot_that_fired_before_bind_stays_silent(net: Net) -> None:
    server = net.right.socket()
    events = select.EPOLLIN | select.EPOLLOUT | select.EPOLLONESHOT
    epoll = epoll_with(server, events)
    assert epoll.poll(1)[0][1] & select.EPOLLOUT
    address = (net.right.address, net.port())
    server.bind(address)
    client = net.client()
    net.warm(client, server, address)
    client.sendto(b"1", address)
    time.sleep(0.05)
    assert epoll.poll(0.05) == []
    epoll.modify(server, events)
    ((fd, told),) = epoll.poll(2)
    assert (fd, told & ~select.EPOLLOUT) == (server.fileno(), select.EPOLLIN)
    assert server.recv(100) == b"1"


# ---- several sets, several threads ----------------------------------------------


@pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])
def test_two_sets_both_tell(net: Net, edge: int) -> None:
    client, server, address = net.pair()
    first = epoll_with(server, select.EPOLLIN | edge)
    second = epoll_with(server, select.EPOLLIN | edge)
    waiting = [first.start.poll(5), second.start.poll(5)]
    assert all(job.pending() for job in waiting)
    client.sendto(b"1", address)
    assert [job.join() for job in waiting] == [[(server.fileno(), IN)]] * 2
    assert server.recv(100) == b"1"


def test_two_threads_in_one_set_lose_nothing(net: Net) -> None:
    client, server, address = net.pair()
    server.setblocking(False)
    epoll = epoll_with(server)
    start = server.agent.module("routines").start
    jobs = [start.receive_by_epoll(epoll, server, 9999) for _ in range(2)]
    send_slowly(client, address, 300, [9999, 9999])
    got = [job.join() for job in jobs]
    assert sorted(got[0] + got[1]) == list(range(300))
    assert all(numbers == sorted(numbers) for numbers in got)


def test_two_threads_receiving_lose_nothing(net: Net) -> None:
    client, server, address = net.pair()
    start = server.agent.module("routines").start
    jobs = [start.receive_blocking(server, 9999) for _ in range(2)]
    send_slowly(client, address, 300, [9999, 9999])
    got = [job.join() for job in jobs]
    assert sorted(got[0] + got[1]) == list(range(300))
    assert all(numbers == sorted(numbers) for numbers in got)


def test_one_datagram_wakes_no_more_than_it_serves(net: Net) -> None:
    """Two blocked receivers, one datagram each: neither is left behind with data there."""
    client, server, address = net.pair()
    waiting = [server.start.recv(100) for _ in range(2)]
    assert all(job.pending() for job in waiting)
    client.sendto(b"1", address)
    client.sendto(b"2", address)
    assert sorted(job.join() for job in waiting) == [b"1", b"2"]


def test_a_receiver_and_a_poller_do_not_hide_data_from_each_other(net: Net) -> None:
    client, server, address = net.pair()
    other, other_address = net.server()
    net.warm(client, other, other_address)
    poll = server.agent.module("select").poll()
    poll.register(server, select.POLLIN)
    poll.register(other, select.POLLIN)
    receiving, polling = server.start.recv(100), poll.start.poll(5000)
    assert receiving.pending() and polling.pending()
    client.sendto(b"1", address)
    assert receiving.join() == b"1"
    client.sendto(b"2", other_address)
    assert polling.join() in ([(other.fileno(), IN)], [(server.fileno(), IN)])
    assert other.recv(100) == b"2"


def test_waiting_costs_no_processor_time(net: Net) -> None:
    _, server, _ = net.pair(claim=Carried.NOTHING)
    epoll = epoll_with(server)
    before = server.agent.module("routines").cpu_seconds()
    waiting = epoll.start.poll(0.6)
    assert waiting.join() == []
    assert server.agent.module("routines").cpu_seconds() - before < 0.15


def send_slowly(client: Remote, address: tuple[str, int], count: int, last: list[int]) -> None:
    """Numbered datagrams in small bursts, so that receivers fall asleep between them."""
    routines = client.agent.module("routines")
    for first in range(0, count, 20):
        routines.send_numbered(client, address, first, 20, 50)
        time.sleep(0.003)
    for number in last:
        routines.send_numbered(client, address, number, 1, 50)


def test_a_set_in_a_set_tells_of_its_socket(net: Net) -> None:
    """Its sockets go back to the network, which nests as it should."""
    client, server, address = net.pair(claim=Carried.NOTHING)
    inner = epoll_with(server)
    outer = epoll_with(inner)
    for _ in range(5):  # what is left of the rings may wake for nothing, but not for good
        outer.poll(0.02)
        assert inner.poll(0) == []
    waiting = outer.start.poll(5)
    assert waiting.pending()
    client.sendto(b"1", address)
    assert waiting.join() == [(inner.fileno(), IN)]
    assert inner.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


def test_poll_on_a_set_tells_of_its_socket(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    inner = epoll_with(server)
    poll = server.agent.module("select").poll()
    poll.register(inner, select.POLLIN)
    for _ in range(5):
        poll.poll(20)
        assert inner.poll(0) == []
    waiting = poll.start.poll(5000)
    assert waiting.pending()
    client.sendto(b"1", address)
    assert waiting.join() == [(inner.fileno(), IN)]
    assert server.recv(100) == b"1"


def test_a_copy_of_a_set_works(net: Net) -> None:
    client, server, address = net.pair()
    epoll = epoll_with(server)
    copy = server.agent.module("os").dup(epoll.fileno())
    routines = server.agent.module("routines")
    epoll.close()
    client.sendto(b"1", address)
    ((data, events),) = routines.epoll_wait(copy, 8, 2000)
    assert (data & 0xFFFFFFFF, events) == (server.fileno(), IN)  # Python sets but half of it
    assert server.recv(100) == b"1"
    server.agent.module("os").close(copy)


# ---- sockets that have long been idle: waits look at them no more -----------------


def at_rest(sock: Remote, events: int = select.EPOLLIN) -> Remote:
    """A set that has been asked in vain so often that it rests."""
    epoll = epoll_with(sock, events)
    assert sock.agent.module("routines").poll_in_vain(epoll) == 0
    return epoll


EDGE = pytest.mark.parametrize("edge", [0, select.EPOLLET], ids=["level", "edge"])


@EDGE
def test_a_set_at_rest_tells_at_once(net: Net, edge: int) -> None:
    client, server, address = net.pair()
    epoll = at_rest(server, select.EPOLLIN | edge)
    client.sendto(b"1", address)
    time.sleep(0.05)
    assert epoll.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"
    assert epoll.poll(0.02) == []


@EDGE
def test_a_set_at_rest_wakes_for_a_datagram(net: Net, edge: int) -> None:
    client, server, address = net.pair()
    epoll = at_rest(server, select.EPOLLIN | edge)
    waiting = epoll.start.poll(5)
    assert waiting.pending()
    client.sendto(b"1", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


@EDGE
def test_a_set_at_rest_tells_of_what_has_woken_another(net: Net, edge: int) -> None:
    """Which has cleared the bell by sleeping again."""
    client, server, address = net.pair()
    resting = at_rest(server, select.EPOLLIN | edge)
    other = epoll_with(server, select.EPOLLIN | select.EPOLLET)
    waiting = other.start.poll(5)
    assert waiting.pending()
    client.sendto(b"1", address)
    assert waiting.join() == [(server.fileno(), IN)]
    assert other.poll(0.05) == []
    assert resting.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"


def test_a_set_at_rest_tells_of_what_a_receiver_has_left(net: Net) -> None:
    client, server, address = net.pair()
    resting = at_rest(server)
    waiting = server.start.recv(100)
    assert waiting.pending()
    client.sendto(b"1", address)
    client.sendto(b"2", address)
    assert waiting.join() == b"1"
    time.sleep(0.05)
    assert resting.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100) == b"2"


@pytest.mark.parametrize("size", [100, RING_BYTES // 2], ids=["ring", "kernel"])
def test_a_set_at_rest_tells_of_what_has_been_peeked_at(net: Net, size: int) -> None:
    client, server, address = net.pair(claim=Carried.MIXED if size == 100 else Carried.NOTHING)
    resting = at_rest(server)
    client.agent.module("routines").send_numbered(client, address, 1, 1, size)
    assert server.recv(100, socket.MSG_PEEK)[:4] == b"\0\0\0\1"
    assert resting.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100)[:4] == b"\0\0\0\1"


def test_a_set_at_rest_tells_of_what_is_asked_for_anew(net: Net) -> None:
    client, server, address = net.pair()
    events = select.EPOLLIN | select.EPOLLONESHOT
    epoll = epoll_with(server, events)
    client.sendto(b"1", address)
    assert epoll.poll(2) == [(server.fileno(), IN)]
    assert server.agent.module("routines").poll_in_vain(epoll) == 0
    epoll.modify(server, events)
    assert epoll.poll(0) == [(server.fileno(), IN)]
    assert server.recv(100) == b"1"
