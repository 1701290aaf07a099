# SPDX-License-Identifier: Apache-2.0
"""Rules between two programs under the wrapper: who is denied what, and who is told so."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from remote import Agent, Remote
from wrapper_lab import (
    FIRST_PORT,
    GROUPS,
    PORTS,
    RING_BYTES,
    Mode,
    Net,
    configure,
    start_controller,
)

from ivc import someip
from ivc.controller.client import reload
from ivc.lab.hosts import Lab, stop

LOGGER, NOBODY = ("10.78.0.3", 30600), ("10.78.0.77", "10.78.0.78")
MIRRORED, LOST = 0x0777, (0x0781, 0x0782)
RULES = f"""
[nodes.logger]
external = true
address = "{LOGGER[0]}"
[nodes.nobody]
external = true
address = "{NOBODY[0]}"
[nodes.neither]
external = true
address = "{NOBODY[1]}"
[[rule]]
method = {MIRRORED}
protocol = "udp"
action = "mirror"
copy_to = "{LOGGER[0]}:{LOGGER[1]}"
[[rule]]
method = {LOST[0]}
action = "mirror"
copy_to = "{NOBODY[0]}:30600"
[[rule]]
method = {LOST[1]}
action = "mirror"
copy_to = "{NOBODY[1]}:30600"
[[rule]]
from = "left"
method = 0x0666
protocol = "udp"
action = "deny"
answer = "E_NOT_REACHABLE"
"""
CALL = someip.Header(0x2000, 0x0421, 1, 1)
DENIED = replace(CALL, method_id=0x0666)


@pytest.fixture(scope="module")
def ruled(wrapper_hosts: Lab) -> Iterator[Net]:
    hosts = [wrapper_hosts["left"], wrapper_hosts["right"]]
    folder, command = configure(wrapper_hosts, "direct", hosts, name="rules")
    with (folder / "mapping.toml").open("a") as mapping:
        mapping.write(RULES)
    assert wrapper_hosts.bridge is not None
    there = ("10.78.0.254/24", "dev", "br0")  # copies are sent from here
    wrapper_hosts.bridge.run("ip", "address", "add", *there)
    process = start_controller(wrapper_hosts, folder, command)
    ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS))
    net = Net(Mode.RELAY, wrapper_hosts, folder, ports, itertools.cycle(range(GROUPS)))
    try:
        yield net
        net.close()
    finally:
        stop(process)
        wrapper_hosts.bridge.run("ip", "address", "del", *there)


@pytest.fixture(autouse=True)
def tidy(ruled: Net) -> Iterator[None]:
    """Sockets and claims are of one test."""
    yield
    ruled.reset()


def soon(receiver: Remote) -> tuple[bytes, tuple[str, int]]:
    """The next datagram and where it is from."""
    deadline = time.monotonic() + 3
    while True:
        try:
            data, source = receiver.recvfrom(65535, socket.MSG_DONTWAIT)
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        else:
            return data, tuple(source)


def test_a_denied_call_does_not_arrive_and_its_caller_is_told(ruled: Net) -> None:
    client, server, address = ruled.pair(back=True)
    for session in range(1, 50):
        client.sendto(replace(DENIED, session_id=session).build(0), address)
        answer, source = soon(client)
        assert source == address
        header = someip.peek(answer)
        assert (header.session_id, header.message_type, header.return_code) == (session, 0x81, 5)
        client.sendto(CALL.build(0), address)
        assert soon(server)[0] == CALL.build(0)
    ruled.prove()
    (denied,) = ruled.status()["relay"]["denied"]
    assert denied == {
        "from": "left",
        "to": "right",
        "service": 0x2000,
        "method": 0x666,
        "messages": 49,
        "passed": False,
    }


def sessions(receiver: Remote) -> set[int]:
    """Those of all that lies there; nothing comes twice."""
    found: list[int] = []
    while True:
        try:
            found.append(someip.peek(receiver.recv(65535, socket.MSG_DONTWAIT)).session_id)
        except BlockingIOError:
            assert len(set(found)) == len(found)
            return set(found)


def denied_until_answered(net: Net) -> tuple[Remote, Remote, tuple[str, int]]:
    """A client whose denied calls are answered by now, though the service has sent nothing."""
    (server, address), client = net.server(), net.client()
    sent, answered, arrived = set[int](), set[int](), set[int]()
    deadline = time.monotonic() + 20

    def call() -> None:
        sent.add(len(sent) + 1)
        client.sendto(replace(DENIED, session_id=len(sent)).build(0), address)

    def look() -> None:
        nonlocal answered, arrived
        assert time.monotonic() < deadline, (sent - answered - arrived, net.status())
        time.sleep(0.001)
        answered |= sessions(client)
        arrived |= sessions(server)  # who makes no call takes part in nothing

    while not answered:
        call()
        look()
    call()
    while answered | arrived != sent:  # what went by the kernel before there was a flow arrives
        look()
    assert len(answered & arrived) <= 1  # what went both ways
    assert max(sent) in answered
    return client, server, address


def test_calls_are_answered_from_the_first_that_is_denied_on(ruled: Net) -> None:
    client, _, address = denied_until_answered(ruled)
    there = "{}:{}".format(*address)
    (flow,) = (flow for flow in ruled.status()["flows"] if flow["to"] == there)
    assert flow["answered"] > 0 and flow["unanswered"] == 0
    assert ruled.counters(client)["net"] == 0


def test_answers_before_it_first_sends_do_not_disturb_the_order_of_a_service(ruled: Net) -> None:
    """What is too large for rings goes by the kernel; what comes after it must not overtake it."""
    client, server, _ = denied_until_answered(ruled)
    there = tuple(client.getsockname())
    sent = [bytes([number]) * (RING_BYTES // 2 if number < 3 else 100) for number in range(1, 9)]
    for data in sent:
        server.sendto(data, there)
    assert [soon(client)[0] for _ in sent] == sent
    assert ruled.counters(server)["tx_ring"] > 0


def test_a_service_is_on_rings_with_whom_it_had_a_way_of_answers_to(ruled: Net) -> None:
    """It has never asked for that, and nobody tells it when the reason is over why it has gone."""
    client, server, address = denied_until_answered(ruled)
    there, way = tuple(client.getsockname()), "{}:{}".format(*address)
    mapping = ruled.run_dir / "mapping.toml"
    before = mapping.read_text()
    mapping.write_text(before.replace('answer = "E_NOT_REACHABLE"\n', ""))
    try:
        reload(ruled.run_dir)
        deadline = time.monotonic() + 5
        while way in {flow["from"] for flow in ruled.status()["flows"]}:
            assert time.monotonic() < deadline
            sessions(server)  # whoever makes a call hears of it
        ruled.warm(server, client, there)
    finally:
        mapping.write_text(before)
        reload(ruled.run_dir)


def test_the_service_itself_is_not_denied_it(ruled: Net) -> None:
    client, server, _ = ruled.pair(back=True)
    there = tuple(client.getsockname())
    server.sendto(DENIED.build(0), there)
    assert soon(client)[0] == DENIED.build(0)


@pytest.fixture
def logger(ruled: Net) -> Iterator[Remote]:
    """A program without the wrapper."""
    with contextlib.closing(Agent(ruled.lab["third"], {})) as agent:
        sock = agent.socket()
        sock.bind(LOGGER)
        yield sock


def test_a_mirrored_message_arrives_once_and_its_copy_too(ruled: Net, logger: Remote) -> None:
    client, server, address = ruled.pair()
    sent = []
    for session in range(1, 200):
        mirrored = replace(CALL, method_id=MIRRORED, session_id=session).build(4) + b"same"
        together = CALL.build(0) + mirrored if session % 3 == 0 else mirrored
        client.sendto(together, address)
        assert soon(server)[0] == together
        sent.append(mirrored)
        client.sendto(CALL.build(0), address)
        assert soon(server)[0] == CALL.build(0)
    copies = [soon(logger) for _ in sent]
    assert [data for data, _ in copies] == sent
    assert {source[0] for _, source in copies} == {"10.78.0.254"}
    time.sleep(0.1)
    for receiver in (server, logger):
        with pytest.raises(BlockingIOError):
            receiver.recv(65535, socket.MSG_DONTWAIT)
    ruled.prove()
    ids = {"from": "left", "to": "right", "service": 0x2000, "method": MIRRORED}
    copied = [one for one in ruled.status()["relay"]["copied"] if one["method"] == MIRRORED]
    assert copied == [{**ids, "messages": len(sent), "sent": True}]


def test_answers_and_events_are_mirrored_as_calls_are(ruled: Net, logger: Remote) -> None:
    client, server, _ = ruled.pair(back=True)
    there = tuple(client.getsockname())
    for kind in (someip.MessageType.RESPONSE, someip.MessageType.NOTIFICATION):
        data = replace(CALL, method_id=MIRRORED, message_type=kind).build(0)
        server.sendto(data, there)
        assert soon(client)[0] == soon(logger)[0] == data


def test_copies_that_nobody_takes_hold_nobody_up_and_are_counted(ruled: Net) -> None:
    """What waits for the addresses of two is more than a socket may have under way."""
    client, server, address = ruled.pair()
    calls = [replace(CALL, method_id=method).build(1400) + bytes(1400) for method in LOST]
    for number in range(600):
        client.sendto(calls[number % 2], address)
        assert soon(server)[0] == calls[number % 2]
    copied = [one for one in ruled.status()["relay"]["copied"] if one["method"] in LOST]
    assert sum(one["messages"] for one in copied) == 600
    assert sum(one["messages"] for one in copied if not one["sent"]) > 0
