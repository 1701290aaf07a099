# SPDX-License-Identifier: Apache-2.0
"""Six directions at once between two guests and an ECU outside, on Xen.

dom0 is as `ivc ethernet apply` leaves it, with the controller; the ECU's interface is a port of
the guests' bridge, and what crosses it and the guests' interfaces is taken down in dom0.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
from six_ways import (
    CAPTURE,
    INSIDE,
    PEER,
    SERVICES,
    OnRings,
    Seen,
    SixWays,
    captured,
    node_file,
    peer_arguments,
    talk,
)

from ivc.lab.control import mapping_file
from ivc.lab.xen import outside as outside_node
from ivc.lab.xen.control import FOLDER, MAPPING, controller_of, read_status
from ivc.lab.xen.lab import BRIDGES, GUESTS, XenLab, wait_until
from ivc.lab.xen.machine import Machine, Process
from ivc.lab.xen.outside import outside
from ivc.lab.xen.ways import Way

OUTSIDE = outside_node.NAME
ADDRESSES = {name: str(GUESTS[name].data.ip) for name in INSIDE}
ADDRESSES[OUTSIDE] = str(outside_node.ADDRESS.ip)
ETHERNET = f'\n[ethernet]\nbridge = "{BRIDGES[0]}"\ninterface = "{OUTSIDE}"\n'
SCRIPTS = "/tmp"
PATIENCE_S = 240.0

pytestmark = pytest.mark.full  # three interpreters that talk at once: more than a minute


class Program:
    """A node's program, in a machine."""

    def __init__(self, machine: Machine, name: str, start: Callable[[list[str]], Process]) -> None:
        self._machine = machine
        self._orders = f"{SCRIPTS}/{name}.orders"
        self._answers = 0
        machine.run(["mkfifo", self._orders])
        env = [f"{key}={value}" for key, value in Way.DIRECT.environment.items()]
        argv = [f"{SCRIPTS}/{PEER.name}", *peer_arguments(name, ADDRESSES[name])]
        command = ["env", *(env if name in INSIDE else []), "python3", *argv]
        # Open for writing too: it does not end when whoever gives an order has gone.
        self.process = start(["sh", "-c", f"exec {shlex.join(command)} <>{self._orders}"])

    def say(self, line: str) -> None:
        self._machine.shell(f"echo {line} >{self._orders}")

    def answer(self) -> str:
        wait_until(self._answered, f"no answer: {self.process.stderr[-2000:]}", PATIENCE_S)
        self._answers += 1
        return self.process.stdout.splitlines(keepends=True)[self._answers - 1]

    def remove(self) -> None:
        self.process.kill()
        self._machine.run(["rm", self._orders])

    def _answered(self) -> bool:
        assert not self.process.ended(), self.process.stderr[-2000:]
        return self.process.stdout.count("\n") > self._answers


@contextmanager
def ethernet(lab: XenLab, files: Sequence[str]) -> Iterator[None]:
    """What `ivc ethernet` sets up for these files, for the time of a `with` block."""
    command = ["python3", "-m", "ivc", "ethernet"]
    lab.dom0.run([*command, "apply", *files], PATIENCE_S)
    try:
        yield
    finally:
        lab.dom0.run([*command, "remove"], PATIENCE_S)


def write_files(lab: XenLab) -> list[str]:
    """Configuration and mapping in dom0; returns the arguments for them."""
    paths = {name: f"{FOLDER}/{name}.json" for name in INSIDE}
    for name, path in paths.items():
        lab.dom0.put(node_file(name, ADDRESSES[name]).encode(), path)
    places = {name: [f'vm = "{name}"'] for name in INSIDE}
    places[OUTSIDE] = ["external = true", f'address = "{ADDRESSES[OUTSIDE]}"']
    lab.dom0.put((mapping_file(places, "eager") + ETHERNET).encode(), MAPPING)
    return [*paths.values(), "--mapping", MAPPING]


@pytest.fixture(scope="module")
def seen(lab: XenLab) -> Iterator[Seen]:
    """One run."""
    interfaces = {name: lab.domU(name).vif() for name in INSIDE} | {OUTSIDE: OUTSIDE}
    for script in (PEER, CAPTURE):
        for machine in (lab.dom0, *map(lab.domU, INSIDE)):
            machine.put(script, f"{SCRIPTS}/{script.name}")
    files = write_files(lab)
    with ExitStack() as stack:
        node = stack.enter_context(outside(lab, plugged_in=False))
        stack.enter_context(ethernet(lab, files))
        stack.enter_context(controller_of(lab, files))
        command = ["python3", f"{SCRIPTS}/{CAPTURE.name}", *interfaces.values()]
        capture = stack.enter_context(lab.dom0.popen(command, open_input=True))
        capture.wait_for("ready\n", PATIENCE_S)
        peers = {}
        for name in SERVICES:
            machine = lab.domU(name) if name in INSIDE else lab.dom0
            start = machine.popen if name in INSIDE else node.popen
            peers[name] = Program(machine, name, start)
            stack.callback(peers[name].remove)
        calls, reports = talk(peers)
        status = read_status(lab)
        capture.end_input()
        said = capture.wait(PATIENCE_S).stdout.partition("\n")[2]
        yield Seen(ADDRESSES, calls, reports, captured(said, interfaces), status)


class TestSixWays(SixWays):
    """On Xen."""


class TestOnRings(OnRings):
    """The guests' programs are under the wrapper."""
