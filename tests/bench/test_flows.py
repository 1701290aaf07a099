# SPDX-License-Identifier: Apache-2.0
"""Flows are set up, left alone and counted as the bench says: small amounts of all it measures."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.flows import IDLE, MANY, SET_UP, Amount, Figures, measure_flows, nodes
from bench.targets import FIGURES


@pytest.fixture(scope="module")
def figures() -> Figures:
    small = Amount(20, 1000, 10, 0.5, nodes=4, services=40, flows=30)
    return measure_flows(small)


def test_whatever_has_a_target_is_measured(figures: Figures) -> None:
    assert {name for name, _ in FIGURES} <= set(figures)


def test_who_has_nothing_to_do_sleeps(figures: Figures) -> None:
    assert (figures[f"{IDLE}: wake-ups"], figures[f"{IDLE}: CPU, %"]) == (0, 0)


@pytest.mark.parametrize("name", [f"{SET_UP}: p50, ms", f"{MANY}: set-up, s", f"{MANY}: RSS, MiB"])
def test_what_takes_something_is_told_so(figures: Figures, name: str) -> None:
    assert figures[name] > 0


def test_services_and_flows_are_those_asked_for() -> None:
    every = nodes(64, 2000, 1000)
    assert sum(len(node.ports) for node in every) == 2000
    assert sum(len(node.calls) for node in every) == 1000


def test_nobody_calls_himself_or_whom_nobody_is() -> None:
    every = nodes(7, 30, 50)
    offered = {f"{node.address}:{port}": node.name for node in every for port in node.ports}
    called = [(node.name, offered[call]) for node in every for call in node.calls]
    assert all(caller != callee for caller, callee in called)


def test_everybody_is_called() -> None:
    every = nodes(8, 80, 160)
    called = Counter(call.partition(":")[0] for node in every for call in node.calls)
    assert set(called) == {node.address for node in every}
