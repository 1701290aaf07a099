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
