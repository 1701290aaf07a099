# SPDX-License-Identifier: Apache-2.0
"""What is, what shall be and what lies between them: for programs and for people."""

from collections.abc import Sequence
from typing import Any

from ivc.ethernet.difference import Change, State, Step
from ivc.ethernet.facts import Fact
from ivc.ethernet.wanted import Wanted

Dropped = Sequence[tuple[str, str, int]]


def show_document(
    want: Wanted, state: State, steps: Sequence[Step], dropped: Dropped, remarks: Sequence[str]
) -> dict[str, Any]:
    """Everything as one JSON object."""
    return {
        "version": 1,
        "bridge": want.bridge or None,
        "interface": want.interface or None,
        "facts": [
            _fact(fact) | {"holds": fact in state.facts, "by_ivc": fact in state.marks}
            for fact in _facts(want, state)
        ],
        "rules": {"wanted": len(want.rules), "same": want.rules == state.rules},
        "dropped": [
            {"chain": chain, "comment": comment, "frames": frames}
            for chain, comment, frames in dropped
        ],
        **steps_document(steps, remarks),
    }


def steps_document(steps: Sequence[Step], remarks: Sequence[str]) -> dict[str, Any]:
    """The changes, and what else is to be told."""
    return {"changes": [_step(step) for step in steps], "remarks": list(remarks)}


def show_text(
    want: Wanted, state: State, steps: Sequence[Step], dropped: Dropped, remarks: Sequence[str]
) -> str:
    """The same for people."""
    lines = [f"{_holds(fact, state):<14} {fact}" for fact in _facts(want, state)]
    lines += [f"{f'dropped {n}':<14} {chain}: {comment}" for chain, comment, n in dropped]
    return "".join(f"{line}\n" for line in lines) + steps_text(steps, remarks)


def steps_text(steps: Sequence[Step], remarks: Sequence[str]) -> str:
    """One line for each change, or that there is none."""
    lines = [str(step) for step in steps] or ["nothing to change"]
    return "".join(f"{line}\n" for line in [*lines, *(f"note: {remark}" for remark in remarks)])


def _facts(want: Wanted, state: State) -> list[Fact]:
    return sorted({*want.facts, *state.marks})


def _holds(fact: Fact, state: State) -> str:
    if fact not in state.facts:
        return "missing"
    return "set by ivc" if fact in state.marks else "there before"


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "kind": fact.kind.name.lower(),
        "interface": fact.link,
        "value": fact.value or None,
        "text": str(fact),
    }


def _step(step: Step) -> dict[str, Any]:
    if isinstance(step, Change):
        return {"act": step.act.value, **_fact(step.fact), "text": str(step)}
    return {"act": "rules", "objects": len(step.after), "text": str(step)}
