# SPDX-License-Identifier: Apache-2.0
"""A program that does with sockets what it is told, natively or under the wrapper.

It reads one JSON object a line and answers one a line. A call names an object
("on": a module, or an object made earlier) and a method; with "start" it runs in
a thread of its own and is fetched by "join". It knows nothing of the wrapper and
imports nothing of ivc. Values on the way: `encode` and `decode` below.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import family_routines
import message_routines
import routines

_MODULES = {
    "builtins": builtins,
    "fcntl": fcntl,
    "os": os,
    "family_routines": family_routines,
    "message_routines": message_routines,
    "routines": routines,
    "select": select,
    "signal": signal,
    "socket": socket,
    "subprocess": subprocess,
}

Json = dict[str, Any]


class Job:
    """A call in a thread of its own."""

    def __init__(self, work: Any, answer: Any) -> None:
        self.answer: Json | None = None
        self._work, self._encode = work, answer
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.answer = self._encode(self._work)


class Agent:
    """Objects and jobs by number, and what can be done with them."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._jobs: dict[int, Job] = {}
        self._next = 0

    def handle(self, request: Json) -> Json:
        if "join" in request:
            return self._join(request["join"], request["timeout"])
        if "reset" in request:
            return self._reset()
        on = request["on"]
        target = _MODULES[on] if isinstance(on, str) else self._objects[on]
        method = getattr(target, request["call"])
        args = [self.decode(value) for value in request["args"]]

        def work() -> Any:
            return method(*args)

        if not request.get("start"):
            return self._answer(work)
        self._next += 1
        self._jobs[self._next] = Job(work, self._answer)
        return {"job": self._next}

    def _answer(self, work: Any) -> Json:
        try:
            return {"result": self.encode(work())}
        except OSError as error:
            return {"errno": error.errno, "text": str(error)}
        except Exception as error:
            return {"broken": f"{type(error).__name__}: {error}"}

    def _join(self, number: int, timeout: float) -> Json:
        job = self._jobs[number]
        job.thread.join(timeout)
        if job.answer is None:
            return {"pending": True}
        return job.answer

    def _reset(self) -> Json:
        """Close everything; the result is how many threads are left stuck."""
        for thing in self._objects.values():
            if isinstance(thing, socket.socket):
                with contextlib.suppress(OSError):
                    thing.shutdown(socket.SHUT_RDWR)  # wakes who waits in it
        for thing in self._objects.values():
            if hasattr(thing, "close"):
                with contextlib.suppress(OSError):
                    thing.close()
        stuck = 0
        for job in self._jobs.values():
            job.thread.join(0.2)
            stuck += job.thread.is_alive()
        self._objects.clear()
        self._jobs.clear()
        return {"result": stuck}

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(each) for each in value]}
        if isinstance(value, list):
            return [self.encode(each) for each in value]
        if isinstance(value, dict):
            return {"dict": {key: self.encode(each) for key, each in value.items()}}
        self._next += 1
        self._objects[self._next] = value
        return {"object": self._next}

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(each) for each in value]
        if not isinstance(value, dict):
            return value
        (kind, content), *_ = value.items()
        if kind == "bytes":
            return base64.b64decode(content)
        if kind == "tuple":
            return tuple(self.decode(each) for each in content)
        return self._objects[content]


def main() -> None:
    """Serve until standard input ends."""
    agent = Agent()
    if "successor" in sys.argv:  # the call that made us one has no other answer
        print(json.dumps({"result": None}), flush=True)
    for line in sys.stdin.buffer:
        print(json.dumps(agent.handle(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
