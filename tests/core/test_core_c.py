# SPDX-License-Identifier: Apache-2.0
"""Compile and run the C tests beside this file: one property each, exit status 0 or 1."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from valgrind import valgrind

import build

HERE = Path(__file__).parent
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# TSan does not know fences; ours order wake-ups, not data, so it needs none of them.
THREADS = ["-fsanitize=thread", "-Wno-tsan"]
TESTS = sorted(path.name for path in HERE.glob("*.c"))
FEWER = {"stress.c": ["5000"], "relay.c": ["1000"], "trace.c": ["1000"], "stream.c": ["300"]}
"""What is small enough for a machine made of software."""


def run(
    test: str, folder: Path, sanitizer: list[str], *arguments: str, under: Sequence[str] = ()
) -> None:
    """Compile one test with a sanitizer and run it, `under` another program."""
    program = folder / "test"
    command = ["gcc", *build.STRICT, "-g", "-O1", *sanitizer, f"-I{build.ROOT / 'core'}"]
    command += [str(HERE / test), *map(str, build.CORE_SOURCES), "-lpthread", "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run(
        [*under, str(program), *arguments], capture_output=True, text=True, check=False, timeout=100
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("test", TESTS)
def test_holds_under_address_and_undefined_behaviour_sanitizer(test: str, tmp_path: Path) -> None:
    run(test, tmp_path, MEMORY)


@pytest.mark.parametrize("test", TESTS)
def test_valgrind_finds_nothing(test: str, tmp_path: Path) -> None:
    """Of what was never written the sanitizers know nothing."""
    run(test, tmp_path, [], *FEWER.get(test, []), under=valgrind())


@pytest.mark.parametrize("bell", ["eventfd", "channel"])
def test_two_threads_lose_nothing_under_thread_sanitizer(bell: str, tmp_path: Path) -> None:
    run("stress.c", tmp_path, THREADS, "100000", bell)


@pytest.mark.parametrize("bell", ["eventfd", "channel"])
def test_a_relay_loses_nothing_under_thread_sanitizer(bell: str, tmp_path: Path) -> None:
    run("relay.c", tmp_path, THREADS, "10000", bell)


@pytest.mark.parametrize("bell", ["eventfd", "channel"])
def test_a_relayed_stream_loses_nothing_under_thread_sanitizer(bell: str, tmp_path: Path) -> None:
    run("stream.c", tmp_path, THREADS, "5000", bell)


def test_a_trace_loses_only_what_is_counted_under_thread_sanitizer(tmp_path: Path) -> None:
    run("trace.c", tmp_path, THREADS)


def test_a_million_messages_a_second_go_through_the_relay(tmp_path: Path) -> None:
    """The best of three: what the machine does besides is not the relay's."""
    program = tmp_path / "relay"
    source = HERE / "bench" / "relay.c"
    command = ["gcc", *build.STRICT, "-O2", f"-I{build.ROOT / 'core'}", str(source)]
    command += [*map(str, build.CORE_SOURCES), "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)
    done = [subprocess.run([program], capture_output=True, check=True) for _ in range(3)]
    assert max(float(each.stdout.split()[0]) for each in done) >= 1e6


@pytest.mark.parametrize("bell", ["eventfd", "channel"])
def test_no_wake_up_is_lost_at_full_speed(bell: str, tmp_path: Path) -> None:
    """Without the fence of publish() a wake-up is lost within 200,000 records."""
    run("stress.c", tmp_path, ["-O2"], "500000", bell)
