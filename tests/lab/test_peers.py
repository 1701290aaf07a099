# SPDX-License-Identifier: Apache-2.0
"""The third-party peers do their job over a plain network, and notice when it fails them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ivc.lab.demo import PAIRS
from ivc.lab.hosts import Lab
from ivc.lab.peers.common import EVENT_EVERY, Tally, number_of, numbered, percentiles
from ivc.lab.phase import Carrier, Outcome, Pair, Settings, run_phase
from ivc.lab.wire import WireCounter

NO_LIBRARY = Path("not-used")


def run(lab: Lab, pair: Pair, count: int) -> Outcome:
    return run_phase(lab, pair, Carrier.NETWORK, Settings(count, 64, NO_LIBRARY))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.server}-{pair.client}")
def test_every_message_arrives_and_crosses_the_bridge(lab: Lab, pair: Pair) -> None:
    outcome = run(lab, pair, 500)
    events = 500 // EVENT_EVERY
    assert (outcome.client["received"], outcome.client["events"]) == (500, events)
    assert (outcome.server["received"], outcome.server["events"]) == (500, events)
    assert (outcome.lost, outcome.spoiled) == (0, 0)
    assert outcome.messages == 1000 + events
    assert outcome.wire is not None and outcome.wire.drops == 0
    assert outcome.wire.udp_bytes > outcome.sent_bytes  # service discovery comes on top


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.server}-{pair.client}")
def test_a_broken_wire_shows_as_loss(lab: Lab, pair: Pair) -> None:
    breaker = threading.Thread(target=break_the_wire, args=(lab,))
    breaker.start()
    outcome = run(lab, pair, 5_000)
    breaker.join(10)
    assert outcome.client["lost"] >= 1
    assert outcome.client["received"] == 5_000 - outcome.client["lost"]


def break_the_wire(lab: Lab) -> None:
    """Wait for the calls to begin, then pull the server's cable for a moment.

    Out of the bridge, not down: a link that goes down makes ARP keep messages.
    """
    assert lab.bridge is not None
    port = str(lab["adas"].port)
    with WireCounter(lab.bridge, [port]) as counter:
        while counter.read().udp_packets < 200:
            pass
    lab.bridge.run("ip", "link", "set", port, "nomaster")
    time.sleep(0.2)
    lab.bridge.run("ip", "link", "set", port, "master", "br0")


def test_a_tally_tells_twice_from_late() -> None:
    tally = Tally()
    for number in (0, 1, 3, 2, 3, 4):
        tally.count(number)
    assert (tally.received, tally.twice, tally.out_of_order) == (5, 1, 1)


def test_a_payload_carries_its_number() -> None:
    assert number_of(numbered(0xDEADBEEF, 64)) == 0xDEADBEEF
    assert len(numbered(7, 64)) == 64


def test_percentiles_are_microseconds() -> None:
    assert percentiles([i / 1e6 for i in range(1, 101)]) == {"p50": 51.0, "p99": 100.0}
