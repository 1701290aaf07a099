# SPDX-License-Identifier: Apache-2.0
"""`ivc trace -f`: which messages are wanted.

    node=hmi service=0x1234,0x1235 method=0x8001 path=relay verdict=denied,dropped

All terms have to be true; a term is if one of its values is. What rules match by
(docs/rules.md) is matched as they do, by the same function.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from typing import Any, Final

from ivc.errors import IvcError
from ivc.network.model import Protocol
from ivc.network.rules import Action, Rule
from ivc.network.ways import Way, first_match
from ivc.observe.trace_names import PATHS, VERDICTS
from ivc.someip import Header, MessageType

_TYPES: Final = {kind.name: kind for kind in MessageType if "ACK" not in kind.name}
_LARGEST: Final = 0xFFFF
_ANYWHERE: Final = Rule(0, Action.DIRECT)


class FilterError(IvcError):
    """Nobody can say what is wanted."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a message: its header is None where it is none, or a piece of a stream."""

    source: str
    destination: str
    protocol: Protocol
    path: str
    verdict: str
    header: Header | None


@dataclass(frozen=True, slots=True)
class Filter:
    """One of the rules has to match, and path and verdict have to be among these, if any."""

    rules: tuple[Rule, ...]
    paths: frozenset[str]
    verdicts: frozenset[str]

    def wants(self, seen: Seen) -> bool:
        """Whether it is wanted."""
        services = frozenset({(seen.header.service_id, 0)} if seen.header is not None else ())
        way = Way(seen.source, seen.destination, seen.protocol, here=services)
        return (
            (not self.paths or seen.path in self.paths)
            and (not self.verdicts or seen.verdict in self.verdicts)
            and first_match(self.rules, way, seen.header) is not None
        )


def read_filter(text: str, nodes: Sequence[str]) -> Filter:
    """The filter in a text, where there are these nodes. Raises `FilterError`."""
    terms: dict[str, list[str]] = {}
    for term in text.split():
        key, equals, values = term.partition("=")
        if not equals or key not in _KEYS or key in terms or not all(values.split(",")):
            raise FilterError(
                f"-f: found {term!r}, expected KEY=VALUE[,VALUE]... once each of "
                f"{', '.join(_KEYS)}; separate terms by spaces, such as: node=hmi service=0x1234"
            )
        terms[key] = values.split(",")
    rules: Iterable[Rule] = [_ANYWHERE]
    for key, alternatives in terms.items():
        if key in _OF_RULES:
            read = _OF_RULES[key]
            changes = [change for each in alternatives for change in read(key, each, nodes)]
            rules = [
                replace(rule, **change)
                for rule, change in product(rules, changes)
                if all(getattr(rule, name) in {None, value} for name, value in change.items())
            ]
    return Filter(
        tuple(rules),
        frozenset(_one_of("path", each, PATHS) for each in terms.get("path", [])),
        frozenset(
            _one_of("verdict", each, tuple(VERDICTS.values())) for each in terms.get("verdict", [])
        ),
    )


Change = dict[str, Any]


def _one_of(key: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        close = get_close_matches(value, known, 1)
        fix = f"write {key}={close[0]}?" if close else "write one of these"
        names = ", ".join(dict.fromkeys(known)) or "none"
        raise FilterError(f"-f: found {key}={value}, expected one of {names}; {fix}")
    return value


def _from(key: str, value: str, nodes: Sequence[str]) -> list[Change]:
    return [{"source": _one_of(key, value, nodes)}]


def _to(key: str, value: str, nodes: Sequence[str]) -> list[Change]:
    return [{"destination": _one_of(key, value, nodes)}]


def _node(key: str, value: str, nodes: Sequence[str]) -> list[Change]:
    return [*_from(key, value, nodes), *_to(key, value, nodes)]


def _number(key: str, value: str, _: Sequence[str]) -> list[Change]:
    try:
        number = int(value, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST:
        raise FilterError(f"-f: found {key}={value}, expected an id, 0 to 0xffff, such as 0x1234")
    return [{key: number}]


def _type(key: str, value: str, _: Sequence[str]) -> list[Change]:
    return [{"type": _TYPES[_one_of(key, value, tuple(_TYPES))]}]


def _protocol(key: str, value: str, _: Sequence[str]) -> list[Change]:
    return [{"protocol": Protocol(_one_of(key, value, tuple(Protocol)))}]


_OF_RULES: Final[dict[str, Callable[[str, str, Sequence[str]], list[Change]]]] = {
    "node": _node,
    "from": _from,
    "to": _to,
    "service": _number,
    "method": _number,
    "client": _number,
    "type": _type,
    "protocol": _protocol,
}
_KEYS: Final = (*_OF_RULES, "path", "verdict")
