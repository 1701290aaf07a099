# SPDX-License-Identifier: Apache-2.0
"""The command line of `build.py xen` and `ivc lab xen`; imports nothing that takes time."""

from __future__ import annotations

import argparse

from ivc.lab.xen.ways import Way

DESCRIPTION = """\
Boot a real Xen in QEMU: dom0 and two domUs, hmi and adas. By default unmodified programs in
the domUs talk over their vifs and over shared memory, and a table compares the two. With COMMAND
that is run in dom0 or a domU instead, and its status is this program's.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add everything; `ivc.lab.xen.__main__.run` takes what comes of it."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--paths",
        type=_ways,
        default=list(Way),
        metavar="P,P",
        help=f"some of {', '.join(Way)} (default: all)",
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="of each ping-pong (3)")
    parser.add_argument(
        "--calls", type=_positive, default=1500, help="of each SOME/IP client (1500)"
    )
    parser.add_argument("--images", action="store_true", help="only make what boots start from")
    parser.add_argument("--stay", action="store_true", help="only boot, and stay until Ctrl-C")
    parser.add_argument("--systemd", action="store_true", help="systemd in dom0")
    parser.add_argument("--pvh", action="store_true", help="PVH guests: function, not figures")
    parser.add_argument(
        "--in", dest="machine", choices=["dom0", "hmi", "adas"], default="dom0", help="for COMMAND"
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="run this instead")


def _ways(text: str) -> list[Way]:
    try:
        chosen = {Way(name) for name in text.split(",")}
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text}, expected {', '.join(Way)}") from None
    return [way for way in Way if way in chosen]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a number above 0")
    return int(text)
