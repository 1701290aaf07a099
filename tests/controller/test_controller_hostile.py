# SPDX-License-Identifier: Apache-2.0
"""Processes that lie, break the protocol or do not listen: they go, everybody else goes on."""

import fcntl
import mmap
import os
import resource
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from controller_lab import REQUEST, Lab, Starter, running_lab, with_flow
from fakewrapper import FakeWrapper, address
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.controller import registry
from ivc.controller.protocol import MESSAGE_SIZE, Message, Role, Type
from ivc.network import Path as FlowPath
from ivc.platform import memfd
from ivc.reasons import Reason
from ivc.shm.layout import STATS_SIZE

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


def honest_flow(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    """Two processes with an active flow from the first to the second."""
    return with_flow(lab, CLIENT, SERVER)


def unknown(number: int) -> str:
    """One of many destinations that do not exist."""
    return f"10.1.{number >> 8}.{number & 255}:1"


def still_works(client: FakeWrapper, server: FakeWrapper) -> None:
    payload = REQUEST + secrets.token_bytes(8)
    client.send(SERVER, payload)
    assert server.receive(1)[1] == payload


VIOLATIONS: dict[str, Callable[[FakeWrapper, int], None]] = {
    "address of another host": lambda w, _: w.bind(9, "10.0.0.2:30510"),
    "source that is not its own": lambda w, _: w.want(2, "10.0.0.2:30509", SERVER),
    "source by way of a group": lambda w, _: (
        w.bind(9, "224.224.224.245:30490"),
        w.want(9, "10.0.0.2:30490", SERVER),
    ),
    "port that is not its own": lambda w, _: w.want(2, "10.0.0.3:4712", SERVER),
    "foreign flow mapped": lambda w, flow: w.tell(Message(Type.MAPPED, flow=flow, flags=1)),
    "foreign flow acknowledged": lambda w, flow: w.tell(Message(Type.ACK, flow=flow)),
    "foreign flow dropped": lambda w, flow: w.tell(Message(Type.DROPPED, flow=flow, flags=1)),
    "flow that never was": lambda w, flow: w.tell(Message(Type.DROPPED, flow=flow + 1000)),
    "flow number 0": lambda w, _: w.tell(Message(Type.DROPPED)),
    "end that does not exist": lambda w, flow: w.tell(Message(Type.MAPPED, flow=flow, flags=3)),
    "reason that does not exist": lambda w, flow: w.tell(
        Message(Type.DROPPED, flow=flow, reason=4711)
    ),
    "second hello": lambda w, _: w.tell(Message(Type.HELLO, arg=1)),
    "controller's message": lambda w, flow: w.tell(Message(Type.ACTIVE, flow=flow)),
    "no multicast group": lambda w, _: w.join(2, "10.0.0.3"),
    "no doorbell": lambda w, _: w.tell(Message(Type.BOUND, 9, local=address("10.0.0.3:1"))),
    "short packet": lambda w, _: w.tell_raw(b"\1"),
    "long packet": lambda w, _: w.tell_raw(bytes(MESSAGE_SIZE + 1)),
    "other version": lambda w, _: w.tell_raw(b"\xff" * MESSAGE_SIZE),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_ends_the_connection_and_harms_nobody(start: Starter, violation: str) -> None:
    lab = start()
    client, server = honest_flow(lab)
    flow = lab.status()["flows"][0]["id"]
    hostile = lab.wrapper(3)
    hostile.bind(2, "10.0.0.3:4711")
    VIOLATIONS[violation](hostile, flow)
    hostile.await_hangup()
    still_works(client, server)
    assert len(lab.status()["processes"]) == 2


def test_a_doorbell_must_be_an_eventfd(start: Starter) -> None:
    hostile = start().wrapper(3)
    reader, writer = os.pipe()
    hostile.tell(Message(Type.BOUND, 1, local=address("10.0.0.3:1")), [writer])
    hostile.await_hangup()
    os.close(reader)
    os.close(writer)


def test_nothing_is_heard_before_hello(start: Starter) -> None:
    hostile = start().wrapper(3, hello=False)
    hostile.bind(1, "10.0.0.3:4711")
    hostile.await_hangup()


@pytest.mark.parametrize("role", Role)
def test_an_end_that_seals_its_region_its_own_way_goes(start: Starter, role: Role) -> None:
    lab = start()
    ends = {Role.SENDER: lab.wrapper(1), Role.RECEIVER: lab.wrapper(2)}
    hostile = ends[role]
    hostile.spoil = lambda fd: fcntl.fcntl(fd, memfd.F_ADD_SEALS, memfd.F_SEAL_SEAL)
    ends[Role.RECEIVER].bind(1, SERVER)
    ends[Role.SENDER].bind(1, CLIENT)
    ends[Role.SENDER].want(1, CLIENT, SERVER)
    with pytest.raises(ConnectionError):
        hostile.until(lambda: False, "the end")
    hostile.close()
    lab.await_status(lambda status: len(status["processes"]) == 1 and not status["flows"])


@pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])
def test_a_region_cannot_be_written_by_its_peer(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    client, server = lab.wrapper(1), lab.wrapper(2)
    client.keep_fds = server.keep_fds = True
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    peers = [wrapper.kept[Type.PEER][0] for wrapper in (client, server)]
    for fd in peers:
        with pytest.raises(PermissionError):
            mmap.mmap(fd, mmap.PAGESIZE)
        with reopened(fd) as writable, pytest.raises(PermissionError):
            mmap.mmap(writable, mmap.PAGESIZE)
        with reopened(fd) as writable, pytest.raises(PermissionError):
            os.ftruncate(writable, 0)


@contextmanager
def reopened(fd: int) -> Iterator[int]:
    """The same memory, opened for writing as its owner might try."""
    writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    try:
        yield writable
    finally:
        os.close(writable)


@pytest.mark.parametrize("where", [0, 8, 64])
def test_rubbish_in_a_relayed_ring_ends_that_flow_only(start: Starter, where: int) -> None:
    lab = start(FlowPath.RELAY)
    client, server = honest_flow(lab)
    other = lab.wrapper(1)
    other.bind(1, "10.0.0.1:40001")
    other.want(1, "10.0.0.1:40001", SERVER)
    other.await_active(SERVER)
    end = other.active(SERVER)[0]
    end.own[64 + where : 64 + where + 8] = b"\xff" * 8  # from the tail on
    end.own[64:72] = (4096 * 1000 + 1).to_bytes(8, "little")
    assert end.bell is not None
    end.bell.ring()
    assert other.await_message(Type.CLOSE).reason == Reason.POISONED
    other.await_route(SERVER, Reason.POISONED)
    still_works(client, server)


def test_a_process_that_does_not_read_is_disconnected_and_blocks_nobody(start: Starter) -> None:
    lab = start()
    client, server = honest_flow(lab)
    deaf = lab.wrapper(3)
    deaf.reads = False
    deaf.bind(1, "10.0.0.3:4711")
    with pytest.raises(OSError):
        for number in range(20_000):
            deaf.want(1, "10.0.0.3:4711", unknown(number))
    still_works(client, server)
    lab.await_status(lambda status: len(status["processes"]) == 2)


def test_messages_that_had_to_queue_all_arrive(start: Starter) -> None:
    lab = start()
    slow = lab.wrapper(1)
    slow.bind(1, CLIENT)
    slow.reads = False
    for number in range(800):
        slow.want(1, CLIENT, unknown(number))
    lab.status()
    slow.reads = True
    slow.until(
        lambda: sum(m.type is Type.ROUTE for m in slow.mail) == 800, "an answer for each question"
    )
    assert slow.sent_word() == slow.received


def test_sockets_of_a_host_are_counted_while_they_are_there(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SOCKETS_MAX", 2)
    lab = start()
    one, other = lab.wrapper(1), lab.wrapper(1)
    one.bind(1, "10.0.0.1:1001")
    one.bind(2, "10.0.0.1:1002")
    one.unbind(1)
    one.bind(3, "10.0.0.1:1003")
    lab.await_status(lambda status: len(status["sockets"]) == 2)
    other.bind(1, "10.0.0.1:1004")
    other.await_hangup()


def test_a_flood_does_not_keep_others_waiting(start: Starter) -> None:
    lab = start()
    client, server = honest_flow(lab)
    hostile = lab.wrapper(3)
    for number in range(200):
        hostile.tell(Message(Type.JOIN, number, local=address("224.0.0.9:0")))
    before = time.monotonic()
    still_works(client, server)
    lab.status()
    assert time.monotonic() - before < 2


def test_numbers_in_a_statistics_page_are_only_shown(start: Starter) -> None:
    lab = start()
    hostile = lab.wrapper(3)
    assert hostile.statistics is not None
    hostile.statistics[:] = b"\xff" * STATS_SIZE
    assert lab.status()["sockets"]


def test_a_relay_there_is_no_descriptor_for_ends_that_flow_only(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = honest_flow(lab)
    slow = lab.wrapper(1, polite=False)
    slow.bind(1, "10.0.0.1:40001")
    slow.want(1, "10.0.0.1:40001", SERVER)
    flow = slow.await_message(Type.ATTACH_TX).flow
    server.until(lambda: (flow, Role.RECEIVER) in server.ends, "the other end")
    free = os.dup(0)  # one more can be opened: enough for a region, not for its mapping
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        slow.tell(Message(Type.MAPPED, flow=flow, flags=Role.SENDER))
        assert slow.await_message(Type.CLOSE).reason == Reason.RESOURCES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    still_works(client, server)


@pytest.mark.parametrize("spare", [0, 1, 2])  # each connection costs three
def test_connections_beyond_all_descriptors_are_turned_away(start: Starter, spare: int) -> None:
    lab = start()
    client, server = honest_flow(lab)
    crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    free = os.dup(0)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1 + spare, limits[1]))
    try:
        for each in crowd:
            each.connect(str(lab.run_dir / "control"))
        time.sleep(0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in crowd:
            each.close()
    lab.await_status(lambda status: len(status["processes"]) == 2)
    still_works(client, server)


def test_a_socket_bound_to_a_group_may_be_connected(start: Starter) -> None:
    lab = start()
    client, server = honest_flow(lab)
    client.bind(2, "224.224.224.245:30490", peer="10.0.0.2:30490")
    lab.await_status(lambda status: len(status["sockets"]) == 3)
    still_works(client, server)


def test_too_many_descriptors_end_the_connection_and_are_closed(start: Starter) -> None:
    lab = start()
    hostile = lab.wrapper(3)
    reader, writer = os.pipe()
    hostile.tell_raw(Message(Type.JOIN, 1).pack(), [writer] * 20)
    hostile.await_hangup()
    os.close(writer)
    assert select.select([reader], [], [], 5)[0], "somebody still holds the other end"
    os.close(reader)


@pytest.fixture(scope="module")
def one_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One controller for all examples of the test below."""
    with running_lab(tmp_path_factory.mktemp("hostile")) as lab:
        yield lab


PACKETS = st.one_of(
    st.binary(max_size=70),
    st.builds(
        Message,
        st.sampled_from([kind for kind in Type if kind < Type.WELCOME]),
        st.integers(0, 3),
        st.integers(0, 5),
        flags=st.integers(0, 7),
        reason=st.integers(0, 30),
        local=st.sampled_from([address(CLIENT), address("0.0.0.0:30490"), address("224.0.0.9:1")]),
        peer=st.sampled_from([address(SERVER), address("224.224.224.245:30490")]),
    ).map(Message.pack),
)


# Each example is a process's whole life: a quarter of the examples is enough for CI.
@settings(max_examples=max(1, settings().max_examples // 4))
@given(packets=st.lists(PACKETS, max_size=8))
def test_any_packets_leave_a_controller_that_works(one_lab: Lab, packets: list[bytes]) -> None:
    hostile = one_lab.wrapper(1)
    try:
        hostile.bind(1, CLIENT)
        for packet in packets:
            hostile.tell_raw(packet)
    except OSError:
        pass  # thrown out
    hostile.close()
    assert one_lab.status()["nodes"]
