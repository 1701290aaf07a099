# SPDX-License-Identifier: Apache-2.0
"""The `ivc` command.

Each subcommand is added by an `add_commands(subparsers)` and sets `run` to a function that takes
the parsed arguments and returns the exit code (see `EXIT_CODES`).
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence

from ivc import __version__, policy
from ivc.controller import commands as controller
from ivc.controller import fault_commands as faults
from ivc.controller.client import read_plan
from ivc.doctor import commands as doctor
from ivc.doctor.arguments import split_program
from ivc.errors import ConfigError, Finding, IvcError, Severity
from ivc.ethernet import commands as ethernet
from ivc.lab.xen.options import DESCRIPTION, add_options
from ivc.network import Loaded, Path, load
from ivc.network import commands as network
from ivc.network.arguments import add_files
from ivc.observe import graph_command as graph
from ivc.observe import metrics_command as metrics
from ivc.observe import trace_command as trace
from ivc.plan import Plan, build_plan
from ivc.plandiff import difference

EXIT_CODES = """\
exit codes:
  0   done
  1   failed
  2   wrong usage
  3   network configuration or mapping is wrong; nothing was started
  4   --dry-run, plan --diff: something would change
  5   the controller is not running
  7   check --strict: there are warnings
  69  an interface the platform should have is missing
  77  not permitted
"""

_FILES = """\
Each CONFIG is one node: a vsomeip JSON file, or a folder of them (read in name order, mandatory
names first; a folder whose files have different unicast addresses is one node for each file).
Without CONFIG, the node is what vsomeip would read here: VSOMEIP_CONFIGURATION_<application> or
VSOMEIP_CONFIGURATION, else ./vsomeip.json and ./vsomeip/, else those in /etc.
CONFIG may also be ARXML (files or folders, all one model), or a network file of `ivc import`.
A node belongs to the mapping entry called like its folder or file, one of its applications, or,
if nothing fits, with its address.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a node's name may not fit the terminal
            stream.reconfigure(errors="backslashreplace")
    own, program = split_program(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(own, argparse.Namespace(program=program))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except IvcError as error:
        print(error if isinstance(error, ConfigError) else f"ivc: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from flushing into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ivc",
        description="Virtual ECUs talk SOME/IP through shared memory.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ivc {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_commands(subparsers)
    graph.add_command(subparsers)
    network.add_commands(subparsers)
    controller.add_commands(subparsers)
    metrics.add_command(subparsers)
    trace.add_command(subparsers)
    faults.add_commands(subparsers)
    ethernet.add_commands(subparsers)
    doctor.add_commands(subparsers)
    return parser


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `check`, `plan` and `lab`."""
    check = _add_command(
        subparsers,
        "check",
        _check,
        "look for slips in configuration and mapping",
        "which node runs where (TOML, JSON); without it only the configuration is checked",
    )
    check.add_argument("--strict", action="store_true", help="exit with 7 if there are warnings")
    check.add_argument("--json", action="store_true", help="findings as one JSON object")
    check.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KIND",
        help="leave out warnings of this kind, such as shared-endpoint (may be repeated)",
    )
    plan = _add_command(
        subparsers,
        "plan",
        _plan,
        "show what would be built; touches nothing",
        "which node runs where (TOML, JSON)",
    )
    plan.add_argument("--json", action="store_true", help="the plan as one JSON object")
    instead = plan.add_mutually_exclusive_group()
    instead.add_argument(
        "--emit-policy",
        choices=tuple(policy.MODES),
        metavar="MODE",
        help="print rules for the mapping that allow what the configuration knows of, and deny all "
        "else (MODE enforce), or count it and let it pass (audit)",
    )
    instead.add_argument(
        "--diff",
        action="store_true",
        help="show what a reload of these files would change in the running controller's plan; "
        "exit with 4 if it would change anything",
    )
    controller.add_run_dir(plan)
    _add_lab(subparsers)


def _add_lab(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    lab = subparsers.add_parser("lab", help="virtual machines to try it on")
    kinds = lab.add_subparsers(title="laboratories", metavar="LAB", required=True)
    xen = kinds.add_parser(
        "xen", help="a real Xen in QEMU: dom0 and two domUs", description=DESCRIPTION
    )
    add_options(xen)
    xen.set_defaults(run=_lab_xen)


def _lab_xen(arguments: argparse.Namespace) -> int:
    from ivc.lab.xen.__main__ import run  # what it imports no other command needs

    return run(arguments)


def _add_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    mapping: str,
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"{_FILES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser, mapping=mapping, configs="*", mapping_required=run is not _check)
    parser.set_defaults(run=run)
    return parser


def _check(arguments: argparse.Namespace) -> int:
    code = 0
    try:
        loaded = load(arguments.config, arguments.mapping)
        build_plan(loaded.network, loaded.mapping)
        findings = loaded.findings
    except ConfigError as error:
        findings, code = error.findings, error.exit_code
    findings = tuple(
        finding
        for finding in findings
        if finding.severity is Severity.ERROR or finding.code not in arguments.ignore
    )
    _print_findings(findings, arguments.json)
    return 7 if arguments.strict and findings and not code else code


def _plan(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.config, arguments.mapping)
    for finding in loaded.findings:
        print(finding, file=sys.stderr)
    if arguments.diff:
        return _diff(loaded, arguments)
    plan = build_plan(loaded.network, loaded.mapping)
    if arguments.emit_policy is not None:
        _emit_policy(plan, arguments)
    else:
        sys.stdout.write(plan.to_json() if arguments.json else plan.render_table())
    return 0


def _emit_policy(plan: Plan, arguments: argparse.Namespace) -> None:
    rules, mode = policy.policy(plan, arguments.emit_policy), arguments.emit_policy
    as_json = json.dumps({"rule": rules}, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(as_json if arguments.json else policy.render(rules, mode))


def _diff(loaded: Loaded, arguments: argparse.Namespace) -> int:
    answer = read_plan(arguments.run_dir)
    # The controller's --path outlives a reload.
    path = Path(answer["path"]) if answer["path"] is not None else None
    plan = build_plan(loaded.network, loaded.mapping, path)
    lines = difference(answer["plan"], json.loads(plan.to_json()))
    print(json.dumps(lines, indent=2) if arguments.json else "\n".join(lines) or "no difference")
    return 4 if lines else 0


def _print_findings(findings: Sequence[Finding], as_json: bool) -> None:
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = len(findings) - errors
    if as_json:
        document = {
            "errors": errors,
            "warnings": warnings,
            "findings": [finding.to_dict() for finding in findings],
        }
        print(json.dumps(document, indent=2))
        return
    for finding in findings:
        print(finding)
    print(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
