# SPDX-License-Identifier: Apache-2.0
"""One suite of CPython's own tests, run in this process; what became of each test goes to a file.

A line of JSON for every event, written at once: a process that hangs or dies has told all
it knew. The first line says whether the wrapper and its plan are loaded, the last one that the
suite ended.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import unittest
from pathlib import Path
from types import TracebackType
from typing import Any, Final

# Nothing outside the namespace can be reached, and nothing there is to be waited for.
RESOURCES: Final = ["subprocess", "walltime"]

_Reason = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Recorder(unittest.TestResult):
    """Writes each test's start and its outcome."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def write(self, test: str, outcome: str, detail: str = "") -> None:
        """Append an event; opened anew each time, so that no test meets one more descriptor."""
        with self._file.open("a") as out:
            out.write(json.dumps({"test": test, "outcome": outcome, "detail": detail}) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.write(test.id(), "not ended")

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


def _words(err: _Reason) -> str:
    return f"{type(err[1]).__name__}: {err[1]}"[:500]


def state(maps: str, run_dir: str) -> str:
    """What a process is, by its memory map: a wrapper without a plan compares next to nothing."""
    if "/libivcsock.so" not in maps:
        return "native"
    return "wrapped" if f"{run_dir}/match" in maps else "without plan"


def main(suite: str, file: str) -> None:
    """Run `suite`, a module of the package `test`, and write to `file`."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = RESOURCES
    recorder = Recorder(Path(file))
    maps = Path("/proc/self/maps").read_text()
    recorder.write("", state(maps, os.environ.get("IVC_RUN_DIR", "")))
    tests = unittest.defaultTestLoader.loadTestsFromName(f"test.{suite}")
    tests.run(recorder)
    recorder.write("", "ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
