# SPDX-License-Identifier: Apache-2.0
"""Groups: every member gets each datagram exactly once, in order, by whichever road."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from remote import Agent, Remote
from wrapper_lab import Address, Carried, Net, membership

COUNT = 200  # unread at once: less than the kernel's buffer holds
QUIET_S = 0.1


def member(agent: Agent, group: Address, bound: str = "wildcard") -> Remote:
    """A socket that has joined a group, bound to its port (and its address)."""
    sock = agent.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0" if bound == "wildcard" else group[0], group[1]))
    joined = membership(group[0], agent.address)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    return sock


def sender(agent: Agent, loop: bool = True) -> Remote:
    """A socket that sends to groups by the host's interface."""
    sock = agent.socket()
    sock.bind((agent.address, 0))
    interface = socket.inet_aton(agent.address)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(loop))
    return sock


def send(sock: Remote, group: Address, first: int = 0, count: int = COUNT) -> None:
    sock.agent.module("routines").send_numbered(sock, group, first, count, 60)


def received_one(sock: Remote) -> int:
    return int.from_bytes(sock.recv(100)[:4], "big")


def received(sock: Remote) -> list[int]:
    numbers = sock.agent.module("routines").receive_numbers(sock, QUIET_S)
    assert isinstance(numbers, list)
    return numbers


ALL = list(range(COUNT))


@pytest.mark.parametrize("bound", ["wildcard", "group"])
def test_a_member_gets_each_once(net: Net, bound: str) -> None:
    group = net.group()
    there = member(net.right, group, bound)
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    send(here, group)
    assert received(there) == ALL


@pytest.mark.parametrize("bound", ["wildcard", "group"])
def test_every_member_on_every_host_gets_each_once(net: Net, bound: str) -> None:
    group = net.group()
    members = [member(agent, group, bound) for agent in (net.right, net.right, net.third)]
    here = sender(net.left, loop=False)
    if not net.native:
        warm_all(net, here, members, group)
    send(here, group)
    assert [received(each) for each in members] == [ALL] * 3


def warm_all(net: Net, here: Remote, members: list[Remote], group: Address) -> None:
    """Warm up members of which two cannot be told apart by their address."""
    deadline = time.monotonic() + 20
    row, number = 0, 10_000
    while row < 3:
        before = [net.counters(each) for each in members]
        number += 1
        send(here, group, number, 1)
        for each in members:
            assert int.from_bytes(each.recv(100)[:4], "big") == number
        after = [net.counters(each) for each in members]
        changed = [new["ring"] - old["ring"] for old, new in zip(before, after, strict=True)]
        row = row + 1 if changed == [2, 2, 1] else 0
        assert time.monotonic() < deadline, f"not on rings: {net.status()}"
    for each in members:
        net.expect(each, Carried.RINGS)


def test_all_members_known_needs_no_network(wrapped_net: Net) -> None:
    net, group = wrapped_net, wrapped_net.group()
    members = [member(agent, group) for agent in (net.right, net.third)]
    here = sender(net.left, loop=False)
    net.warm(here, *members, group)
    time.sleep(0.05)
    send(here, group, 0, 1)
    before = net.counters(here)
    send(here, group, 1)
    assert net.counters(here)["tx_net"] == before["tx_net"]
    assert [received(each) for each in members] == [list(range(COUNT + 1))] * 2


def test_the_senders_host_gets_its_copy_once(net: Net) -> None:
    group = net.group()
    there, here_too = member(net.right, group), member(net.left, group)
    here = sender(net.left)
    net.warm(here, there, group)
    received(here_too)
    send(here, group)
    assert (received(there), received(here_too)) == (ALL, ALL)


def test_without_loop_the_senders_host_gets_nothing(net: Net) -> None:
    group = net.group()
    there, here_too = member(net.right, group), member(net.left, group)
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    send(here, group)
    assert (received(there), received(here_too)) == (ALL, [])


@pytest.mark.parametrize("loop", [True, False])
def test_a_member_that_sends_hears_itself_only_by_loop(net: Net, loop: bool) -> None:
    """As service discovery does: one socket for all of it."""
    group = net.group()
    ends = [member(agent, group) for agent in (net.left, net.right)]
    for end in ends:
        interface = socket.inet_aton(end.agent.address)
        end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(loop))
    net.warm(ends[0], ends[1], group)
    received(ends[0])
    send(ends[0], group)
    assert received(ends[1]) == ALL
    assert received(ends[0]) == (ALL if loop else [])


def test_after_leaving_nothing_comes(net: Net) -> None:
    group = net.group()
    there = member(net.right, group, "group")
    here = sender(net.left, loop=False)
    net.warm(here, there, group, claim=Carried.NOTHING)
    joined = membership(group[0], net.right.address)
    there.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, joined)
    send(here, group)
    assert received(there) == []


def test_what_came_before_leaving_is_still_there(net: Net) -> None:
    group = net.group()
    there = member(net.right, group, "group")
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    send(here, group, 0, 3)
    time.sleep(0.05)  # on its way it may be lost
    joined = membership(group[0], net.right.address)
    there.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, joined)
    assert received(there) == [0, 1, 2]


def test_joining_again_brings_it_back(net: Net) -> None:
    group = net.group()
    there = member(net.right, group, "group")
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    joined = membership(group[0], net.right.address)
    there.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, joined)
    there.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    net.warm(here, there, group)
    send(here, group)
    assert received(there) == ALL


def test_a_member_that_joins_while_it_flows_gets_each_once(net: Net) -> None:
    group = net.group()
    first = member(net.right, group)
    here = sender(net.left, loop=False)
    net.warm(here, first, group)
    sending = here.agent.module("routines").start.send_paced(here, group, 300, 0.001)
    steady = first.agent.module("routines").start.receive_numbers(first, 2.0, 300)
    time.sleep(0.1)
    second = member(net.third, group)
    late = received(second)
    sending.join()
    assert steady.join() == list(range(300))
    assert received(first) == []
    assert late == list(range(late[0], 300))


def test_unicast_to_a_member_is_not_taken_for_the_groups(net: Net) -> None:
    """The same socket, the same bytes, two destinations: two datagrams."""
    group = net.group()
    there = member(net.right, group)
    here = sender(net.left, loop=False)
    net.warm(here, there, group, claim=Carried.MIXED)
    here.sendto(b"same", group)
    here.sendto(b"same", (net.right.address, group[1]))
    time.sleep(0.1)
    assert [there.recv(100), there.recv(100)] == [b"same", b"same"]
    with pytest.raises(BlockingIOError):
        there.recv(100, socket.MSG_DONTWAIT)


def test_poll_then_receive_never_blocks(net: Net) -> None:
    """A kernel twin of what came by ring must not make poll say yes."""
    group = net.group()
    there = member(net.right, group)  # none on the third host: the kernel's copy is sent too
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    there.setblocking(True)
    polling = there.agent.module("routines").start.poll_then_receive(there, 200)
    for number in range(200):
        send(here, group, number, 1)
        time.sleep(0.001)
    assert polling.join() == list(range(200))


def test_a_member_that_takes_its_time_gets_each_once(net: Net) -> None:
    """The kernel's twins lie in its queue for longer than one may be late on its way."""
    group = net.group()
    there = member(net.right, group)  # none on the third host: the kernel's copy is sent too
    here = sender(net.left, loop=False)
    net.warm(here, there, group)
    send(here, group, 0, 2)
    assert received_one(there) == 0
    time.sleep(1.1)
    assert received_one(there) == 1
    assert received(there) == []


def test_packet_information_tells_group_from_unicast(net: Net) -> None:
    group = net.group()
    there = member(net.right, group)
    there.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    here = sender(net.left, loop=False)
    net.warm(here, there, group, claim=Carried.MIXED)
    here.sendto(b"group", group)
    ((_, _, packed),) = there.recvmsg(100, 100)[1]
    assert socket.inet_ntoa(packed[8:12]) == group[0]
    assert socket.inet_ntoa(packed[4:8]) == net.right.address
    here.sendto(b"unicast", (net.right.address, group[1]))
    ((_, _, packed),) = there.recvmsg(100, 100)[1]
    assert socket.inet_ntoa(packed[8:12]) == net.right.address


@contextlib.contextmanager
def stopped_controller(net: Net) -> Iterator[None]:
    """It lives, and passes nothing on."""
    pid = net.status()["controller"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def activate(net: Net, here: Remote, there: Remote, group: Address) -> None:
    """Until the next datagram is the first that takes the ring."""
    send(here, group, 0, 1)
    deadline = time.monotonic() + 5
    while all(flow["state"] != "active" for flow in flows_from(net, here)):
        received(here), received(there)
        assert time.monotonic() < deadline, net.status()
    received(here)  # and it has heard of that


def flows_from(net: Net, sock: Remote) -> list[dict[str, Any]]:
    local = "{}:{}".format(*sock.getsockname())
    return [flow for flow in net.status()["flows"] if flow["from"] == local]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_a_relay_is_late_with_comes_once(
    relay_net: Net, running: bool, meanwhile: bool
) -> None:
    """Somebody may be on the network alone: the kernel's copy goes out, and is there first."""
    net, group = relay_net, relay_net.group()
    there, here = member(net.right, group), sender(net.left, loop=False)
    activate(net, here, there, group)
    if running:
        send(here, group, 0, 1)
        assert received(there) == [0]
    with stopped_controller(net):
        send(here, group, 1, 3)
        before = received(there) if meanwhile else []
    assert before + received(there) == [1, 2, 3]
    send(here, group, 4)
    assert received(there) == list(range(4, 4 + COUNT))


@pytest.mark.full
def test_a_relay_may_be_late_by_many_seconds(relay_net: Net) -> None:
    net, group = relay_net, relay_net.group()
    there, here = member(net.right, group), sender(net.left, loop=False)
    activate(net, here, there, group)
    send(here, group, 0, 1)
    assert received(there) == [0]
    with stopped_controller(net):
        send(here, group, 1, 3)
        assert received(there) == [1, 2, 3]
        time.sleep(5.4)
    send(here, group, 4)
    assert received(there) == list(range(4, 4 + COUNT))


def test_what_is_said_again_is_no_copy_of_what_the_kernel_brought(relay_net: Net) -> None:
    net, group = relay_net, relay_net.group()
    there, here = member(net.right, group), sender(net.left, loop=False)
    for _ in range(50):  # on the way to the ring all of them look like the one on the ring
        send(here, group, 7, 1)
        assert received_one(there) == 7
        time.sleep(0.005)
    send(here, group, 7)
    assert received(there) == list(range(7, 7 + COUNT))


def test_what_the_kernel_alone_brought_before_the_ring_is_no_copy(relay_net: Net) -> None:
    net, group = relay_net, relay_net.group()
    there, here = member(net.right, group), sender(net.left, loop=False)
    activate(net, here, there, group)
    here.sendto((7).to_bytes(4, "big").ljust(60, b"."), socket.MSG_DONTROUTE, group)
    assert received(there) == [7]
    time.sleep(0.3)  # the next one may be the first on the ring
    send(here, group, 1, 1)
    assert received(there) == [1]
    send(here, group, 7)
    assert received(there) == list(range(7, 7 + COUNT))
