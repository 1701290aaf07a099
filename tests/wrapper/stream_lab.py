# SPDX-License-Identifier: Apache-2.0
"""TCP connections between agents, and where their bytes went."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agents import Agents, Run
from remote import Agent, Remote, until
from wrapper_lab import FIRST_PORT, PORTS, Address, configure, start_controller

from ivc.controller.client import read_status
from ivc.lab.hosts import Lab, stop

DONTROUTE = socket.MSG_DONTROUTE
"""A flag no ring honours and no network minds: the send that has it goes through the kernel."""


class Way(Run):
    """How both programs are run."""

    NATIVE = "native"
    EAGER = "eager"
    CHANNEL = "channel"
    BLOCKING = "blocking"
    LAZY = "lazy"
    RELAY = "relay"
    """through the controller, which finds no messages in it and counts"""


@dataclass(frozen=True)
class Ends:
    """A connection: who connected, who accepted."""

    client: Remote
    server: Remote


class StreamNet(Agents):
    """Two agents, `left` and `right`, and a controller that promotes their connections."""

    def needs_handing_over(self) -> None:
        """Skip what a relayed connection is reset for: what lies unread in the relay's own ring can
        be given to nobody else (docs/architecture.md, Limits)."""
        if self.way is Way.RELAY:
            pytest.skip("what a relay has brought cannot be handed over")

    @property
    def way(self) -> Way:
        return Way(self._run)

    def listen(self, agent: Agent | None = None) -> tuple[Remote, Address]:
        """A socket that listens at a planned reliable endpoint."""
        agent = agent or self.right
        address = (agent.address, self.port())
        listener = stream_socket(agent)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(8)
        return listener, address

    def connect(
        self, client: Agent | None = None, server: Agent | None = None, rings: bool = True
    ) -> Ends:
        """A connection; on rings both ways if this way of running has any, and `rings`."""
        listener, address = self.listen(server)
        sock = stream_socket(client or self.left)
        sock.connect(address)
        accepted, _ = listener.accept()
        ends = Ends(sock, accepted)
        if rings and not self.native:
            self.promote(ends)
        return ends

    def promote(self, ends: Ends) -> None:
        """Say something each way until it goes by ring."""
        for sender, receiver in ((ends.client, ends.server), (ends.server, ends.client)):

            def by_ring(sender: Remote = sender, receiver: Remote = receiver) -> bool:
                before = self.counters(sender)["tx_ring_bytes"]
                waiting = receiver.start.recv(4, socket.MSG_WAITALL)
                waiting.pending(0.005)  # asleep it hears from the controller
                sender.send(b"warm")
                assert waiting.join() == b"warm"
                return bool(self.counters(sender)["tx_ring_bytes"] > before)

            try:
                until(by_ring, 10.0)
            except AssertionError:
                status = read_status(self.run_dir)
                flows = [flow for flow in status["flows"] if flow["state"] != "active"]
                seen = [self.described(ends.client), self.described(ends.server), flows]
                raise AssertionError(f"not on rings: {seen}") from None

    def described(self, sock: Remote) -> dict[str, Any]:
        """The status of a connected socket."""
        local = "{}:{}".format(*sock.getsockname())
        sockets = read_status(self.run_dir)["sockets"]
        found = [one for one in sockets if one["pid"] == sock.agent.pid and one["local"] == local]
        return max(found, key=lambda one: bool(one["peer"]), default={"counters": {}})

    def counters(self, sock: Remote) -> dict[str, int]:
        """Its counters; zeros before the controller knows the process."""
        return defaultdict(int, self.described(sock)["counters"])


def stream_socket(agent: Agent) -> Remote:
    """A fresh TCP socket."""
    made = agent.call("socket", "socket", (socket.AF_INET, socket.SOCK_STREAM))
    assert isinstance(made, Remote)
    return made


class MortalController:
    """A controller that is killed and started anew."""

    def __init__(self, lab: Lab, folder: Path, command: list[str]) -> None:
        self._lab, self._folder, self._command = lab, folder, command
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        self._process = start_controller(self._lab, self._folder, self._command)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        stop(self._process)


@contextlib.contextmanager
def mortal_net(lab: Lab, name: str) -> Iterator[tuple[StreamNet, MortalController]]:
    """A laboratory with agents and a controller of its own."""
    folder, command = configure(lab, "direct", [lab["left"], lab["right"]], "eager", name)
    controller = MortalController(lab, folder, command)
    net = StreamNet(Way.EAGER, lab, folder, itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS)))
    try:
        yield net, controller
    finally:
        net.close()
        controller.stop()
