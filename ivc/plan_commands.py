# SPDX-License-Identifier: Apache-2.0
"""`ivc check` and `ivc plan`: what may be said of the files, before anything runs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Final

from ivc import policy
from ivc.commands import EXIT_CODES, HELP, Subparsers
from ivc.controller.client import read_plan
from ivc.controller.commands import add_run_dir
from ivc.errors import ConfigError, Finding, Severity
from ivc.network import Loaded, Path, load
from ivc.network.arguments import add_files
from ivc.plan import Plan, build_plan
from ivc.plandiff import difference

_FILES: Final = """\
Each CONFIG is one node: a vsomeip JSON file, or a folder of them (read in name order, mandatory
names first; a folder whose files have different unicast addresses is one node for each file).
Without CONFIG, the node is what vsomeip would read here: VSOMEIP_CONFIGURATION_<application> or
VSOMEIP_CONFIGURATION, else ./vsomeip.json and ./vsomeip/, else those in /etc.
CONFIG may also be ARXML (files or folders, all one model), or a network file of `ivc import`.
A node belongs to the mapping entry called like its folder or file, one of its applications, or,
if nothing fits, with its address.
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the two commands."""
    check = _add_command(
        subparsers,
        "check",
        _check,
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
    add_run_dir(plan)


def _add_command(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], mapping: str
) -> argparse.ArgumentParser:
    text = HELP[name]
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
