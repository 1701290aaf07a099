# SPDX-License-Identifier: Apache-2.0
"""`ivc controller`."""

import argparse
import os
from contextlib import suppress

from ivc.commands import HELP, Subparsers
from ivc.controller.commands import add_run_dir
from ivc.controller.logs import FORMATS, LEVELS, set_up_logs
from ivc.controller.quota import BYTES_PER_NODE, FLOWS_PER_NODE, Quota
from ivc.controller.service import Service, Settings, raise_descriptor_limit
from ivc.network import Path
from ivc.network.arguments import add_files

_NICENESS = -15


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "controller",
        help=HELP["controller"],
        description="Run the IVC Controller in the foreground. SIGHUP loads the files again; "
        "SIGTERM ends it.",
    )
    add_files(parser)
    parser.add_argument(
        "--path",
        type=Path,
        choices=[path.value for path in Path if path is not Path.DENIED],
        help="how payload travels, whatever the mapping's default is",
    )
    parser.add_argument(
        "--quota-flows",
        type=_positive,
        default=FLOWS_PER_NODE,
        metavar="N",
        help="flows a node may cause (default %(default)s)",
    )
    parser.add_argument(
        "--quota-bytes",
        type=_positive,
        default=BYTES_PER_NODE,
        metavar="N",
        help="shared memory of the flows a node causes (default %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=FORMATS[0],
        help="what standard error gets: text, or one JSON object a line (default %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default="info",
        help="the least it gets, besides that the controller is ready (default %(default)s)",
    )
    add_run_dir(parser)
    parser.set_defaults(run=_controller)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be positive")
    return value


def _controller(arguments: argparse.Namespace) -> int:
    set_up_logs(arguments.log_format, arguments.log_level)
    raise_descriptor_limit()
    _go_first()
    settings = Settings(
        arguments.config,
        arguments.mapping,
        arguments.run_dir,
        arguments.path,
        Quota(arguments.quota_flows, arguments.quota_bytes),
    )
    service = Service(settings)
    try:
        service.run()
    finally:
        service.close()
    return 0


def _go_first() -> None:
    """Ask the scheduler to run us before the spinning programs we serve, if it lets us."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
