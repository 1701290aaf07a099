# SPDX-License-Identifier: Apache-2.0
"""A parsed file as a tree that remembers where everything stood, and the list of findings.

JSON and TOML are both read into this tree. Scalars stay text: vsomeip reads every scalar as a
string, so `"30509"` and `30509` are the same to it.
"""

import json
from dataclasses import dataclass, field, replace

from ivc.errors import Finding, Severity

_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands. Line and column count from 1; 0 is unknown."""

    file: str
    pointer: str = ""
    line: int = 0
    column: int = 0

    def at(self, key: str | int) -> "Place":
        """The place of a member that is not there: its parent's line, its own pointer."""
        return replace(self, pointer=child_pointer(self.pointer, key))


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, number, boolean or null as it was written; `literal` if it stood without quotes."""

    text: str
    literal: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Array:
    """A list of values."""

    items: tuple["Value", ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A JSON object or TOML table.

    Of equal keys the first is in `items` and the last in `repeated`: vsomeip takes the one where
    it looks a key up, and the other where it goes through all members.
    """

    items: dict[str, "Value"]
    place: Place
    repeated: dict[str, "Value"] = field(default_factory=dict)

    def get(self, key: str) -> "Value | None":
        """The member called `key`, or None."""
        return self.items.get(key)

    def last(self) -> "Table":
        """The same with the last of equal keys."""
        return Table({**self.items, **self.repeated}, self.place)


Value = Scalar | Array | Table


def child_pointer(pointer: str, key: str | int) -> str:
    """JSON pointer of a member (RFC 6901 section 3)."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def quote(text: str) -> str:
    """Text from a file, safe to print: escaped, and cut where it is too long to read."""
    shown = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."
    return json.dumps(shown)


def describe(value: Value) -> str:
    """What was found, in the words of a message."""
    match value:
        case Scalar(text, literal):
            return quote(text)[1:-1] if literal else quote(text)
        case Array(items):
            return f"a list of {len(items)}" if items else "an empty list"
        case Table():
            return "an object"


@dataclass(slots=True)
class Report:
    """Collects findings, so that one run tells all of them."""

    findings: list[Finding] = field(default_factory=list)

    def error(self, place: Place, code: str, found: str, expected: str, fix: str) -> None:
        """Note something that makes the input unusable."""
        self._add(Severity.ERROR, place, code, found, expected, fix)

    def warning(self, place: Place, code: str, found: str, expected: str, fix: str) -> None:
        """Note something that works, but hardly as meant."""
        self._add(Severity.WARNING, place, code, found, expected, fix)

    def blames(self, place: Place) -> bool:
        """Whether an error was noted in exactly this place: then nothing is to follow from it."""
        return any(
            finding.severity is Severity.ERROR
            and (finding.file, finding.pointer) == (place.file, place.pointer)
            for finding in self.findings
        )

    @property
    def has_errors(self) -> bool:
        """Whether anything noted so far is an error."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def sorted(self) -> tuple[Finding, ...]:
        """All findings once each: by file, then line."""
        return tuple(
            sorted(set(self.findings), key=lambda f: (f.file, f.line, f.column, f.pointer, f.code))
        )

    def _add(
        self, severity: Severity, place: Place, code: str, found: str, expected: str, fix: str
    ) -> None:
        pointer = place.pointer.encode("ascii", "backslashreplace").decode()
        self.findings.append(
            Finding(
                severity, code, place.file, place.line, place.column, pointer, found, expected, fix
            )
        )
