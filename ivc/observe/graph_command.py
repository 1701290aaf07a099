# SPDX-License-Identifier: Apache-2.0
"""`ivc graph`: the plan as a picture."""

import argparse
import sys
from pathlib import Path
from typing import Final

from ivc.commands import HELP, Subparsers
from ivc.errors import IvcError
from ivc.network import load
from ivc.network.arguments import add_files
from ivc.network.files import display
from ivc.plan import build_plan
from ivc.writing import write_whole

FORMATS: Final = ("html", "svg", "mermaid", "dot")

_SUFFIXES: Final = {
    ".html": "html",
    ".htm": "html",
    ".svg": "svg",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
}


class UnknownFormat(IvcError):
    """Nobody said what to draw it as."""

    exit_code = 2


def add_commands(subparsers: Subparsers) -> None:
    """Add `graph`."""
    parser = subparsers.add_parser(
        "graph",
        help=HELP["graph"],
        description="Draw the plan of CONFIG and mapping; touches nothing. The HTML page is one "
        "file that needs no network: point at a node to see its ways.",
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
    parser.set_defaults(run=_graph)


def _graph(arguments: argparse.Namespace) -> int:
    from ivc.observe.formats import RENDER  # what no other command needs
    from ivc.observe.topology import topology

    render = RENDER[arguments.output_format or _format_of(arguments.write)]
    loaded = load(arguments.config, arguments.mapping)
    for finding in loaded.findings:
        print(finding, file=sys.stderr)
    drawn = render(topology(build_plan(loaded.network, loaded.mapping)))
    if arguments.write is None:
        sys.stdout.write(drawn)
    else:
        write_whole(arguments.write, drawn)
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
