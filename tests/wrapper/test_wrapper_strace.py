# SPDX-License-Identifier: Apache-2.0
"""System calls: a socket that does not match makes not one more than natively; others make few."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from agents import ROOT, Agents
from stream_lab import StreamNet, Way
from wrapper_lab import FIRST_PORT, MEMBERS, Mode, Net

import build
from ivc.lab.control import wrapper_environment, wrapper_library
from ivc.lab.hosts import Host, Lab, stop

STRANGER = Path(__file__).with_name("stranger.py")
MEMORY = "brk,mmap,munmap,mprotect,madvise,mremap"
OUTSIDE = "192.0.2.7"


def calls(host: Host, env: Mapping[str, str], own: str, other: str, file: Path) -> list[str]:
    """The system calls between the marks, without what differs from run to run."""
    assert shutil.which("strace"), "install strace: apt-get install strace"
    trace = ["strace", "-o", str(file), "-e", f"trace=!{MEMORY}"]
    for name, value in env.items():
        trace += ["-E", f"{name}={value}"]
    program = [sys.executable, "-S", str(STRANGER), own, other]
    process = host.popen([*trace, *program], stderr=subprocess.PIPE)
    _, words = process.communicate(timeout=20)
    assert process.returncode == 0, words
    text = file.read_text()
    life = text[text.index('"/the-life-begins"') : text.index('access("/the-life-ends"')]
    return [normal(line) for line in life.splitlines()[1:]]


def normal(line: str) -> str:
    line = re.sub(r"0x[0-9a-f]+", "POINTER", line)
    line = re.sub(r"htons\(\d{5}\)", "PORT", line)
    line = re.sub(r"tv_n?u?sec=\d+", "TIME", line)
    # Memory not written to is shown as it was before.
    return re.sub(r"data=\{u32=\d+, u64=\d+\}", "DATA", line)


@pytest.mark.parametrize(
    ("own", "other"),
    [("127.0.0.1", "127.0.0.1"), (OUTSIDE, "192.0.2.8"), ("127.0.0.1", MEMBERS["right"][:-3])],
    ids=["loopback", "an address outside", "sending to a node without being one"],
)
def test_a_socket_that_does_not_match(
    nets: Mapping[Mode, Net], tmp_path: Path, own: str, other: str
) -> None:
    net = nets[Mode.DIRECT]
    host = net.lab["left"]
    host.run("ip", "address", "replace", f"{OUTSIDE}/24", "dev", "eth0")
    native = calls(host, {}, own, other, tmp_path / "native")
    wrapped = calls(host, net.env, own, other, tmp_path / "wrapped")
    assert wrapped == native
    assert sum("socket(AF_INET" in line for line in native) == 1


def test_a_host_that_is_not_planned(nets: Mapping[Mode, Net], tmp_path: Path) -> None:
    env = wrapper_environment(wrapper_library(ROOT), nets[Mode.DIRECT].run_dir)
    with Lab({"elsewhere": "10.79.0.1/24"}) as lab:
        host = lab["elsewhere"]
        native = calls(host, {}, "10.79.0.1", "10.79.0.2", tmp_path / "native")
        wrapped = calls(host, env, "10.79.0.1", "10.79.0.2", tmp_path / "wrapped")
    assert wrapped == native


@pytest.mark.parametrize("wait", ["blocking", "poll", "select", "epoll"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_message_that_wakes_its_receiver_costs_one_sleep_and_its_bell(
    nets: Mapping[Mode, Net],
    stream_nets: Mapping[Way, StreamNet],
    tmp_path: Path,
    wait: str,
    protocol: str,
) -> None:
    net: Agents = nets[Mode.BLOCKING] if protocol == "udp" else stream_nets[Way.BLOCKING]
    options = ["--wait", wait, *(["--tcp"] if protocol == "tcp" else [])]
    seen: list[Counter[str]] = []
    for _ in range(TRIES):
        seen.append(answering(net, options, tmp_path / "calls"))
        if is_frugal(seen[-1]):
            return
    raise AssertionError(seen)


TRIES = 5
"""On a busy machine a server is not always asleep when a request comes."""


def is_frugal(made: Counter[str]) -> bool:
    """A sleep, a bell, and a look at it, for each answer; not two of them."""
    answers = made["write"]  # of the client's bell
    sleeps = made["ppoll"] + made["epoll_pwait"]
    if answers <= 120 or made["fcntl"] >= 0.1 * answers:
        return False
    return sleeps < 1.5 * answers and made["read"] < 1.5 * answers


def answering(net: Agents, options: list[str], file: Path) -> Counter[str]:
    """The last system calls of a server each of whose requests finds it asleep."""
    left, right = net.lab["left"], net.lab["right"]
    there = [str(right.address.ip), str(FIRST_PORT + 197)]
    here = [str(left.address.ip), str(FIRST_PORT + 196)]
    trace = ["strace", "-D", "-o", str(file), "--signal=none"]  # -D: what ends is the server
    for name, value in net.env.items():
        trace += ["-E", f"{name}={value}"]
    command = [*trace, str(build.PINGPONG), "server", *there, *options]
    server = right.popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        command = [str(build.PINGPONG), "client", *here, *there, *options]
        command += ["--pause", "1000", "--count", "1500"]
        client = left.popen(command, env=net.env, stdout=subprocess.PIPE)
        client.communicate(timeout=20)
        lines = file.read_text().splitlines()
    finally:
        stop(server)
    return Counter(line.partition("(")[0] for line in lines[:-20][-800:])
