# SPDX-License-Identifier: Apache-2.0
"""One suite of CPython's own tests, run in this process; what became of each test goes to a file.

A line of JSON for every event, written at once: a process that hangs or dies has told all
it knew. The first line says whether the wrapper and its plan are loaded, then come all tests there
are, the last one says that the suite ended. What the file already has is not run again: a suite
whose process had to be killed for one test goes on after it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

# Nothing outside the namespace can be reached, and nothing there is to be waited for.
RESOURCES: Final = ["subprocess", "walltime"]
# They ask for the network and use no more of it than loopback.
_NEEDS_NETWORK: Final = ("test_socketserver",)

# What is known of a test before it starts.
NOT_RUN: Final = "not run"

# Not an outcome: how many bytes the test sent, and how many the loopback interface carried.
CARRIED: Final = "carried"

_Reason = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Recorder(unittest.TestResult):
    """Writes each test's start and its outcome."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._before = carried()

    def write(self, test: str, outcome: str, detail: str = "") -> None:
        """Append an event; opened anew each time, so that no test meets one more descriptor."""
        with self._file.open("a") as out:
            out.write(json.dumps({"test": test, "outcome": outcome, "detail": detail}) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.write(test.id(), "not ended")
        self._before = carried()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        sent, lo = (now - then for now, then in zip(carried(), self._before, strict=True))
        if sent:
            self.write(test.id(), CARRIED, f"{sent} {lo}")

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.write(test.id(), "ok")

    def addFailure(self, test: unittest.TestCase, err: _Reason) -> None:
        self.write(test.id(), "failure", _words(err))

    def addError(self, test: unittest.TestCase, err: _Reason) -> None:
        self.write(test.id(), "error", _words(err))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.write(test.id(), f"skipped: {reason}")

    def addExpectedFailure(self, test: unittest.TestCase, err: _Reason) -> None:
        self.write(test.id(), "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.write(test.id(), "unexpected success")

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: _Reason | None
    ) -> None:
        if err is not None:
            self.write(test.id(), "failure", f"{subtest.id()}: {_words(err)}")


def carried() -> tuple[int, int]:
    """Payload bytes sent so far by all processes under bench/count_sent.c, 0 without it, and all
    bytes the loopback interface has carried."""
    counter = os.environ.get("IVC_COUNT_FILE")
    sent = int.from_bytes(Path(counter).read_bytes()[:8], sys.byteorder) if counter else 0
    lo = re.search(r"^ *lo:(.*)$", Path("/proc/self/net/dev").read_text(), re.MULTILINE)
    return sent, int(lo[1].split()[0]) if lo else 0


def _words(err: _Reason) -> str:
    return f"{type(err[1]).__name__}: {err[1]}"[:500]


def state(maps: str, run_dir: str) -> str:
    """What a process is, by its memory map: a wrapper without a plan compares next to nothing."""
    if "/libivcsock.so" not in maps:
        return "native"
    return "wrapped" if f"{run_dir}/match" in maps else "without plan"


def begun(text: str) -> set[str]:
    """The tests of which a file of events says more than that they exist."""
    events = [json.loads(line) for line in text.splitlines()]
    return {event["test"] for event in events if event["outcome"] != NOT_RUN}


def without(suite: unittest.TestSuite, names: set[str]) -> unittest.TestSuite:
    """The same suite, nested the same way, without the tests of these names."""
    parts = [
        without(part, names) if isinstance(part, unittest.TestSuite) else part for part in suite
    ]
    kept = [
        part for part in parts if isinstance(part, unittest.TestSuite) or part.id() not in names
    ]
    return type(suite)(kept)


def _ids(suite: unittest.TestSuite) -> Iterator[str]:
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from _ids(part)
        else:
            yield part.id()


def main(suite: str, file: str) -> None:
    """Run `suite`, a module of the package `test`, and write to `file`."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = [*RESOURCES, "network"] if suite in _NEEDS_NETWORK else RESOURCES
    recorder = Recorder(Path(file))
    maps = Path("/proc/self/maps").read_text()
    recorder.write("", state(maps, os.environ.get("IVC_RUN_DIR", "")))
    done = begun(Path(file).read_text())
    tests = unittest.defaultTestLoader.loadTestsFromName(f"test.{suite}")
    tests = without(tests, done)
    for test in _ids(tests):
        recorder.write(test, NOT_RUN)
    tests.run(recorder)
    recorder.write("", "ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
