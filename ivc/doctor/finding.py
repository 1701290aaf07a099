# SPDX-License-Identifier: Apache-2.0
"""What the doctor has to say: one thing in one place, with its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ivc.errors import Finding as FileFinding


class Level(StrEnum):
    """An error keeps it from working, a warning may; a note is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is a stable name for the kind of finding."""

    level: Level
    code: str
    where: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.level}: found {self.found}; expected {self.expected}\n"
            f"    fix: {self.fix} [{self.code}]"
        )

    def to_dict(self) -> dict[str, str]:
        """As plain values, for JSON output."""
        return {
            "level": self.level.value,
            "code": self.code,
            "where": self.where,
            "found": self.found,
            "expected": self.expected,
            "fix": self.fix,
        }


def error(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It cannot work so."""
    return Finding(Level.ERROR, code, where, found, expected, fix)


def warning(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It may not work so, or not as meant."""
    return Finding(Level.WARNING, code, where, found, expected, fix)


def note(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It works, but it is good to know."""
    return Finding(Level.NOTE, code, where, found, expected, fix)


def of_files(findings: Iterable[FileFinding]) -> list[Finding]:
    """What `ivc check` finds."""
    return [_of_file(finding) for finding in findings]


def _of_file(one: FileFinding) -> Finding:
    place = f"{one.file}:{one.line}" if one.line else one.file
    where = f"{place}: {one.pointer}" if one.pointer else place
    level = Level(one.severity.value)
    return Finding(level, one.code, where, one.found, one.expected, one.fix)
