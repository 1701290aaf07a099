# SPDX-License-Identifier: Apache-2.0
"""Traffic from guest to guest, for tests that disturb it: the C ping-pong on rings.

Its client waits a second for an answer and goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.control import read_status, running_controller
from ivc.lab.xen.lab import XenLab, wait_until
from ivc.lab.xen.machine import Process
from ivc.lab.xen.pingpong import PROGRAM
from ivc.lab.xen.ways import Way

ROUND_TRIPS = 200_000  # a minute or two: reading the status takes seconds in an emulator
SECONDS = 300.0


@pytest.fixture
def controlled(lab: XenLab) -> Iterator[XenLab]:
    with running_controller(lab):
        yield lab


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
