# SPDX-License-Identifier: Apache-2.0
"""Rules between two programs under the wrapper: who is denied what, and who is told so."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from remote import Remote
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
from ivc.lab.hosts import Lab, stop

RULES = """
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
    process = start_controller(wrapper_hosts, folder, command)
    ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS))
    net = Net(Mode.RELAY, wrapper_hosts, folder, ports, itertools.cycle(range(GROUPS)))
    try:
        yield net
        net.close()
    finally:
        stop(process)


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
    sent, answered, arrived = set(range(1, 300)), set[int](), set[int]()
    for session in sent:
        client.sendto(replace(DENIED, session_id=session).build(0), address)
        time.sleep(0.001)
        answered |= sessions(client)
        arrived |= sessions(server)  # who makes no call takes part in nothing
    deadline = time.monotonic() + 3
    while not (max(sent) in answered | arrived or time.monotonic() > deadline):
        answered |= sessions(client)
        arrived |= sessions(server)
    assert answered | arrived == sent  # what went by the kernel before there was a flow arrived
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


def test_the_service_itself_is_not_denied_it(ruled: Net) -> None:
    client, server, _ = ruled.pair(back=True)
    there = tuple(client.getsockname())
    server.sendto(DENIED.build(0), there)
    assert soon(client)[0] == DENIED.build(0)
