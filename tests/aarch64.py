# SPDX-License-Identifier: Apache-2.0
"""Programs for aarch64 on this machine: Debian's cross compiler and qemu-user.

A machine that has them not fails the tests that need them, and is told what to get: a
skip would look like a pass.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import build

SYSROOT = "/usr/aarch64-linux-gnu"
_PACKAGES = ("gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "qemu-user")


def require_tools() -> None:
    missing = [name for name in build.missing_for_tests() if name in _PACKAGES]
    assert not missing, f"apt-get install {' '.join(missing)}"


def compile_for_aarch64(target: Path, *arguments: str | Path) -> Path:
    """Compile with the project's own flags, warnings being errors."""
    require_tools()
    command = [build.CROSS, "-O2", *build.STRICT, "-o", target, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def emulated(*command: str | Path, cpu: str = "max", **environment: str | Path) -> list[str]:
    """The command line that runs a program for aarch64, and nothing else, with `environment`."""
    variables = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
    return [build.EMULATOR, "-cpu", cpu, "-L", SYSROOT, *variables, *map(str, command)]
