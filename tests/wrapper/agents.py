# SPDX-License-Identifier: Apache-2.0
"""Agents on hosts, all run in one way: what the laboratories of datagrams and of TCP share."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path

from remote import Agent

from ivc.lab.control import wrapper_environment, wrapper_library
from ivc.lab.hosts import Lab

ROOT = Path(__file__).resolve().parent.parent.parent

_VARIABLES = {"channel": {"IVC_BELL": "channel"}, "blocking": {"IVC_SPIN_US": "0"}}


class Run(enum.StrEnum):
    """How the programs under test are run; a laboratory names its ways."""

    @property
    def native(self) -> bool:
        """Without the wrapper."""
        return self.value == "native"

    @property
    def variables(self) -> dict[str, str]:
        """What the wrapper is told by its environment."""
        return _VARIABLES.get(self.value, {})


class Agents:
    """An agent on each host, started when first asked for, kept from test to test."""

    def __init__(self, run: Run, lab: Lab, run_dir: Path, ports: Iterator[int]) -> None:
        self.lab, self.run_dir = lab, run_dir
        self._run, self._ports = run, ports
        self._agents: dict[str, Agent] = {}

    @property
    def native(self) -> bool:
        return self._run.native

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program."""
        if self.native:
            return {}
        return wrapper_environment(wrapper_library(ROOT), self.run_dir) | self._run.variables

    @property
    def left(self) -> Agent:
        return self.agent("left")

    @property
    def right(self) -> Agent:
        return self.agent("right")

    @property
    def third(self) -> Agent:
        return self.agent("third")

    def agent(self, name: str) -> Agent:
        """The agent on a host."""
        if name not in self._agents:
            self._agents[name] = self.fresh_agent(name)
        return self._agents[name]

    def fresh_agent(self, name: str) -> Agent:
        """One more agent on a host; the caller closes it."""
        return Agent(self.lab[name], self.env)

    def port(self) -> int:
        """A planned service port not used for a long time."""
        return next(self._ports)

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
