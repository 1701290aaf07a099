# SPDX-License-Identifier: Apache-2.0
"""Hosts, controllers and agents for the tests of the wrapper; and the proof that rings were used.

Every test runs natively first: what holds there is what the wrapper must keep.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import ROOT, Agents, Run
from remote import Agent, Remote

from ivc.controller.client import read_status
from ivc.lab.hosts import Host, Lab, LabError, stop

MEMBERS = {"left": "10.78.0.1/24", "right": "10.78.0.2/24", "third": "10.78.0.3/24"}
FIRST_PORT, PORTS = 31000, 200
TAKEN_IN_TURN = PORTS - 10
"""Tests that name their port take one of the last: a closed connection keeps its own a while."""
FIRST_GROUP_PORT, GROUPS = 32000, 60
RING_BYTES = 64 * 1024  # the plan's class of events

Address = tuple[str, int]


class Mode(Run):
    """How a program under test is run."""

    NATIVE = "native"
    """without wrapper: the oracle"""
    DIRECT = "direct"
    RELAY = "relay"
    CHANNEL = "channel"
    """direct, with doorbells that behave like event channels"""
    BLOCKING = "blocking"
    """direct, never spinning"""

    @property
    def path(self) -> str:
        return "relay" if self is Mode.RELAY else "direct"


class Carried(enum.Enum):
    """What a test claims of a receiver it has warmed up."""

    RINGS = "all of it by ring"
    MIXED = "some of it by ring"
    NOTHING = "nothing came, or the socket was closed or taken off the rings on purpose"


# ---- configuration ----------------------------------------------------------


def _service(number: int, port: int) -> dict[str, Any]:
    ports = {"unreliable": str(port), "reliable": str(port)}
    return {"service": f"0x{number:04x}", "instance": "0x0001"} | ports


def _group_service(number: int, index: int, port: int) -> dict[str, Any]:
    address, group_port = group(index)
    return _service(number, port) | {
        "events": [{"event": "0x8001", "is_field": "false"}],
        "eventgroups": [
            {
                "eventgroup": "0x0001",
                "events": ["0x8001"],
                "multicast": {"address": address, "port": str(group_port)},
            }
        ],
    }


def group(index: int) -> Address:
    """The address of a planned multicast group."""
    return f"224.225.0.{index + 1}", FIRST_GROUP_PORT + index


def _configuration(host: Host, base: int) -> dict[str, Any]:
    services = [_service(base + n, FIRST_PORT + n) for n in range(PORTS)]
    if host.name == "left":
        services += [
            _group_service(base + PORTS + n, n, FIRST_PORT + PORTS + n) for n in range(GROUPS)
        ]
    return {
        "unicast": str(host.address.ip),
        "netmask": str(host.address.netmask),
        "services": services,
        "service-discovery": {
            "enable": "true",
            "multicast": "224.224.224.245",
            "port": "30490",
            "protocol": "udp",
        },
    }


def configure(
    lab: Lab, path: str, hosts: list[Host], promote: str = "never", name: str = ""
) -> tuple[Path, list[str]]:
    """Files for a controller of `hosts`: its run directory, and how to start it."""
    folder = lab.directory / (name or f"{path}-{promote}")
    folder.mkdir()
    mapping, files = ["version = 1", "[defaults]", f'promote = "{promote}"'], []
    for number, host in enumerate(hosts):
        file = folder / f"{host.name}.json"
        file.write_text(json.dumps(_configuration(host, 0x1000 * (number + 1))))
        files.append(str(file))
        mapping += [f"[nodes.{host.name}]", f'host = "netns:{host.netns}"']
    (folder / "mapping.toml").write_text("\n".join(mapping) + "\n")
    command = [sys.executable, "-m", "ivc", "controller", *files, "--run-dir", str(folder)]
    command += ["--mapping", str(folder / "mapping.toml"), "--path", path]
    return folder, command


def start_controller(lab: Lab, folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start it and wait until it is ready."""
    words = folder / "words"
    assert lab.bridge is not None
    with words.open("w") as stderr:
        process = lab.bridge.popen(command, stderr=stderr)
    deadline = time.monotonic() + 15
    while "ready" not in words.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            raise LabError(f"the controller does not get ready: {words.read_text()}")
        time.sleep(0.02)
    return process


@contextlib.contextmanager
def controller(lab: Lab, path: str, hosts: list[Host], promote: str = "never") -> Iterator[Path]:
    """A controller for `hosts`; the value is its run directory."""
    folder, command = configure(lab, path, hosts, promote)
    process = start_controller(lab, folder, command)
    try:
        yield folder
    finally:
        stop(process)


# ---- one mode ---------------------------------------------------------------


@dataclass
class Warmed:
    """A receiver that is on rings, and its counters when it got there."""

    agent: Agent
    local: str
    ring: int
    net: int
    claim: Carried


class Net(Agents):
    """What a test gets: agents on hosts, all in one mode."""

    def __init__(
        self, mode: Mode, lab: Lab, run_dir: Path, ports: Iterator[int], groups: Iterator[int]
    ) -> None:
        super().__init__(mode, lab, run_dir, ports)
        self.mode = mode
        self.groups = groups
        self.warmed: list[Warmed] = []

    # -- sockets

    def group(self) -> Address:
        """A planned multicast group not used for a long time."""
        return group(next(self.groups))

    def server(self, agent: Agent | None = None) -> tuple[Remote, Address]:
        """A socket bound to a service's endpoint (on `right` unless told), and the endpoint."""
        agent = agent or self.right
        address = (agent.address, self.port())
        sock = agent.socket()
        sock.bind(address)
        return sock, address

    def client(self, agent: Agent | None = None) -> Remote:
        """A socket bound to a host's address (`left` unless told) and any port."""
        agent = agent or self.left
        sock = agent.socket()
        sock.bind((agent.address, 0))
        return sock

    def pair(
        self, claim: Carried = Carried.RINGS, back: bool = False
    ) -> tuple[Remote, Remote, Address]:
        """Client and server, unconnected, warmed up (both ways with `back`)."""
        server, address = self.server()
        client = self.client()
        self.warm(client, server, address, claim=claim)
        if back:
            self.warm(server, client, tuple(client.getsockname()), claim=claim)
        return client, server, address

    def connected_pair(self, claim: Carried = Carried.RINGS) -> tuple[Remote, Remote]:
        """Client and server connected with each other, warmed up both ways."""
        server, address = self.server()
        client = self.client()
        client.connect(address)
        server.connect(tuple(client.getsockname()))
        self.warm(client, server, claim=claim)
        self.warm(server, client, claim=claim)
        return client, server

    # -- rings

    def warm(
        self,
        sender: Remote,
        *receivers_and_to: Any,
        claim: Carried = Carried.RINGS,
        patience: float = 5.0,
    ) -> None:
        """Send until every receiver gets it by ring alone; natively, send once.

        Arguments: sender, receivers, and at last the destination unless the sender is
        connected. The claim is checked at the end of the test by `prove`.
        """
        to = next((each for each in receivers_and_to if isinstance(each, tuple)), None)
        receivers = [each for each in receivers_and_to if isinstance(each, Remote)]
        deadline = time.monotonic() + patience
        by_ring_in_a_row = 0
        for number in itertools.count():
            before = [self.counters(receiver) for receiver in receivers]
            data = b"warm-up %d" % number
            sender.send(data) if to is None else sender.sendto(data, to)
            for receiver in receivers:
                _await(receiver, data)
            if self.native:
                return
            after = [self.counters(receiver) for receiver in receivers]
            ringed = all(
                new["ring"] == old["ring"] + 1 and new["net"] == old["net"]
                for old, new in zip(before, after, strict=True)
            )
            by_ring_in_a_row = by_ring_in_a_row + 1 if ringed else 0
            if by_ring_in_a_row == 2:
                break
            assert time.monotonic() < deadline, f"not on rings: {self.status()}"
        for receiver in receivers:
            self.expect(receiver, claim)

    def expect(self, receiver: Remote, claim: Carried) -> None:
        """Remember what is claimed of a receiver from now on."""
        if self.native:
            return
        now = self.counters(receiver)
        local = "{}:{}".format(*receiver.getsockname())
        self.warmed = [
            one for one in self.warmed if (one.agent, one.local) != (receiver.agent, local)
        ]
        self.warmed.append(Warmed(receiver.agent, local, now["ring"], now["net"], claim))

    def prove(self) -> None:
        """Check every claim against what the wrapper counted."""
        warmed, self.warmed = self.warmed, []
        for one in warmed:
            if one.claim is Carried.NOTHING:
                continue
            now = self._counters(one.agent, one.local)
            assert now["ring"] > one.ring, f"nothing came by ring to {one.local}"
            if one.claim is Carried.RINGS:
                assert now["net"] == one.net, f"the network carried some of it to {one.local}"

    def status(self) -> dict[str, Any]:
        """What `ivc status --json` says."""
        return read_status(self.run_dir)

    def counters(self, sock: Remote) -> dict[str, int]:
        """Datagrams a socket has received by ring and by network, and others; 0 natively."""
        if self.native:
            return {"ring": 0, "net": 0}
        return self._counters(sock.agent, "{}:{}".format(*sock.getsockname()))

    def described(self, sock: Remote) -> dict[str, Any]:
        """The status of one socket."""
        local = "{}:{}".format(*sock.getsockname())
        (found,) = self._sockets(sock.agent, local)
        return found

    def _sockets(self, agent: Agent, local: str) -> list[dict[str, Any]]:
        sockets = self.status()["sockets"]
        return [one for one in sockets if (one["pid"], one["local"]) == (agent.pid, local)]

    def _counters(self, agent: Agent, local: str) -> dict[str, int]:
        total = {"ring": 0, "net": 0, "tx_full": 0, "rx_twins": 0, "tx_ring": 0, "tx_net": 0}
        for one in self._sockets(agent, local):
            counters = one["counters"]
            total["ring"] += counters["rx_ring_msgs"]
            total["net"] += counters["rx_net_msgs"]
            total["tx_ring"] += counters["tx_ring_msgs"]
            total["tx_net"] += counters["tx_net_msgs"]
            total["tx_full"] += counters["tx_full"]
            total["rx_twins"] += counters["rx_twins"]
        return total

    def reset(self) -> None:
        self.warmed = []
        super().reset()


def _await(receiver: Remote, data: bytes) -> None:
    """Receive until `data` comes, whatever mode the socket is in."""
    deadline = time.monotonic() + 3
    while True:
        try:
            got = receiver.recv(65535, socket.MSG_DONTWAIT)
        except BlockingIOError:
            assert time.monotonic() < deadline, f"{data!r} does not arrive"
            time.sleep(0.001)
            continue
        if got == data:
            return


# ---- options ----------------------------------------------------------------


def membership(address: str, interface: str) -> bytes:
    """A struct ip_mreq."""
    return socket.inet_aton(address) + socket.inet_aton(interface)


def timeval(seconds: float) -> bytes:
    """A struct timeval."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def build_library() -> None:
    """The wrapper as `build.py` makes it; nothing if it is up to date."""
    code = "import build; build._make_library(); build._make_program(build.PINGPONG, "
    code += "build.ROOT / 'bench' / 'pingpong.c')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
