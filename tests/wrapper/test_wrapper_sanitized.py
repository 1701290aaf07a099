# SPDX-License-Identifier: Apache-2.0
"""The wrapper under AddressSanitizer and UndefinedBehaviorSanitizer, with a plain C program."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from agents import Agents
from stream_lab import StreamNet, Way
from valgrind import valgrind
from wrapper_lab import FIRST_PORT, Mode, Net

import build
from ivc.controller.client import read_status
from ivc.lab.hosts import stop

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g"]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What goes into LD_PRELOAD: the sanitizer's runtime, then the wrapper."""
    library = tmp_path_factory.mktemp("sanitized") / "libivcsock.so"
    command = [*build.COMPILE, *SANITIZE, *build.wrapper_arguments(), "-o", library]
    subprocess.run(command, check=True)
    named = ["gcc", "-print-file-name=libasan.so"]
    runtime = subprocess.run(named, capture_output=True, text=True, check=True).stdout.strip()
    return f"{runtime} {library}"


@pytest.mark.parametrize("path", [Mode.DIRECT, Mode.RELAY], ids=str)
@pytest.mark.parametrize("wait", ["blocking", "poll", "select", "epoll", "epoll-et"])
@pytest.mark.parametrize("size", [64, 9000])
def test_ping_pong(
    nets: Mapping[Mode, Net], tmp_path: Path, sanitized: str, path: Mode, wait: str, size: int
) -> None:
    ping_pong(nets[path], tmp_path, sanitized, ["--wait", wait, "--size", str(size)])


@pytest.mark.parametrize("wait", ["blocking", "poll", "select", "epoll", "epoll-et"])
def test_ping_pong_over_a_connection(
    stream_nets: Mapping[Way, StreamNet], tmp_path: Path, sanitized: str, wait: str
) -> None:
    options = ["--wait", wait, "--size", "60000", "--tcp"]
    ping_pong(stream_nets[Way.EAGER], tmp_path, sanitized, options)


@pytest.mark.skipif(not os.environ.get("IVC_FULL"), reason="slow: build.py full")
@pytest.mark.parametrize("wait", ["blocking", "poll", "select", "epoll", "epoll-et"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_valgrind_finds_nothing(
    nets: Mapping[Mode, Net],
    stream_nets: Mapping[Way, StreamNet],
    tmp_path: Path,
    wait: str,
    protocol: str,
) -> None:
    net: Agents = nets[Mode.DIRECT] if protocol == "udp" else stream_nets[Way.EAGER]
    options = ["--wait", wait, "--size", "9000", *(["--tcp"] if protocol == "tcp" else [])]
    under = [*valgrind(), f"--log-file={tmp_path}/report-%p"]
    talk(net, net.env, options, 600, under)
    assert [file.read_text() for file in tmp_path.glob("report*")] == ["", ""]


def ping_pong(net: Agents, tmp_path: Path, sanitized: str, options: list[str]) -> None:
    report = tmp_path / "report"
    env = net.env | {
        "LD_PRELOAD": sanitized,
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={report}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={report}",
    }
    talk(net, env, options, 1500)
    assert [file.read_text() for file in tmp_path.glob("report*")] == []


def talk(
    net: Agents, env: dict[str, str], options: list[str], count: int, under: Sequence[str] = ()
) -> None:
    """A ping-pong, both ends `under` another program; most of it goes by ring."""
    left, right = net.lab["left"], net.lab["right"]
    there = [str(right.address.ip), str(FIRST_PORT + 199)]
    here = [str(left.address.ip), str(FIRST_PORT + 198)]
    program = str(build.PINGPONG)
    command = [*under, program, "server", *there, *options]
    server = right.popen(command, env=env, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        command = [*under, program, "client", *here, *there, *options, "--numbered"]
        command += ["--count", str(count), "--warm", "1500"]  # until the flow is there
        client = left.popen(command, env=env, stdout=subprocess.PIPE)
        output, _ = client.communicate(timeout=20)
        assert (client.returncode, server.poll()) == (0, None)
        carried = [
            one["counters"]["rx_ring_msgs"]
            for one in read_status(net.run_dir)["sockets"]
            if one["local"] == ":".join(there)
        ]
    finally:
        stop(server)
    result = json.loads(output)
    assert (result["lost"], result["strange"]) == (0, 0)
    assert sum(carried) > 300
