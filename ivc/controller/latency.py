# SPDX-License-Identifier: Apache-2.0
"""How long messages were on their way to a process that slept, from what it has counted.

A process counts by powers of two (core/pages.h), so each number told is an upper bound.
"""

from collections.abc import Sequence
from typing import Any, Final

_UNIT_US: Final = 1.024


def describe_latency(counted: Sequence[int]) -> dict[str, Any]:
    """How many messages, and in what time half of them, 99 of 100 and all were there."""
    return {
        "messages": sum(counted),
        "p50_us": _within(counted, 50),
        "p99_us": _within(counted, 99),
        "max_us": _within(counted, 100),
    }


def _within(counted: Sequence[int], percent: int) -> float | None:
    """In which time so many of a hundred were there; None if there were none."""
    wanted, seen = -(-sum(counted) * percent // 100), 0
    for number, count in enumerate(counted):
        seen += count
        if seen >= wanted > 0:
            return round((1 << number) * _UNIT_US, 1)
    return None
