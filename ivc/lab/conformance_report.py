# SPDX-License-Identifier: Apache-2.0
"""What the runs of a suite came to, and where wrapped and native runs differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# A run that does not come to its end differs from one that does, as a test would.
THE_RUN: Final = "(the run)"

# What a test that has succeeded was said to be before.
_NO_OUTCOME: Final = (None, "not run", "not ended")

RING_FRACTION: Final = 0.9
"""What mode loopback has to reach over all suites."""

Outcomes = dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one suite.

    `outcomes` maps test ids to what became of them ("ok", "failure", "error", "time-out",
    "not run", "skipped: why", ...); THE_RUN is one of them. `details` has the words of what failed.
    `wrapped` says whether the wrapper was in the process, with a plan. `carried` has for each test
    that sent anything the payload bytes it sent and the bytes the loopback interface carried.
    """

    outcomes: Outcomes
    details: dict[str, str]
    wrapped: bool
    carried: dict[str, tuple[int, int]] = field(default_factory=dict)


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
    carried: dict[str, tuple[int, int]] = {}
    wrapped, ended = False, False
    for line in text.splitlines():
        event = json.loads(line)
        test, outcome = event["test"], event["outcome"]
        if not test:
            wrapped = wrapped or outcome == "wrapped"
            ended = ended or outcome == "ended"
        elif outcome == "carried":
            sent, lo = event["detail"].split()
            carried[test] = int(sent), int(lo)
        elif outcome != "ok" or outcomes.get(test) in _NO_OUTCOME:
            outcomes[test] = outcome
            details[test] = event["detail"]
    outcomes[THE_RUN] = "ended" if ended and end == "status 0" else end
    return Run(outcomes, details, wrapped, carried)


def running(text: str) -> str:
    """The test that has started and not ended when a file of events ends here; "" if none."""
    last = json.loads(text.splitlines()[-1]) if text else {"test": "", "outcome": ""}
    return str(last["test"]) if last["outcome"] == "not ended" else ""


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


def ring_fraction(suites: Iterable[Suite]) -> float | None:
    """1 - bytes on the loopback interface / payload bytes sent, over all tests; None where
    nothing was counted."""
    pairs = [pair for suite in suites for pair in suite.wrapped.carried.values()]
    sent = sum(pair[0] for pair in pairs)
    return 1 - sum(pair[1] for pair in pairs) / sent if sent else None


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
                "carried": suite.wrapped.carried,
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
        "ring_fraction": ring_fraction(suites),
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
    found = ring_fraction(suites)
    if found is not None:
        lines.append(f"by ring {found:.1%} of the payload")
    return "\n".join(lines)


def _line(run: Run) -> str:
    parts = [f"{number} {outcome}" for outcome, number in counts(run).items()]
    return ", ".join([*parts, run.outcomes[THE_RUN]])


def has_rings(suites: list[Suite]) -> bool:
    """Enough went by ring for a comparison to mean anything; also where nothing was to."""
    found = ring_fraction(suites)
    return found is None or found >= RING_FRACTION


def is_good(suites: list[Suite]) -> bool:
    """Nothing differs, and every suite had a steady end and tests to compare."""
    return bool(suites) and all(
        not suite.difference
        and THE_RUN not in suite.unsteady
        and suite.native.outcomes[THE_RUN] == "ended"
        and len(suite.native.outcomes) > len(suite.unsteady) + 1
        for suite in suites
    )
