# SPDX-License-Identifier: Apache-2.0
"""The steps from what is to what shall be: pure.

What we made and is no longer wanted is undone, what is wanted and not there is made and marked.
What is not marked was somebody else's before us and is never undone, even if it is wanted: so
undoing all that is marked leaves what was there without us.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from ivc.ethernet.facts import Fact, Kind
from ivc.ethernet.rules import Table
from ivc.ethernet.wanted import Wanted


@dataclass(frozen=True, slots=True)
class State:
    """What is: names of all interfaces, facts that hold, marks, the table `ivc` of nftables.

    Marks may name facts that no longer hold: somebody else has undone them.
    """

    links: frozenset[str] = frozenset()
    facts: frozenset[Fact] = frozenset()
    marks: frozenset[Fact] = frozenset()
    rules: Table = ()


class Act(StrEnum):
    """What is done about a fact."""

    MAKE = "make"
    """make it hold, and mark it"""
    UNDO = "undo"
    """make it hold no longer, and take the mark off"""
    FORGET = "forget"
    """take the mark off: it does not hold any more"""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done about one fact."""

    act: Act
    fact: Fact

    def __str__(self) -> str:
        return f"{_WORDS[self.act]}: {self.fact}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The table `ivc` of nftables replaced, in one transaction; empty: no table."""

    before: Table
    after: Table

    def __str__(self) -> str:
        words = f"with {sum('rule' in text[:8] for text in self.after)} rules"
        return f"nftables: {words if self.after else 'without'} table bridge ivc"


Step = Change | Rules

_WORDS = {Act.MAKE: "now", Act.UNDO: "no longer", Act.FORGET: "unmarked"}


def difference(want: Wanted, state: State) -> tuple[Step, ...]:
    """Steps from `state` to `want`, in an order in which no frame passes what `want` forbids."""
    stale = _stale(want, state)
    undo = [Change(Act.UNDO, fact) for fact in sorted(stale & state.facts, reverse=True)]
    forget = [Change(Act.FORGET, fact) for fact in sorted(stale - state.facts)]
    rules = [Rules(state.rules, want.rules)] if want.rules != state.rules else []
    make = [Change(Act.MAKE, fact) for fact in want.facts if fact not in state.facts]
    return (*undo, *forget, *rules, *make)


def kept(want: Wanted, state: State) -> tuple[str, ...]:
    """Bridges of ours that are not wanted, but in use by others: they stay as they are."""
    stale = state.marks - set(want.facts)
    return tuple(sorted(link for link in _bridges(stale) if _users(link, stale, state)))


def after(state: State, step: Step) -> State:
    """What is after a step."""
    if isinstance(step, Rules):
        return replace(state, rules=step.after)
    fact, one = step.fact, {step.fact}
    if step.act is Act.MAKE:
        links = state.links | ({fact.link} if fact.kind is Kind.BRIDGE else set())
        return State(links, state.facts | one, state.marks | one, state.rules)
    state = replace(state, facts=state.facts - one, marks=state.marks - one)
    if step.act is Act.UNDO and fact.kind is Kind.BRIDGE:  # and all there was to say about it
        facts = frozenset(other for other in state.facts if not other.about(fact.link))
        return replace(state, links=state.links - {fact.link}, facts=facts)
    return state


def inverse(step: Step) -> Step | None:
    """What takes a step back; None if there is nothing to take back."""
    if isinstance(step, Rules):
        return Rules(step.after, step.before)
    if step.act is Act.FORGET:
        return None
    return Change(Act.UNDO if step.act is Act.MAKE else Act.MAKE, step.fact)


def _stale(want: Wanted, state: State) -> frozenset[Fact]:
    """Facts we made that nobody wants, but for what a bridge in use by others needs."""
    stale = state.marks - set(want.facts)
    needed = {
        Fact(kind, link)
        for link in kept(want, state)
        for kind in (Kind.BRIDGE, Kind.FLOOD, Kind.UP)
    }
    return stale - needed


def _bridges(facts: Iterable[Fact]) -> set[str]:
    return {fact.link for fact in facts if fact.kind is Kind.BRIDGE}


def _users(bridge: str, stale: frozenset[Fact], state: State) -> list[Fact]:
    """What others have on a bridge: ports, addresses, routes."""
    uses = {Kind.MEMBER, Kind.ADDRESS, Kind.ROUTE}
    others = state.facts - stale
    return [fact for fact in others if fact.kind in uses and fact.about(bridge)]
