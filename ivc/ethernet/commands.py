# SPDX-License-Identifier: Apache-2.0
"""`ivc ethernet show`, `apply` and `remove`.

Commands of their own, not a part of the controller: it runs without the right to change the
network, which these need.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ivc.commands import HELP, Subparsers
from ivc.errors import ConfigError, Finding, Severity
from ivc.ethernet.apply import carry_out
from ivc.ethernet.difference import State, Step, difference, kept
from ivc.ethernet.problems import problems
from ivc.ethernet.view import show_document, show_text, steps_document, steps_text
from ivc.ethernet.wanted import NOTHING, Wanted, wanted
from ivc.network import load
from ivc.network.arguments import add_files
from ivc.network.files import display
from ivc.plan import build_plan

if TYPE_CHECKING:
    from ivc.ethernet.kernel import Kernel

PENDING = 4


def add_commands(subparsers: Subparsers) -> None:
    """Add `ethernet` with its three verbs."""
    parser = subparsers.add_parser(
        "ethernet",
        help=HELP["ethernet"],
        description="Show, set up or take away what nodes with external = true need in dom0: the "
        "bridge and the interface of the mapping's [ethernet], routes where there are several "
        "subnets, and the table ivc of nftables. Only what differs is changed, all of it or "
        "nothing; what was there before stays.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="what is, and what differs; changes nothing")
    apply = verbs.add_parser("apply", help="make it as the mapping says")
    remove = verbs.add_parser("remove", help="take away all that apply has made")
    for verb, run in ((show, _show), (apply, _apply), (remove, _remove)):
        verb.set_defaults(run=run)
        verb.add_argument("--json", action="store_true", help="one JSON object")
    for verb in (show, apply):
        add_files(verb, mapping="which node runs where, and [ethernet] (TOML, JSON)")
    for verb in (apply, remove):
        verb.add_argument(
            "--dry-run",
            action="store_true",
            help=f"only tell; exit with {PENDING} if something would change",
        )


def _show(arguments: argparse.Namespace) -> int:
    want = _wanted(arguments)
    with _kernel() as kernel:
        state = kernel.read()
        steps = difference(want, state)
        told = (want, state, steps, kernel.dropped(), _remarks(kernel, want, state))
    _print_findings(problems(want, state, display(arguments.mapping)))
    if arguments.json:
        print(json.dumps(show_document(*told), indent=2))
    else:
        print(show_text(*told), end="")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    return _reach(_wanted(arguments), arguments, display(arguments.mapping))


def _remove(arguments: argparse.Namespace) -> int:
    return _reach(NOTHING, arguments, "")


def _reach(want: Wanted, arguments: argparse.Namespace, file: str) -> int:
    """Take the steps to `want`, or only tell them."""
    with _kernel() as kernel, kernel.alone():
        state = kernel.read()
        in_the_way = problems(want, state, file)
        if in_the_way:
            raise ConfigError(in_the_way)
        steps = difference(want, state)
        if not arguments.dry_run:
            carry_out(kernel, steps)
        _print_steps(steps, _remarks(kernel, want, state), arguments.json)
    return PENDING if arguments.dry_run and steps else 0


def _kernel() -> "Kernel":
    from ivc.ethernet.kernel import Kernel  # long to import; no other command needs it

    return Kernel()


def _wanted(arguments: argparse.Namespace) -> Wanted:
    loaded = load(arguments.config, arguments.mapping)
    _print_findings(loaded.findings)
    if loaded.mapping.ethernet is None:
        raise ConfigError([_no_ethernet(display(arguments.mapping))])
    plan = build_plan(loaded.network, loaded.mapping)
    return wanted(loaded.network, plan, loaded.mapping)


def _no_ethernet(file: str) -> Finding:
    return Finding(
        Severity.ERROR,
        "no-ethernet",
        file,
        0,
        0,
        "/ethernet",
        "no [ethernet]",
        "the bridge, and the interface that leads outside",
        'add [ethernet] with bridge = "xenbr0" and interface = "eth1"',
    )


def _remarks(kernel: "Kernel", want: Wanted, state: State) -> list[str]:
    stay = [
        f"{bridge} stays while others use it; ivc ethernet remove takes it away later"
        for bridge in kept(want, state)
    ]
    return [*stay, *(kernel.remarks() if want.facts else [])]


def _print_findings(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        print(finding, file=sys.stderr)


def _print_steps(steps: tuple[Step, ...], remarks: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(steps_document(steps, remarks), indent=2))
    else:
        print(steps_text(steps, remarks), end="")
