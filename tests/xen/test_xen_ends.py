# SPDX-License-Identifier: Apache-2.0
"""However the laboratory ends, nothing of it is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from ivc.lab.hosts import PREFIX, remove_leftovers

pytestmark = pytest.mark.full  # boots of its own


def folders(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}-{pid}-*"))


def gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 20
    while not all(gone(process) for process in processes):
        assert time.monotonic() < deadline, processes
        time.sleep(0.05)


def booting() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A laboratory whose QEMU runs, and its processes."""
    command = [sys.executable, "-m", "ivc.lab.xen"]
    lab = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert lab.stderr is not None
    while "boot Xen" not in (line := lab.stderr.readline()):
        assert line, "it ended before it booted"
    myself = psutil.Process(lab.pid)
    while not any(child.name().startswith("qemu") for child in myself.children(recursive=True)):
        time.sleep(0.05)
    return lab, myself.children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: signal.Signals) -> None:
    lab, children = booting()
    assert folders(lab.pid)
    lab.send_signal(number)
    lab.communicate(timeout=60)
    assert lab.returncode == 128 + number
    wait_gone(children)
    assert folders(lab.pid) == []


def test_killed_it_leaves_no_process_and_the_next_laboratory_removes_its_folder() -> None:
    lab, children = booting()
    lab.kill()
    lab.communicate(timeout=60)
    wait_gone(children)
    remove_leftovers()
    assert folders(lab.pid) == []
