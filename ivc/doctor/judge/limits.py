# SPDX-License-Identifier: Apache-2.0
"""Do descriptors and memory suffice for what is planned, in the worst case?

Rings are not locked: RLIMIT_MEMLOCK does not matter.
"""

from collections.abc import Iterator
from typing import Final

from ivc.doctor.case import Case
from ivc.doctor.finding import warning
from ivc.errors import Finding
from ivc.network.model import LocalHost
from ivc.plan import Plan

_OWN: Final = 192
"""What a program and its libraries have open besides, amply."""


def judge_limits(case: Case) -> Iterator[Finding]:
    """See above."""
    need = _OWN + _flows(case)
    limit = case.facts.process.descriptors
    if limit is not None and limit < need:
        yield warning(
            "few-descriptors",
            "this process (ulimit -n)",
            f"{limit} descriptors",
            f"{need}: one for each socket and each flow of a node, and its own",
            f"ulimit -n {need}; or LimitNOFILE={need} in its unit",
        )
    memory, available = _memory(case.plan), case.facts.machine.memory
    if available is not None and memory > available:
        yield warning(
            "little-memory",
            "this machine",
            f"{available >> 20} MiB available",
            f"{memory >> 20} MiB, if all planned rings are in use at once",
            "make rings smaller: [rings] of the mapping; ivc plan shows what they take",
        )


def _flows(case: Case) -> int:
    """The most one node may have: each is a doorbell."""
    pairs = case.plan.pairs if case.plan is not None else ()
    names = [node.name for node in case.nodes if case.focus in (None, node.name)]
    return max((sum(p.flows for p in pairs if name in (p.a, p.b)) for name in names), default=0)


def _memory(plan: Plan | None) -> int:
    """Of what is on this machine: guests have memory of their own."""
    if plan is None:
        return 0
    here = {node.name for node in plan.nodes if isinstance(node.domain, LocalHost)}
    return sum(pair.memory for pair in plan.pairs if {pair.a, pair.b} <= here)
