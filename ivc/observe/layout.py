# SPDX-License-Identifier: Apache-2.0
"""Where everything of a picture stands: two columns of domains, and what is outside below them.

Links run between the columns, so that no link crosses a node. Everything is counted in pixels and
follows from the topology alone: same topology, same drawing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ivc.observe.topology import Box, Link, Member, Topology

FEW: Final = 16
"""Nodes inside that have room for cards of several lines; more get one line each."""

PILL: Final = (92, 18)
PILL_STEP: Final = (PILL[0] + 6, PILL[1] + 4)

_MARGIN: Final = 28
_TOP: Final = 92  # title and legend
_FRAME: Final = 26  # from the frame to what is in it
_BOX_TOP, _BOX_SIDE, _BOX_BOTTOM = 16, 10, 10
_GAP: Final = 12
_BAR: Final = 30  # from the frame to what is outside


@dataclass(frozen=True, slots=True)
class Style:
    """What a card looks like: where its text and the pills of its services begin.

    There is room for `rows` of `columns` pills.
    """

    width: int
    height: int  # without pills below the text
    name: tuple[int, int]
    name_chars: int
    address: tuple[int, int]
    pills: tuple[int, int]
    columns: int
    rows: int


TALL: Final = Style(224, 48, (12, 20), 26, (12, 37), (12, 48), 2, 4)
FLAT: Final = Style(486, 28, (12, 19), 21, (186, 19), (284, 5), 2, 1)


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle by its upper left corner and its size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Where it ends."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Card:
    """A node where it stands. Links begin at `port`; of its services, `shown` have a pill."""

    member: Member
    rect: Rect
    port: tuple[int, int]
    shown: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Services there is no room for."""
        return len(self.member.services) - len(self.shown)


@dataclass(frozen=True, slots=True)
class Frame:
    """A domain where it stands."""

    title: str
    rect: Rect


@dataclass(frozen=True, slots=True)
class Curve:
    """A link as a cubic curve of four points."""

    link: Link
    points: tuple[tuple[int, int], ...]

    @property
    def middle(self) -> tuple[int, int]:
        """Where its name may stand."""
        x, y = (
            (one + 3 * two + 3 * three + four) // 8
            for one, two, three, four in zip(*self.points, strict=True)
        )
        return x, y


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole. `inside` is the frame around all domains; Ethernet runs along its lower edge."""

    width: int
    height: int
    style: Style
    inside: Rect
    frames: tuple[Frame, ...]
    cards: tuple[Card, ...]
    outside: tuple[Card, ...]
    curves: tuple[Curve, ...]


def draw(picture: Topology) -> Drawing:
    """Give everything its place."""
    count = len(picture.inside)
    style = TALL if count <= FEW else FLAT
    column = style.width + 2 * _BOX_SIDE
    middle = min(260 + 10 * count, 520)
    inner_width = 2 * column + middle
    x, y = _MARGIN + _FRAME, _TOP + _FRAME
    left, right = _columns(_halves(picture.boxes), style)
    columns = ((left, x, False), (right, x + column + middle, True))
    heights = [_column_height(boxes, style) for boxes in (left, right)]
    frames: list[Frame] = []
    cards: list[Card] = []
    for (boxes, at, is_right), height in zip(columns, heights, strict=True):
        top = y + (max(heights) - height) // 2
        for box in boxes:
            frame, inhabitants = _place(box, at, top, style, is_right)
            frames.append(frame)
            cards += inhabitants
            top = frame.rect.bottom + _GAP
    inside = Rect(_MARGIN, _TOP, inner_width + 2 * _FRAME, max(*heights, 60) + 2 * _FRAME)
    outside = _outside(picture.outside, inside, style)
    bottom = max((card.rect.bottom for card in outside), default=inside.bottom)
    return Drawing(
        width=inside.right + _MARGIN,
        height=bottom + _MARGIN,
        style=style,
        inside=inside,
        frames=tuple(frames),
        cards=tuple(cards),
        outside=outside,
        curves=tuple(_curves(picture.links, cards, inside)),
    )


# ---- domains ----------------------------------------------------------------------------------


def _halves(boxes: Sequence[Box]) -> list[Box]:
    """The same, but a domain with more than half of many nodes in two, one for each column."""
    total = sum(len(box.members) for box in boxes)
    result = []
    for box in boxes:
        size = len(box.members)
        if size < 2 or size * 2 <= total or (len(boxes) > 1 and size <= 4):
            result.append(box)
            continue
        cut = (size + 1) // 2
        result.append(replace(box, members=box.members[:cut]))
        result.append(replace(box, members=box.members[cut:]))
    return result


def _columns(boxes: Sequence[Box], style: Style) -> tuple[Sequence[Box], Sequence[Box]]:
    """Left and right, cut where their heights differ least."""
    cuts = range(len(boxes) + 1)

    def taller(cut: int) -> int:
        return max(_column_height(boxes[:cut], style), _column_height(boxes[cut:], style))

    best = min(cuts, key=taller)
    return boxes[:best], boxes[best:]


def _column_height(boxes: Sequence[Box], style: Style) -> int:
    return sum(_box_height(box, style) + _GAP for box in boxes) - _GAP if boxes else 0


def _box_height(box: Box, style: Style) -> int:
    cards = sum(_card_height(member, style) + 8 for member in box.members) - 8
    return _BOX_TOP + cards + _BOX_BOTTOM


def _place(box: Box, x: int, y: int, style: Style, is_right: bool) -> tuple[Frame, Iterable[Card]]:
    """The domain and its nodes, whose links begin on the inner side."""
    rect = Rect(x, y, style.width + 2 * _BOX_SIDE, _box_height(box, style))
    cards = []
    top = y + _BOX_TOP
    for member in box.members:
        place = Rect(x + _BOX_SIDE, top, style.width, _card_height(member, style))
        port = (place.x if is_right else place.right, top + place.height // 2)
        cards.append(Card(member, place, port, _shown(member, style)))
        top = place.bottom + 8
    return Frame(box.title, rect), cards


def _shown(member: Member, style: Style) -> tuple[str, ...]:
    """What there is room for; the last place may be needed to tell how many more there are."""
    room = style.columns * style.rows
    return member.services if len(member.services) <= room else member.services[: max(room - 1, 1)]


def _card_height(member: Member, style: Style) -> int:
    if style is FLAT:
        return style.height
    places = min(len(member.services), style.columns * style.rows)
    rows = -(-places // style.columns)
    return style.height + (rows * PILL_STEP[1] + 6 if rows else 0)


def _outside(members: Sequence[Member], inside: Rect, style: Style) -> tuple[Card, ...]:
    """Rows under the frame, each in the middle."""
    step = style.width + _GAP
    most = max((inside.width + _GAP) // step, 1)
    cards = []
    top = inside.bottom + _BAR
    for first in range(0, len(members), most):
        row = members[first : first + most]
        x = inside.x + (inside.width - len(row) * step + _GAP) // 2
        height = max(_card_height(member, style) for member in row)
        for number, member in enumerate(row):
            place = Rect(x + number * step, top, style.width, height)
            port = (place.x + place.width // 2, top)
            cards.append(Card(member, place, port, _shown(member, style)))
        top += height + _GAP
    return tuple(cards)


# ---- links ------------------------------------------------------------------------------------


def _curves(links: Iterable[Link], cards: Iterable[Card], inside: Rect) -> Iterable[Curve]:
    """The most numerous path first, that is, below the others."""
    ports = {card.member.id: card.port for card in cards}
    middle = inside.x + inside.width // 2
    links = tuple(links)
    numerous = Counter(link.path for link in links)
    seen: Counter[tuple[int, int]] = Counter()
    for link in sorted(links, key=lambda link: -numerous[link.path]):
        nth = seen[link.a, link.b]
        seen[link.a, link.b] += 1
        yield Curve(link, _points(ports[link.a], ports[link.b], middle, inside.height, nth))


def _points(
    start: tuple[int, int], end: tuple[int, int], middle: int, height: int, nth: int
) -> tuple[tuple[int, int], ...]:
    """From port to port by way of the middle; the `nth` between the same two bends further."""
    (x1, y1), (x2, y2) = start, end
    bend = 26 * ((nth + 1) // 2) * (-1 if nth % 2 else 1)
    if (x1 < middle) == (x2 < middle):  # one column: out, and back further down
        reach = abs(middle - x1) * (35 + min(abs(y2 - y1) * 120 // max(height, 1), 90)) // 100
        out = (reach + abs(bend)) * (1 if x1 < middle else -1)
        return start, (x1 + out, y1), (x2 + out, y2), end
    half = (x2 - x1) // 2
    return start, (x1 + half, y1 + bend), (x2 - half, y2 + bend), end
