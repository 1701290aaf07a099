# SPDX-License-Identifier: Apache-2.0
"""UDP sockets on boost.asio, through what the field's C++ stack does with them.

What happens to a socket in one mode must happen in every other, and nothing else: after each test
the logs of all sockets are compared with what they were without the wrapper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest
from asio_lab import DATAGRAMS, AsioSocket, Field, Peer, compile_asio
from wrapper_lab import RING_BYTES, Address, Carried, Mode, Net

SERVICE_DISCOVERY = ("224.224.224.245", 30490)
ABORTED = "ended: Operation canceled"

READS = {"3.7": "asio", "3.4": "recvmsg"}
"""How the stack's releases read: by an operation of asio, or when asio says that they can."""

MODES = [mode for mode in Mode if mode is not Mode.BLOCKING or os.environ.get("IVC_FULL")]

Log = dict[str, list[str]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_asio(DATAGRAMS, tmp_path_factory.mktemp("asio"), "-O0")


@pytest.fixture(scope="module")
def native_logs() -> dict[str, Log]:
    return {}


@pytest.fixture(params=MODES, ids=str)
def net(request: pytest.FixtureRequest, nets: Mapping[Mode, Net]) -> Iterator[Net]:
    one = nets[request.param]
    yield one
    one.reset()


@pytest.fixture
def field(
    request: pytest.FixtureRequest, net: Net, program: str, native_logs: dict[str, Log]
) -> Iterator[Field]:
    """The laboratory with asio's peers; afterwards the same has happened as natively."""
    one = Field(net, program)
    try:
        yield one
        net.prove()
    finally:
        log = one.finish()
    test = request.node.name.replace(net.mode.value, "")
    if net.native:
        native_logs[test] = log
    assert log == native_logs.get(test, log)


@pytest.fixture(params=list(READS.values()), ids=list(READS))
def reads(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- the stack's sockets ----------------------------------------------------------


def service(peer: Peer, address: Address, reads: str, name: str = "service") -> AsioSocket:
    """A server's socket, which sends to groups, too."""
    sock = peer.socket(name)
    sock.options("reuse")
    sock.bind(address, name)
    sock.options(f"out {peer.address}", "broadcast", "buffer")
    if reads.startswith("recvmsg"):
        sock.options("pktinfo")
    sock.do("receive", reads)
    return sock


def client(peer: Peer, to: Address, reads: str, name: str = "client") -> AsioSocket:
    """A client's socket: connected, with a port of the kernel's choice."""
    sock = peer.socket(name)
    sock.options("reuse", "buffer")
    sock.bind((peer.address, 0), name)
    sock.do("connect", *to)
    sock.do("receive", reads)
    return sock


def member(peer: Peer, group: Address, reads: str, name: str = "member") -> AsioSocket:
    """A group's receiver, joined while it waits already."""
    sock = peer.socket(name)
    sock.options("reuse", "pktinfo")
    sock.bind(("0.0.0.0", group[1]))
    sock.options("buffer", "timeouts")
    sock.do("receive", reads)
    sock.join(group)
    return sock


def served(
    field: Field, reads: str, claim: Carried = Carried.RINGS, back: Carried = Carried.NOTHING
) -> tuple[AsioSocket, AsioSocket]:
    """A client and a service that talk by ring, both ways; what is claimed of either's rings."""
    there = field["right"]
    serving = service(there, (there.address, field.net.port()), reads)
    asking = client(field["left"], serving.getsockname(), reads)
    field.net.warm(asking, serving, claim=claim)
    field.net.warm(serving, asking, asking.getsockname(), claim=back)
    return asking, serving


def of_group(
    field: Field, reads: str, claim: Carried = Carried.RINGS
) -> tuple[AsioSocket, AsioSocket, Address]:
    """A service, a group's member that hears it by ring, and the group."""
    here, group = field["left"], field.net.group()
    sending = service(here, (here.address, field.net.port()), reads)
    hearing = member(field["right"], group, reads)
    field.label(group[0], "group")
    field.net.warm(sending, hearing, group, claim=claim)
    return sending, hearing, group


def by_ring(size: int) -> Carried:
    """What can be claimed of a message: half a ring takes the kernel."""
    return Carried.RINGS if size < RING_BYTES // 2 else Carried.NOTHING


def how(peer: Peer, to: str, reads: str) -> str:
    """What recvmsg() tells besides the sender."""
    return f" to {to} at {peer.address} by eth0" if reads.startswith("recvmsg") else ""


# ---- requests and answers -----------------------------------------------------------


def test_requests_are_answered(field: Field, reads: str) -> None:
    asking, _ = served(field, reads, back=Carried.RINGS)
    asking.do("talk", 300)
    assert asking.next() == "answered 300, wrong 0"


def test_two_threads_serve_many_clients_at_once(field: Field, reads: str) -> None:
    there = field["right"]
    serving = service(there, (there.address, field.net.port()), reads)
    asking = [
        client(field[host], serving.getsockname(), reads, f"client-{number}")
        for host in ("left", "third")
        for number in range(3)
    ]
    for each in asking:
        field.net.warm(each, serving)
        field.net.warm(serving, each, each.getsockname())
    for each in asking:
        each.do("talk", 150)
    assert {each.next() for each in asking} == {"answered 150, wrong 0"}


def test_a_message_says_what_it_was_sent_to(field: Field) -> None:
    asking, serving = served(field, "recvmsg")
    asking.send("hello")
    to = how(serving.peer, serving.peer.address, "recvmsg")
    assert serving.next() == f"got hello from client{to}"


def test_a_client_hears_that_its_service_is_gone_and_finds_it_again(
    field: Field, reads: str
) -> None:
    asking, serving = served(field, reads, Carried.NOTHING)
    serving.do("close")
    assert serving.next() == ABORTED
    asking.send("anybody?")
    refused = "recvmsg: " if reads == "recvmsg" else "ended: "
    assert asking.next() == refused + "Connection refused"
    asking.do("receive", reads)
    again = service(serving.peer, serving.getsockname(), reads)
    field.net.warm(asking, again)
    asking.do("talk", 20)
    assert asking.next() == "answered 20, wrong 0"


# ---- groups -----------------------------------------------------------------------


def test_two_sockets_of_service_discovery_share_a_port(field: Field, reads: str) -> None:
    """Who sends to the group hears itself by its other socket, and by that alone."""
    port = SERVICE_DISCOVERY[1]
    alone, groups = [], []
    for host in ("left", "right"):
        peer = field[host]
        alone.append(service(peer, (peer.address, port), reads, f"unicast-{host}"))
        groups.append(member(peer, SERVICE_DISCOVERY, reads, f"group-{host}"))
    field.net.warm(alone[0], groups[1], SERVICE_DISCOVERY)
    field.net.warm(alone[1], alone[0], alone[0].getsockname())
    alone[0].sendto("offer", SERVICE_DISCOVERY)
    for each in groups:
        to = how(each.peer, SERVICE_DISCOVERY[0], reads)
        assert each.next() == f"got offer from unicast-left{to}"
    alone[1].sendto("subscribe", alone[0].getsockname())
    to = how(alone[0].peer, alone[0].peer.address, reads)
    assert alone[0].next() == f"got subscribe from unicast-right{to}"


def test_a_group_left_is_silent_until_joined_again(field: Field, reads: str) -> None:
    sending, hearing, group = of_group(field, reads, Carried.NOTHING)
    to = how(hearing.peer, "group", reads)
    for number in range(3):
        hearing.leave(group)
        sending.sendto("unheard", group)
        hearing.join(group)
        field.net.warm(sending, hearing, group, claim=Carried.NOTHING)
        sending.sendto(f"again-{number}", group)
        assert hearing.next() == f"got again-{number} from service{to}"


def test_a_groups_socket_made_anew_on_its_port_hears_the_group(field: Field, reads: str) -> None:
    sending, hearing, group = of_group(field, reads, Carried.NOTHING)
    to = how(hearing.peer, "group", reads)
    for number in range(3):
        hearing.leave(group)
        hearing.do("close")
        assert hearing.next() == ABORTED
        hearing = member(hearing.peer, group, reads)
        field.net.warm(sending, hearing, group)
        sending.sendto(f"anew-{number}", group)
        assert hearing.next() == f"got anew-{number} from service{to}"


# ---- operations -------------------------------------------------------------------


def test_what_comes_after_a_cancelled_receive_waits_for_the_next(field: Field, reads: str) -> None:
    asking, serving = served(field, reads)
    serving.do("cancel")
    assert serving.next() == ABORTED
    asking.send("one")
    asking.send("two")
    to = how(serving.peer, serving.peer.address, reads)
    for number in ("one", "two"):
        serving.do("receive", reads + "-once")
        assert serving.next() == f"got {number} from client{to}"


def test_a_wait_begun_beside_unread_data_ends_at_once(field: Field) -> None:
    """Each asks the set anew: its threads may be asleep, and have told of the data already."""
    asking, serving = served(field, "asio")
    serving.do("cancel")
    assert serving.next() == ABORTED
    asking.send("unread")
    for _ in range(5):
        serving.do("wait", "read")
        assert serving.next() == "read: Success"
    serving.do("receive", "asio-once")
    assert serving.next() == "got unread from client"


@pytest.mark.parametrize("size", [100, RING_BYTES // 2], ids=["ring", "kernel"])
def test_the_size_of_what_is_next_may_be_asked_while_nobody_reads(field: Field, size: int) -> None:
    """What the wrapper has taken from the kernel to see it is still there to be told of."""
    asking, serving = served(field, "asio", by_ring(size))
    serving.do("cancel")
    assert serving.next() == ABORTED
    unread = "u" * size
    asking.send(unread)
    for _ in range(3):
        serving.do("wait", "read")
        assert serving.next() == "read: Success"
        assert serving.do("available") == str(size)
    serving.do("receive", "asio-once")
    assert serving.next() == f"got {unread[:1536]} from client"


def test_closing_ends_all_that_waits_and_nothing_reaches_its_successor(field: Field) -> None:
    """In the set of one thread, which tells of all in the kernel's order."""
    asking, serving = served(field, "asio", Carried.NOTHING)
    serving.do("move", 1)
    assert serving.next() == ABORTED
    serving.do("receive", "asio")
    for what in ("read", "error"):
        serving.do("wait", what)
    serving.do("close")
    ended = {serving.next() for _ in range(3)}
    assert ended == {ABORTED, "read: Operation canceled", "error: Operation canceled"}
    other = service(serving.peer, (serving.peer.address, field.net.port()), "asio", "successor")
    asking.send("for nobody")
    assert asking.next() == "ended: Connection refused"
    asking.do("connect", *other.getsockname())
    asking.do("receive", "asio")
    field.net.warm(asking, other)
    asking.do("talk", 20)
    assert asking.next() == "answered 20, wrong 0"


def test_shutting_down_before_closing(field: Field, reads: str) -> None:
    asking, _ = served(field, reads, Carried.NOTHING)
    asking.do("shutdown")
    asking.do("close")
    asking.next()


def test_output_is_possible_at_once(field: Field) -> None:
    asking, _ = served(field, "asio", back=Carried.RINGS)
    for _ in range(3):
        asking.do("wait", "write")
        assert asking.next() == "write: Success"
    asking.do("talk", 20)
    assert asking.next() == "answered 20, wrong 0"


# ---- two sets ---------------------------------------------------------------------


def test_a_socket_moves_to_another_set_with_what_is_unread(field: Field, reads: str) -> None:
    asking, serving = served(field, reads)
    to = how(serving.peer, serving.peer.address, reads)
    serving.do("move", 1)
    assert serving.next() == ABORTED
    for number, in_set in enumerate((0, 1, 0)):
        asking.send(f"unread-{number}")
        serving.do("move", in_set)
        serving.do("receive", reads + "-once")
        assert serving.next() == f"got unread-{number} from client{to}"
        serving.do("receive", reads + "-once")
        asking.send(f"awaited-{number}")
        assert serving.next() == f"got awaited-{number} from client{to}"


@pytest.mark.parametrize("size", [100, RING_BYTES // 2], ids=["ring", "kernel"])
def test_a_copy_in_another_set_is_told_as_well(field: Field, size: int) -> None:
    asking, serving = served(field, "asio", by_ring(size))
    serving.do("cancel")
    assert serving.next() == ABORTED
    copy = serving.copy("copy", 1)
    message = "m" * size
    for _ in range(5):
        for each in (serving, copy):
            each.do("wait", "read")
        asking.send(message)
        assert [each.next() for each in (serving, copy)] == ["read: Success"] * 2
        copy.do("receive", "asio-once")
        assert copy.next() == f"got {message[:1536]} from client"


def test_an_object_moves_while_it_receives(field: Field, reads: str) -> None:
    asking, serving = served(field, reads, back=Carried.RINGS)
    serving.do("move-object")
    asking.do("talk", 20)
    assert asking.next() == "answered 20, wrong 0"
