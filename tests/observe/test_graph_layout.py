# SPDX-License-Identifier: Apache-2.0
"""A drawing of any size: nothing lies on anything else, nothing is left out or sticks out."""

from itertools import combinations

import pytest
from pictures import Picture

from ivc.network import Action, Rule
from ivc.observe.layout import Rect, draw
from ivc.observe.topology import Topology


def apart(one: Rect, other: Rect) -> bool:
    beside = one.right <= other.x or other.right <= one.x
    return beside or one.bottom <= other.y or other.bottom <= one.y


def within(inner: Rect, outer: Rect) -> bool:
    fits = outer.x <= inner.x and inner.right <= outer.right
    return fits and outer.y <= inner.y and inner.bottom <= outer.bottom


def test_cards_do_not_overlap(any_size: Topology) -> None:
    drawing = draw(any_size)
    cards = [card.rect for card in (*drawing.cards, *drawing.outside)]
    assert all(apart(*two) for two in combinations(cards, 2))


def test_every_node_has_a_card_in_a_domain(any_size: Topology) -> None:
    drawing = draw(any_size)
    assert {card.member for card in drawing.cards} == set(any_size.inside)
    assert all(
        any(within(card.rect, frame.rect) for frame in drawing.frames) for card in drawing.cards
    )
    assert all(within(frame.rect, drawing.inside) for frame in drawing.frames)


def test_those_outside_are_outside_and_on_the_sheet(any_size: Topology) -> None:
    drawing = draw(any_size)
    sheet = Rect(0, 0, drawing.width, drawing.height)
    assert {card.member for card in drawing.outside} == set(any_size.outside)
    assert all(apart(card.rect, drawing.inside) for card in drawing.outside)
    assert all(within(card.rect, sheet) for card in drawing.outside)


def test_no_link_crosses_a_node(any_size: Topology) -> None:
    """A curve lies between its four points, and those lie between the columns."""
    drawing = draw(any_size)
    half = drawing.width / 2
    left = max((c.rect.right for c in drawing.cards if c.rect.right < half), default=0)
    right = min((c.rect.x for c in drawing.cards if c.rect.x > half), default=drawing.width)
    assert all(left <= x <= right for curve in drawing.curves for x, _ in curve.points)


def test_two_paths_of_a_pair_lie_apart(picture: Picture) -> None:
    drawing = draw(picture(("a", "b"), Rule(1, Action.DENY, service=0x1001)))
    assert len({curve.points for curve in drawing.curves}) == 2


@pytest.mark.parametrize("count", [2, 60])
def test_one_domain_with_all_nodes_is_in_both_columns(count: int, picture: Picture) -> None:
    names = tuple(f"ecu-{number:02d}" for number in range(count))
    drawing = draw(picture(names, domain="big"))
    assert [frame.title for frame in drawing.frames] == ["vm:big"] * 2
    assert len({frame.rect.x for frame in drawing.frames}) == 2


def test_same_picture_same_drawing(any_size: Topology) -> None:
    assert draw(any_size) == draw(any_size)
