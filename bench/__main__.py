# SPDX-License-Identifier: Apache-2.0
"""IVC beside what else carries messages, all in one run: times, rates, processor time.

The same client and server go over veth and bridge, loopback, AF_UNIX, and over IVC through
unmodified sockets; a program of its own drives the bare ring. Every round runs each case once, in
turn, each side on its own processor. Then what was wanted, and whether it was met. Exit status: 0
also when targets are missed; 1 when anything was lost or damaged that must not be.
docs/performance.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.cases import Pattern, Transport, cases
from bench.flows import QUICK, Amount, measure_flows
from bench.instructions import count_calls
from bench.markdown import as_markdown
from bench.plots import draw_all
from bench.report import JsonObject, as_json, as_text, wrong
from bench.rounds import Effort, measure
from bench.stacks import measure_stacks
from ivc.errors import IvcError
from ivc.lab.hosts import (
    LabError,
    Mode,
    available_mode,
    ended_by_signals,
    enter_user_namespace,
    why_no_namespaces,
)

_ROUNDS, _QUICK_ROUNDS, _STACK_ROUNDS = 7, 3, 3
_QUICK = Effort(
    round_trips=1000, paced=40, messages=10_000, bytes=32 << 20, idle_seconds=0.5, seconds=34
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _options(arguments)
    try:
        if options.read:
            return _show([json.loads(file.read_text()) for file in options.read], options)
        _need_namespaces(sys.argv[1:] if arguments is None else arguments)
        if options.json:
            _need_folder(options.json)
        with ended_by_signals():
            return _bench(options)
    except KeyboardInterrupt:
        _say("interrupted; everything is removed")
        return 130
    except (IvcError, OSError, ValueError) as error:
        _say(f"error: {error}")
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer cases, 3 rounds, all within a minute"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="also write all figures to a file")
    parser.add_argument("--rounds", type=int, metavar="N", help="7, with --quick 3")
    parser.add_argument(
        "--transport", action="append", type=Transport, choices=list(Transport), help="only these"
    )
    parser.add_argument(
        "--pattern", action="append", type=Pattern, choices=list(Pattern), help="only these"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the tables of docs/performance.md instead"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw pictures, as SVG")
    parser.add_argument(
        "--read",
        type=Path,
        action="append",
        metavar="F",
        help="measure nothing, take what --json has written; several times: runs side by side",
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    if options.rounds < 1:
        parser.error(f"--rounds: found {options.rounds}, expected at least 1")
    return options


def _need_namespaces(arguments: Sequence[str]) -> None:
    mode = available_mode()
    if mode is Mode.LOOPBACK:
        raise LabError(
            f"no network namespaces, so no veth and bridge to compare with ({why_no_namespaces()})"
            ": run it as root"
        )
    if mode is Mode.USER:
        enter_user_namespace([sys.executable, "-m", "bench", *arguments])


def _need_folder(file: Path) -> None:
    """What cannot be written is better told before than after."""
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise LabError(f"--json: cannot write {file}: expected a file in a folder that is there")


def _bench(options: argparse.Namespace) -> int:
    chosen = [
        case
        for case in cases(options.quick)
        if (not options.transport or case.transport in options.transport)
        and (not options.pattern or case.pattern in options.pattern)
    ]
    effort = _QUICK if options.quick else Effort()
    measured = measure(chosen, options.rounds, effort, _say)
    if not options.transport and not options.pattern:
        figures = measure_flows(QUICK if options.quick else Amount())
        if not options.quick:
            figures |= measure_stacks(min(options.rounds, _STACK_ROUNDS))
        counted = count_calls() if shutil.which("valgrind") else {}
        measured = replace(measured, figures=figures, instructions=counted)
    told = as_json(measured)
    if not options.markdown:
        print(as_text(measured), flush=True)
    _show([told], options)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    bad = wrong(measured.series)
    for line in bad:
        _say(f"not good: {line}")
    return 1 if bad else 0


def _show(runs: Sequence[JsonObject], options: argparse.Namespace) -> int:
    """Figures that are there, in the forms that are asked for."""
    if options.markdown:
        print(as_markdown(runs), flush=True)
    if options.plots:
        for path in draw_all(runs[0], options.plots):
            _say(f"wrote {path}")
    return 0


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
