# SPDX-License-Identifier: Apache-2.0
"""How long messages take to a sleeper is counted, and nothing of those that find it awake."""

from __future__ import annotations

from typing import Any

import pytest
from wrapper_lab import Mode, Net

ROUNDS = 5


@pytest.fixture(params=[Mode.DIRECT, Mode.BLOCKING], ids=str)
def direct_net(request: pytest.FixtureRequest, nets: dict[Mode, Net]) -> Any:
    """Both ends of a flow go by one clock, with no relay between."""
    one = nets[request.param]
    yield one
    one.reset()


def latency(net: Net) -> dict[str, Any]:
    """Of the process that receives."""
    processes = net.status()["processes"]
    (found,) = [one["latency"] for one in processes if one["pid"] == net.right.pid]
    assert isinstance(found, dict)
    return found


def test_each_message_that_wakes_somebody_is_counted(direct_net: Net) -> None:
    client, server, address = direct_net.pair()
    before = latency(direct_net)["messages"]
    for _ in range(ROUNDS):
        received = server.start.recv(100)
        assert received.pending()  # and by now asleep
        client.sendto(b"wake up", address)
        assert received.join() == b"wake up"
    after = latency(direct_net)
    # One that took longer than is told, on a machine that is too busy, is left out.
    assert ROUNDS - 1 <= after["messages"] - before <= ROUNDS
    assert 1 < after["p50_us"] <= after["p99_us"] <= after["max_us"]


def test_what_is_there_before_anybody_asks_is_not_counted(direct_net: Net) -> None:
    client, server, address = direct_net.pair()
    before = latency(direct_net)["messages"]
    for _ in range(ROUNDS):
        client.sendto(b"early", address)
        assert server.recv(100) == b"early"
    assert latency(direct_net)["messages"] == before
