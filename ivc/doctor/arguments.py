# SPDX-License-Identifier: Apache-2.0
"""The command line of `ivc doctor`, without what it imports to do its work."""

import argparse
from collections.abc import Sequence


def split_program(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """`doctor CONFIG... -- APP ARGS`: argparse would take APP for one more CONFIG."""
    if "--" not in argv or argv[0] != "doctor":
        return argv, ()
    at = list(argv).index("--")
    return argv[:at], argv[at + 1 :]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is not CONFIG, --mapping or --run-dir."""
    parser.add_argument("--node", metavar="N", help="look at this node only; in a guest: its own")
    parser.add_argument("--json", action="store_true", help="findings as one JSON object")
