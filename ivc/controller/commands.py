# SPDX-License-Identifier: Apache-2.0
"""`ivc controller`, `ivc status`, `ivc reload`, `ivc quiesce`, `ivc unquiesce` and `ivc run`."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

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
from ivc.controller.orders import TIMEOUT_MOST_S
from ivc.controller.quota import BYTES_PER_NODE, FLOWS_PER_NODE, Quota
from ivc.controller.run_dir import default_run_dir
from ivc.controller.service import Service, Settings, raise_descriptor_limit
from ivc.controller.statusview import render_status
from ivc.network import Path as FlowPath
from ivc.network.arguments import add_files

_NICENESS = -15
_QUIESCE_S = 10.0

_Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_commands(subparsers: _Subparsers) -> None:
    """Add the six commands."""
    _add_controller(subparsers)
    _add_status(subparsers)
    _add_reload(subparsers)
    _add_quiesce(subparsers)
    _add_unquiesce(subparsers)
    _add_run(subparsers)


def _add_controller(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "controller",
        help="plan, build rings, and join programs by them",
        description="Run the IVC Controller in the foreground. SIGHUP loads the files again; "
        "SIGTERM ends it.",
    )
    add_files(parser)
    parser.add_argument(
        "--path",
        type=FlowPath,
        choices=[path.value for path in FlowPath if path is not FlowPath.DENIED],
        help="how payload travels, whatever the mapping's default is",
    )
    parser.add_argument(
        "--quota-flows",
        type=_positive,
        default=FLOWS_PER_NODE,
        metavar="N",
        help="flows a node may send on (default %(default)s)",
    )
    parser.add_argument(
        "--quota-bytes",
        type=_positive,
        default=BYTES_PER_NODE,
        metavar="N",
        help="shared memory of a node's flows (default %(default)s)",
    )
    add_run_dir(parser)
    parser.set_defaults(run=_controller)


def _add_status(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show nodes, processes, sockets, services and flows of a running controller",
        description="Show what the running controller knows. Exit code 5: there is none.",
    )
    _add_answer(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=watch.seconds,
        const=1.0,
        metavar="SECONDS",
        help="look again every SECONDS (1 if none are said) until interrupted, and show rates; "
        "with --json a line for each look",
    )
    parser.set_defaults(run=_status)


def _add_reload(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "reload",
        help="have a running controller read its files again",
        description="Have the running controller read its files again, as SIGHUP does, and show "
        "what has changed when the new plan is applied. Exit code 3: the new configuration is bad "
        "and the old one stays; 5: no controller runs.",
    )
    _add_answer(parser)
    parser.set_defaults(run=_reload)


def _add_quiesce(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "quiesce",
        help="take a domain off the rings, so that it can be saved",
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


def _add_unquiesce(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "unquiesce",
        help="let a domain have rings again",
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


def _add_run(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "run",
        help="start a program under the wrapper",
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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be positive")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= TIMEOUT_MOST_S:
        raise argparse.ArgumentTypeError(f"must be 0 to {TIMEOUT_MOST_S:.0f}")
    return value


def _controller(arguments: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="ivc controller: %(levelname)s: %(message)s"
    )
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


def _status(arguments: argparse.Namespace) -> int:
    if arguments.watch is not None:
        return watch.watch(lambda: read_status(arguments.run_dir), arguments.watch, arguments.json)
    document = read_status(arguments.run_dir)
    print(json.dumps(document, indent=2) if arguments.json else render_status(document), end="\n")
    return 0


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
