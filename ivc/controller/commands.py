# SPDX-License-Identifier: Apache-2.0
"""`ivc status`, `ivc reload`, `ivc quiesce`, `ivc unquiesce` and `ivc run`."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ivc.commands import HELP, Subparsers
from ivc.controller import watch
from ivc.controller.client import quiesce, read_status, reload, unquiesce
from ivc.controller.errors import OrderFailed
from ivc.controller.launch import (
    NOT_FOUND,
    enter_node,
    execute,
    find_library,
    wrapped_environment,
)
from ivc.controller.run_dir import ORDER_MOST_S, default_run_dir
from ivc.controller.statusview import fallbacks, render_status

_QUIESCE_S = 10.0


def add_commands(subparsers: Subparsers) -> None:
    """Add the five commands."""
    _add_status(subparsers)
    _add_reload(subparsers)
    _add_quiesce(subparsers)
    _add_unquiesce(subparsers)
    _add_run(subparsers)


def _add_status(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "status",
        help=HELP["status"],
        description="Show what the running controller knows. Exit code 5: there is none; 6, with "
        "--strict: a socket fell back to the network.",
    )
    _add_answer(parser)
    once_or_more = parser.add_mutually_exclusive_group()  # a watch ends with no code of its own
    once_or_more.add_argument(
        "--strict",
        action="store_true",
        help="name sockets that go by the network, or send by it to some destination, and were "
        "not meant to, and end with exit code 6 if there are any",
    )
    once_or_more.add_argument(
        "--watch",
        nargs="?",
        type=watch.seconds,
        const=1.0,
        metavar="SECONDS",
        help="look again every SECONDS (1 if none are said) until interrupted, and show rates; "
        "with --json a line for each look",
    )
    parser.set_defaults(run=_status)


def _add_reload(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "reload",
        help=HELP["reload"],
        description="Have the running controller read its files again, as SIGHUP does, and show "
        "what has changed when the new plan is applied. Exit code 3: the new configuration is bad "
        "and the old one stays; 5: no controller runs.",
    )
    _add_answer(parser)
    parser.set_defaults(run=_reload)


def _add_quiesce(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "quiesce",
        help=HELP["quiesce"],
        description="Put all traffic of a domain on the network and wait until it holds no memory "
        "of anybody's, nobody any of its, and it may be saved. Nothing is lost. It stays so, also "
        "when it is restored under another id, until `ivc unquiesce`. Exit code 1: not quiet in "
        "time, or no such domain; 5: no controller runs.",
    )
    _add_domain(parser)
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_QUIESCE_S,
        metavar="S",
        help="seconds to wait (default %(default)s)",
    )
    parser.set_defaults(
        run=lambda arguments: _order(
            arguments, lambda: quiesce(arguments.run_dir, arguments.domain, arguments.timeout)
        )
    )


def _add_unquiesce(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "unquiesce",
        help=HELP["unquiesce"],
        description="End what `ivc quiesce` has begun. Programs are back on rings within seconds.",
    )
    _add_domain(parser)
    parser.set_defaults(
        run=lambda arguments: _order(
            arguments, lambda: unquiesce(arguments.run_dir, arguments.domain)
        )
    )


def _add_domain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("domain", metavar="DOMAIN", help="as the mapping or `ivc plan` calls it")
    _add_answer(parser)


def _add_answer(parser: argparse.ArgumentParser) -> None:
    """Who answers, and how it is shown."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_run_dir(parser)


def _add_run(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "run",
        help=HELP["run"],
        description="Start a program with the wrapper preloaded. Its exit code is passed on; "
        "127: not found, 126: not executable.",
    )
    parser.add_argument("--node", metavar="N", help="run it where this node of the plan is")
    add_run_dir(parser)
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- APP ARGS", help="the program"
    )
    parser.set_defaults(run=_run)


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    """Add --run-dir."""
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=default_run_dir(),
        metavar="D",
        help="where the controller is found (IVC_RUN_DIR; default %(default)s)",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= ORDER_MOST_S:
        raise argparse.ArgumentTypeError(f"must be 0 to {ORDER_MOST_S:.0f}")
    return value


def _status(arguments: argparse.Namespace) -> int:
    if arguments.watch is not None:
        return watch.watch(lambda: read_status(arguments.run_dir), arguments.watch, arguments.json)
    document = read_status(arguments.run_dir)
    print(json.dumps(document, indent=2) if arguments.json else render_status(document), end="\n")
    fallen = fallbacks(document) if arguments.strict else []
    for line in fallen:
        print(f"ivc status: {line}", file=sys.stderr)
    return _DEGRADED if fallen else 0


_DEGRADED: Final = 6


def _reload(arguments: argparse.Namespace) -> int:
    code = 0
    try:
        answer = reload(arguments.run_dir)
    except OrderFailed as error:
        answer, code = error.answer, int(error.answer.get("exit_code", error.exit_code))
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif code:
        print(f"nothing is changed:\n{answer['error']}", file=sys.stderr)
    else:
        print("\n".join(answer["difference"]) or _UNCHANGED[answer["changed"]])
    return code


_UNCHANGED = {False: "the plan has not changed", True: "applied; a plan shows nothing of it"}


def _order(arguments: argparse.Namespace, give: Callable[[], dict[str, Any]]) -> int:
    try:
        answer = give()
    except OrderFailed as error:
        if not arguments.json:
            raise
        print(json.dumps(error.answer, indent=2))
        return error.exit_code
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print(f"{answer['domain']}: {answer['stage'] or 'served'}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        print(
            "ivc run: no program given; write: ivc run [--node N] -- PROGRAM ARGS", file=sys.stderr
        )
        return 2
    environment = wrapped_environment(os.environ, find_library(os.environ), arguments.run_dir)
    if arguments.node is not None:
        enter_node(arguments.node, arguments.run_dir)
    sys.stdout.flush()
    code = execute(command, environment)
    what = "not found" if code == NOT_FOUND else "cannot be executed"
    print(f"ivc run: {command[0]}: {what}", file=sys.stderr)
    return code
