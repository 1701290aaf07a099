# SPDX-License-Identifier: Apache-2.0
"""A host is quiesced while programs talk, and served again: they notice nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from remote import Agent, until
from stream_lab import StreamNet
from wrapper_lab import Carried, Net, membership

from ivc.controller.client import quiesce, read_status, unquiesce
from ivc.controller.errors import OrderFailed

PATIENCE_S = 5.0


@pytest.fixture
def quiet_net(wrapped_net: Net) -> Iterator[Net]:
    """Agents with a thread that waits for a socket, as programs have: by that they listen."""
    for agent in (wrapped_net.left, wrapped_net.right):
        attentive(wrapped_net, agent)
    yield wrapped_net
    unquiesce(wrapped_net.run_dir, right(wrapped_net))


def attentive(net: Net, agent: Agent) -> None:
    sock, _ = net.server(agent)
    sock.start.recv(100)


def right(net: Net | StreamNet) -> str:
    """How the mapping calls the host `right`."""
    return f"netns:{net.lab['right'].netns}"


def reasons(net: Net, local: str) -> set[tuple[str, str]]:
    """Path and reason of the sockets at an address."""
    sockets = net.status()["sockets"]
    return {(one["path"], one["reason"]) for one in sockets if one["local"] == local}


def test_nothing_is_lost_or_reordered_on_the_way_out_and_back(quiet_net: Net) -> None:
    client, server, address = quiet_net.pair(claim=Carried.MIXED, back=True)
    here, count = client.getsockname(), 6000
    answering = server.agent.module("routines").start.converse(server, here, 2, 1, count)
    asking = client.agent.module("routines").start.converse(client, address, 1, 2, count)
    for _ in range(4):
        quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
        time.sleep(0.02)
        unquiesce(quiet_net.run_dir, right(quiet_net))
        time.sleep(0.05)
    for job in (asking, answering):
        assert job.join(30) == {"came": count, "acknowledged": count, "strange": 0}


def test_while_quiesced_all_goes_by_the_network_and_afterwards_by_ring(quiet_net: Net) -> None:
    client, server, address = quiet_net.pair(claim=Carried.NOTHING)
    quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    before = quiet_net.counters(server)
    for number in range(20):
        client.sendto(b"%d" % number, address)
        assert server.recv(100) == b"%d" % number
    now = quiet_net.counters(server)
    assert (now["ring"] - before["ring"], now["net"] - before["net"]) == (0, 20)
    assert quiet_net.status()["flows"] == []
    unquiesce(quiet_net.run_dir, right(quiet_net))
    quiet_net.warm(client, server, address, claim=Carried.NOTHING)


def test_both_ends_say_why(quiet_net: Net) -> None:
    client, _, address = quiet_net.pair(claim=Carried.NOTHING)
    quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    for host, port in (client.getsockname(), address):
        assert ("network", "QUIESCED") in reasons(quiet_net, f"{host}:{port}")


def test_what_nobody_has_read_yet_does_not_hinder_it(quiet_net: Net) -> None:
    client, server, address = quiet_net.pair(claim=Carried.NOTHING)
    for number in range(5):
        client.sendto(b"%d" % number, address)
    quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    assert [server.recv(100) for _ in range(5)] == [b"%d" % number for number in range(5)]


def test_a_socket_made_meanwhile_gets_rings_afterwards(quiet_net: Net) -> None:
    quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    server, address = quiet_net.server()
    client = quiet_net.client()
    client.sendto(b"by the network", address)
    assert server.recv(100) == b"by the network"
    unquiesce(quiet_net.run_dir, right(quiet_net))
    quiet_net.warm(client, server, address, claim=Carried.NOTHING)


def test_a_member_of_a_group_is_reached_by_the_kernel_meanwhile(quiet_net: Net) -> None:
    group = quiet_net.group()
    member = quiet_net.right.socket()
    member.bind(group)
    joined = membership(group[0], quiet_net.right.address)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    sender, _ = quiet_net.server(quiet_net.left)
    sender.setsockopt(
        socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(quiet_net.left.address)
    )
    quiet_net.warm(sender, member, group, claim=Carried.NOTHING)
    quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    for number in range(5):
        sender.sendto(b"%d" % number, group)
        assert member.recv(100) == b"%d" % number


def test_one_who_does_not_listen_is_named(quiet_net: Net) -> None:
    """Its process holds the peer's memory until it comes by a call on a socket."""
    deaf = quiet_net.fresh_agent("right")
    try:
        server, address = quiet_net.server(deaf)
        quiet_net.warm(quiet_net.client(), server, address, claim=Carried.NOTHING)
        with pytest.raises(OrderFailed, match=rf"python\[{deaf.pid}\]"):
            quiesce(quiet_net.run_dir, right(quiet_net), 0.5)
        attentive(quiet_net, deaf)
        quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    finally:
        deaf.close()


def test_a_connection_goes_on_over_the_network_and_back(wrapped_stream_net: StreamNet) -> None:
    net = wrapped_stream_net
    ends = net.connect()
    quiet = net.connect(rings=False)
    for end in (quiet.client, quiet.server):
        end.start.recv(100)
    try:
        for _ in range(3):
            quiesce(net.run_dir, right(net), PATIENCE_S)
            exchange(ends.client, ends.server)
            exchange(ends.server, ends.client)
            unquiesce(net.run_dir, right(net))
            net.promote(ends)
    finally:
        unquiesce(net.run_dir, right(net))


def exchange(sender: Any, receiver: Any) -> None:
    data = bytes(range(256)) * 16
    sender.sendall(data)
    got = b""
    while len(got) < len(data):
        got += receiver.recv(len(data))
    assert got == data


def test_quiescing_twice_or_serving_what_is_served_changes_nothing(quiet_net: Net) -> None:
    unquiesce(quiet_net.run_dir, right(quiet_net))
    for _ in range(2):
        quiesce(quiet_net.run_dir, right(quiet_net), PATIENCE_S)
    assert [one["stage"] for one in read_status(quiet_net.run_dir)["quiesced"]] == ["quiet"]
    until(lambda: quiet_net.status()["flows"] == [])
