# SPDX-License-Identifier: Apache-2.0
"""Programs on boost.asio, and those with several threads, while sanitizers watch the wrapper.

The tests are those of other files; here they run with another library. ThreadSanitizer comes behind
it: what it interposes it does not see the atomics of, and that would be the wrapper.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from asio_lab import CONNECTIONS, DATAGRAMS, Field, compile_asio
from stream_lab import StreamNet, Way
from test_wrapper_asio import *  # noqa: F403
from test_wrapper_asio import reads as reads
from test_wrapper_readiness import (  # noqa: F401
    test_a_receiver_and_a_poller_do_not_hide_data_from_each_other,
    test_an_edge_program_never_sleeps_on_data,
    test_modifying_wakes_a_thread_asleep_in_the_set,
    test_one_datagram_wakes_no_more_than_it_serves,
    test_two_sets_both_tell,
    test_two_threads_in_one_set_lose_nothing,
    test_two_threads_receiving_lose_nothing,
)
from test_wrapper_stream_programs import (  # noqa: F401
    test_asio_lives_as_without_the_wrapper,
)
from wrapper_lab import Mode, Net

import build
from ivc.lab.hosts import Lab

pytestmark = pytest.mark.skipif(
    not os.environ.get("IVC_FULL"), reason="takes a minute: build.py full"
)

# Signal handlers of its own it would install by our sigaction(), before it is ready for us.
_NO_HANDLERS = "".join(
    f":handle_{each}=0" for each in ("segv", "sigbus", "abort", "sigill", "sigfpe")
)


@dataclass(frozen=True)
class Sanitizer:
    """How a sanitizer is compiled in, found, and told."""

    flags: tuple[str, ...]
    runtime: str
    first: bool
    """Its runtime comes before the wrapper."""
    options: Mapping[str, str]


SANITIZERS = {
    "memory": Sanitizer(
        ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        "libasan.so",
        True,
        {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    ),
    "threads": Sanitizer(
        # It does not know fences; ours order wake-ups, not data (see tests/core).
        ("-fsanitize=thread", "-Wno-tsan"),
        "libtsan.so",
        False,
        {"TSAN_OPTIONS": "atexit_sleep_ms=0" + _NO_HANDLERS},
    ),
}


@pytest.fixture(scope="module", params=list(SANITIZERS))
def sanitizer(request: pytest.FixtureRequest) -> Sanitizer:
    return SANITIZERS[request.param]


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory, sanitizer: Sanitizer) -> str:
    library = tmp_path_factory.mktemp("sanitized") / "libivcsock.so"
    command = [*build.COMPILE, *sanitizer.flags, "-O1", "-g", *build.wrapper_arguments()]
    subprocess.run([*command, "-o", library], check=True)
    named = ["gcc", f"-print-file-name={sanitizer.runtime}"]
    runtime = subprocess.run(named, capture_output=True, text=True, check=True).stdout.strip()
    return f"{runtime} {library}" if sanitizer.first else f"{library} {runtime}"


@pytest.fixture
def watched(tmp_path: Path, preloaded: str, sanitizer: Sanitizer) -> Iterator[dict[str, str]]:
    """The environment of a program; afterwards nothing has been found."""
    report = tmp_path / "report"
    options = {name: f"{value}:log_path={report}" for name, value in sanitizer.options.items()}
    yield {"LD_PRELOAD": preloaded} | options
    assert [file.read_text() for file in tmp_path.glob("report*")] == []


def compile_watched(source: Path, folder: Path, sanitizer: Sanitizer) -> str:
    """Threads can only be watched in all of a program."""
    flags = sanitizer.flags if sanitizer.runtime == "libtsan.so" else ()
    return compile_asio(source, folder, "-O1", "-g", *flags)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, sanitizer: Sanitizer) -> str:
    return compile_watched(DATAGRAMS, tmp_path_factory.mktemp("asio"), sanitizer)


@pytest.fixture(scope="module")
def asio_peer(tmp_path_factory: pytest.TempPathFactory, sanitizer: Sanitizer) -> str:
    return compile_watched(CONNECTIONS, tmp_path_factory.mktemp("asio"), sanitizer)


class WatchedNet(Net):
    """As `Net`, its programs with another environment."""

    added: Mapping[str, str] = {}

    @property
    def env(self) -> dict[str, str]:
        return super().env | self.added


class WatchedStreamNet(StreamNet):
    """The same for TCP."""

    added: Mapping[str, str] = {}

    @property
    def env(self) -> dict[str, str]:
        return super().env | self.added


@pytest.fixture(params=[mode for mode in Mode if mode is not Mode.NATIVE], ids=str)
def net(
    request: pytest.FixtureRequest,
    wrapper_hosts: Lab,
    nets: Mapping[Mode, Net],
    watched: dict[str, str],
) -> Iterator[Net]:
    usual = nets[request.param]
    one = WatchedNet(request.param, wrapper_hosts, usual.run_dir, usual._ports, usual.groups)
    one.added = watched
    try:
        yield one
        one.prove()
    finally:
        one.close()


@pytest.fixture(params=[way for way in Way if way is not Way.NATIVE], ids=str)
def stream_net(
    request: pytest.FixtureRequest,
    wrapper_hosts: Lab,
    stream_nets: Mapping[Way, StreamNet],
    watched: dict[str, str],
) -> Iterator[StreamNet]:
    usual = stream_nets[request.param]
    one = WatchedStreamNet(request.param, wrapper_hosts, usual.run_dir, usual._ports)
    one.added = watched
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def field(net: Net, program: str) -> Iterator[Field]:
    one = Field(net, program)
    try:
        yield one
        net.prove()
    finally:
        one.finish()
