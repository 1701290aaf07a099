# SPDX-License-Identifier: Apache-2.0
"""Every case once a round, in turn, so that a change of the machine's mood meets all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from bench.cases import ASYNCIO, Case, Pattern, Transport
from bench.flows import Figures
from bench.pingpong import Run, ground, run_once

Series = dict[Case, list[Run]]
"""One run for each round, in order: those of the same round can be compared."""

_FAST = (Transport.RING, Transport.IVC)
_LOOK_SECONDS = 0.12
_IDLE = 0.9


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of each, in a round. A flood by ring is ten times as long, for it is as fast."""

    round_trips: int = 3000
    paced: int = 200
    messages: int = 20_000
    bytes: int = 64 << 20
    idle_seconds: float = 4.0
    """so long a round waits for the processors to be idle"""
    seconds: float = math.inf
    """for all rounds: none is begun that would end later"""

    def count(self, case: Case) -> int:
        """Round trips or messages of one run."""
        if case.pattern is Pattern.PACED:
            return self.paced
        if case.pattern is Pattern.PING_PONG:
            share = 3 if case.wait == ASYNCIO else 1  # it is as much slower
            return min(self.round_trips // share, self.bytes // case.size)
        messages = self.messages * (10 if case.transport in _FAST else 1)
        return min(messages, self.bytes // case.size)


@dataclass(frozen=True, slots=True)
class Measured:
    """`idle`: the processors' idle share when each round began.

    `instructions` and `figures`: if counted and measured, see bench/instructions.py and flows.py.
    """

    series: Series
    idle: tuple[float, ...]
    seconds: float
    instructions: Mapping[str, float] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)


def measure(
    cases: Sequence[Case],
    rounds: int,
    effort: Effort,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run everything. Raises LabError when a part does not run."""
    began = time.monotonic()
    series: Series = {case: [] for case in cases}
    idle = []
    with ground(max((case.nodes for case in cases), default=2)) as lab:
        for number in range(1, rounds + 1):
            spent = time.monotonic() - began
            if number > 1 and spent * number / (number - 1) > effort.seconds:
                say(f"{number - 1} round(s) must do: the machine is slow, or has much else to do")
                break
            idle.append(wait_until_idle(effort.idle_seconds))
            say(f"round {number} of {rounds}, the processors {idle[-1]:.0%} idle before it ...")
            for case, runs in series.items():
                runs.append(run_once(lab, case, effort.count(case)))
    return Measured(series, tuple(idle), time.monotonic() - began)


def wait_until_idle(seconds: float) -> float:
    """Wait for nine tenths, so long at most; the idle share found last."""
    end = time.monotonic() + seconds
    while True:
        share = _idle_share()
        if share >= _IDLE or time.monotonic() >= end:
            return share


def _idle_share() -> float:
    """Of all processors, over a moment."""
    times = psutil.cpu_times_percent(_LOOK_SECONDS)  # of a second: less than that adds up to less
    return float((times.idle + times.iowait) / max(sum(times), 1.0))
