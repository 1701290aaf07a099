# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan as a Mermaid flowchart, for Markdown."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from ivc.network import Path
from ivc.observe.svg import COLOURS
from ivc.observe.topology import Link, Member, Topology

EDGES_MAX: Final = 500
"""Mermaid draws no more unless whoever embeds it says so."""

_PLAIN: Final = frozenset(" -_.:")


def render_mermaid(picture: Topology) -> str:
    """The flowchart. With too many links, those of the most numerous paths become a hub's each."""
    lines = ("flowchart LR", *_nodes(picture), *_edges(picture, _hubs(picture)))
    return "\n".join(lines) + "\n"


def label(text: str) -> str:
    """Text that Mermaid takes for nothing else, neither its own syntax nor HTML."""
    return "".join(_character(char if char.isprintable() else "?") for char in text)


def _character(char: str) -> str:
    plain = char in _PLAIN or (char.isascii() and char.isalnum())
    return char if plain else f"#{ord(char)};"


def _hubs(picture: Topology) -> list[Path]:
    """The most numerous paths, as many as it takes."""
    numerous = Counter(link.path for link in picture.links).most_common()
    hubs: list[Path] = []
    left = len(picture.links) + len(picture.outside)
    for path, number in numerous:
        if left > EDGES_MAX:
            hubs.append(path)
            left += len(_ends(picture, path)) - number
    return hubs


def _ends(picture: Topology, path: Path) -> list[int]:
    """The nodes that links of a path lead to."""
    return sorted({end for link in picture.by_path(path) for end in (link.a, link.b)})


def _nodes(picture: Topology) -> Iterator[str]:
    for number, box in enumerate(picture.boxes, start=1):
        yield f'  subgraph d{number}["{label(box.title)}"]'
        for member in box.members:
            yield f"    {_node(member)}"
        yield "  end"
    if picture.outside:
        yield '  ethernet[["Ethernet, to all nodes"]]'
    for member in picture.outside:
        yield f"  {_node(member)}:::outside"


def _node(member: Member) -> str:
    lines = "<br/>".join(map(label, (member.name, member.address, *member.services)))
    return f'n{member.id}["{lines}"]'


def _edges(picture: Topology, hubs: Collection[Path]) -> Iterator[str]:
    drawn = [(_edge(link), link.path) for link in picture.links if link.path not in hubs]
    for path in hubs:
        yield f'  {path.value}(("{path.value}<br/>{len(picture.by_path(path))} pairs"))'
        drawn += [(f"  n{end} --- {path.value}", path) for end in _ends(picture, path)]
    drawn += [(f"  ethernet --- n{member.id}", Path.NETWORK) for member in picture.outside]
    yield from (edge for edge, _ in drawn)
    for path in Path:
        numbers = [str(number) for number, (_, of) in enumerate(drawn) if of is path]
        if numbers:
            yield f"  linkStyle {','.join(numbers)} stroke:{COLOURS[path]}"
    yield "  classDef outside stroke-dasharray:4 3"


def _edge(link: Link) -> str:
    return f'  n{link.a} ---|"{link.path.value}"| n{link.b}'
