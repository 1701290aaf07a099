# SPDX-License-Identifier: Apache-2.0
"""Two hundred thousand messages a second are traced whole, and it costs their programs little."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pcapng_blocks import PACKET, PACKET_DATA, blocks, captured
from trace_field import ADDRESSES, LIBRARY, ROOT, tracing

from ivc.lab.control import CLIENT_HOST, SERVER_HOST, running_controller, wrapper_environment
from ivc.lab.hosts import Lab, stop
from ivc.lab.peers import common

PINGPONG = str(ROOT / "build" / "pingpong")
PORT = str(common.SERVER_PORT)
RATE = 200_000
COUNT = RATE
SIZE = 64
HEADERS = 28  # IP and UDP
ROUNDS = 5
COST_MOST = 0.1 if os.environ.get("IVC_FULL") else 0.2
"""0.03 on a quiet machine; 0.08 where three others run tests on two processors."""


@dataclass(frozen=True)
class Round:
    """The same without a trace and with it."""

    plain: dict[str, Any]
    traced: dict[str, Any]
    recorded: list[int]
    """Numbers of the messages in the trace, in its order."""

    @property
    def cost(self) -> float:
        """Processor time of both programs, a share of what they take without a trace."""
        return float(self.traced["cpu_us_per_msg"] / self.plain["cpu_us_per_msg"]) - 1


def send(lab: Lab, env: Mapping[str, str]) -> dict[str, Any]:
    """Messages at the rate, one way; the sender's report."""
    own, far = (str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST))
    command = [PINGPONG, "server", far, PORT, "--one-way"]
    server = lab[SERVER_HOST].popen(command, env=env, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        command = [PINGPONG, "client", own, "0", far, PORT, "--one-way"]
        command += ["--rate", str(RATE), "--count", str(COUNT), "--peer", str(server.pid)]
        client = lab[CLIENT_HOST].popen(command, env=env, stdout=subprocess.PIPE)
        report: dict[str, Any] = json.loads(client.communicate(timeout=60)[0])
        return report
    finally:
        stop(server)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Round]]:
    folder = tmp_path_factory.mktemp("rate")
    env = wrapper_environment(LIBRARY, folder)
    with Lab(ADDRESSES) as lab, running_controller(lab, "direct", folder, ring="256 KiB"):
        yield [one_round(lab, env, folder) for _ in range(ROUNDS)]


def one_round(lab: Lab, env: Mapping[str, str], folder: Path) -> Round:
    capture = folder / "trace.pcapng"
    plain = send(lab, env)
    with tracing(lab, folder, "-w", str(capture)) as trace:
        traced = send(lab, env)
        trace.end()
    return Round(plain, traced, numbers(capture))


def numbers(capture: Path) -> list[int]:
    """Each payload of SIZE bytes begins with its number."""
    packets = [body for kind, body in blocks(capture) if kind == PACKET]
    whole = [packet for packet in packets if captured(packet) == HEADERS + SIZE]
    at = PACKET_DATA + HEADERS
    return [int.from_bytes(packet[at : at + 4], "little") for packet in whole]


def test_all_that_went_by_ring_is_in_the_trace(rounds: list[Round]) -> None:
    """Before the first it was the network: no flow was there yet."""
    missing = [COUNT - one.recorded[0] - len(one.recorded) for one in rounds]
    assert all(one.recorded == sorted(set(one.recorded)) for one in rounds)
    assert all(one.recorded[0] < COUNT / 2 for one in rounds)
    assert min(missing) == 0
    # What finds no room in its receiver's ring, on a busy machine, is not sent.
    assert all(some <= one.traced["lost"] for some, one in zip(missing, rounds, strict=True))


def test_the_programs_keep_their_rate(rounds: list[Round]) -> None:
    assert statistics.median(one.traced["msgs_per_s"] for one in rounds) > 0.9 * RATE


def test_it_costs_the_programs_little(rounds: list[Round]) -> None:
    costs = sorted(one.cost for one in rounds)
    assert statistics.median(costs) <= COST_MOST, costs
