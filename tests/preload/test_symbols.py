# SPDX-License-Identifier: Apache-2.0
"""The library shows exactly what it interposes, and needs nothing it must not."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "build" / "libivcsock.so"


def interposed() -> set[str]:
    text = (ROOT / "preload" / "symbols.def").read_text(encoding="utf-8")
    return set(re.findall(r"^X\((\w+),", text, re.MULTILINE))


def newest_glibc(library: Path) -> tuple[int, ...]:
    """The newest version of glibc a library asks for, as the loader will read it."""
    needs = subprocess.run(
        ["objdump", "-p", library], capture_output=True, text=True, check=True
    ).stdout
    return max(
        tuple(int(part) for part in version.split("."))
        for version in re.findall(r"\bGLIBC_([0-9.]+)", needs)
    )


def symbols(*options: str) -> set[str]:
    listing = subprocess.run(
        ["nm", "-D", *options, LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in listing.splitlines()}


def test_exports_are_the_interposed_names_and_ours() -> None:
    exported = symbols("--defined-only")
    assert {name for name in exported if not name.startswith("ivcsock_")} == interposed()


def test_the_library_never_allocates_prints_or_ends_its_host() -> None:
    forbidden = {"malloc", "calloc", "realloc", "free", "printf", "fprintf", "puts", "perror"}
    forbidden |= {"exit", "_exit", "abort", "__assert_fail", "pthread_create", "dlopen"}
    assert symbols("--undefined-only") & forbidden == set()


def test_the_library_needs_libc_alone() -> None:
    shown = subprocess.run(
        ["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    # libdl.so.2 is libc's, too: dlsym was there until glibc 2.34.
    assert set(re.findall(r"\(NEEDED\).*\[(.+)\]", shown)) == {"libc.so.6", "libdl.so.2"}


def test_the_library_runs_with_glibc_2_31() -> None:
    assert newest_glibc(LIBRARY) <= (2, 31)
