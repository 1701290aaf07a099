# SPDX-License-Identifier: Apache-2.0
"""A plain C program gets what the rings promise, whichever way it waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.pingpong import WAITS, Figures, Settings, Side, measure, ratio

SPINNING_GAIN = 15.0
NOT_WORSE = 1.0


@pytest.fixture(scope="module")
def figures() -> list[Figures]:
    return measure(Settings(count=1500))


def test_every_message_comes_back_once(figures: list[Figures]) -> None:
    assert [(one.lost, one.strange) for one in figures] == [(0, 0)] * len(figures)


@pytest.mark.parametrize("wait", WAITS)
def test_spinning_is_fifteen_times_faster(figures: list[Figures], wait: str) -> None:
    assert ratio(figures, wait, Side.SPINNING) >= SPINNING_GAIN


@pytest.mark.parametrize("wait", WAITS)
def test_without_spinning_it_is_no_slower(figures: list[Figures], wait: str) -> None:
    assert ratio(figures, wait, Side.BLOCKING) >= NOT_WORSE


def test_damage_of_any_size_would_show() -> None:
    settings = Settings(rounds=1, count=2000, size=9000, numbered=True, sides=(Side.SPINNING,))
    assert [(one.lost, one.strange) for one in measure(settings)] == [(0, 0)] * len(WAITS)


TCP_GAIN = 10.0


def test_a_connection_gains_as_much() -> None:
    figures = measure(Settings(count=3000, waits=("blocking", "epoll-et"), tcp=True))
    assert [(one.lost, one.strange) for one in figures] == [(0, 0)] * len(figures)
    for wait in ("blocking", "epoll-et"):
        assert ratio(figures, wait, Side.SPINNING) >= TCP_GAIN
        assert ratio(figures, wait, Side.BLOCKING) >= NOT_WORSE


def test_damage_to_a_connections_bytes_would_show() -> None:
    settings = Settings(
        rounds=1, count=2000, size=60000, numbered=True, sides=(Side.SPINNING,), tcp=True
    )
    assert [(one.lost, one.strange) for one in measure(settings)] == [(0, 0)] * len(WAITS)


RELAY_AT_MOST = 4.0  # two hops are some 2.2 where each of the three processes has a CPU


def test_the_relay_costs_little_more_than_two_hops() -> None:
    """Both ends and the relay sleep. By epoll: blocking receives are at times too quick to."""
    settings = Settings(count=3000, waits=("epoll",), sides=(Side.BLOCKING,))
    times = {}
    for path in ("direct", "relay"):
        (figure,) = measure(replace(settings, path=path))
        assert (figure.lost, figure.strange) == (0, 0)
        times[path] = figure.p50
    assert times["relay"] <= RELAY_AT_MOST * times["direct"], times
