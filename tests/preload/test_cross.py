# SPDX-License-Identifier: Apache-2.0
"""For aarch64: ring, doorbell and wrapper compiled by Debian's cross compiler and run by qemu-user.

The emulator on an x86 host shows what is wrong with types, sizes, system calls and symbols.
It keeps more order between loads and stores than a real processor does, so of ordering it
shows little.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from aarch64 import compile_for_aarch64, emulated, require_tools

import build

STRESS = build.ROOT / "tests" / "core" / "stress.c"
CORE_TESTS = sorted(set(STRESS.parent.glob("*.c")) - {STRESS})
# With atomic instructions and without: gcc calls a helper that chooses when the program runs.
PROCESSORS = ["max", "cortex-a57"]


def core_program(folder: Path, source: Path) -> Path:
    include = f"-I{build.ROOT / 'core'}"
    sources = [source, *build.CORE_SOURCES]
    return compile_for_aarch64(folder / source.stem, include, *sources, "-lpthread")


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_core_compiles_without_a_warning() -> None:
    require_tools()
    for source in (build.ROOT / "core").glob("*.c"):
        run([build.CROSS, *build.STRICT, "-O2", "-c", "-o", "/dev/null", str(source)])


@pytest.mark.parametrize("source", CORE_TESTS, ids=lambda path: path.name)
def test_ring_and_doorbell_hold(source: Path, tmp_path: Path) -> None:
    run(emulated(core_program(tmp_path, source)))


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return core_program(tmp_path_factory.mktemp("stress"), STRESS)


@pytest.mark.parametrize("cpu", PROCESSORS)
@pytest.mark.parametrize("bell", ["eventfd", "channel"])
def test_two_threads_lose_nothing(cpu: str, bell: str, stress: Path) -> None:
    run(emulated(stress, "50000", bell, cpu=cpu))


@pytest.mark.parametrize("cpu", PROCESSORS)
def test_udp_calls_give_what_they_give_without_the_wrapper(
    cpu: str, aarch64_library: Path, aarch64_calls: Path
) -> None:
    native = run(emulated(aarch64_calls, cpu=cpu)).splitlines()
    wrapped = run(emulated(aarch64_calls, cpu=cpu, LD_PRELOAD=aarch64_library)).splitlines()
    assert (native.pop(0), wrapped.pop(0)) == ("wrapper 0", "wrapper 1")
    assert len(native) > 150
    assert wrapped == native


@pytest.mark.parametrize("other", ["-U__LP64__", "-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__"])
def test_a_processor_the_layout_does_not_fit_is_refused(other: str) -> None:
    command = ["gcc", "-w", other, "-fsyntax-only", build.ROOT / "core" / "layout.h"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "64-bit little-endian" in done.stderr
