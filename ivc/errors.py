# SPDX-License-Identifier: Apache-2.0
"""The one error tree, and what is said about a user's input.

Every error IVC raises on purpose derives from `IvcError`; its `exit_code` is what the command
line ends with (docs: exit codes). Anything else that escapes is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class IvcError(Exception):
    """Something IVC cannot do; the message says what and how to go on."""

    exit_code: ClassVar[int] = 1


class Severity(StrEnum):
    """How bad a finding is: an error stops everything, a warning does not; a note is to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in one place: of the user's files, or of his machine.

    `file` is the file, or in words what else it is about. `line` and `column` count from 1, 0
    means unknown. `pointer` is a JSON pointer (RFC 6901), for TOML too; for ARXML it is the
    element's path of SHORT-NAMEs. Empty means the whole file. `code` is a stable name for the kind
    of problem.
    """

    severity: Severity
    code: str
    file: str
    line: int
    column: int
    pointer: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        pointer = f"{self.pointer}: " if self.pointer else ""
        return (
            f"{where}: {self.severity}: {pointer}found {self.found}; expected {self.expected}\n"
            f"    fix: {self.fix} [{self.code}]"
        )

    def to_dict(self) -> dict[str, str | int]:
        """The finding as plain values, for JSON output."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "pointer": self.pointer,
            "found": self.found,
            "expected": self.expected,
            "fix": self.fix,
        }


class ConfigError(IvcError):
    """The network configuration or the mapping is wrong; `findings` has all of it."""

    exit_code: ClassVar[int] = 3

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class PlanError(IvcError):
    """Network and mapping do not fit each other; `ivc.network.load` would have said where."""

    exit_code: ClassVar[int] = 3
