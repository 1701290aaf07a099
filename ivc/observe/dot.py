# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan in the language of Graphviz, for those who have it."""

from collections.abc import Iterator

from ivc.network import Path
from ivc.observe.svg import COLOURS
from ivc.observe.topology import Member, Topology


def render_dot(picture: Topology) -> str:
    """The graph, undirected."""
    lines = (
        "graph ivc {",
        "  layout=fdp; overlap=false; splines=true;",
        '  node [shape=box, fontname="sans-serif"];',
        *_nodes(picture),
        *_edges(picture),
        "}",
    )
    return "\n".join(lines) + "\n"


def quoted(*lines: str) -> str:
    """Text between quotes, one or several lines; nothing in it is an escape of Graphviz."""
    return '"' + "\\n".join(map(_escaped, lines)) + '"'


def _escaped(line: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in line)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return escaped.replace("&", "&amp;")  # it resolves entities


def _nodes(picture: Topology) -> Iterator[str]:
    for number, box in enumerate(picture.boxes, start=1):
        yield f"  subgraph cluster_{number} {{ label={quoted(box.title)};"
        for member in box.members:
            yield f"    {_node(member)};"
        yield "  }"
    if picture.outside:
        yield '  ethernet [label="Ethernet, to all nodes", style=bold];'
    for member in picture.outside:
        yield f"  {_node(member)};"
        yield f'  ethernet -- n{member.id} [color="{COLOURS[Path.NETWORK]}"];'


def _node(member: Member) -> str:
    return f"n{member.id} [label={quoted(member.name, member.address, *member.services)}]"


def _edges(picture: Topology) -> Iterator[str]:
    for link in picture.links:
        told = quoted(link.path.value, *link.ways)
        colour = COLOURS[link.path]
        yield f'  n{link.a} -- n{link.b} [color="{colour}", tooltip={told}];'
