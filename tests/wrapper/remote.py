# SPDX-License-Identifier: Apache-2.0
"""The test's side of an agent: its objects look as if they were here.

`agent.socket()` makes a socket over there; `sock.recv(100)` receives over there
and returns, or raises, what it returned or raised. `sock.start.recv(100)` does it
in a thread over there: `.join()` fetches the result, `.pending()` says that it is
still blocked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivc.lab.hosts import Host

_AGENT = Path(__file__).with_name("agent.py")
PATIENCE_S = 8.0

Json = dict[str, Any]


class AgentBroken(AssertionError):
    """The agent died, hangs, or was told nonsense."""


class Started:
    """`thing.start`: every call goes into a thread of its own."""

    def __init__(self, agent: Agent, on: int | str) -> None:
        self._agent, self._on = agent, on

    def __getattr__(self, method: str) -> Any:
        def start(*args: Any) -> Job:
            return Job(self._agent, self._agent.call(self._on, method, args, start=True))

        return start


class Remote:
    """An object, or a module, of the agent."""

    def __init__(self, agent: Agent, on: int | str) -> None:
        self.agent, self.on = agent, on

    @property
    def start(self) -> Started:
        return Started(self.agent, self.on)

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any) -> Any:
            return self.agent.call(self.on, method, args)

        return call


class Job:
    """A call that runs over there."""

    def __init__(self, agent: Agent, number: int) -> None:
        self._agent, self._number = agent, number

    def join(self, timeout: float = 5.0) -> Any:
        """Its result or error. Raises AgentBroken if it is not done in `timeout` seconds."""
        answer = self._agent.request({"join": self._number, "timeout": timeout})
        if answer.get("pending"):
            raise AgentBroken(f"still blocked after {timeout} s")
        return self._agent.result(answer)

    def pending(self, for_seconds: float = 0.06) -> bool:
        """Whether it is blocked still after `for_seconds`."""
        answer = self._agent.request({"join": self._number, "timeout": for_seconds})
        return bool(answer.get("pending"))


class Agent:
    """A process on a host that does as told."""

    def __init__(self, host: Host, env: Mapping[str, str]) -> None:
        self.address = str(host.address.ip)
        self._process = host.popen(
            [sys.executable, "-S", str(_AGENT)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.healthy = True

    @property
    def pid(self) -> int:
        return self._process.pid

    def module(self, name: str) -> Remote:
        """A module over there: os, select, socket, fcntl, subprocess, routines, ..."""
        return Remote(self, name)

    def socket(self) -> Remote:
        """A fresh UDP socket."""
        made = self.call("socket", "socket", (socket.AF_INET, socket.SOCK_DGRAM))
        assert isinstance(made, Remote)
        return made

    def call(self, on: int | str, method: str, args: tuple[Any, ...], start: bool = False) -> Any:
        encoded = [self._encode(value) for value in args]
        answer = self.request({"on": on, "call": method, "args": encoded, "start": start})
        return answer["job"] if start else self.result(answer)

    def request(self, request: Json) -> Json:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
            line = self._process.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if not line:
            self.healthy = False
            state = "hangs" if line is None else f"has died ({self._process.wait(2)})"
            raise AgentBroken(f"the agent {state} at {request}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def result(self, answer: Json) -> Any:
        if "errno" in answer:
            if answer["errno"] is None:
                raise TimeoutError(answer["text"])
            raise OSError(answer["errno"], answer["text"])
        if "broken" in answer:
            raise AgentBroken(answer["broken"])
        return self._decode(answer["result"])

    def reset(self) -> None:
        """Close all it has open. If threads stay stuck the agent is no longer healthy."""
        if self.healthy and self.request({"reset": True})["result"]:
            self.healthy = False

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _encode(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"object": value.on}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, tuple):
            return {"tuple": [self._encode(each) for each in value]}
        if isinstance(value, list):
            return [self._encode(each) for each in value]
        return value

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "bytes" in value:
            return base64.b64decode(value["bytes"])
        if "tuple" in value:
            return tuple(self._decode(each) for each in value["tuple"])
        if "dict" in value:
            return {key: self._decode(each) for key, each in value["dict"].items()}
        return Remote(self, value["object"])


def until(condition: Any, patience: float = 3.0) -> None:
    """Wait until `condition()` holds. Raises AssertionError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
