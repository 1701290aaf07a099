# SPDX-License-Identifier: Apache-2.0
"""The library shows exactly what it interposes, and needs nothing it must not."""

import re
from pathlib import Path

import pytest
from elf import newest_glibc, read, symbols

import build

SYMBOLS = build.ROOT / "preload" / "symbols.def"


@pytest.fixture(params=["native", "aarch64"])
def library(request: pytest.FixtureRequest) -> Path:
    """The wrapper for this machine and for another."""
    if request.param == "native":
        return build.LIBRARY
    made: Path = request.getfixturevalue("aarch64_library")
    return made


def interposed() -> set[str]:
    return set(re.findall(r"^X\((\w+),", SYMBOLS.read_text(encoding="utf-8"), re.MULTILINE))


def test_exports_are_the_interposed_names_and_ours(library: Path) -> None:
    exported = symbols(library, "--defined-only")
    assert {name for name in exported if not name.startswith("ivcsock_")} == interposed()


def test_the_library_never_allocates_prints_or_ends_its_host(library: Path) -> None:
    forbidden = {"malloc", "calloc", "realloc", "free", "printf", "fprintf", "puts", "perror"}
    forbidden |= {"exit", "_exit", "abort", "__assert_fail", "pthread_create", "dlopen"}
    assert symbols(library, "--undefined-only") & forbidden == set()


def test_the_library_needs_libc_alone(library: Path) -> None:
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", read("readelf", "-d", library)))
    # libdl.so.2 is libc's, too: before glibc 2.34 dlsym was there. The loader, on aarch64
    # asked for by name, is part of every program.
    assert needed - {"ld-linux-aarch64.so.1"} == {"libc.so.6", "libdl.so.2"}


def test_the_library_runs_with_glibc_2_31(library: Path) -> None:
    assert newest_glibc(library) <= (2, 31)
