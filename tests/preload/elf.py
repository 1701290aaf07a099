# SPDX-License-Identifier: Apache-2.0
"""What a shared library shows and asks for; of any processor's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def read(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols(library: Path, which: str) -> set[str]:
    """Names of the dynamic symbols, `which` being --defined-only or --undefined-only."""
    listing = read("nm", "-D", which, library)
    return {line.split()[-1].split("@")[0] for line in listing.splitlines()}


def newest_glibc(library: Path) -> tuple[int, ...]:
    """The newest version of glibc a library asks for, as the loader will read it."""
    versions = re.findall(r"\bGLIBC_([0-9.]+)", read("objdump", "-p", library))
    return max(tuple(int(part) for part in version.split(".")) for version in versions)
