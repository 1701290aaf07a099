# SPDX-License-Identifier: Apache-2.0
"""`ivc graph`: the plan as a picture."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ivc.commands import HELP, Subparsers
from ivc.controller.client import read_status
from ivc.controller.commands import add_run_dir
from ivc.errors import IvcError
from ivc.network import load
from ivc.network.arguments import add_files
from ivc.network.files import display
from ivc.observe.listen import Where, address, refuse_exposed
from ivc.plan import build_plan
from ivc.writing import write_whole

if TYPE_CHECKING:
    from ivc.observe.topology import Topology

FORMATS: Final = ("html", "svg", "mermaid", "dot")

_HERE: Final = "127.0.0.1:8088"

_SUFFIXES: Final = {
    ".html": "html",
    ".htm": "html",
    ".svg": "svg",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
}


class NotTogether(IvcError):
    """Two arguments of which one makes the other pointless."""

    exit_code = 2


class UnknownFormat(IvcError):
    """Nobody said what to draw it as."""

    exit_code = 2


def add_commands(subparsers: Subparsers) -> None:
    """Add `graph`."""
    parser = subparsers.add_parser(
        "graph",
        help=HELP["graph"],
        description="Draw the plan of CONFIG and mapping; touches nothing. The HTML page is one "
        "file that needs no network: point at a node to see its ways. With --live it is served, "
        "and shows what goes over rings now.",
    )
    add_files(parser)
    parser.add_argument(
        "-o",
        "--output-format",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: what FILE ends in, else svg)",
    )
    parser.add_argument(
        "-w", "--write", type=Path, metavar="FILE", help="where to (default: standard output)"
    )
    parser.add_argument(
        "--live", action="store_true", help="serve the page, with the running controller's rates"
    )
    parser.add_argument(
        "--listen",
        type=address,
        default=_HERE,
        metavar="ADDRESS:PORT",
        help=f"where to serve it: an address of this machine alone (default {_HERE})",
    )
    add_run_dir(parser)
    parser.set_defaults(run=_graph)


def _graph(arguments: argparse.Namespace) -> int:
    from ivc.observe.formats import RENDER  # what no other command needs
    from ivc.observe.topology import topology

    if arguments.live and (arguments.write or arguments.output_format):
        raise NotTogether("graph --live: found -w or -o, expected neither; the page is served")
    render = RENDER[arguments.output_format or _format_of(arguments.write)]
    loaded = load(arguments.config, arguments.mapping)
    for finding in loaded.findings:
        print(finding, file=sys.stderr)
    picture = topology(build_plan(loaded.network, loaded.mapping))
    if arguments.live:
        return _serve(picture, arguments.listen, arguments.run_dir)
    drawn = render(picture)
    if arguments.write is None:
        sys.stdout.write(drawn)
    else:
        write_whole(arguments.write, drawn)
    return 0


def _serve(picture: "Topology", where: Where, run_dir: Path) -> int:
    from ivc.observe.exporter import Exporter, Page  # http.server
    from ivc.observe.html import render_html
    from ivc.observe.live import live

    refuse_exposed(where, "")
    read_status(run_dir)  # no controller, or not permitted: told now, not to whoever asks
    page = render_html(picture, live=True)
    pages = {
        "/": Page("text/html; charset=utf-8", lambda: page),
        "/live.json": Page(
            "application/json", lambda: json.dumps(live(read_status(run_dir), picture))
        ),
    }
    with Exporter(*where, pages) as exporter:
        print(f"ivc graph: {exporter.url}", file=sys.stderr, flush=True)
        exporter.serve_forever()
    return 0


def _format_of(output: Path | None) -> str:
    """What a file's name says. Raises `UnknownFormat`."""
    if output is None:
        return "svg"
    ending = output.suffix.lower()
    if ending not in _SUFFIXES:
        found = f"ending {display(Path(ending))}" if ending else "no ending"
        expected = ", ".join(_SUFFIXES)
        raise UnknownFormat(
            f"-w {display(output)}: found {found}, expected one of {expected}; "
            "write another, or name the format with -o"
        )
    return _SUFFIXES[ending]
