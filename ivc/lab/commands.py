# SPDX-License-Identifier: Apache-2.0
"""`ivc lab xen`."""

import argparse

from ivc.commands import HELP, Subparsers
from ivc.lab.xen.options import DESCRIPTION, add_options


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    lab = subparsers.add_parser("lab", help=HELP["lab"])
    kinds = lab.add_subparsers(title="laboratories", metavar="LAB", required=True)
    xen = kinds.add_parser(
        "xen", help="a real Xen in QEMU: dom0 and two domUs", description=DESCRIPTION
    )
    add_options(xen)
    xen.set_defaults(run=_lab_xen)


def _lab_xen(arguments: argparse.Namespace) -> int:
    from ivc.lab.xen.__main__ import run  # what it imports no other command needs

    return run(arguments)
