# SPDX-License-Identifier: Apache-2.0
"""The third-party peers do their job over a plain network, and notice when it fails them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ivc.lab.demo import PAIRS
from ivc.lab.hosts import Lab, stop
from ivc.lab.peers.common import EVENT_EVERY, Tally, number_of, numbered, percentiles
from ivc.lab.phase import Carrier, Outcome, Pair, Settings, run_phase
from ivc.lab.wire import WireCounter

NO_LIBRARY = Path("not-used")
SUBSCRIBER = str(Path(__file__).with_name("subscriber.py"))


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


def test_a_server_ends_although_its_client_answers_to_that(lab: Lab) -> None:
    """The answer meets a shutdown that waits, with a lock held, for the thread that takes it.

    So it is in opensomeip 0.2.0, for good, if the answer comes between StopOffer and the end
    of the socket. Some 50 us: here every setsockopt() of the server takes longer.
    """
    assert shutil.which("strace"), "install strace: apt-get install strace"
    slow = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=setsockopt:delay_exit=50000"]
    server = [*slow, sys.executable, "-m", "ivc.lab.peers.opensomeip_server", "--address"]
    with (
        started(lab, "hmi", sys.executable, SUBSCRIBER) as subscriber,
        started(lab, "adas", *server) as serves,
    ):
        assert line_of(subscriber) == "offered\n"
        assert serves.stdin is not None
        serves.stdin.close()
        assert line_of(subscriber) == "answered\n"
        assert serves.wait(10) == 0


@contextmanager
def started(lab: Lab, host: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program that gets its host's address as its last argument."""
    command = (*command, str(lab[host].address.ip))
    process = lab[host].popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            stop(process)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


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
