# SPDX-License-Identifier: Apache-2.0
"""`ivc run`: the program becomes the process, under the wrapper, with nothing else changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ivc.controller.errors import ControllerError
from ivc.controller.launch import find_library, wrapped_environment

LIBRARY = Path("/lib/libivcsock.so")
RUN_DIR = Path("/run/x")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that does nothing, in place of the wrapper."""
    made = tmp_path / "libivcsock.so"
    subprocess.run(["gcc", "-shared", "-o", str(made), "-x", "c", "/dev/null"], check=True)
    return made


def ivc_run(library: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ivc", "run", "--run-dir", "/run/x", *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "IVC_LIBRARY": str(library), "LD_PRELOAD": ""},
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "/lib/libivcsock.so"),
        ("", "/lib/libivcsock.so"),
        ("/a.so", "/lib/libivcsock.so:/a.so"),
        (":/a.so: /b.so:", "/lib/libivcsock.so:/a.so:/b.so"),
        ("/a.so:/lib/libivcsock.so", "/lib/libivcsock.so:/a.so"),
    ],
)
def test_the_wrapper_comes_first_and_others_stay(before: str | None, after: str) -> None:
    environment = {} if before is None else {"LD_PRELOAD": before}
    assert wrapped_environment(environment, LIBRARY, RUN_DIR)["LD_PRELOAD"] == after


def test_the_rest_of_the_environment_stays() -> None:
    environment = wrapped_environment({"A": "1"}, LIBRARY, RUN_DIR)
    assert environment == {"A": "1", "LD_PRELOAD": str(LIBRARY), "IVC_RUN_DIR": "/run/x"}


def test_a_library_that_is_named_is_taken(library: Path) -> None:
    assert find_library({"IVC_LIBRARY": str(library)}) == library


def test_a_library_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ControllerError, match=r"IVC_LIBRARY"):
        find_library({"IVC_LIBRARY": str(tmp_path / "nowhere.so")})


def test_the_exit_code_is_the_programs(library: Path) -> None:
    assert ivc_run(library, "--", "sh", "-c", "exit 42").returncode == 42


def test_the_process_is_the_program_itself(library: Path) -> None:
    command = [sys.executable, "-m", "ivc", "run", "--", "sh", "-c", "echo $$"]
    environment = {**os.environ, "IVC_LIBRARY": str(library)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


def test_arguments_of_the_program_are_left_alone(library: Path) -> None:
    shown = ivc_run(library, "--", "echo", "--node", "x", "--", "-h")
    assert shown.stdout == "--node x -- -h\n"


def test_a_program_that_is_not_there_is_127(library: Path) -> None:
    assert ivc_run(library, "--", "/no/such/program").returncode == 127


def test_a_program_that_cannot_be_executed_is_126(library: Path) -> None:
    assert ivc_run(library, "--", "/etc/passwd").returncode == 126


def test_no_program_is_wrong_usage(library: Path) -> None:
    assert ivc_run(library).returncode == 2


def test_a_node_without_a_controller_is_exit_code_5(library: Path, tmp_path: Path) -> None:
    shown = ivc_run(library, "--run-dir", str(tmp_path), "--node", "a", "--", "true")
    assert shown.returncode == 5
