# SPDX-License-Identifier: Apache-2.0
"""Whoever waits at a terminal sees that it goes on; nobody else sees anything of it."""

from __future__ import annotations

import io
import os
import pty
import select
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

import build
from ivc import terminal
from ivc.terminal import has_colours, progress


class Terminal:
    """Ours to read, `stream` for whoever writes."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream: TextIO = os.fdopen(theirs, "w")

    def shown(self) -> str:
        """Since the last time; a terminal passes on what it gets a moment later."""
        self.stream.flush()
        text = ""
        while select.select([self._ours], [], [], 0.1)[0]:
            text += os.read(self._ours, 65536).decode()
        return text

    def close(self) -> None:
        self.stream.close()
        os.close(self._ours)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Terminal()
    yield made
    made.close()


def test_what_takes_long_shows_a_line_that_is_gone_at_the_end(
    screen: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.1)
    with progress("demo: calls,", screen.stream):
        time.sleep(0.2)
        assert screen.shown() == "\r\x1b[Kdemo: calls, 0 s"
    assert screen.shown() == "\r\x1b[K"


def test_what_is_quick_shows_nothing(screen: Terminal) -> None:
    with progress("demo: calls,", screen.stream):
        pass
    assert screen.shown() == ""


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    out = io.StringIO()
    with progress("demo: calls,", out):
        time.sleep(0.1)
    assert out.getvalue() == ""


def test_the_line_is_gone_after_an_error_too(
    screen: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.1)
    with pytest.raises(KeyboardInterrupt), progress("demo: calls,", screen.stream):
        time.sleep(0.3)
        raise KeyboardInterrupt
    assert screen.shown().endswith("\r\x1b[K")


def test_a_step_of_the_build_is_seen_to_go_on(
    screen: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.1)
    monkeypatch.setattr("sys.stderr", screen.stream)
    build._run(["sleep", "0.3"], busy=True)
    assert screen.shown() == "\r\x1b[Kbuild: for 0 s\r\x1b[K"


@pytest.mark.parametrize(
    ("name", "value", "coloured"),
    [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)],
)
def test_colours_are_for_terminals_that_want_them(
    screen: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    coloured: bool,
) -> None:
    monkeypatch.setenv(name, value)
    assert has_colours(screen.stream) == coloured
    assert not has_colours(io.StringIO())
