# SPDX-License-Identifier: Apache-2.0
"""CPython's own test suites, natively and under the wrapper, and where they differ.

In mode nothing the controller's plan has no address the tests use: nothing may differ. In mode
loopback it has 127.0.0.1, any port, TCP from its first byte: what differs is listed in the docs.
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
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Final

from ivc.errors import IvcError
from ivc.lab.conformance_report import (
    Run,
    Suite,
    as_json,
    as_table,
    compare,
    has_rings,
    is_good,
    parse,
    running,
)
from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    running_controller,
    running_loopback,
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
from ivc.terminal import progress

NOTHING: Final = "nothing"
LOOPBACK: Final = "loopback"
MODES: Final = (NOTHING, LOOPBACK)
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
COUNTER: Final = Path("build/count_sent.so")
_MEMBERS: Final = {SERVER_HOST: "10.77.0.1/24", CLIENT_HOST: "10.77.0.2/24"}
_SUITE_SECONDS: Final = 600.0
_TEST_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.5
_HUNG: Final = "a test hangs"


class NoTestsError(IvcError):
    """This interpreter came without CPython's tests."""

    exit_code: ClassVar[int] = 69


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites; returns the exit status."""
    parser = argparse.ArgumentParser(prog="build.py conformance", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this one; repeat")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one")
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
            suites = _run(mode, options.suite or SUITES, options.mode or MODES)
    except KeyboardInterrupt:
        _say("interrupted; everything is removed")
        return 130
    except IvcError as error:
        _say(f"error: {error}")
        return error.exit_code
    print(json.dumps(as_json(suites)) if options.json else as_table(suites), flush=True)
    # Of a few suites alone it says little: many tests shake hands for a word.
    enough = options.suite is not None or has_rings(suites)
    return 0 if is_good(suites) and enough else 1


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


def _run(mode: Mode, names: Sequence[str], plans: Sequence[str]) -> list[Suite]:
    suites = []
    with Lab(_MEMBERS, mode) as lab, contextlib.ExitStack() as stack:
        wrappers = {plan: stack.enter_context(_controller(lab, plan)) for plan in plans}
        for number, name in enumerate(names, start=1):
            _say(f"{name} ...")
            step = f"conformance: {name}, {number} of {len(names)}"
            with progress(f"{step}, natively twice,"):
                native, again = (_run_suite(lab, name, {}) for _ in range(2))
            for plan, wrapper in wrappers.items():
                with progress(f"{step}, {plan},"):
                    wrapped = _run_suite(lab, name, wrapper)
                if not wrapped.wrapped or native.wrapped or again.wrapped:
                    raise LabError(f"{name}: the wrapper and its plan are not where they should be")
                suites.append(compare(name, plan, native, again, wrapped))
    return suites


@contextlib.contextmanager
def _controller(lab: Lab, plan: str) -> Iterator[dict[str, str]]:
    """A controller with a plan; the value is the environment of what runs under the wrapper."""
    run_dir = lab.directory / plan
    run_dir.mkdir()
    running = (
        running_controller(lab, "direct", run_dir, "eager")
        if plan == NOTHING
        else running_loopback(lab, SERVER_HOST, run_dir, "eager")
    )
    with running:
        wrapper = wrapper_environment(wrapper_library(Path.cwd()), run_dir)
        yield wrapper if plan == NOTHING else _counted(wrapper, run_dir / "count")


def _counted(wrapper: Mapping[str, str], file: Path) -> dict[str, str]:
    """The same with what counts payload before it."""
    file.write_bytes(bytes(8))
    preloads = f"{Path.cwd() / COUNTER}:{wrapper['LD_PRELOAD']}"
    return {**wrapper, "LD_PRELOAD": preloads, "IVC_COUNT_FILE": str(file)}


def _run_suite(lab: Lab, name: str, wrapper: Mapping[str, str]) -> Run:
    """One run, in a folder of its own; everything but `wrapper` is the same every time."""
    folder = lab.directory / "tests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    events = lab.directory / "events"
    events.write_text("")
    deadline = time.monotonic() + _SUITE_SECONDS
    end = _HUNG
    while end == _HUNG:  # a test that hangs costs its process; the others go on in a new one
        with (lab.directory / "words").open("a") as words:
            process = _start(lab, name, wrapper, words)
        try:
            end = _watch(process, events, deadline)
        finally:
            _end_group(process)
    return parse(events.read_text(), end)


def _start(
    lab: Lab, name: str, wrapper: Mapping[str, str], words: IO[str]
) -> subprocess.Popen[str]:
    folder, events = lab.directory / "tests", lab.directory / "events"
    environment = {"TMPDIR": str(folder), "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "ivc.lab.conformance_suite", name, str(events)]
    return lab[SERVER_HOST].popen(
        ["env", "-C", str(folder), *(f"{k}={v}" for k, v in wrapper.items()), *command],
        env=environment,
        stdout=words,
        stderr=words,
    )


def _watch(process: subprocess.Popen[str], events: Path, deadline: float) -> str:
    """How the process ends; _HUNG after a test took too long, which is then written down."""
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"status {process.wait(_LOOK_SECONDS)}"
        if time.time() - events.stat().st_mtime > _TEST_SECONDS:
            test = running(events.read_text())
            if not test:
                break
            with events.open("a") as out:
                line = {"test": test, "outcome": "time-out", "detail": f"{_TEST_SECONDS:.0f} s"}
                out.write(json.dumps(line) + "\n")
            return _HUNG
    return "time-out"


def _end_group(process: subprocess.Popen[str]) -> None:
    """What a suite leaves behind would disturb the next; its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _say(text: str) -> None:
    print(f"conformance: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
