# SPDX-License-Identifier: Apache-2.0
"""Completion scripts and the manual page: all commands and options, though commands are lazy."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import build
from ivc.cli import main, parser
from ivc.commands import COMMANDS
from ivc.completion_command import SHELLS

ROOT = Path(__file__).resolve().parent.parent


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def options(of: argparse.ArgumentParser) -> Iterator[str]:
    """The long ones, of all commands; but --help, which goes without saying."""
    for action in of._actions:
        if action.dest != "help":
            yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options(below)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = script(shell, capsys)
    assert [one.name for one in COMMANDS if one.name not in told] == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])  # tcsh knows options of two levels only
def test_shells_are_told_all_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = script(shell, capsys)
    assert [name for name in options(parser()) if name not in told] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ivc stat", "status"),
        ("ivc ethernet app", "apply"),
        ("ivc ethernet apply --dr", "--dry-run"),
        ("ivc plan --emit-policy au", "audit"),
        ("ivc completion z", "zsh"),
        ("ivc check examples/ad", "examples/adas.json"),
    ],
)
def test_bash_completes(
    line: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ivc").write_text(script("bash", capsys))
    words = line.split()
    ask = f"source {tmp_path}/ivc; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
    ask += '$(complete -p ivc | sed "s/.*-F \\([^ ]*\\).*/\\1/"); echo "${COMPREPLY[*]}"'
    done = subprocess.run(
        ["bash", "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_who_has_no_shtab_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "found no shtab; install it: pip install ivc[shell]" in capsys.readouterr().err


def test_the_manual_page_has_all_commands_and_options_and_the_exit_codes() -> None:
    build._make_manual()
    text = build.MANUAL.read_text().replace("\\", "")
    assert [name for name in options(parser()) if name not in text] == []
    assert [one.name for one in COMMANDS if f"usage: ivc {one.name} " not in text] == []
    assert "77  not permitted" in text and "/run/ivc" in text
