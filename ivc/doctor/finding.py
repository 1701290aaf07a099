# SPDX-License-Identifier: Apache-2.0
"""What the doctor has to say: findings about the machine, whose place is told in words."""

from ivc.errors import Finding, Severity


def error(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It cannot work so."""
    return about(Severity.ERROR, code, where, found, expected, fix)


def warning(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It may not work so, or not as meant."""
    return about(Severity.WARNING, code, where, found, expected, fix)


def note(code: str, where: str, found: str, expected: str, fix: str) -> Finding:
    """It works, but it is good to know."""
    return about(Severity.NOTE, code, where, found, expected, fix)


def about(
    severity: Severity, code: str, where: str, found: str, expected: str, fix: str
) -> Finding:
    """Of a severity that has to be worked out."""
    return Finding(severity, code, where, 0, 0, "", found, expected, fix)
