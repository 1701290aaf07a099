# SPDX-License-Identifier: Apache-2.0
"""`ivc completion`: what a shell has to know to complete command lines of `ivc`."""

import argparse
import sys
from pathlib import Path
from typing import Final

from ivc.commands import HELP, Subparsers
from ivc.errors import IvcError

SHELLS: Final = ("bash", "zsh", "tcsh")

_DESCRIPTION: Final = """\
Print a script that makes a shell complete commands, options and file names. It needs shtab (pip
install ivc[shell]) only here, not where the script is used. Where shells look for it:

    ivc completion bash > /usr/share/bash-completion/completions/ivc
    ivc completion zsh > /usr/share/zsh/site-functions/_ivc
    ivc completion tcsh > /etc/profile.d/ivc.completion.csh
"""


class NoShtab(IvcError):
    """What makes the scripts is not installed."""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "completion",
        help=HELP["completion"],
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    from ivc.cli import parser  # which imports us

    try:
        import shtab  # no other command needs it
    except ModuleNotFoundError:
        raise NoShtab("completion: found no shtab; install it: pip install ivc[shell]") from None
    whole = parser()
    _name_files(whole, shtab.FILE, shtab.DIRECTORY)
    sys.stdout.write(shtab.complete(whole, arguments.shell) + "\n")
    return 0


def _name_files(parser: argparse.ArgumentParser, file: object, folder: object) -> None:
    """Say of every option that takes a file, also of commands, that it does."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _name_files(below, file, folder)
        elif action.type is Path:
            is_folder = action.dest == "run_dir"
            action.complete = folder if is_folder else file  # type: ignore[attr-defined]
