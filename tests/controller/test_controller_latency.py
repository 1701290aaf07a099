# SPDX-License-Identifier: Apache-2.0
"""How long messages were on their way to sleepers, from counts by powers of two."""

import pytest

from ivc.controller.latency import describe_latency

NONE = dict.fromkeys(("p50_us", "p99_us", "max_us"))


def counted(**by: int) -> list[int]:
    """`n4=2`: two of less than 2^4 units."""
    return [by.get(f"n{number}", 0) for number in range(16)]


def test_where_nobody_slept_there_is_nothing_to_tell() -> None:
    assert describe_latency(counted()) == {"messages": 0, **NONE}


def test_one_message_is_all_there_is() -> None:
    assert describe_latency(counted(n4=1)) == {
        "messages": 1,
        "p50_us": 16.4,
        "p99_us": 16.4,
        "max_us": 16.4,
    }


@pytest.mark.parametrize(("slow", "p99"), [(0, 8.2), (1, 8.2), (2, 1048.6)])
def test_the_slowest_of_a_hundred_are_seen(slow: int, p99: float) -> None:
    told = describe_latency(counted(n3=200 - 2 * slow, n10=2 * slow))
    assert (told["p50_us"], told["p99_us"]) == (8.2, p99)
