# SPDX-License-Identifier: Apache-2.0
"""TCP connections between agents, and where their bytes went."""

from __future__ import annotations

import enum
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote import Agent, Remote, until
from wrapper_lab import ROOT, Address

from ivc.controller.client import read_status
from ivc.lab.control import wrapper_environment, wrapper_library
from ivc.lab.hosts import Lab

DONTROUTE = socket.MSG_DONTROUTE
"""A flag no ring honours and no network minds: the send that has it goes through the kernel."""


class Way(enum.StrEnum):
    """How both programs are run."""

    NATIVE = "native"
    EAGER = "eager"
    CHANNEL = "channel"
    BLOCKING = "blocking"
    LAZY = "lazy"

    @property
    def variables(self) -> dict[str, str]:
        if self is Way.CHANNEL:
            return {"IVC_BELL": "channel"}
        return {"IVC_SPIN_US": "0"} if self is Way.BLOCKING else {}


@dataclass(frozen=True)
class Ends:
    """A connection: who connected, who accepted."""

    client: Remote
    server: Remote


class StreamNet:
    """Two agents, `left` and `right`, and a controller that promotes their connections."""

    def __init__(self, way: Way, lab: Lab, run_dir: Path, ports: Iterator[int]) -> None:
        self.way, self.lab, self.run_dir, self._ports = way, lab, run_dir, ports
        self._agents: dict[str, Agent] = {}

    @property
    def native(self) -> bool:
        return self.way is Way.NATIVE

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program."""
        if self.native:
            return {}
        return wrapper_environment(wrapper_library(ROOT), self.run_dir) | self.way.variables

    @property
    def left(self) -> Agent:
        return self.agent("left")

    @property
    def right(self) -> Agent:
        return self.agent("right")

    def agent(self, name: str) -> Agent:
        """The agent on a host; started when first asked for."""
        if name not in self._agents:
            self._agents[name] = self.fresh_agent(name)
        return self._agents[name]

    def fresh_agent(self, name: str) -> Agent:
        """One more; the caller closes it."""
        return Agent(self.lab[name], self.env)

    def listen(self, agent: Agent | None = None) -> tuple[Remote, Address]:
        """A socket that listens at a planned reliable endpoint."""
        agent = agent or self.right
        address = (agent.address, next(self._ports))
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

    def reset(self) -> None:
        """Close what a test has left open; replace agents that are not well."""
        for name, agent in list(self._agents.items()):
            try:
                agent.reset()
            except AssertionError:
                agent.healthy = False
            if not agent.healthy:
                agent.close()
                del self._agents[name]

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()


def stream_socket(agent: Agent) -> Remote:
    """A fresh TCP socket."""
    made = agent.call("socket", "socket", (socket.AF_INET, socket.SOCK_STREAM))
    assert isinstance(made, Remote)
    return made
