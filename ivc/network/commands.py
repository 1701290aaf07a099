# SPDX-License-Identifier: Apache-2.0
"""`ivc import` and `ivc schema`: the network file, and what one may write in it."""

import argparse
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Final

from ivc.commands import HELP, Subparsers
from ivc.network.load import Loaded, load
from ivc.network.neutral import network_document, write_network
from ivc.writing import write_whole

_SCHEMAS: Final = ("mapping", "network")


def add_commands(subparsers: Subparsers) -> None:
    """Add the two commands."""
    importer = subparsers.add_parser(
        "import",
        help=HELP["import"],
        description="Read vsomeip JSON, ARXML or network files, and write all nodes and services "
        "as one network file, which can be given wherever a CONFIG can. What is doubtful is told "
        "on standard error. Exit code 3: something is wrong, nothing was written.",
    )
    importer.add_argument("config", nargs="+", type=Path, metavar="CONFIG", help="what to read")
    importer.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write: TOML, or JSON if it ends in .json (default: TOML, standard output)",
    )
    importer.set_defaults(run=_import)
    schema = subparsers.add_parser(
        "schema",
        help=HELP["schema"],
        description="Print a JSON Schema (draft 2020-12), for editors and other tools.",
    )
    schema.add_argument("name", choices=_SCHEMAS)
    schema.set_defaults(run=_schema)


def _import(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config, None)
    for finding in loaded.findings:
        print(finding, file=sys.stderr)
    output: Path | None = arguments.output
    text = _text(loaded, output is not None and output.suffix == ".json")
    if output is None:
        sys.stdout.write(text)
    else:
        write_whole(output, text)
    print(f"{_counts(loaded)}", file=sys.stderr)
    return 0


def _text(loaded: Loaded, as_json: bool) -> str:
    if as_json:
        return json.dumps(network_document(loaded.network, loaded.names), indent=2) + "\n"
    return write_network(loaded.network, loaded.names)


def _counts(loaded: Loaded) -> str:
    network = loaded.network
    endpoints = sum(len(service.endpoints) for service in network.services)
    counted = ((network.nodes, "node"), (network.services, "service"))
    words = [f"{len(found)} {what}{'s' * (len(found) != 1)}" for found, what in counted]
    return f"{', '.join(words)}, {endpoints} endpoint{'s' * (endpoints != 1)}"


def _schema(arguments: argparse.Namespace) -> int:
    name = f"{arguments.name}.schema.json"
    sys.stdout.write(resources.files("ivc.network").joinpath("schemas", name).read_text())
    return 0
