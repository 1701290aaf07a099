# SPDX-License-Identifier: Apache-2.0
"""A machine of the laboratory as the outside sees it: run programs, put and get files.

The other end is guest/command_server.py, which also describes the protocol.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivc.lab.hosts import LabError

_CHUNK = 65536
_NO_LIMIT = float("inf")


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its status (negative: the signal) and what it printed."""

    status: int
    stdout: str
    stderr: str


class Process:
    """A program that runs in a machine. Leaving the `with` block kills it and its group."""

    def __init__(self, connection: socket.socket, label: str) -> None:
        self._connection = connection
        self._label = label
        self._unparsed = b""
        self._printed = {"stdout": b"", "stderr": b""}
        self.status: int | None = None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._printed["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has printed to its error output so far."""
        return self._printed["stderr"].decode(errors="replace")

    def stdout_bytes(self) -> bytes:
        """What it has printed so far, exactly."""
        return self._printed["stdout"]

    def ended(self) -> bool:
        """Whether it has ended; does not wait. Raises LabError if the machine is gone."""
        while self.status is None and select.select([self._connection], [], [], 0)[0]:
            self._receive(_NO_LIMIT)
        return self.status is not None

    def wait(self, timeout: float | None = None) -> Done:
        """Wait for its end. Raises LabError after `timeout` seconds; it runs on then."""
        deadline = time.monotonic() + (_NO_LIMIT if timeout is None else timeout)
        while self.status is None:
            self._receive(deadline)
        return Done(self.status, self.stdout, self.stderr)

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Wait until its output has `text`. Raises LabError if it ends or `timeout` comes first."""
        deadline = time.monotonic() + timeout
        while text not in self.stdout and text not in self.stderr:
            if self.status is not None:
                raise LabError(f"{self._label}: ended with {self.status}, {self._words()}")
            self._receive(deadline)

    def end_input(self) -> None:
        """End the standard input that `popen(..., open_input=True)` left open."""
        with contextlib.suppress(OSError):  # it has ended by itself
            self._connection.sendall(b"\n")

    def kill(self) -> None:
        """End it and its process group with SIGKILL; does nothing if it has ended."""
        self._connection.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise LabError(f"{self._label}: takes too long, {self._words()}")
        self._connection.settimeout(None if left == _NO_LIMIT else left)
        try:
            data = self._connection.recv(_CHUNK)
        except TimeoutError:
            return
        except OSError as error:
            raise LabError(f"{self._label}: the machine does not answer: {error}") from None
        if not data:
            raise LabError(f"{self._label}: the machine has hung up, {self._words()}")
        *lines, self._unparsed = (self._unparsed + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            raise LabError(f"{self._label}: {answer['error']}")
        for name in self._printed.keys() & answer.keys():
            self._printed[name] += answer[name].encode("latin-1")
        if "exit" in answer:
            self.status = answer["exit"]
            self._connection.close()

    def _words(self) -> str:
        return f"having said {(self.stdout + self.stderr)[-2000:].strip()!r}"


class Machine:
    """dom0 or a domU. `port` is the local TCP port of dom0's command server.

    `relay` is the address under which dom0 reaches this machine, None for dom0 itself.
    """

    def __init__(self, name: str, port: int, relay: str | None = None) -> None:
        self.name = name
        self._port = port
        self._relay = relay

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        open_input: bool = False,
    ) -> Process:
        """Start a program as root in /root, with `env` added to its variables.

        With `open_input` its standard input lasts until `Process.end_input`.
        """
        wanted: dict[str, Any] = {"argv": list(argv), "env": dict(env or {}), "open": open_input}
        if input is not None:
            wanted["input"] = input.decode("latin-1")
        if self._relay is not None:
            wanted["to"] = self._relay
        label = f"{self.name}: {' '.join(argv)}"
        try:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(json.dumps(wanted).encode() + b"\n")
        except OSError as error:
            raise LabError(f"{label}: the machine does not answer: {error}") from None
        return Process(connection, label)

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 30.0,
        *,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        check: bool = True,
    ) -> Done:
        """Run a program to its end; after `timeout` seconds it is killed.

        Raises LabError if it takes longer, cannot be started or, with `check`, fails.
        """
        with self.popen(argv, env=env, input=input) as process:
            done = process.wait(timeout)
        if check and done.status != 0:
            words = (done.stderr or done.stdout)[-2000:].strip()
            raise LabError(f"{self.name}: {' '.join(argv)}: status {done.status}: {words}")
        return done

    def shell(self, script: str, timeout: float = 30.0) -> str:
        """Run a shell script; what it printed, without the last line's end. Raises LabError."""
        return self.run(["sh", "-c", script], timeout).stdout.rstrip("\n")

    def put(self, content: bytes | Path, target: str, mode: int = 0o644) -> None:
        """Write a file, its folders too; `content` is the bytes or a file out here."""
        data = content.read_bytes() if isinstance(content, Path) else content
        self.run(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", target], input=data)

    def get(self, path: str) -> bytes:
        """A file's content. Raises LabError."""
        with self.popen(["cat", path]) as process:
            done = process.wait(30.0)
            if done.status != 0:
                raise LabError(f"{self.name}: {done.stderr.strip()}")
            return process.stdout_bytes()

    def answers(self, timeout: float = 5.0) -> bool:
        """Whether its command server runs a program."""
        try:
            return self.run(["true"], timeout).status == 0
        except LabError:
            return False
