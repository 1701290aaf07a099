# SPDX-License-Identifier: Apache-2.0
"""CPython's own test suites, natively and under the wrapper, and where they differ.

The controller runs, but its plan has no address the tests use: nothing may differ.
Each suite runs twice natively first; what differs from itself is named and left out.
Exit status: 0 when nothing differs, 1 when something does, 69 without CPython's tests.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from ivc.errors import IvcError
from ivc.lab.conformance_report import Run, Suite, as_json, as_table, compare, is_good, parse
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    running_controller,
    wrapper_environment,
    wrapper_library,
)
from ivc.lab.hosts import (
    Lab,
    LabError,
    Mode,
    available_mode,
    ended_by_signals,
    enter_user_namespace,
    why_no_namespaces,
)

MODE: Final = "nothing"
SUITES: Final = (
    "test_socket",
    "test_selectors",
    "test_epoll",
    "test_poll",
    "test_select",
    "test_asyncio.test_events",
    "test_asyncio.test_selector_events",
    "test_asyncio.test_streams",
    "test_asyncio.test_sock_lowlevel",
    "test_asyncio.test_sendfile",
    "test_asyncio.test_server",
    "test_subprocess",
    "test_eintr",
    "test_fork1",
    "test_socketserver",
    "test_httplib",
)
_MEMBERS: Final = {SERVER_HOST: "10.77.0.1/24", CLIENT_HOST: "10.77.0.2/24"}
_SUITE_SECONDS: Final = 240.0


class NoTestsError(IvcError):
    """This interpreter came without CPython's tests."""

    exit_code: ClassVar[int] = 69


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites; returns the exit status."""
    parser = argparse.ArgumentParser(prog="build.py conformance", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this one; repeat")
    options = parser.parse_args(arguments)
    try:
        _require_tests()
        mode = available_mode()
        if mode is Mode.LOOPBACK:
            raise LabError(f"network namespaces are needed: {why_no_namespaces()}")
        if mode is Mode.USER:
            given = sys.argv[1:] if arguments is None else arguments
            enter_user_namespace([sys.executable, "-m", "ivc.lab.conformance", *given])
        with ended_by_signals():
            suites = _run(mode, options.suite or SUITES)
    except KeyboardInterrupt:
        _say("interrupted; everything is removed")
        return 130
    except IvcError as error:
        _say(f"error: {error}")
        return error.exit_code
    print(json.dumps(as_json(suites)) if options.json else as_table(suites), flush=True)
    return 0 if is_good(suites) else 1


def _require_tests() -> None:
    try:
        found = importlib.util.find_spec("test.test_socket")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise NoTestsError(
            f"{sys.executable} came without CPython's tests (package test); "
            "Debian has them in libpython3.11-testsuite"
        )


def _run(mode: Mode, names: Sequence[str]) -> list[Suite]:
    suites = []
    with Lab(_MEMBERS, mode) as lab:
        run_dir = lab.directory / "run"
        run_dir.mkdir()
        with running_controller(lab, "direct", run_dir, "eager"):
            wrapper = wrapper_environment(wrapper_library(Path.cwd()), run_dir)
            for name in names:
                _say(f"{name} ...")
                native, again = (_run_suite(lab, name, {}) for _ in range(2))
                wrapped = _run_suite(lab, name, wrapper)
                if not wrapped.wrapped or native.wrapped or again.wrapped:
                    raise LabError(f"{name}: the wrapper and its plan are not where they should be")
                suites.append(compare(name, MODE, native, again, wrapped))
    return suites


def _run_suite(lab: Lab, name: str, wrapper: Mapping[str, str]) -> Run:
    """One run, in a folder of its own; everything but `wrapper` is the same every time."""
    folder = lab.directory / "tests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    events = lab.directory / "events"
    events.unlink(missing_ok=True)
    environment = {"TMPDIR": str(folder), "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "ivc.lab.conformance_suite", name, str(events)]
    with (lab.directory / "words").open("w") as words:
        process = lab[SERVER_HOST].popen(
            ["env", "-C", str(folder), *(f"{k}={v}" for k, v in wrapper.items()), *command],
            env=environment,
            stdout=words,
            stderr=words,
        )
        try:
            end = f"status {process.wait(_SUITE_SECONDS)}"
        except subprocess.TimeoutExpired:
            end = "time-out"
        finally:
            _end_group(process)
    return parse(events.read_text() if events.exists() else "", end)


def _end_group(process: subprocess.Popen[str]) -> None:
    """What a suite leaves behind would disturb the next; its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _say(text: str) -> None:
    print(f"conformance: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
