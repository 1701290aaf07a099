# SPDX-License-Identifier: Apache-2.0
"""Programs under valgrind, which knows what was never written."""

import shutil

import pytest

_COMMAND = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--fair-sched=yes"]
"""A leak is an error. Threads run in turn, or one that spins would do so for ever."""


def valgrind() -> list[str]:
    """What a program is put behind; skips the test where it is not installed."""
    if not shutil.which("valgrind"):
        pytest.skip("needs valgrind: apt-get install valgrind")
    return _COMMAND
