# SPDX-License-Identifier: Apache-2.0
"""`ivc top`: a running controller's status as a full screen."""

import argparse
import sys

from ivc.commands import HELP, Subparsers
from ivc.controller.client import read_status
from ivc.controller.commands import add_run_dir
from ivc.controller.watch import seconds
from ivc.errors import IvcError


class NoScreen(IvcError):
    """There is nothing to show it on."""

    exit_code = 2


def add_commands(subparsers: Subparsers) -> None:
    """Add `top`."""
    parser = subparsers.add_parser(
        "top",
        help=HELP["top"],
        description="Watch what `ivc status` knows, with rates: Tab or a number shows another "
        "table, s sorts by the next column, r the other way round, p pauses, q ends. Needs the "
        "Python package textual.",
    )
    parser.add_argument(
        "--every",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="from one look to the next (default %(default)s)",
    )
    add_run_dir(parser)
    parser.set_defaults(run=_top)


def _top(arguments: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoScreen(
            "ivc top: found no terminal, expected one at standard input and output; "
            "`ivc status --watch` goes to pipes and files too"
        )
    try:
        from ivc.observe.top import Top  # textual, which no other command needs
    except ModuleNotFoundError as error:
        raise IvcError(
            f"ivc top: found no Python package {error.name}, expected textual; install it with "
            "pip install 'ivc[top]', or use `ivc status --watch`"
        ) from error
    read_status(arguments.run_dir)  # no controller, or not permitted: told before a screen is taken
    Top(lambda: read_status(arguments.run_dir), arguments.every).run()
    return 0
