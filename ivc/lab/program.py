# SPDX-License-Identifier: Apache-2.0
"""A program that runs on a host of the laboratory, and what it has said so far."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ivc.lab.hosts import Host, LabError, stop

_Seen = TypeVar("_Seen")

_LOOK_SECONDS = 0.02
_WORDS_MOST = 2000


def until(look: Callable[[], _Seen], timeout: float) -> _Seen:
    """Look until there is something to see, or time is up; what was seen last."""
    deadline = time.monotonic() + timeout
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return seen


class Program:
    """Started at once; its input stays open, its two outputs go to files.

    Files, not pipes: a program that says much must not wait for a test to listen.
    """

    def __init__(
        self, host: Host, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self._files = folder / f"{name}.stdout", folder / f"{name}.stderr"
        with self._files[0].open("w") as stdout, self._files[1].open("w") as stderr:
            self._process = host.popen(
                argv, env=env, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr
            )

    @property
    def pid(self) -> int:
        """The program's own."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._files[0].read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it has printed on standard error so far."""
        return self._files[1].read_text(errors="replace")

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit status, negative for a signal. Raises `LabError` if it does not end in time."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} does not end within {timeout:g} s: {self}") from None

    def wait_for_output(self, text: str, timeout: float = 10.0) -> None:
        """Until it has printed `text`. Raises `LabError` if it ends or takes too long before."""
        until(lambda: text in self.output or self._process.poll() is not None, timeout)
        if text not in self.output:
            raise LabError(f"{self.name} does not print {text!r} within {timeout:g} s: {self}")

    def end_input(self) -> None:
        """Close its standard input: many a program ends then."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> int:
        """SIGTERM, and if that does not help SIGKILL; its exit status."""
        status = stop(self._process)
        self.end_input()
        return status

    def __str__(self) -> str:
        status = self._process.poll()
        state = "runs" if status is None else f"has ended with status {status}"
        words = (self.output + self.errors).strip()[-_WORDS_MOST:]
        return f"{self.name} {state}, and has said: {words or 'nothing'}"
