# SPDX-License-Identifier: Apache-2.0
"""Signals at any moment of a call that spins, or sleeps, end it as they end the kernel's."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from remote import Remote
from stream_lab import StreamNet, Way
from wrapper_lab import Mode, Net

import build
from ivc.controller.client import read_status

ROUNDS = 10_000 if os.environ.get("IVC_FULL") else 1000
CALLS = ["recv", "timeout", "poll", "ppoll", "select", "epoll", "epoll_pwait"]
SPIN = {"native": {}, "spinning": {"IVC_SPIN_US": "50"}, "blocked": {"IVC_SPIN_US": "0"}}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("signals") / "signals"
    source = Path(__file__).with_name("signals.c")
    subprocess.run([*build.COMPILE, source, "-o", made], check=True)
    return made


def echoing(net: Net | StreamNet, protocol: str) -> tuple[str, int, Remote]:
    """An endpoint on `right` that will echo, and what to start when its client comes."""
    if protocol == "udp":
        assert isinstance(net, Net)
        sock, (host, port) = net.server()
    else:
        assert isinstance(net, StreamNet)
        sock, (host, port) = net.listen()
    return host, port, sock


@pytest.mark.parametrize("how", SPIN)
@pytest.mark.parametrize(
    ("protocol", "call"),
    [*itertools.product(["udp", "tcp"], [*CALLS, "restart"]), ("tcp", "peek")],
)
def test_signals_at_any_moment(
    nets: Mapping[Mode, Net],
    stream_nets: Mapping[Way, StreamNet],
    program: Path,
    protocol: str,
    call: str,
    how: str,
) -> None:
    net: Net | StreamNet = nets[Mode.DIRECT] if protocol == "udp" else stream_nets[Way.EAGER]
    host, port, sock = echoing(net, protocol)
    routines = sock.agent.module("routines").start
    serving = routines.echo(sock, b"end") if protocol == "udp" else routines.echo_stream(sock)
    left = net.lab["left"]
    rounds = min(ROUNDS, 200) if call == "restart" else ROUNDS
    client = left.popen(
        [str(program), protocol, str(left.address.ip), host, str(port), call, str(rounds)],
        env={} if how == "native" else net.env | SPIN[how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout is not None
        missed, strange = (int(word.split()[0]) for word in client.stdout.readline().split(","))
        ringed = sum(
            one["counters"]["rx_ring_msgs"]
            for one in read_status(net.run_dir)["sockets"]
            if one["pid"] == client.pid
        )
    finally:
        client.kill()
        client.communicate()
        if protocol == "tcp":
            serving.join()
        net.reset()
    # An alarm between the program's note and the call's first instruction is missed by the kernel
    # as well: some of ten thousand.
    assert missed <= rounds // 100
    assert strange == 0
    assert (ringed > 100) == (how != "native")
