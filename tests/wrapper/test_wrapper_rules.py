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
from wrapper_lab import FIRST_PORT, GROUPS, PORTS, Mode, Net, configure, start_controller

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


def test_the_service_itself_is_not_denied_it(ruled: Net) -> None:
    client, server, _ = ruled.pair(back=True)
    there = tuple(client.getsockname())
    server.sendto(DENIED.build(0), there)
    assert soon(client)[0] == DENIED.build(0)
