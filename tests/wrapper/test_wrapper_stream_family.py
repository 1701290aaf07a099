# SPDX-License-Identifier: Apache-2.0
"""A connection on rings that several processes, descriptors or waiting threads have a part in."""

from __future__ import annotations

import socket
import time

import pytest
from remote import Remote
from stream_lab import DONTROUTE, StreamNet, Way


def routines(sock: Remote) -> Remote:
    return sock.agent.module("family_routines")


def test_a_child_is_told_by_epoll_of_what_was_unread_at_the_fork(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"for the child")
    assert routines(ends.server).child_is_told_by_epoll(ends.server)


def test_a_child_may_serve_what_its_parent_accepts_and_closes(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"question")
    routines(ends.server).child_serves(ends.server)
    assert ends.client.recv(100) == b"answer to question"
    assert ends.client.recv(100) == b""


def test_a_child_that_closes_what_it_inherited_changes_nothing(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"question")
    assert routines(ends.server).linger_after_a_child_has_closed(ends.server) == 0


def test_who_waits_for_room_leaves_the_wake_up_to_who_reads(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    routines(ends.server).fill(ends.server)
    routines(ends.server).start.wait_for_room(ends.server, 3.0)
    reading = routines(ends.server).start.read_by_epoll(ends.server, 200)
    routines(ends.client).send_one_by_one(ends.client, 200, 0.004)
    assert reading.join(8.0) == 200


def test_a_number_taken_out_of_a_set_may_become_another_file(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    watched = routines(ends.server).replace_what_was_watched(ends.server)
    ends.client.send(b"by the kernel", DONTROUTE)
    time.sleep(0.05)
    events, seconds = routines(ends.server).cpu_of_waiting(watched, 0.5)
    assert events == 0
    assert seconds < 0.2


def test_splice_does_not_overtake_what_a_reader_that_left_had_unread(
    stream_net: StreamNet,
) -> None:
    stream_net.needs_handing_over()
    ends = stream_net.connect()
    ends.client.send(b"header.")
    routines(ends.server).pass_on(ends.server)
    assert routines(ends.client).splice(ends.client, b"body.") == 5
    ends.client.send(b"tail.")
    assert ends.server.recv(17, socket.MSG_WAITALL) == b"header.body.tail."


def test_an_option_does_not_wait_for_a_reader_that_left(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    routines(ends.client).fill(ends.client)
    routines(ends.server).pass_on(ends.server)
    setting = routines(ends.client).start.seconds_to_set_an_option(ends.client)
    try:
        assert setting.join(3.0) < 0.5
    finally:
        ends.server.close()


@pytest.mark.parametrize("way", [Way.NATIVE, Way.LAZY])
def test_what_was_peeked_off_the_rings_is_there_for_who_gets_the_descriptor(
    stream_nets: dict[Way, StreamNet], way: Way
) -> None:
    ends = stream_nets[way].connect(rings=False)
    ends.client.send(b"hello")
    assert ends.server.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL) == b"hello"
    descriptor = routines(ends.server).pass_on(ends.server)
    assert routines(ends.server).read_at_once(descriptor) == b"hello"
    stream_nets[way].reset()


def test_what_was_peeked_is_there_for_who_gets_the_descriptor(stream_net: StreamNet) -> None:
    stream_net.needs_handing_over()
    ends = stream_net.connect()
    ends.client.send(b"hello")
    assert ends.server.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL) == b"hello"
    descriptor = routines(ends.server).pass_on(ends.server)
    ends.client.send(b", world")
    assert routines(ends.server).read_exactly(descriptor, 12) == b"hello, world"


def test_what_was_peeked_before_a_fork_is_read_once(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    ends.client.send(b"for the child")
    assert ends.server.recv(13, socket.MSG_PEEK | socket.MSG_WAITALL) == b"for the child"
    assert routines(ends.server).child_reads(ends.server) == b"for the child"
    ends.client.send(b"for the parent")
    assert ends.server.recv(100) == b"for the parent"


def test_parent_and_child_may_read_at_the_same_time(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    numbers = list(range(30_000))
    data = b"".join(number.to_bytes(4) for number in numbers)
    for at in range(0, len(data), 4000):
        ends.client.send(data[at : at + 4000])
    found: list[int] = []
    for part in routines(ends.server).both_read(ends.server):
        got = [int.from_bytes(part[at : at + 4]) for at in range(0, len(part), 4)]
        assert got == sorted(got)
        found += got
    assert sorted(found) == numbers


def test_a_peek_shows_what_came_by_either_path_in_order(stream_net: StreamNet) -> None:
    ends = stream_net.connect()
    for number, flags in enumerate((0, DONTROUTE, DONTROUTE, 0, 0, DONTROUTE, 0)):
        ends.client.send(b"%d" % number * 500, flags)
    whole = b"".join(b"%d" % number * 500 for number in range(7))
    peek = socket.MSG_PEEK | socket.MSG_WAITALL
    for size in (3500, 700, 1, 3500):
        assert ends.server.recv(size, peek) == whole[:size]
    assert ends.server.recv(700, socket.MSG_WAITALL) == whole[:700]
    assert ends.server.recv(2800, peek) == whole[700:]
    ends.client.close()
    assert ends.server.recv(9999, peek) == whole[700:]
    assert ends.server.recv(9999, socket.MSG_WAITALL) == whole[700:]
    assert ends.server.recv(1, socket.MSG_PEEK) == b""


@pytest.mark.parametrize("flags", [0, DONTROUTE], ids=["ring", "kernel"])
@pytest.mark.parametrize("way", [Way.NATIVE, Way.EAGER])
def test_a_peek_that_waits_for_more_takes_no_processor(
    stream_nets: dict[Way, StreamNet], way: Way, flags: int
) -> None:
    ends = stream_nets[way].connect()
    ends.client.send(b"part", flags)
    data, seconds = routines(ends.server).cpu_of_peeking(ends.server, 10, 500)
    assert data == b"part"
    assert seconds < 0.1
    stream_nets[way].reset()


def test_what_a_child_takes_to_another_program_its_parent_does_not_read(
    stream_net: StreamNet,
) -> None:
    stream_net.needs_handing_over()
    ends = stream_net.connect()
    ends.client.send(b"for the child")
    child = routines(ends.server).child_becomes_a_reader(ends.server)
    ends.client.send(b"!")
    got = routines(ends.server).output(child)
    ends.client.send(b" rest")
    got += ends.server.recv(100)
    while not got.endswith(b" rest"):
        got += ends.server.recv(100)
    assert got == b"for the child! rest"


@pytest.mark.parametrize("how", ["vforked_reader", "spawned_reader"])
def test_a_program_started_with_a_connection_reads_what_is_unread_and_what_comes(
    stream_net: StreamNet, how: str
) -> None:
    stream_net.needs_handing_over()
    ends = stream_net.connect()
    ends.client.send(b"for the child")
    child = getattr(routines(ends.server), how)(ends.server)
    ends.client.send(b"!")
    got = routines(ends.server).output(child)
    assert got.startswith(b"for the child")
    ends.client.send(b" rest")
    while not got.endswith(b" rest"):
        got += ends.server.recv(100)
    assert got == b"for the child! rest"


def test_what_a_peek_takes_of_memory_it_gives_back(wrapped_stream_net: StreamNet) -> None:
    """What nobody reads the kernel has soon, and it may be megabytes."""
    if wrapped_stream_net.way is Way.RELAY:
        pytest.skip("of a relayed connection the kernel has nothing")
    ends = wrapped_stream_net.connect()
    routines(ends.client).fill(ends.client)
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\0" * 16)
    shown = [routines(ends.server).mapped_by_a_peek(ends.server, 1 << 20) for _ in range(2)]
    assert max(shown) < 1 << 17
