# SPDX-License-Identifier: Apache-2.0
"""Rules on messages that go by TCP, between two programs under the wrapper, by the relay."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import message_routines
import pytest
from message_routines import AUDITED, COPIED, DENIED
from remote import Agent, Remote, until
from stream_lab import DONTROUTE, Ends, MortalController, StreamNet, Way, stream_socket
from wrapper_lab import FIRST_PORT, PORTS, configure

from ivc import someip
from ivc.controller.client import read_status
from ivc.lab.hosts import Lab

LOGGER = ("10.78.0.3", 30600)
RULES = f"""
[nodes.logger]
external = true
address = "{LOGGER[0]}"
[[rule]]
method = {COPIED}
protocol = "tcp"
action = "mirror"
copy_to = "{LOGGER[0]}:{LOGGER[1]}"
[[rule]]
method = {AUDITED}
protocol = "tcp"
action = "audit"
[[rule]]
method = {DENIED}
type = "REQUEST"
protocol = "tcp"
action = "deny"
answer = "E_NOT_REACHABLE"
[[rule]]
method = {DENIED}
protocol = "tcp"
action = "deny"
"""
CALL = someip.Header(0x2000, 0x0421, 1, 1)
REFUSED = replace(CALL, method_id=DENIED)


@contextlib.contextmanager
def ruled(lab: Lab, name: str) -> Iterator[tuple[StreamNet, MortalController]]:
    """A laboratory with rules and a controller of its own; `lazy`, but for what rules look at."""
    folder, command = configure(lab, "direct", [lab["left"], lab["right"]], "lazy", name)
    with (folder / "mapping.toml").open("a") as mapping:
        mapping.write(RULES)
    controller = MortalController(lab, folder, command)
    net = StreamNet(Way.EAGER, lab, folder, itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS)))
    try:
        yield net, controller
    finally:
        net.close()
        controller.stop()


@pytest.fixture(scope="module")
def shared(wrapper_hosts: Lab) -> Iterator[StreamNet]:
    assert wrapper_hosts.bridge is not None
    there = ("10.78.0.254/24", "dev", "br0")  # copies are sent from here
    wrapper_hosts.bridge.run("ip", "address", "add", *there)
    try:
        with ruled(wrapper_hosts, "stream-rules") as (net, _):
            yield net
    finally:
        wrapper_hosts.bridge.run("ip", "address", "del", *there)


@pytest.fixture
def net(shared: StreamNet) -> Iterator[StreamNet]:
    yield shared
    shared.reset()


def connect(net: StreamNet, client: Agent | None = None) -> Ends:
    """A connection both of whose ends are read, as a stack does; its first byte goes by ring."""
    listener, address = net.listen()
    sock = stream_socket(client or net.left)
    sock.connect(address)
    accepted, _ = listener.accept()
    ends = Ends(sock, accepted)
    jobs = [each.start.recv(16, socket.MSG_WAITALL) for each in (ends.client, ends.server)]
    until(lambda: [flow["state"] for flow in flows(net, ends)] == ["active"] * 2, 5.0)
    ends.client.send(CALL.build(0))
    ends.server.send(replace(CALL, message_type=someip.MessageType.NOTIFICATION).build(0))
    for job in jobs:
        assert len(job.join()) == 16
    return ends


def flows(net: StreamNet, ends: Ends) -> list[dict[str, Any]]:
    """Both ways of a connection: the client's first."""
    names = ["{}:{}".format(*each.getsockname()) for each in (ends.client, ends.server)]
    found = {
        flow["from"]: flow for flow in read_status(net.run_dir)["flows"] if flow["to"] in names
    }
    return [found[name] for name in names if name in found]


def routines(sock: Remote) -> Remote:
    return sock.agent.module("message_routines")


def test_what_may_go_on_does_and_nothing_else_however_it_is_cut(net: StreamNet) -> None:
    ends = connect(net)
    jobs = []
    for seed, (sender, receiver) in enumerate(
        ((ends.client, ends.server), (ends.server, ends.client))
    ):
        jobs.append(routines(receiver).start.hear(receiver, 10 * seed, 150))
        routines(sender).start.say(sender, 10 * seed, 150)
    assert [job.join(30.0) for job in jobs] == ["", ""]
    for flow in flows(net, ends):
        assert (flow["path"], flow["unframed"], flow["dropped_full"]) == ("relay", 0, 0)
    for sock in (ends.client, ends.server):
        assert net.counters(sock)["tx_net_bytes"] == net.counters(sock)["rx_net_bytes"] == 0


def kinds(net: StreamNet) -> Counter[tuple[str, str, int]]:
    """What happened to how many messages from left to right, by method."""
    found: Counter[tuple[str, str, int]] = Counter()
    for kind in read_status(net.run_dir)["relay"]["kinds"]:
        if kind["from"] == "left" and kind["service"] == 0x2000:
            for done in ("messages", "denied", "audited"):
                found[done, "", kind["method"]] += kind[done]
    return found


def test_messages_are_counted_by_what_they_are(net: StreamNet) -> None:
    ends = connect(net)
    before = kinds(net)
    hearing = routines(ends.server).start.hear(ends.server, 77, 100)
    routines(ends.client).say(ends.client, 77, 100)
    assert hearing.join(20.0) == ""
    said = Counter(method for method, _ in message_routines.conversation(77, 100) if method)
    counted = kinds(net) - before
    assert {method: counted["messages", "", method] for method in said} == said
    assert {key[2] for key, count in counted.items() if key[0] == "denied" and count} == {DENIED}
    assert counted["denied", "", DENIED] == said[DENIED]
    assert counted["audited", "", AUDITED] == said[AUDITED]


def test_a_denied_call_does_not_arrive_and_its_caller_is_told(net: StreamNet) -> None:
    ends = connect(net)
    for session in range(1, 40):
        refused = replace(REFUSED, session_id=session).build(session) + bytes(session)
        data = CALL.build(0) + refused + CALL.build(5) + b"after"
        cut = session % len(data)
        ends.client.send(data[:cut])
        ends.client.send(data[cut:])
        header = someip.peek(ends.client.recv(16, socket.MSG_WAITALL))
        assert (header.session_id, header.message_type, header.return_code) == (session, 0x81, 5)
        arrived = ends.server.recv(37, socket.MSG_WAITALL)
        assert arrived == CALL.build(0) + CALL.build(5) + b"after"
    there, _ = flows(net, ends)
    assert (there["answered"], there["unanswered"]) == (39, 0)


def test_the_first_call_may_be_the_one_that_is_denied(net: StreamNet) -> None:
    listener, address = net.listen()
    client = stream_socket(net.left)
    client.connect(address)
    server, _ = listener.accept()
    waiting = server.start.recv(16, socket.MSG_WAITALL)
    client.send(REFUSED.build(0))
    header = someip.peek(client.recv(16, socket.MSG_WAITALL))
    assert (header.message_type, header.return_code) == (0x81, 5)
    client.send(CALL.build(0))
    assert waiting.join() == CALL.build(0)


def test_an_answer_does_not_cut_what_the_service_says(net: StreamNet) -> None:
    """The service is in the midst of a message when one of its callers is refused."""
    ends = connect(net)
    event = replace(CALL, message_type=someip.MessageType.NOTIFICATION).build(1000) + bytes(1000)
    ends.server.send(event[:500])
    assert ends.client.recv(500, socket.MSG_WAITALL) == event[:500]
    ends.client.send(REFUSED.build(0) + CALL.build(0))
    assert ends.server.recv(16, socket.MSG_WAITALL) == CALL.build(0)
    ends.server.send(event[500:])
    assert ends.client.recv(516, socket.MSG_WAITALL) == event[500:]
    assert someip.peek(ends.client.recv(16, socket.MSG_WAITALL)).message_type == 0x81


def test_half_of_a_denied_message_is_not_let_through_by_the_kernel(net: StreamNet) -> None:
    ends = connect(net)
    refused = REFUSED.build(1000) + bytes(1000)
    ends.client.send(CALL.build(0) + refused[:500])
    assert ends.server.recv(16, socket.MSG_WAITALL) == CALL.build(0)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ends.client.send(refused[500:], DONTROUTE)
    with pytest.raises(ConnectionResetError):
        ends.server.recv(100)


def test_what_asks_for_no_answer_gets_none(net: StreamNet) -> None:
    ends = connect(net)
    quiet = replace(REFUSED, message_type=someip.MessageType.REQUEST_NO_RETURN)
    ends.client.send(quiet.build(0) + CALL.build(0))
    assert ends.server.recv(16, socket.MSG_WAITALL) == CALL.build(0)
    with pytest.raises(BlockingIOError):
        ends.client.recv(16, socket.MSG_DONTWAIT)


@pytest.fixture
def logger(shared: StreamNet) -> Iterator[Remote]:
    """A program without the wrapper."""
    with contextlib.closing(Agent(shared.lab["third"], {})) as agent:
        sock = agent.socket()
        sock.bind(LOGGER)
        yield sock


def soon(receiver: Remote) -> bytes:
    deadline = time.monotonic() + 3
    while True:
        with contextlib.suppress(BlockingIOError):
            return bytes(receiver.recv(65535, socket.MSG_DONTWAIT))
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_mirrored_message_is_copied_whole(net: StreamNet, logger: Remote) -> None:
    ends = connect(net)
    copied = [
        replace(CALL, method_id=COPIED, session_id=n).build(size) + bytes(size)
        for n, size in enumerate((0, 7, 9000, 30_000))
    ]
    for data in copied:
        receiving = ends.server.start.recv(len(data) + 16, socket.MSG_WAITALL)
        ends.client.send(data[:9])
        ends.client.send(data[9:] + CALL.build(0))
        assert receiving.join() == data + CALL.build(0)
    assert [soon(logger) for _ in copied] == copied


def test_what_is_sent_by_the_kernel_on_purpose_comes_behind_what_was_under_way(
    net: StreamNet,
) -> None:
    ends = connect(net)
    data = CALL.build(100_000) + bytes(100_000)
    receiving = ends.server.start.recv(len(data) + 16, socket.MSG_WAITALL)
    ends.client.send(data)
    ends.client.send(CALL.build(0), DONTROUTE)
    assert receiving.join() == data + CALL.build(0)

    def left() -> bool:
        for sock in (ends.client, ends.server):  # who makes no call hears nothing
            with contextlib.suppress(BlockingIOError):
                sock.recv(1, socket.MSG_DONTWAIT)
        return flows(net, ends) == []

    until(left)
    ends.server.send(b"and back")
    assert ends.client.recv(100) == b"and back"


def test_a_receiver_that_does_not_read_holds_the_sender_up(net: StreamNet) -> None:
    """Nothing overtakes by the kernel what the relay has."""
    ends = connect(net)
    ends.client.setblocking(False)
    data, sent = bytearray(), 0
    while sent < 3_000_000:
        data += replace(CALL, session_id=sent & 0xFFFF).build(1000) + bytes(1000)
        with contextlib.suppress(BlockingIOError):
            sent += ends.client.send(bytes(data[sent:]))
            continue
        break
    assert sent < 2_000_000
    time.sleep(0.05)
    assert net.counters(ends.client)["tx_net_bytes"] == 0
    assert ends.server.agent.module("routines").receive_exactly(ends.server, sent) == sent


def test_all_that_was_sent_before_a_shutdown_arrives_however_late_it_is_read(
    net: StreamNet,
) -> None:
    ends = connect(net)
    data = CALL.build(300_000) + bytes(300_000)  # more than a ring holds
    ends.client.sendall(data)
    ends.client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"more")
    time.sleep(0.3)
    assert ends.server.recv(len(data) + 1, socket.MSG_WAITALL) == data
    assert ends.server.recv(1) == b""
    ends.server.send(CALL.build(0))
    assert ends.client.recv(16, socket.MSG_WAITALL) == CALL.build(0)


def test_all_that_a_killed_program_has_sent_arrives_and_then_the_end(net: StreamNet) -> None:
    with contextlib.closing(net.fresh_agent("left")) as mortal:
        ends = connect(net, mortal)
        data = CALL.build(400_000) + bytes(400_000)
        receiving = ends.server.start.recv(len(data) + 1, socket.MSG_WAITALL)
        with contextlib.suppress(AssertionError):
            routines(ends.client).say_and_die(ends.client, data)
        assert receiving.join() == data
        assert ends.server.recv(1) == b""


def test_what_cannot_be_handed_over_breaks_the_connection_and_is_not_lost(net: StreamNet) -> None:
    ends = connect(net)
    ends.client.send(CALL.build(0))
    assert ends.server.recv(5, socket.MSG_WAITALL) == CALL.build(0)[:5]
    number = ends.server.agent.module("family_routines").pass_on(ends.server)

    def is_reset(sock: Remote) -> bool:
        try:
            sock.send(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return True
        return False

    until(lambda: is_reset(ends.client))
    with pytest.raises(ConnectionResetError):
        ends.server.agent.module("os").read(number, 100)


@pytest.mark.parametrize("seed", range(3))
def test_when_the_controller_is_killed_nothing_is_lost_repeated_or_out_of_place(
    wrapper_hosts: Lab, seed: int
) -> None:
    with ruled(wrapper_hosts, f"stream-rules-killed-{seed}") as (net, controller):
        ends = connect(net)
        total = 60_000_000 if seed == 2 else 20_000_000
        jobs = []
        for number, (sender, receiver) in enumerate(
            ((ends.client, ends.server), (ends.server, ends.client))
        ):
            out, into = (sock.agent.module("routines") for sock in (sender, receiver))
            jobs.append((out.start.stream_out(sender, total, seed + number, [0]), total))
            jobs.append((into.start.stream_in(receiver, total, seed + number, "recv"), ""))
        time.sleep(0.15 + 0.01 * seed)
        assert sum(flow["bytes"] for flow in flows(net, ends)) > 0
        controller.kill()
        if seed == 2:  # and another one takes the connection on, which knows nothing of messages
            controller.start()
            until(lambda: sum(flow["unframed"] for flow in flows(net, ends)) > 0, 10.0)
        for job, wanted in jobs:
            until(lambda job=job: not job.pending(0.05), 60.0)
            assert job.join() == wanted
