# SPDX-License-Identifier: Apache-2.0
"""`ivc doctor`."""

import argparse
import sys

from ivc.commands import HELP, Subparsers
from ivc.controller.commands import add_run_dir
from ivc.doctor.arguments import add_options
from ivc.doctor.view import to_json, to_text
from ivc.errors import ConfigError, Finding, Severity
from ivc.network import Loaded, load
from ivc.network.arguments import add_files
from ivc.plan import build_plan

_DESCRIPTION = """\
Look for what keeps IVC from working on this machine: controller, library, Xen's devices, limits,
processors; with CONFIG and --mapping also the hosts of the nodes: interfaces, addresses, routes,
wires and bridges, netfilter rules; with APP whether the wrapper can get into that program. Changes
nothing. Every finding says where, what was found, what was expected, and a fix.

Exit code 0: no error (there may be warnings and notes); 1: at least one; 3: the files are wrong.
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help=HELP["doctor"],
        usage="ivc doctor [CONFIG... --mapping M] [--node N] [--json] [--run-dir D] "
        "[-- APP ARGS...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser, configs="*", mapping_required=False)
    add_options(parser)
    add_run_dir(parser)
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    loaded, findings, code = _load(arguments)
    names = [node.name for node in loaded.network.nodes] if loaded is not None else []
    if arguments.node not in (None, *names) and not code:
        there = f"there are {', '.join(names)}" if names else "give CONFIG and --mapping too"
        print(f"ivc doctor: no node {arguments.node}; {there}", file=sys.stderr)
        return 2
    findings += _examine(arguments, loaded)
    print(to_json(findings) if arguments.json else to_text(findings), end="")
    return code or int(any(finding.severity is Severity.ERROR for finding in findings))


def _load(arguments: argparse.Namespace) -> tuple[Loaded | None, list[Finding], int]:
    """What the files say, and what is wrong with them: then the machine alone is looked at."""
    if not arguments.config and arguments.mapping is None:
        return None, [], 0
    try:
        loaded = load(arguments.config, arguments.mapping)
        return loaded, list(loaded.findings), 0
    except ConfigError as error:
        return None, list(error.findings), error.exit_code


def _examine(arguments: argparse.Namespace, loaded: Loaded | None) -> list[Finding]:
    from ivc.doctor.examine import examine  # long to import; no other command needs it

    plan = build_plan(loaded.network, loaded.mapping) if loaded is not None else None
    return examine(
        arguments.run_dir,
        loaded.network if loaded is not None else None,
        plan,
        arguments.node,
        arguments.program[0] if arguments.program else None,
    )
