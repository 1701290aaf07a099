# SPDX-License-Identifier: Apache-2.0
"""What flows cost besides their messages: set-up, an idle process, a controller with many.

Everything here has hosts and controllers of its own. Figures are by name, see `FIGURES`; those of
processor time are of the process's own clock, so that a busy machine does not change them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.pingpong import ROOT, cpu_seconds
from ivc import network
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    JsonObject,
    controller_of,
    mapping_file,
    running_controller,
    wrapper_environment,
    wrapper_library,
)
from ivc.lab.hosts import Host, Lab, LabError, stop
from ivc.lab.peers import common
from ivc.plan import build_plan

PROGRAM = ROOT / "build" / "flows"
_SETTLE_SECONDS = 0.5
"""Whoever has spun, or was told something, sleeps by then."""

Figures = dict[str, float]
"""By the names of `FIGURES`."""

SET_UP = "flow set-up, controller idle"
IDLE = "idle process, 50 attached sockets"
MANY = "64 nodes, 2,000 services, 1,000 flows"


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of each."""

    set_ups: int = 300
    pause_us: int = 3000
    idle_sockets: int = 50
    idle_seconds: float = 5.0
    nodes: int = 64
    services: int = 2000
    flows: int = 1000


QUICK = Amount(set_ups=200, pause_us=2000, idle_seconds=2.0)


def measure_flows(amount: Amount) -> Figures:
    """All of it. Raises LabError when a part does not run."""
    return set_up(amount) | idle(amount) | many(amount)


@dataclass(frozen=True, slots=True)
class Place:
    """Where programs run, and the environment that puts them under the wrapper."""

    lab: Lab
    env: Mapping[str, str]

    @contextlib.contextmanager
    def running(self, host: Host, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """build/flows, which is yet to say that its sockets are bound."""
        process = host.popen(
            [str(PROGRAM), *arguments],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            stop(process)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _await_bound(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        found = _line(process)
        if found != "ready\n":
            raise LabError(f"build/flows says {found!r}, expected 'ready': {process.args!r}")


def _answer(process: subprocess.Popen[str]) -> JsonObject:
    """The object a program prints. Raises LabError if it ends without."""
    line = _line(process)
    if not line:
        raise LabError(f"build/flows ends without an answer (status {process.wait()})")
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


# ---- set-up -------------------------------------------------------------------------------------


def set_up(amount: Amount) -> Figures:
    """From the first send of a socket until a datagram of its goes by ring, one after the other."""
    members = {CLIENT_HOST: "10.77.0.1/24", SERVER_HOST: "10.77.0.2/24"}
    with Lab(members) as lab, running_controller(lab, "direct", lab.directory) as controller:
        place = Place(lab, wrapper_environment(wrapper_library(ROOT), lab.directory))
        here, there = (str(lab[name].address.ip) for name in members)
        listen = ("listen", there, str(common.SERVER_PORT), "1")
        timing = ("time", here, f"{there}:{common.SERVER_PORT}", str(amount.set_ups))
        with (
            place.running(lab[SERVER_HOST], *listen) as server,
            place.running(lab[CLIENT_HOST], *timing, str(amount.pause_us)) as timed,
        ):
            _await_bound(server, timed)
            before = cpu_seconds(controller.pid)
            told = _answer(timed)
            spent = cpu_seconds(controller.pid) - before
    if told["failed"]:
        raise LabError(f"{told['failed']} of {told['sent']} flows were not set up")
    return {
        f"{SET_UP}: p50, ms": told["us"]["p50"] / 1e3,
        f"{SET_UP}: p99, ms": told["us"]["p99"] / 1e3,
        # One more: the first is not among those that are timed.
        f"{SET_UP}: its CPU, ms": spent * 1e3 / (told["sent"] + 1),
    }


# ---- nodes with a process that offers and one that calls ----------------------------------------

_HOST = "net"
_FIRST_PORT = 30500


@dataclass(frozen=True, slots=True)
class Node:
    """One of many: its address, the ports of its services, and whom it calls."""

    name: str
    address: str
    ports: range
    calls: tuple[str, ...]


def nodes(count: int, services: int, flows: int) -> list[Node]:
    """Services and flows evenly divided; everybody calls those behind him, round the circle."""
    addresses = [f"10.78.{number // 250}.{number % 250 + 1}" for number in range(count)]
    ports = [
        range(_FIRST_PORT, _FIRST_PORT + _share(services, count, number)) for number in range(count)
    ]

    def call(number: int, which: int) -> str:
        other = (number + 1 + which % (count - 1)) % count
        return f"{addresses[other]}:{ports[other][which % len(ports[other])]}"

    return [
        Node(
            f"n{number:03}",
            addresses[number],
            ports[number],
            tuple(call(number, which) for which in range(_share(flows, count, number))),
        )
        for number in range(count)
    ]


def _share(total: int, among: int, number: int) -> int:
    return total // among + (number < total % among)


@contextlib.contextmanager
def _controlled(every: Sequence[Node]) -> Iterator[tuple[Place, int, float]]:
    """A controller for nodes that are addresses of one host: its pid, and how long a plan takes."""
    with Lab({_HOST: "10.77.0.1/24"}) as lab:
        lab[_HOST].run("ip", "route", "add", "local", "10.78.0.0/16", "dev", "lo")
        files, mapping = _write(lab, every)
        took = plan_seconds(files, mapping)
        arguments = [*map(str, files), "--mapping", str(mapping)]
        with controller_of(lab, lab.directory, arguments) as controller:
            env = wrapper_environment(wrapper_library(ROOT), lab.directory)
            yield Place(lab, env), controller.pid, took


def plan_seconds(files: Sequence[Path], mapping: Path) -> float:
    """Processor time from files to plan."""
    begin = time.process_time()
    loaded = network.load(files, mapping)
    build_plan(loaded.network, loaded.mapping)
    return time.process_time() - begin


@contextlib.contextmanager
def _joined(place: Place, every: Sequence[Node]) -> Iterator[tuple[list[int], float]]:
    """All processes, and how long their flows took that began at the same time."""
    host = place.lab[_HOST]
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(place.running(host, "listen", node.address, *_ports(node)))
            for node in every
        ]
        _await_bound(*listeners)
        callers = [
            stack.enter_context(place.running(host, "hold", node.address, *node.calls))
            for node in every
        ]
        _await_bound(*callers)
        for caller in callers:
            _go(caller)
        seconds = max(float(_answer(caller)["seconds"]) for caller in callers)
        yield [process.pid for process in (*listeners, *callers)], seconds


def _ports(node: Node) -> tuple[str, str]:
    return str(node.ports.start), str(len(node.ports))


def _write(lab: Lab, every: Sequence[Node]) -> tuple[list[Path], Path]:
    places = {node.name: (f'host = "netns:{lab[_HOST].netns}"',) for node in every}
    mapping = lab.directory / "mapping.toml"
    mapping.write_text(mapping_file(places))
    files = []
    number = iter(range(1, 0xFFFF))
    for node in every:
        file = lab.directory / f"{node.name}.json"
        services = [
            {"service": f"0x{next(number):04x}", "instance": "0x0001", "unreliable": str(port)}
            for port in node.ports
        ]
        described = {"unicast": node.address, "netmask": "255.255.0.0", "services": services}
        file.write_text(json.dumps(described))
        files.append(file)
    return files, mapping


def many(amount: Amount) -> Figures:
    """What a controller of a large network takes."""
    every = nodes(amount.nodes, amount.services, amount.flows)
    with _controlled(every) as (place, controller, plan), _joined(place, every) as (_, seconds):
        return {
            f"{MANY}: plan, s": plan,
            f"{MANY}: set-up, s": seconds,
            f"{MANY}: RSS, MiB": psutil.Process(controller).memory_info().rss / (1 << 20),
            f"{MANY}: its CPU, s": cpu_seconds(controller),
        }


# ---- idle ---------------------------------------------------------------------------------------


def idle(amount: Amount) -> Figures:
    """Processes joined by rings at every socket, which nobody sends on any more."""
    every = nodes(2, 2 * amount.idle_sockets, 2 * amount.idle_sockets)
    with _controlled(every) as (place, *_), _joined(place, every) as (pids, _):
        time.sleep(_SETTLE_SECONDS)
        before = [(cpu_seconds(pid), sleeps(pid)) for pid in pids]
        time.sleep(amount.idle_seconds)
        after = [(cpu_seconds(pid), sleeps(pid)) for pid in pids]
    spent = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
    return {
        f"{IDLE}: CPU, %": max(cpu for cpu, _ in spent) / amount.idle_seconds * 100,
        f"{IDLE}: wake-ups": float(max(count for _, count in spent)),
    }


def sleeps(pid: int) -> int:
    """How often a process has gone to sleep: as often as it was woken, but for once."""
    return int(psutil.Process(pid).num_ctx_switches().voluntary)
