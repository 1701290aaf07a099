# SPDX-License-Identifier: Apache-2.0
"""UDP or TCP ping-pong side by side: the same C program over veth + bridge and over rings.

    .venv/bin/python -m bench.pingpong [--rounds N] [--count N] [--size N] [--wait W]... [--tcp]
                                       [--path direct|relay]

Every round runs each side once, in turn, so that a change of the machine's mood
meets all of them. Figures are medians over the rounds; a ratio above 1 means
that IVC is faster. `spinning` is the wrapper as it comes, `blocking` has its
spin budget set to 0.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivc.lab.control import (
    CLIENT_HOST,
    SERVER_HOST,
    JsonObject,
    running_controller,
    wrapper_environment,
    wrapper_library,
)
from ivc.lab.hosts import Lab, LabError, ended_by_signals, stop
from ivc.lab.peers import common

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "pingpong"
WAITS = ("blocking", "poll", "select", "epoll", "epoll-et")
_PATIENCE_SECONDS = 30.0


class Side(enum.StrEnum):
    """What carries the ping-pong."""

    NATIVE = "native"
    SPINNING = "spinning"
    BLOCKING = "blocking"


@dataclass(frozen=True, slots=True)
class Settings:
    """`size` in bytes; `cpus` are the client's and the server's."""

    rounds: int = 7
    count: int = 5000
    size: int = 64
    waits: tuple[str, ...] = WAITS
    sides: tuple[Side, ...] = tuple(Side)
    cpus: tuple[int, int] = (0, 1)
    numbered: bool = False
    tcp: bool = False
    path: str = "direct"


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds, round-trip times in microseconds."""

    wait: str
    side: Side
    p50: float
    p99: float
    lost: int
    strange: int


def measure(settings: Settings) -> list[Figures]:
    """Run everything; raises LabError when a part does not run."""
    members = {CLIENT_HOST: "10.77.0.1/24", SERVER_HOST: "10.77.0.2/24"}
    with (
        Lab(members) as lab,
        running_controller(
            lab, settings.path, lab.directory, promote="eager" if settings.tcp else ""
        ),
    ):
        wrapped = wrapper_environment(wrapper_library(ROOT), lab.directory)
        environments: dict[Side, Mapping[str, str]] = {
            Side.NATIVE: {},
            Side.SPINNING: wrapped,
            Side.BLOCKING: wrapped | {"IVC_SPIN_US": "0"},
        }
        figures = []
        for wait in settings.waits:
            runs: dict[Side, list[JsonObject]] = {side: [] for side in settings.sides}
            for _ in range(settings.rounds):
                for side, results in runs.items():
                    results.append(run_once(lab, wait, environments[side], settings))
            figures += [_figures(wait, side, results) for side, results in runs.items()]
    return figures


def run_once(lab: Lab, wait: str, env: Mapping[str, str], settings: Settings) -> JsonObject:
    """One server and one client; returns the client's report."""
    client_cpu, server_cpu = (cpu % (os.cpu_count() or 1) for cpu in settings.cpus)
    there = [str(lab[SERVER_HOST].address.ip), str(common.SERVER_PORT)]
    here = [str(lab[CLIENT_HOST].address.ip), str(common.CLIENT_PORT)]
    ways = ["--wait", wait, *(["--tcp"] if settings.tcp else [])]
    server = lab[SERVER_HOST].popen(
        [str(PROGRAM), "server", *there, *ways, "--cpu", str(server_cpu)],
        env=env,
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise LabError(f"the ping-pong server does not start (status {server.wait()})")
        command = [str(PROGRAM), "client", *here, *there, *ways, "--cpu", str(client_cpu)]
        command += ["--count", str(settings.count), "--size", str(settings.size)]
        command += ["--numbered"] if settings.numbered else []
        return _client_report(lab, command, env)
    finally:
        stop(server)


def _client_report(lab: Lab, command: Sequence[str], env: Mapping[str, str]) -> JsonObject:
    client = lab[CLIENT_HOST].popen(command, env=env, stdout=subprocess.PIPE)
    try:
        output, _ = client.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError("the ping-pong client does not end") from None
    finally:
        stop(client)
    if client.returncode != 0:
        raise LabError(f"the ping-pong client fails (status {client.returncode})")
    report = json.loads(output)
    assert isinstance(report, dict)
    return report


def _figures(wait: str, side: Side, results: Sequence[JsonObject]) -> Figures:
    return Figures(
        wait=wait,
        side=side,
        p50=statistics.median(result["rtt_us"]["p50"] for result in results),
        p99=statistics.median(result["rtt_us"]["p99"] for result in results),
        lost=sum(result["lost"] for result in results),
        strange=sum(result["strange"] for result in results),
    )


def ratio(figures: Sequence[Figures], wait: str, side: Side) -> float:
    """How many times faster `side` is than the native run, by the median of p50."""
    p50 = {one.side: one.p50 for one in figures if one.wait == wait}
    return p50[Side.NATIVE] / p50[side]


def main() -> int:
    """Measure and print a table; 0 if nothing was lost or strange."""
    parser = argparse.ArgumentParser(prog="pingpong.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--wait", action="append", choices=WAITS)
    parser.add_argument("--side", action="append", type=Side, choices=list(Side))
    parser.add_argument("--numbered", action="store_true")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--path", choices=("direct", "relay"), default="direct")
    options = parser.parse_args()
    settings = Settings(
        rounds=options.rounds,
        count=options.count,
        size=options.size,
        waits=tuple(options.wait or WAITS),
        sides=tuple(options.side or Side),
        numbered=options.numbered,
        tcp=options.tcp,
        path=options.path,
    )
    with ended_by_signals():
        figures = measure(settings)
    print(
        f"{'wait':10}{'side':10}{'p50 us':>10}{'p99 us':>10}{'ratio':>8}{'lost':>6}{'strange':>9}"
    )
    for one in figures:
        times = (
            f"{ratio(figures, one.wait, one.side):.2f}" if Side.NATIVE in settings.sides else "-"
        )
        print(
            f"{one.wait:10}{one.side:10}{one.p50:10.2f}{one.p99:10.2f}"
            f"{times:>8}{one.lost:6}{one.strange:9}"
        )
    return 1 if any(one.lost or one.strange for one in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
