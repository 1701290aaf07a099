# SPDX-License-Identifier: Apache-2.0
"""Findings for people and for programs."""

import json
from collections.abc import Sequence

from ivc.errors import Finding, Severity


def to_text(findings: Sequence[Finding]) -> str:
    """One after the other, and how many there are."""
    lines = [str(finding) for finding in findings]
    counted = ", ".join(
        f"{number} {level}{'' if number == 1 else 's'}"
        for level, number in _count(findings).items()
    )
    return "\n".join([*map(_printable, lines), counted]) + "\n"


def to_json(findings: Sequence[Finding]) -> str:
    """One object."""
    counts = {f"{level}s": number for level, number in _count(findings).items()}
    return json.dumps({**counts, "findings": [one.to_dict() for one in findings]}, indent=2) + "\n"


def _count(findings: Sequence[Finding]) -> dict[Severity, int]:
    return {level: sum(one.severity is level for one in findings) for level in Severity}


def _printable(text: str) -> str:
    """What programs and the controller say cannot disturb the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
