# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose, to validate ECUs: as they are ordered, and those there are.

A fault is in an order {"match": {...}, "effect": NAME, "seed": N, ...}: `match` has the keys a
`[[rule]]` matches by, but for the protocol, which is UDP; then what its effect needs: `chance`
(0 to 1) of drop, duplicate and corrupt, with `what` of corrupt; `number` of drop-nth and rate;
`delay` and `jitter` in ns; `time` of cut, in ns. Nothing else: a slip would be a fault that does
nothing, or does it to everything.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ivc.controller.errors import ControllerError
from ivc.controller.fault_words import SEED, TYPES, WHATS
from ivc.network.fields import LARGEST_ID
from ivc.network.model import Protocol, ServiceInstance
from ivc.network.rules import Action, Rule
from ivc.shm.relay import FAULTS_MAX, ArmedFault, Effect, What
from ivc.someip.header import SD_SERVICE

TIME_MOST_NS: Final = 3600 * 10**9
_NUMBER_MOST: Final = 1_000_000_000
_SEED_MOST: Final = (1 << 64) - 1

EFFECTS: Final = {effect.name.lower().replace("_", "-"): effect for effect in Effect}
_WHATS: Final = {name: What[name.upper()] for name in WHATS}
_VALUES: Final = {
    Effect.DROP: ("chance",),
    Effect.DROP_NTH: ("number",),
    Effect.DELAY: ("delay", "jitter"),
    Effect.DUPLICATE: ("chance",),
    Effect.CORRUPT: ("chance", "what"),
    Effect.RATE: ("number",),
    Effect.CUT: ("time",),
}
_MATCH: Final = ("from", "to", "service", "instance", "method", "client", "type")


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

    def make(
        self,
        order: Mapping[str, Any],
        nodes: Collection[str],
        services: Collection[ServiceInstance],
    ) -> Fault:
        """The fault that was ordered, not among the others yet. Raises `ControllerError`: all that
        is wrong with it, where there are these `nodes` inside and `services`."""
        problems: list[str] = []
        rule = _rule(self._number + 1, order.get("match", {}), nodes, problems)
        if rule is not None:
            _check_offered(rule, services, problems)
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
    _check_keys("match: ", match, _MATCH, problems)
    for key, name in (("from", "source"), ("to", "destination")):
        found[name] = match.get(key)
        if found[name] is not None and found[name] not in nodes:
            known = ", ".join(sorted(nodes))
            problems.append(f"{key}: there is no node {found[name]} inside; there are: {known}")
    if found["source"] is not None and found["source"] == found["destination"]:
        problems.append(
            f"to: found {found['destination']}, the node it is from, expected another: what a node "
            "sends itself is not relayed"
        )
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
    values = _VALUES[effect]
    _check_keys("", order, ("match", "effect", "seed", *values), problems)
    get: Callable[..., Any] = order.get
    _check("seed", get("seed", SEED), 0, _SEED_MOST, problems)
    if "chance" in values:
        _check("chance", get("chance"), 0, 1, problems)
    if "number" in values:
        _check("number", get("number"), 1, _NUMBER_MOST, problems)
    if "time" in values:
        _check("time (ns)", get("time"), 1, TIME_MOST_NS, problems)
    if "delay" in values:
        _check("jitter (ns)", get("jitter", 0), 0, TIME_MOST_NS, problems)
        _check("delay (ns)", get("delay"), 0 if get("jitter") else 1, TIME_MOST_NS, problems)
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
        _WHATS[get("what", "byte")],
    )


def _check_keys(
    where: str, given: Mapping[str, Any], known: Collection[str], problems: list[str]
) -> None:
    for key in given:
        if key not in known:
            problems.append(f"{where}found {key}, expected one of {', '.join(known)}; correct it")


def _check_offered(rule: Rule, services: Collection[ServiceInstance], problems: list[str]) -> None:
    """As with rules: messages of a service no configuration has go no way the relay knows."""
    known = {one.service for one in services} | {SD_SERVICE}
    instances = {one.instance for one in services if one.service == rule.service}
    if rule.service == SD_SERVICE:
        instances.add(LARGEST_ID)
    if rule.service is not None and rule.service not in known:
        problems.append(_unknown("service", rule.service, known))
    elif rule.instance is not None and rule.instance not in instances:
        problems.append(_unknown("instance", rule.instance, instances))


def _unknown(key: str, number: int, known: Collection[int]) -> str:
    there = ", ".join(f"0x{each:04x}" for each in sorted(known))
    return (
        f"{key}: found 0x{number:04x}, which no configuration file has, expected one of {there}; "
        "correct it, or add the file of whoever offers it"
    )


def _check(name: str, value: Any, least: int, most: int, problems: list[str]) -> None:
    whole = name != "chance"
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        problems.append(f"{name}: found {value}, expected {least} to {most}")
