# SPDX-License-Identifier: Apache-2.0
"""How values of tables are written."""

import pytest

from ivc.controller.tables import Cell, aligned, fill, percent, printable, scaled


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.5, "0.5"),
        (12.4, "12"),
        (999, "999"),
        (1000, "1.0k"),
        (123_456, "123k"),
        (2_500_000, "2.5M"),
        (7.2e9, "7.2G"),
        (7.2e12, "7200G"),
    ],
)
def test_a_rate_has_few_digits(number: Cell, text: str) -> None:
    assert scaled(number) == text


def test_a_share_is_told_in_hundredths() -> None:
    assert (percent(0.256), percent(1.0), percent(None)) == ("26%", "100%", "-")


def test_what_disturbs_a_terminal_is_replaced() -> None:
    assert printable("a\x1b[2J\n") == "a?[2J?"


def test_columns_stand_below_each_other() -> None:
    assert aligned(("a", "b"), [("long", "1")]) == "a     b\nlong  1\n"


@pytest.mark.parametrize(
    ("waiting", "share"), [([], None), ([None], None), ([1024], 0.25), ([0, 2048], 0.5)]
)
def test_the_fuller_ring_counts(waiting: list[int | None], share: float | None) -> None:
    rings = [{"size": 4096, "written": 0, "waiting": one} for one in waiting]
    assert fill({"rings": rings}) == share
