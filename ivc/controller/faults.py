# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose, to validate ECUs: as they are ordered, and those there are.

A fault is in an order {"match": {...}, "effect": NAME, "seed": N, ...}: `match` has the keys a
`[[rule]]` matches by, but for the protocol, which is UDP; then what its effect needs: `chance`
(0 to 1) of drop, duplicate and corrupt, with `what` of corrupt; `number` of drop-nth and rate;
`delay` and `jitter` in ns; `time` of cut, in ns.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ivc.controller.errors import ControllerError
from ivc.network.fields import LARGEST_ID
from ivc.network.model import Protocol
from ivc.network.rules import Action, Rule
from ivc.shm.relay import FAULTS_MAX, ArmedFault, Effect, What
from ivc.someip import MessageType

SEED: Final = 1
"""What a fault draws from if nobody says."""

TIME_MOST_NS: Final = 3600 * 10**9
_NUMBER_MOST: Final = 1_000_000_000
_SEED_MOST: Final = (1 << 64) - 1

EFFECTS: Final = {effect.name.lower().replace("_", "-"): effect for effect in Effect}
WHATS: Final = {what.name.lower(): what for what in What}
TYPES: Final = {kind.name: kind for kind in MessageType if "ACK" not in kind.name}
_WITH_CHANCE: Final = {Effect.DROP, Effect.DUPLICATE, Effect.CORRUPT}
_WITH_NUMBER: Final = {Effect.DROP_NTH, Effect.RATE}


@dataclass(frozen=True, slots=True)
class Fault:
    """One that is there: what it matches, what the loop does, and the order it came by."""

    place: int
    rule: Rule
    armed: ArmedFault
    order: Mapping[str, Any]

    @property
    def ident(self) -> int:
        """Its number for people; never used again while the controller runs."""
        return self.rule.number

    @property
    def over(self) -> bool:
        """Whether it is a cut whose time has passed."""
        return self.armed.effect is Effect.CUT and time.monotonic_ns() >= self.armed.until


class Faults:
    """Those there are, each at a place of its own."""

    def __init__(self) -> None:
        self._number = 0
        self.all: dict[int, Fault] = {}

    def make(self, order: Mapping[str, Any], nodes: Collection[str]) -> Fault:
        """The fault that was ordered, not among the others yet. Raises `ControllerError`: all that
        is wrong with it."""
        problems: list[str] = []
        rule = _rule(self._number + 1, order.get("match", {}), nodes, problems)
        armed = _armed(order, problems)
        taken = {fault.place for fault in self.all.values()}
        place = next((each for each in range(FAULTS_MAX) if each not in taken), None)
        if place is None:
            problems.append(f"there are {FAULTS_MAX} faults, and no more at a time; clear one")
        if problems or rule is None or armed is None or place is None:
            raise ControllerError("no such fault, nothing is changed:\n" + "\n".join(problems))
        return Fault(place, rule, armed, order)

    def add(self, fault: Fault) -> None:
        """Have it among the others."""
        self._number = fault.ident
        self.all[fault.ident] = fault

    def pick(self, ident: int | None) -> list[Fault]:
        """The one of that number, or all. Raises `ControllerError` if there is none."""
        if ident is None:
            return list(self.all.values())
        if ident not in self.all:
            known = ", ".join(map(str, self.all)) or "none"
            raise ControllerError(f"there is no fault {ident}; there are: {known}")
        return [self.all[ident]]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What the plan has to know of them."""
        return tuple(fault.rule for fault in self.all.values())


def _rule(
    number: int, match: Mapping[str, Any], nodes: Collection[str], problems: list[str]
) -> Rule | None:
    found: dict[str, Any] = {}
    for key, name in (("from", "source"), ("to", "destination")):
        found[name] = match.get(key)
        if found[name] is not None and found[name] not in nodes:
            known = ", ".join(sorted(nodes))
            problems.append(f"{key}: there is no node {found[name]} inside; there are: {known}")
    for key in ("service", "instance", "method", "client"):
        found[key] = match.get(key)
        if found[key] is not None:
            _check(key, found[key], 0, LARGEST_ID, problems)
    kind = match.get("type")
    if kind is not None and kind not in TYPES:
        problems.append(f"type: found {kind}, expected one of {', '.join(TYPES)}")
    if found["instance"] is not None and found["service"] is None:
        problems.append("instance: add the service; which instance follows from it")
    if problems:
        return None
    return Rule(
        number,
        Action.RELAY,
        type=TYPES[kind] if kind is not None else None,
        protocol=Protocol.UDP,
        **found,
    )


def _armed(order: Mapping[str, Any], problems: list[str]) -> ArmedFault | None:
    effect = EFFECTS.get(order.get("effect", ""))
    if effect is None:
        problems.append(f"effect: expected one of {', '.join(EFFECTS)}")
        return None
    before = len(problems)
    get: Callable[..., Any] = order.get
    _check("seed", get("seed", SEED), 0, _SEED_MOST, problems)
    if effect in _WITH_CHANCE:
        _check("chance", get("chance"), 0, 1, problems)
    if effect in _WITH_NUMBER:
        _check("number", get("number"), 1, _NUMBER_MOST, problems)
    for key in ("delay", "jitter", "time"):
        _check(f"{key} (ns)", get(key, 0), 0, TIME_MOST_NS, problems)
    if get("what", "byte") not in WHATS:
        problems.append(f"what: found {get('what')}, expected one of {', '.join(WHATS)}")
    if len(problems) > before:
        return None
    return ArmedFault(
        effect,
        get("seed", SEED),
        get("chance", 0.0),
        get("number", 0),
        get("delay", 0),
        get("jitter", 0),
        time.monotonic_ns() + get("time", 0),
        WHATS[get("what", "byte")],
    )


def _check(name: str, value: Any, least: int, most: int, problems: list[str]) -> None:
    whole = name != "chance"
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        problems.append(f"{name}: found {value}, expected {least} to {most}")
