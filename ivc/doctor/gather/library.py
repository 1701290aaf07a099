# SPDX-License-Identifier: Apache-2.0
"""The wrapper, asked by having it preloaded into a child."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from ivc.controller.errors import ControllerError
from ivc.controller.launch import LIBRARY, find_library
from ivc.doctor.elf import parse_elf
from ivc.doctor.facts import Library

_ASK: Final = """
import ctypes
ask = getattr(ctypes.CDLL(None), "ivcsock_present", None)
print(ask() if ask else "")
"""
_ASK_S: Final = 10.0


def gather_library(environment: Mapping[str, str] = os.environ) -> Library:
    """Where `ivc run` finds it, and what it says."""
    by_name = _preload(LIBRARY, environment)[0] is not None
    try:
        path = find_library(environment)
        elf = parse_elf(path.read_bytes())
    except (ControllerError, OSError) as error:
        return Library(problem=str(error).partition(";")[0], by_name=by_name)
    abi, problem = _preload(str(path), environment)
    return Library(str(path), problem, abi, elf, by_name)


def _preload(library: str, environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Its ABI, or what the loader said. In no run directory: it shall find no controller."""
    changed = {**environment, "LD_PRELOAD": library, "IVC_RUN_DIR": "/nonexistent"}
    command = [sys.executable, "-c", _ASK]
    try:
        done = subprocess.run(
            command,
            env=changed,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_ASK_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    answer = done.stdout.strip()
    if answer.isdecimal():
        return int(answer), ""
    return None, done.stderr.strip().split("\n")[0] or f"exit status {done.returncode}"
