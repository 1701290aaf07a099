# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan as SVG: complete in itself, nothing is fetched, nothing runs.

What comes from files goes through `text`, always: it could be markup, or what XML cannot hold.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from ivc.network import Path
from ivc.observe.layout import PILL, PILL_STEP, Card, Curve, Drawing, Frame, draw
from ivc.observe.topology import ORDER, Link, Member, Topology

COLOURS: Final = {
    Path.DIRECT: "#009e73",
    Path.RELAY: "#0072b2",
    Path.NETWORK: "#7d8590",
    Path.DENIED: "#d55e00",
}
"""Of paths: such as people with any kind of colour vision can tell apart."""

# The same told by dashes, for a printer.
_DASHES: Final = {Path.DIRECT: "none", Path.RELAY: "12 4", Path.NETWORK: "5 4", Path.DENIED: "2 4"}

_TITLED: Final = 8  # links that have room for a name each
_WAYS_TOLD: Final = 12  # in a tooltip
_CHARACTER: Final = 7.5  # the width of one in a domain's title, at most

_STYLE: Final = """
svg { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; background: #ffffff; }
.page { fill: #ffffff; }
.title { font-size: 20px; font-weight: 600; fill: #1f2933; }
.note { font-size: 12px; fill: #5b6773; }
.inside { fill: #f6f8fa; stroke: #d5dbe1; }
.bar { fill: #aab3bd; }
.domain { fill: #ffffff; stroke: #b9c3cd; }
.domain-title { font-size: 11px; fill: #5b6773; }
.halo { text-anchor: middle; stroke: #f6f8fa; stroke-width: 4px;
  paint-order: stroke; stroke-linejoin: round; }
.card { fill: #eef3f8; stroke: #c3cfdb; }
.outside .card { fill: #f4f4f4; stroke: #b5b5b5; stroke-dasharray: 4 3; }
.name { font-size: 13px; font-weight: 600; fill: #1f2933; }
.address { font-size: 11px; fill: #5b6773; }
.pill { fill: #ffffff; stroke: #c3cfdb; }
.service { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 10px;
  fill: #3e4c59; text-anchor: middle; }
.port { fill: #5b6773; }
.way { fill: none; stroke-width: 1.6; }
.way.denied { stroke-width: 2.4; }
.told { font-size: 11px; }
.ethernet { stroke: #7d8590; stroke-width: 1.6; stroke-dasharray: 5 4; }
"""


def render_svg(picture: Topology) -> str:
    """The picture as one SVG document."""
    drawing = draw(picture)
    names = {member.id: member.name for member in picture.inside}
    size = f'width="{drawing.width}" height="{drawing.height}"'
    view = f'viewBox="0 0 {drawing.width} {drawing.height}"'
    lines = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img">',
        f"<title>{_heading(picture)}</title>",
        f"<style>{_STYLE}{_paths(picture)}</style>",
        f'<rect class="page" {size}/>',
        *_head(picture),
        *_inside(picture, drawing),
        *(line for frame in drawing.frames for line in _frame(frame)),
        '<g class="ways">',
        *(_curve(curve, names) for curve in drawing.curves),
        "</g>",
        *(_card(card, drawing, "node") for card in drawing.cards),
        *(_card(card, drawing, "node outside") for card in drawing.outside),
        *(map(_told, drawing.curves) if len(drawing.curves) <= _TITLED else ()),
        "</svg>",
    )
    return "\n".join(lines) + "\n"


def text(value: object) -> str:
    """What is safe as the text of an element or between the quotes of an attribute."""
    return escape("".join(char if char.isprintable() else "?" for char in str(value)))


def _shortened(value: str, most: int) -> str:
    return text(value if len(value) <= most else f"{value[: most - 1]}…")


def _paths(picture: Topology) -> str:
    """Colours, and fainter lines the more of them there are."""
    rules = []
    for path in ORDER:
        dashes = f"stroke-dasharray: {_DASHES[path]}"
        faint = max(min(60 / (len(picture.by_path(path)) or 1), 0.9), 0.13)
        rules.append(f".{path.value} {{ stroke: {COLOURS[path]}; {dashes}; }}")
        rules.append(f".way.{path.value} {{ stroke-opacity: {faint:.2f}; }}")
        told = f"fill: {COLOURS[path]}; stroke: #f6f8fa; stroke-dasharray: none"
        rules.append(f".told.{path.value} {{ {told}; }}")
    return "\n".join(rules) + "\n"


# ---- around it --------------------------------------------------------------------------------


def _heading(picture: Topology) -> str:
    nodes, domains = len(picture.inside), len(picture.boxes)
    words = f"{_count(nodes, 'node')} in {_count(domains, 'domain')}"
    return f"{words}, {len(picture.outside)} outside" if picture.outside else words


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _head(picture: Topology) -> Iterator[str]:
    yield f'<text class="title" x="28" y="38">{_heading(picture)}</text>'
    x = 28
    for path in ORDER:
        number = len(picture.by_path(path))
        if not number:
            continue
        told = f"{path.value} ({_count(number, 'pair')})"
        yield f'<g class="legend" data-path="{path.value}">'
        yield f'<line class="{path.value}" x1="{x}" y1="66" x2="{x + 28}" y2="66"'
        yield f' stroke-width="3"/><text class="note" x="{x + 36}" y="70">{told}</text></g>'
        x += 172


def _inside(picture: Topology, drawing: Drawing) -> Iterator[str]:
    inside = drawing.inside
    yield _rect("inside", inside.x, inside.y, inside.width, inside.height, 10)
    what = "hypervisor" if picture.is_xen else "this machine"
    yield f'<text class="note" x="{inside.x + 10}" y="{inside.y + 17}">{what}</text>'
    if not drawing.outside:
        return
    for card in reversed(drawing.outside):
        x, y = card.port
        yield f'<line class="ethernet" x1="{x}" y1="{inside.bottom}" x2="{x}" y2="{y}"/>'
    yield _rect("bar", inside.x, inside.bottom - 3, inside.width, 6, 3)
    at = f'x="{inside.right}" y="{inside.bottom + 18}" text-anchor="end"'
    yield f'<text class="note" {at}>Ethernet</text>'


def _rect(kind: str, x: int, y: int, width: int, height: int, round_: int) -> str:
    size = f'width="{width}" height="{height}" rx="{round_}"'
    return f'<rect class="{kind}" x="{x}" y="{y}" {size}/>'


# ---- domains, nodes, ways ---------------------------------------------------------------------


def _frame(frame: Frame) -> Iterator[str]:
    """A domain, with its title on its border."""
    rect = frame.rect
    yield _rect("domain", rect.x, rect.y, rect.width, rect.height, 8)
    title = _shortened(frame.title, int((rect.width - 40) / _CHARACTER))
    yield f'<text class="domain-title halo" x="{rect.x + rect.width // 2}" y="{rect.y + 4}">'
    yield f"{title}<title>{text(frame.title)}</title></text>"


def _card(card: Card, drawing: Drawing, kind: str) -> str:
    member, rect, style = card.member, card.rect, drawing.style
    name = _shortened(member.name, style.name_chars)
    x, y = rect.x, rect.y
    inside = "outside" not in kind
    parts = (
        f'<g class="{kind}" data-id="{member.id}" data-name="{text(member.name)}">',
        f"<title>{_everything(member)}</title>",
        _rect("card", x, y, rect.width, rect.height, 5),
        f'<text class="name" x="{x + style.name[0]}" y="{y + style.name[1]}">{name}</text>',
        f'<text class="address" x="{x + style.address[0]}" y="{y + style.address[1]}">',
        f"{text(member.address)}</text>",
        *_pills(card, drawing),
        f'<circle class="port" cx="{card.port[0]}" cy="{card.port[1]}" r="3"/>' if inside else "",
        "</g>",
    )
    return "".join(parts)


def _everything(member: Member) -> str:
    return text(" ".join((member.name, member.address, *member.services)))


def _pills(card: Card, drawing: Drawing) -> Iterator[str]:
    style = drawing.style
    left, top = card.rect.x + style.pills[0], card.rect.y + style.pills[1]
    for number, service in enumerate(card.shown):
        x = left + number % style.columns * PILL_STEP[0]
        y = top + number // style.columns * PILL_STEP[1]
        yield _rect("pill", x, y, *PILL, 9)
        yield f'<text class="service" x="{x + PILL[0] // 2}" y="{y + 13}">{text(service)}</text>'
    if card.hidden:
        number = len(card.shown)
        x = left + number % style.columns * PILL_STEP[0]
        y = top + number // style.columns * PILL_STEP[1]
        yield f'<text class="note" x="{x + 4}" y="{y + 13}">+{card.hidden} more</text>'


def _curve(curve: Curve, names: dict[int, str]) -> str:
    link, path = curve.link, curve.link.path.value
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = curve.points
    data = f'data-path="{path}" data-ends="{link.a} {link.b}"'
    shape = f"M{x1},{y1}C{x2},{y2} {x3},{y3} {x4},{y4}"
    tooltip = f"<title>{_tooltip(link, names)}</title>"
    return f'<path class="way {path}" {data} d="{shape}">{tooltip}</path>'


def _tooltip(link: Link, names: dict[int, str]) -> str:
    more = len(link.ways) - _WAYS_TOLD
    ways: Iterable[str] = link.ways[:_WAYS_TOLD]
    lines = (f"{names[link.a]} - {names[link.b]}: {link.path.value}", *ways)
    return "\n".join(map(text, lines)) + (f"\nand {more} more" if more > 0 else "")


def _told(curve: Curve) -> str:
    x, y = curve.middle
    link, path = curve.link, curve.link.path.value
    data = f'data-path="{path}" data-ends="{link.a} {link.b}"'
    return f'<text class="halo told {path}" {data} x="{x}" y="{y + 4}">{path}</text>'
