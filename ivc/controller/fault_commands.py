# SPDX-License-Identifier: Apache-2.0
"""`ivc fault add`, `ivc fault list` and `ivc fault clear`."""

import argparse
import json
import re
from typing import Any, Final

from ivc.commands import HELP, Subparsers
from ivc.controller.client import add_fault, clear_faults, list_faults
from ivc.controller.commands import add_run_dir
from ivc.controller.fault_words import SEED, TYPES, WHATS
from ivc.controller.faultview import fault_line

_UNITS: Final = {"us": 10**3, "ms": 10**6, "s": 10**9}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_REACH: Final = (
    "UDP on rings only: TCP, external nodes and what goes by the kernel's network are not touched"
)


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "fault",
        help=HELP["fault"],
        description="Faults on purpose, to validate ECUs. They belong to the running controller "
        f"and are gone with it. {_REACH}. Exit code 1: refused, nothing is changed; 5: no "
        "controller runs.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_add(verbs)
    _add_list(verbs)
    _add_clear(verbs)


def _add_add(verbs: Subparsers) -> None:
    parser = verbs.add_parser("add", help="have one more", description=f"Have a fault. {_REACH}.")
    match = parser.add_argument_group("what it matches; left out: anything")
    match.add_argument("--from", metavar="NODE", dest="from_")
    match.add_argument("--to", metavar="NODE")
    for key in ("service", "instance", "method", "client"):
        match.add_argument(f"--{key}", type=_id, metavar="ID")
    match.add_argument("--type", choices=list(TYPES), metavar="TYPE", help=", ".join(TYPES))
    effect = parser.add_argument_group("what it does").add_mutually_exclusive_group(required=True)
    effect.add_argument("--drop", type=float, metavar="P", help="with probability P, 0 to 1")
    effect.add_argument("--drop-nth", type=int, metavar="N", help="every N-th")
    effect.add_argument("--delay", type=_ns, metavar="T", help="by a time: 20ms, 500us, 1.5s")
    effect.add_argument("--duplicate", type=float, metavar="P", help="with probability P")
    effect.add_argument("--corrupt", type=float, metavar="P", help="with probability P")
    effect.add_argument("--rate", type=int, metavar="N", help="drop more than N in a second")
    effect.add_argument("--cut", type=_ns, metavar="T", help="drop everything for a time")
    parser.add_argument("--jitter", type=_ns, metavar="T", help="with --delay: up to T more")
    parser.add_argument("--corrupt-what", choices=list(WHATS), help="with --corrupt (byte)")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="default %(default)s")
    _add_answer(parser)
    parser.set_defaults(run=lambda arguments: _add(parser, arguments))


def _add_list(verbs: Subparsers) -> None:
    parser = verbs.add_parser("list", help="show them, and how often they matched and acted")
    _add_answer(parser)
    parser.set_defaults(run=lambda arguments: _show(arguments, list_faults(arguments.run_dir)))


def _add_clear(verbs: Subparsers) -> None:
    parser = verbs.add_parser("clear", help="have one no more, or all")
    parser.add_argument("id", nargs="?", type=int, metavar="ID", help="left out: all")
    _add_answer(parser)
    parser.set_defaults(
        run=lambda arguments: _show(arguments, clear_faults(arguments.run_dir, arguments.id))
    )


def _add_answer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_run_dir(parser)


def _add(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.jitter is not None and arguments.delay is None:
        parser.error("--jitter is of --delay")
    if arguments.corrupt_what is not None and arguments.corrupt is None:
        parser.error("--corrupt-what is of --corrupt")
    code = _show(arguments, add_fault(arguments.run_dir, order(arguments)))
    if not arguments.json:
        print(_REACH)
    return code


_VALUES: Final = {
    "drop": "chance",
    "drop_nth": "number",
    "delay": "delay",
    "duplicate": "chance",
    "corrupt": "chance",
    "rate": "number",
    "cut": "time",
}


def order(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the controller is told."""
    given = vars(arguments)
    keys = ("to", "service", "instance", "method", "client", "type")
    match = {"from": given["from_"]} | {key: given[key] for key in keys}
    effect = next(name for name in _VALUES if given[name] is not None)
    more = {"jitter": given["jitter"], "what": given["corrupt_what"]}
    return {
        "match": {key: value for key, value in match.items() if value is not None},
        "effect": effect.replace("_", "-"),
        _VALUES[effect]: given[effect],
        "seed": given["seed"],
    } | {key: value for key, value in more.items() if value is not None}


def _show(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(map(fault_line, answer["faults"])) or "no faults")
    return 0


def _id(text: str) -> int:
    return int(text, 0)


def _ns(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("must be a time with its unit: 20ms, 500us, 1.5s")
    return round(float(found[1]) * _UNITS[found[2]])
