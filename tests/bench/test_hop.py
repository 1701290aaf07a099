# SPDX-License-Identifier: Apache-2.0
"""Instructions by function: each counted where it was taken, and none left out."""

from __future__ import annotations

from collections import Counter

import pytest
from valgrind import valgrind

from bench.hop import Costs, as_table, costs, hop
from bench.instructions import COUNT

TEXT = """events: Ir
fl=a.c
fn=send.part.0
10 5
12 7
calls=1 30
12 40
fn=__memcpy_avx_unaligned_erms
3 11
fn=counted_sends
4 2
totals: 65
"""


def test_a_function_has_its_own_and_not_what_it_calls() -> None:
    assert costs(TEXT) == Counter({"send": 12, "memcpy": 11, "the program itself": 2})


def test_small_ones_are_counted_together() -> None:
    columns = {"one": Counter({"a": 100 * COUNT, "b": COUNT, "c": COUNT})}
    assert as_table(columns)[2:] == ["| `a` | 100 |", "| others | 2 |", "| **all** | 102 |"]


@pytest.fixture(scope="module")
def columns() -> dict[str, Costs]:
    valgrind()
    return hop()


def test_the_wrapper_is_the_ring_and_what_it_takes_to_get_there(columns: dict[str, Costs]) -> None:
    for call, function in (("send", "ivc_tx_write"), ("receive", "ivc_rx_peek")):
        assert columns[f"UDP {call}"][function] > 0
        assert columns[f"bare ring {call}"][function] > 0
        assert columns[f"UDP {call}"].total() > columns[f"bare ring {call}"].total()
