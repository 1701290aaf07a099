# SPDX-License-Identifier: Apache-2.0
"""What the laboratory shows by default: the same programs on every way, on one boot.

Rounds alternate between the ways, so that a change of the machine's mood meets all
of them; every way behind a controller alternates with the vif.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

from ivc.lab.xen.cache import saying
from ivc.lab.xen.control import running_controller
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.outside import outside
from ivc.lab.xen.pingpong import SIZES, median_of, ping_pong
from ivc.lab.xen.results import Run
from ivc.lab.xen.stacks import PAIRS, talk
from ivc.lab.xen.ways import Way

TALKING = (Way.VIF, Way.DIRECT, Way.RELAY)
"""The ways the stacks go; spinning needs a CPU that has nothing else to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`ways` to show; `rounds` of each ping-pong; `calls` of each SOME/IP client.

    Over the vif a client makes a fifth of them: it only shows what there is to compare with.
    """

    ways: Sequence[Way] = tuple(Way)
    rounds: int = 3
    calls: int = 1500

    def calls_over(self, way: Way) -> int:
        return max(self.calls // 5, 1) if way is Way.VIF else self.calls


def show(lab: XenLab, settings: Settings) -> list[Run]:
    """Run everything; ping-pongs first, then the stacks. Raises LabError."""
    ping_pongs: dict[tuple[int, Way], list[Run]] = {
        (size, way): [] for size in SIZES for way in settings.ways
    }
    talks: dict[tuple[tuple[str, str], Way], Run] = {}
    for path, ways in _by_controller(settings.ways):
        with ExitStack() as stack:
            if path is not None:
                with saying(f"controller in dom0, {path}"):
                    stack.enter_context(running_controller(lab, path))
            for size, way in _rounds(ways, settings.rounds):
                with saying(f"ping-pong, {size} bytes, {way}"):
                    ping_pongs[size, way].append(ping_pong(lab, way, size))
            node = stack.enter_context(outside(lab))
            for pair, way in product(PAIRS, ways):
                if way in TALKING and (pair, way) not in talks:
                    with saying(f"{pair[0]} server, {pair[1]} client, {way}"):
                        calls = settings.calls_over(way)
                        talks[pair, way] = talk(lab, node, pair, way, calls)
    return [
        *map(median_of, ping_pongs.values()),
        *(talks[key] for key in sorted(talks, key=_order)),
    ]


def _by_controller(ways: Sequence[Way]) -> Iterator[tuple[str | None, list[Way]]]:
    """For each controller needed, the ways measured while it runs: the vif with all of them."""
    for path in dict.fromkeys(way.controller for way in ways if way.controller) or [None]:
        yield path, [way for way in ways if way.controller in (None, path)]


def _rounds(ways: Sequence[Way], rounds: int) -> Iterator[tuple[int, Way]]:
    for size in SIZES:
        for _ in range(rounds):
            for way in ways:
                yield size, way


def _order(key: tuple[tuple[str, str], Way]) -> tuple[int, int]:
    pair, way = key
    return PAIRS.index(pair), list(Way).index(way)
