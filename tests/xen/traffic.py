# SPDX-License-Identifier: Apache-2.0
"""Traffic from guest to guest, for tests that disturb it: the C ping-pong on rings.

Its client waits a second for an answer and goes on, until it is told to stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.hosts import LabError
from ivc.lab.peers import common
from ivc.lab.xen.control import running_controller
from ivc.lab.xen.counts import Counts, differences, look, take
from ivc.lab.xen.lab import DomU, XenLab, wait_until
from ivc.lab.xen.machine import Process
from ivc.lab.xen.pingpong import PROGRAM
from ivc.lab.xen.ways import Way

SECONDS = 120.0
GIVE_BACK_SECONDS = 30.0

# Runs in dom0, where starting Python anew for every look takes seconds. There may be no
# controller for a while.
MORE_ON_RINGS = """
import sys, time
from pathlib import Path
from ivc.controller.client import read_status
from ivc.controller.errors import NoController

def carried():
    try:
        sockets = read_status(Path("/run/ivc"))["sockets"]
    except NoController:
        return 0
    own = [one for one in sockets if one["local"].split(":")[0] == sys.argv[1]]
    return sum(one["counters"]["tx_ring_msgs"] for one in own)

seen = 0
while not (now := carried()) > seen > 0:
    seen = now
    time.sleep(0.5)
"""
ENDLESS = 1_000_000  # an hour at the very least: each test says when it is enough
PAUSE_US = 20_000  # dom0 shares a processor with the server, and is to be asked meanwhile


@pytest.fixture(scope="module")
def controlled(lab: XenLab) -> Iterator[XenLab]:
    """One controller for all tests of a file: what they leave behind adds up."""
    with running_controller(lab):
        yield lab


@pytest.fixture(scope="module")
def before(controlled: XenLab) -> Counts:
    """Xen's counts without any traffic."""
    return take(controlled)


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
    command += [server.address, str(common.SERVER_PORT), "--count", str(ENDLESS)]
    command += ["--pause", str(PAUSE_US)]
    with client.popen(command, env=Way.DIRECT.environment) as process:
        yield process


def wait_for_rings(lab: XenLab, client: Process) -> None:
    """Wait until the client's messages go on rings, and more and more of them."""
    own = lab.domU(CLIENT_HOST).address
    with lab.dom0.popen(["python3", "-c", MORE_ON_RINGS, own]) as watching:

        def more() -> bool:
            if client.ended():
                raise LabError(f"the client has ended: {client.stdout}{client.stderr}")
            return watching.ended()

        wait_until(more, "nothing goes on rings", SECONDS)
        assert watching.status == 0, watching.stderr


@contextmanager
def on_rings(lab: XenLab) -> Iterator[Process]:
    """The client of both, on rings."""
    with serving(lab), calling(lab) as client:
        wait_for_rings(lab, client)
        yield client


def die(lab: XenLab, guest: DomU) -> None:
    """Destroy it; nothing of it is left."""
    guest.destroy()
    wait_until(lambda: look(lab).zombies == 0, "the dead guest stays", SECONDS)


def is_well(guest: DomU) -> None:
    """Its kernel has nothing to complain of."""
    console = guest.console()
    assert not [word for word in ("Oops", "BUG", "WARNING: CPU") if word in console]


def stop(lab: XenLab, client: Process) -> dict[str, Any]:
    """End the traffic; what the client says about it."""
    lab.domU(CLIENT_HOST).run(["pkill", "-INT", "-x", "pingpong"])
    done = client.wait(SECONDS)
    assert done.status == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def nothing_lost(lab: XenLab, client: Process) -> None:
    """End the traffic; each of its messages was answered, once."""
    seen = stop(lab, client)
    assert (seen["lost"], seen["strange"]) == (0, 0), client.stderr


def given_back(lab: XenLab, before: Counts) -> None:
    """Wait until Xen counts what it counted before."""
    deadline = time.monotonic() + GIVE_BACK_SECONDS
    while kept := list(differences(before, look(lab))):
        assert time.monotonic() < deadline, kept
