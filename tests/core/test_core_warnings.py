# SPDX-License-Identifier: Apache-2.0
"""Every C file of ours compiles without a warning."""

import subprocess
from pathlib import Path

import pytest

import build

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("core", "preload", "bench", "tests")
    for path in sorted((ROOT / folder).rglob("*.c"))
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_compiles_without_a_warning(source: Path) -> None:
    command = [*build.COMPILE, "-c", "-o", "/dev/null", f"-I{ROOT / 'core'}", source]
    subprocess.run(command, check=True)
