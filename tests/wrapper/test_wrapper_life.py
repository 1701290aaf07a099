# SPDX-License-Identifier: Apache-2.0
"""Copies, closing, children, overflow, and long conversations."""

from __future__ import annotations

import socket
import time

import pytest
from remote import Remote
from wrapper_lab import Carried, Mode, Net

# ---- descriptors ----------------------------------------------------------------


@pytest.mark.parametrize("way", ["dup", "fcntl", "dup2"])
def test_a_copy_receives_after_the_original_is_closed(net: Net, way: str) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    system, routines = server.agent.module("os"), server.agent.module("routines")
    if way == "dup":
        copy = routines.plain_dup(server.fileno())
    elif way == "fcntl":
        copy = system.dup(server.fileno())
    else:
        copy = system.dup2(server.fileno(), 200)
    before = net.counters(server)["ring"]
    client.sendto(b"before", address)
    server.close()
    client.sendto(b"after", address)
    assert [system.read(copy, 100), system.read(copy, 100)] == [b"before", b"after"]
    if not net.native:
        local = "{}:{}".format(*address)
        (left,) = [one for one in net.status()["sockets"] if one["local"] == local]
        assert left["counters"]["rx_ring_msgs"] == before + 2
    system.close(copy)


def test_dup2_over_a_socket_on_rings_closes_it(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    system = server.agent.module("os")
    reader, writer = system.pipe()
    system.dup2(reader, server.fileno())
    system.write(writer, b"from the pipe")
    assert system.read(server.fileno(), 100) == b"from the pipe"
    again = server.agent.socket()
    again.bind(address)
    net.warm(client, again, address)
    client.sendto(b"to the new one", address)
    assert again.recv(100) == b"to the new one"
    for fd in (reader, writer):
        system.close(fd)


def test_a_port_closed_and_bound_again_is_carried_again(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    for round_number in range(5):
        server.close()
        server = net.right.socket()
        server.bind(address)
        net.warm(client, server, address, claim=Carried.NOTHING)
        client.sendto(b"%d" % round_number, address)
        assert server.recv(100) == b"%d" % round_number


def test_what_an_old_socket_left_unread_is_not_the_new_ones(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    for number in range(5):
        client.sendto(b"old %d" % number, address)
    time.sleep(0.05)
    server.close()
    server = net.right.socket()
    server.bind(address)
    net.warm(client, server, address)
    client.sendto(b"new", address)
    assert server.recv(100) == b"new"


def test_closing_under_a_sleeping_thread_harms_nobody(net: Net) -> None:
    """The sleeper may sleep on, as natively, or fail: never receive what is another's."""
    client, server, _ = net.pair(claim=Carried.NOTHING)
    waiting = server.start.recv(100)
    assert waiting.pending()
    server.agent.module("os").close(server.fileno())
    other, other_address = net.server()
    net.warm(client, other, other_address)
    client.sendto(b"for the other", other_address)
    assert other.recv(100) == b"for the other"
    if not waiting.pending(0):
        with pytest.raises(OSError):
            waiting.join()
    server.detach()


# ---- overflow -------------------------------------------------------------------


def test_a_full_ring_drops_the_newest_and_counts(net: Net) -> None:
    client, server, address = net.pair()
    sent = 600
    client.agent.module("routines").send_numbered(client, address, 0, sent, 1000)
    time.sleep(0.3 if net.mode is Mode.RELAY else 0.05)
    numbers = server.agent.module("routines").receive_numbers(server, 0.2)
    assert numbers == sorted(set(numbers))
    assert len(numbers) < sent
    if net.mode is not Mode.RELAY:  # which empties the first ring while it is filled
        assert numbers == list(range(len(numbers)))
    if not net.native:
        dropped = net.counters(client)["tx_full"] + relay_drops(net, address)
        assert dropped == sent - len(numbers)
    client.agent.module("routines").send_numbered(client, address, 9000, 5, 1000)
    assert server.agent.module("routines").receive_numbers(server, 0.2) == list(range(9000, 9005))


def relay_drops(net: Net, address: tuple[str, int]) -> int:
    to = "{}:{}".format(*address)
    flows = [flow for flow in net.status()["flows"] if flow["to"] == to]
    return sum(flow.get("dropped_full", 0) for flow in flows)


# ---- conversations ----------------------------------------------------------------

CONVERSATIONS = {
    Mode.NATIVE: 2000,
    Mode.DIRECT: 20000,
    Mode.RELAY: 2000,
    Mode.CHANNEL: 4000,
    Mode.BLOCKING: 4000,
}


def test_a_long_conversation_keeps_order_and_content(net: Net) -> None:
    """Numbered datagrams of random sizes both ways at once, with pauses."""
    count = CONVERSATIONS[net.mode]
    client, server, address = net.pair(back=True)
    here = client.getsockname()
    answering = server.agent.module("routines").start.converse(server, here, 2, 1, count)
    asking = client.agent.module("routines").start.converse(client, address, 1, 2, count)
    for result in (asking.join(20), answering.join(20)):
        assert result == {"came": count, "acknowledged": count, "strange": 0}


def test_two_clients_of_one_server_are_served_apart(net: Net) -> None:
    server, address = net.server()
    clients = [net.client(), net.client(net.third)]
    for client in clients:
        net.warm(client, server, address)
        net.warm(server, client, client.getsockname())
    serving = server.agent.module("routines").start.echo(server, b"end")
    pinging = [
        client.agent.module("routines").start.ping(client, address, 300) for client in clients
    ]
    assert [job.join() for job in pinging] == [300, 300]
    clients[0].sendto(b"end", address)
    assert serving.join() == 600


def test_one_sender_many_threads_each_whole(net: Net) -> None:
    client, server, address = net.pair()
    start = client.agent.module("routines").start
    jobs = [start.send_numbered(client, address, base, 50, 200) for base in (0, 1000, 2000)]
    for job in jobs:
        job.join()
    numbers = server.agent.module("routines").receive_numbers(server, 0.2)
    for base in (0, 1000, 2000):
        mine = [number for number in numbers if base <= number < base + 1000]
        assert mine == list(range(base, base + 50))


# ---- children -------------------------------------------------------------------


def test_a_forked_child_sends_and_the_parent_goes_on(net: Net) -> None:
    """By the network while there are two of them, by ring when there is one again."""
    client, server, address = net.pair(claim=Carried.NOTHING)
    routines = client.agent.module("routines")
    assert routines.fork_and_send(client, b"from the child", address) == 0
    assert server.recv(100) == b"from the child"
    client.sendto(b"from the parent", address)
    assert server.recv(100) == b"from the parent"
    net.warm(client, server, address)
    client.sendto(b"by ring again", address)
    assert server.recv(100) == b"by ring again"


def test_a_receiver_that_has_forked_comes_back_to_rings(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    routines = server.agent.module("routines")
    assert routines.fork_and_send(server, b"from the child", client.getsockname()) == 0
    assert client.recv(100) == b"from the child"
    client.sendto(b"to the parent", address)
    assert server.recv(100) == b"to the parent"
    net.warm(client, server, address)
    client.sendto(b"by ring again", address)
    assert server.recv(100) == b"by ring again"


def test_a_forked_child_makes_sockets_of_its_own(net: Net) -> None:
    client, server, address = net.pair(claim=Carried.NOTHING)
    serving = server.agent.module("routines").start.echo(server, b"end")
    assert client.agent.module("routines").fork_and_exchange(net.left.address, address) == 0
    client.sendto(b"end", address)
    assert serving.join() == 50


def test_starting_programs_does_not_disturb_live_traffic(net: Net) -> None:
    client, server, address = net.pair(back=True)
    here, count = client.getsockname(), 600
    answering = server.agent.module("routines").start.converse(server, here, 2, 1, count)
    asking = client.agent.module("routines").start.converse(client, address, 1, 2, count)
    assert server.agent.module("routines").run_programs(6) == [0] * 6
    for job in (asking, answering):
        assert job.join(7) == {"came": count, "acknowledged": count, "strange": 0}


# ---- strangers -------------------------------------------------------------------


def test_a_process_that_does_not_match_never_talks_to_the_controller(wrapped_net: Net) -> None:
    agent = wrapped_net.fresh_agent("left")
    try:
        before = descriptors(agent.module("os"))
        sock = agent.socket()
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"to myself", sock.getsockname())
        assert sock.recv(100) == b"to myself"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        assert descriptors(agent.module("os")) == before + 1
        assert agent.pid not in [one["pid"] for one in wrapped_net.status()["processes"]]
    finally:
        agent.close()


def descriptors(system: Remote) -> int:
    return len(system.listdir("/proc/self/fd"))
