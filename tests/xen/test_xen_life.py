# SPDX-License-Identifier: Apache-2.0
"""Deaths during traffic: the survivors see what a network would show them, and nothing stays.

The traffic is the C ping-pong, whose client waits a second for an answer and goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.control import COMMAND_LINE, read_status, running_controller
from ivc.lab.xen.counts import Counts, differences, take
from ivc.lab.xen.lab import XenLab, wait_until
from ivc.lab.xen.machine import Process
from ivc.lab.xen.pingpong import PROGRAM
from ivc.lab.xen.ways import Way

CYCLES = 10 if os.environ.get("IVC_FULL") else 2
ROUND_TRIPS = 60_000  # the better part of a minute
SECONDS = 300.0

pytestmark = pytest.mark.full


@pytest.fixture
def controlled(lab: XenLab) -> Iterator[XenLab]:
    with running_controller(lab):
        yield lab


@pytest.fixture
def before(controlled: XenLab) -> Counts:
    """Xen's counts without any traffic."""
    return take(controlled)


def given_back(lab: XenLab, before: Counts) -> None:
    wait_until(lambda: not list(differences(before, take(lab))), "not all is given back", SECONDS)


@contextmanager
def serving(lab: XenLab) -> Iterator[Process]:
    server = lab.domU(SERVER_HOST)
    command = [PROGRAM, "server", server.address, str(common.SERVER_PORT)]
    with server.popen(command, env=Way.DIRECT.environment) as process:
        process.wait_for("ready", SECONDS)
        yield process


@contextmanager
def calling(lab: XenLab) -> Iterator[Process]:
    server, client = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
    command = [PROGRAM, "client", client.address, str(common.CLIENT_PORT)]
    command += [server.address, str(common.SERVER_PORT), "--count", str(ROUND_TRIPS)]
    with client.popen(command, env=Way.DIRECT.environment) as process:
        yield process


def carried(lab: XenLab) -> int:
    """Messages the client has sent on rings so far."""
    local = f"{lab.domU(CLIENT_HOST).address}:{common.CLIENT_PORT}"
    sockets = [one for one in read_status(lab)["sockets"] if one["local"] == local]
    return sum(one["counters"]["tx_ring_msgs"] for one in sockets if one["path"] == "direct")


def wait_for_rings(lab: XenLab) -> None:
    """Wait until the client's messages go on rings, and more and more of them."""
    wait_until(lambda: carried(lab) > 0, "nothing goes on rings", SECONDS)
    seen = carried(lab)
    wait_until(lambda: carried(lab) > seen, "nothing goes on rings any more", SECONDS)


def report(client: Process) -> dict[str, Any]:
    done = client.wait(SECONDS)
    assert done.status == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_killed_server_is_missed_and_its_successor_is_used(
    controlled: XenLab, before: Counts
) -> None:
    with serving(controlled) as server, calling(controlled) as client:
        wait_for_rings(controlled)
        server.kill()  # SIGKILL
        with serving(controlled):
            wait_for_rings(controlled)
            seen = report(client)
    assert seen["strange"] == 0 and 0 < seen["lost"] < 30
    given_back(controlled, before)


def test_programs_that_come_and_are_killed_leave_nothing(
    controlled: XenLab, before: Counts
) -> None:
    for _ in range(CYCLES):
        with serving(controlled), calling(controlled):
            wait_for_rings(controlled)
    given_back(controlled, before)


def test_a_destroyed_guest_is_missed_and_its_next_life_is_used(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with serving(controlled), calling(controlled) as client:
        wait_for_rings(controlled)
        guest.destroy()
        wait_until(lambda: take(controlled).zombies == 0, "the dead guest stays", SECONDS)
        guest.create()
        with serving(controlled):
            wait_for_rings(controlled)
            seen = report(client)
    assert seen["strange"] == 0 and seen["lost"] > 0
    given_back(controlled, before)


def test_without_its_controller_traffic_goes_on_and_the_next_one_takes_over(lab: XenLab) -> None:
    with serving(lab), calling(lab) as client:
        with running_controller(lab) as first:
            wait_for_rings(lab)
            lab.dom0.run(["pkill", "-KILL", "-f", COMMAND_LINE])
            first.wait(SECONDS)
        with running_controller(lab):
            wait_for_rings(lab)
            seen = report(client)
    assert (seen["lost"], seen["strange"]) == (0, 0)
