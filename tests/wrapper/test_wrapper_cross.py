# SPDX-License-Identifier: Apache-2.0
"""The wrapper for aarch64, emulated, with this machine's controller and peers of both kinds."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from aarch64 import compile_for_aarch64, emulated
from wrapper_lab import FIRST_PORT, Mode, Net

import build
from ivc.lab.hosts import Host, stop

SERVER_PORT, CLIENT_PORT = FIRST_PORT + 197, FIRST_PORT + 196


@pytest.fixture(scope="module")
def pingpong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = build.ROOT / "bench" / "pingpong.c"
    return compile_for_aarch64(tmp_path_factory.mktemp("pingpong") / "pingpong", source)


def finish(host: Host, command: list[str]) -> str:
    process = host.popen(command, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return str(output)


def wait_until_known(net: Net, pid: int) -> None:
    """Until the controller has both sockets of a process, and nothing against them."""
    deadline = time.monotonic() + 5
    reasons: list[str] = []
    while reasons != ["NO_TRAFFIC"] * 2:
        assert time.monotonic() < deadline, reasons
        time.sleep(0.01)
        reasons = [one["reason"] for one in net.status()["sockets"] if one["pid"] == pid]


def test_calls_of_sockets_the_controller_knows(
    nets: Mapping[Mode, Net], aarch64_library: Path, aarch64_calls: Path
) -> None:
    """Both ends are on one host, so the network carries it all, under the wrapper's eyes."""
    net = nets[Mode.DIRECT]
    host = net.lab["left"]
    address = str(host.address.ip)
    native = finish(host, emulated(aarch64_calls, address)).splitlines()
    variables = net.env | {"LD_PRELOAD": str(aarch64_library)}
    command = emulated(aarch64_calls, address, **variables)
    process = host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        wait_until_known(net, process.pid)
        output, _ = process.communicate(timeout=20)
    finally:
        stop(process)
    wrapped = output.splitlines()
    assert (native.pop(0), wrapped.pop(0)) == ("wrapper 0", "wrapper 1")
    assert wrapped == native


@pytest.mark.parametrize("wait", ["blocking", "poll", "select", "epoll", "epoll-et"])
@pytest.mark.parametrize("server_too", [False, True], ids=["one end", "both ends"])
def test_ping_pong_by_ring(
    nets: Mapping[Mode, Net], aarch64_library: Path, pingpong: Path, wait: str, server_too: bool
) -> None:
    """Client for aarch64, server for this machine or for aarch64: the same bytes in the rings."""
    net = nets[Mode.DIRECT]
    left, right = net.lab["left"], net.lab["right"]
    there = [str(right.address.ip), str(SERVER_PORT)]
    here = [str(left.address.ip), str(CLIENT_PORT)]
    variables = net.env | {"LD_PRELOAD": str(aarch64_library)}
    serving = ["server", *there, "--wait", wait]
    if server_too:
        server = right.popen(emulated(pingpong, *serving, **variables), stdout=subprocess.PIPE)
    else:
        server = right.popen([str(build.PINGPONG), *serving], env=net.env, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        command = ["client", *here, *there, "--wait", wait, "--numbered", "--count", "1500"]
        result = json.loads(finish(left, emulated(pingpong, *command, **variables)))
        carried = [
            one["counters"]["rx_ring_msgs"]
            for one in net.status()["sockets"]
            if one["local"] == ":".join(there)
        ]
    finally:
        stop(server)
    assert (result["lost"], result["strange"]) == (0, 0)
    assert sum(carried) > 300  # the first go by the network, until the flow is there
