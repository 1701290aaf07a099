# SPDX-License-Identifier: Apache-2.0
"""What the runs of a suite came to, and where wrapped and native runs differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# A run that does not come to its end differs from one that does, as a test would.
THE_RUN: Final = "(the run)"

Outcomes = dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one suite.

    `outcomes` maps test ids to what became of them ("ok", "failure", "error",
    "skipped: why", ...); THE_RUN is one of them. `details` has the words of what failed.
    `wrapped` says whether the wrapper was in the process, with a plan.
    """

    outcomes: Outcomes
    details: dict[str, str]
    wrapped: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that came to something else under the wrapper; "absent" if it did not run."""

    test: str
    native: str
    wrapped: str
    detail: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite, natively twice and wrapped. `unsteady` differ from themselves without us."""

    name: str
    mode: str
    native: Run
    wrapped: Run
    unsteady: tuple[str, ...]
    difference: tuple[Difference, ...]


def parse(text: str, end: str) -> Run:
    """A run, from the lines its process wrote; `end` says how the process ended."""
    outcomes: Outcomes = {}
    details: dict[str, str] = {}
    wrapped, ended = False, False
    for line in text.splitlines():
        event = json.loads(line)
        test, outcome = event["test"], event["outcome"]
        if not test:
            wrapped = wrapped or outcome == "wrapped"
            ended = ended or outcome == "ended"
        elif outcome != "ok" or outcomes.get(test) in (None, "not ended"):
            outcomes[test] = outcome
            details[test] = event["detail"]
    outcomes[THE_RUN] = "ended" if ended and end == "status 0" else end
    return Run(outcomes, details, wrapped)


def compare(name: str, mode: str, native: Run, again: Run, wrapped: Run) -> Suite:
    """Judge a wrapped run by two native ones."""
    unsteady = tuple(test for test, *_ in _unlike(native.outcomes, again.outcomes))
    difference = tuple(
        Difference(test, was, is_now, wrapped.details.get(test, ""))
        for test, was, is_now in _unlike(native.outcomes, wrapped.outcomes)
        if test not in unsteady
    )
    return Suite(name, mode, native, wrapped, unsteady, difference)


def _unlike(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    tests = sorted(one.keys() | other.keys())
    pairs = [(test, one.get(test, "absent"), other.get(test, "absent")) for test in tests]
    return [pair for pair in pairs if pair[1] != pair[2]]


def counts(run: Run) -> dict[str, int]:
    """How many tests came to what."""
    tests = {test: outcome for test, outcome in run.outcomes.items() if test != THE_RUN}
    return dict(sorted(Counter(outcome.split(":")[0] for outcome in tests.values()).items()))


def as_json(suites: list[Suite]) -> dict[str, Any]:
    """The object `build.py conformance --json` prints."""
    return {
        "suites": [
            {
                "name": suite.name,
                "mode": suite.mode,
                "native": counts(suite.native),
                "wrapped": counts(suite.wrapped),
                "unsteady": list(suite.unsteady),
                "difference": [
                    {
                        "test": one.test,
                        "native": one.native,
                        "wrapped": one.wrapped,
                        "detail": one.detail,
                    }
                    for one in suite.difference
                ],
            }
            for suite in suites
        ],
        "ring_fraction": None,  # mode nothing has no rings to measure
    }


def as_table(suites: list[Suite]) -> str:
    """The same for people."""
    lines = []
    for suite in suites:
        native, wrapped = (_line(run) for run in (suite.native, suite.wrapped))
        lines += [f"{suite.name} ({suite.mode})", f"  native   {native}", f"  wrapped  {wrapped}"]
        lines += [f"  unsteady natively, left out: {test}" for test in suite.unsteady]
        for one in suite.difference:
            lines += [f"  DIFFERS  {one.test}: {one.native} -> {one.wrapped}  {one.detail}"]
    return "\n".join(lines)


def _line(run: Run) -> str:
    parts = [f"{number} {outcome}" for outcome, number in counts(run).items()]
    return ", ".join([*parts, run.outcomes[THE_RUN]])


def is_good(suites: list[Suite]) -> bool:
    """Nothing differs, and every suite had a steady end and tests to compare."""
    return bool(suites) and all(
        not suite.difference
        and THE_RUN not in suite.unsteady
        and suite.native.outcomes[THE_RUN] == "ended"
        and len(suite.native.outcomes) > len(suite.unsteady) + 1
        for suite in suites
    )
