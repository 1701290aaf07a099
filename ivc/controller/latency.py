# SPDX-License-Identifier: Apache-2.0
"""How long messages were on their way to a process that slept, from what it has counted.

A process counts by powers of two (core/pages.h), so each number told is an upper bound.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

_UNIT_US: Final = 1.024


def describe_latency(counted: Sequence[int]) -> dict[str, Any]:
    """How many messages, and in what time half of them, 99 of 100 and all were there."""
    times = [(round((1 << number) * _UNIT_US, 1), count) for number, count in enumerate(counted)]
    return {
        "messages": sum(counted),
        "p50_us": within(times, 50),
        "p99_us": within(times, 99),
        "max_us": within(times, 100),
    }


def within(times: Iterable[tuple[float, int]], percent: int) -> float | None:
    """In which time so many of a hundred were there; None if there were none.

    `times` are those there are, the shortest first, and how many took each.
    """
    counted = list(times)
    wanted, seen = -(-sum(count for _, count in counted) * percent // 100), 0
    for time, count in counted:
        seen += count
        if seen >= wanted > 0:
            return time
    return None
