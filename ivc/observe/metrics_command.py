# SPDX-License-Identifier: Apache-2.0
"""`ivc metrics`: a running controller's numbers for a monitoring system."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from ivc.commands import HELP, Subparsers
from ivc.controller.client import read_status
from ivc.controller.commands import add_run_dir
from ivc.controller.errors import NoController
from ivc.observe.listen import Where, address, refuse_exposed
from ivc.observe.metrics import render_metrics
from ivc.observe.openmetrics import CONTENT_TYPE
from ivc.writing import write_whole


def add_commands(subparsers: Subparsers) -> None:
    """Add `metrics`."""
    parser = subparsers.add_parser(
        "metrics",
        help=HELP["metrics"],
        description="Print what `ivc status` knows as OpenMetrics text, once, or serve it. "
        "Exit code 5: no controller runs; a file, and who is served, is told so (ivc_up 0).",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--textfile",
        type=Path,
        metavar="FILE",
        help="write it there, whole or not at all, as node_exporter reads it",
    )
    where.add_argument(
        "--listen",
        type=address,
        metavar="ADDRESS:PORT",
        help="serve it at http://ADDRESS:PORT/metrics until interrupted; port 0: any that is free",
    )
    parser.add_argument("--public", action="store_true", help="let ADDRESS be one others can reach")
    add_run_dir(parser)
    parser.set_defaults(run=_metrics)


def _metrics(arguments: argparse.Namespace) -> int:
    if arguments.listen is not None:
        return _serve(arguments.listen, arguments.public, arguments.run_dir)
    if arguments.textfile is not None:
        _write(arguments.textfile, arguments.run_dir)
    else:
        sys.stdout.write(render_metrics(read_status(arguments.run_dir)))
    return 0


def _write(output: Path, run_dir: Path) -> None:
    """Also that there is no controller: an old file would look as if it still ran."""
    try:
        text = render_metrics(read_status(run_dir))
    except NoController:
        write_whole(output, render_metrics(None))
        raise
    write_whole(output, text)


def _serve(where: Where, public: bool, run_dir: Path) -> int:
    from ivc.observe.exporter import Exporter, Page  # http.server, which no other command needs

    if not public:
        refuse_exposed(where, "; add --public if everybody may read it")
    _read(run_dir)  # what is not permitted is told now, not to whoever asks
    with Exporter(*where, {"/metrics": Page(CONTENT_TYPE, lambda: _read(run_dir))}) as exporter:
        print(f"ivc metrics: {exporter.url}", file=sys.stderr, flush=True)
        exporter.serve_forever()
    return 0


def _read(run_dir: Path) -> str:
    with suppress(NoController):
        return render_metrics(read_status(run_dir))
    return render_metrics(None)
