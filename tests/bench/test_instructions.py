# SPDX-License-Identifier: Apache-2.0
"""What the wrapper adds to a call, in instructions, is what bench/instructions.json says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from valgrind import valgrind

from bench.instructions import Counts, compiler, count_all, differs, kept, many, used

COMPILER, KEPT = kept()
pytestmark = pytest.mark.timeout(400)  # dozens of programs under valgrind


@pytest.fixture(scope="module")
def counted() -> Counts:
    valgrind()
    return count_all()


@pytest.fixture
def counts(counted: Counts) -> Counts:
    if compiler() != COMPILER:
        pytest.skip(f"counts are kept of {COMPILER}, and this is {compiler()}")
    return counted


@pytest.mark.parametrize("name", KEPT)
def test_a_call_takes_as_many_instructions_as_it_did(counts: Counts, name: str) -> None:
    found, expected = counts[name], KEPT[name]
    assert not differs(found, expected), (
        f"{name}: found {found} instructions, expected {expected}; if it is meant: "
        "python -m bench.instructions --write"
    )


@pytest.mark.parametrize("others", [many, used], ids=["never used", "with rings"])
@pytest.mark.parametrize("how", ["epoll", "epoll-et"])
@pytest.mark.parametrize("kind", ["ready", "idle"])
def test_idle_sockets_in_a_set_cost_a_wait_nothing(
    counted: Counts, kind: str, how: str, others: Callable[[str], str]
) -> None:
    name = f"udp {how} {kind}"
    assert counted[others(name)] < 1.2 * counted[name]


def test_all_that_is_counted_is_kept(counts: Counts) -> None:
    assert set(counts) == set(KEPT)


@pytest.mark.parametrize(("counted", "expected"), [(115.0, 100.0), (85.0, 100.0), (12.0, 3.0)])
def test_more_than_the_tolerance_differs_either_way(counted: float, expected: float) -> None:
    assert differs(counted, expected)


@pytest.mark.parametrize(("counted", "expected"), [(109.0, 100.0), (91.0, 100.0), (10.0, 3.0)])
def test_less_does_not(counted: float, expected: float) -> None:
    assert not differs(counted, expected)
