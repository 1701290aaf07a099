# SPDX-License-Identifier: Apache-2.0
"""What setting up flows takes the controller: counted in calls, which no other load changes."""

import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from controller_lab import Starter
from fakewrapper import FakeWrapper

from ivc.controller.protocol import Type

COUNT = 50
SERVER = "10.0.0.2:30509"
CALLS_MOST = 900
"""Calls of Python functions from a socket's BOUND to the end of its flow: 800 were counted, and
1,500 when messages and control pages were packed by `construct`."""


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """How many functions of Python other threads have called, those started from now on."""
    counted = [0]

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        counted[0] += event == "call"

    threading.setprofile(count)
    yield counted
    threading.setprofile(None)  # type: ignore[arg-type]  # the way to end it


def set_up(server: FakeWrapper, client: FakeWrapper, number: int) -> None:
    """One flow of a socket of its own, and its end."""
    source = f"10.0.0.1:{40000 + number}"
    client.bind(number, source)
    client.want(number, source, SERVER)
    client.await_active(SERVER)
    client.unbind(number)
    server.await_message(Type.CLOSE)
    for end in client.ends.values():
        end.close()
    client.ends.clear()


def test_a_flow_takes_few_calls(calls: list[int], start: Starter) -> None:
    lab = start()
    server, client = lab.wrapper(2), lab.wrapper(1)
    server.bind(1, SERVER)
    set_up(server, client, 1)
    before = calls[0]
    for number in range(2, COUNT + 2):
        set_up(server, client, number)
    assert (calls[0] - before) / COUNT < CALLS_MOST
