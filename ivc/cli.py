# SPDX-License-Identifier: Apache-2.0
"""The `ivc` command; `ivc.commands` has the list of what it can do."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ivc import __version__
from ivc.commands import COMMANDS, EXIT_CODES
from ivc.doctor.arguments import split_program
from ivc.errors import ConfigError, IvcError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a node's name may not fit the terminal
            stream.reconfigure(errors="backslashreplace")
    own, program = split_program(sys.argv[1:] if argv is None else argv)
    arguments = parser(own).parse_args(own, argparse.Namespace(program=program))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except IvcError as error:
        print(error if isinstance(error, ConfigError) else f"ivc: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from flushing into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """For a command line: the options of the command it names and of those of its module; if it
    names none, the names of all.

    Without a command line: all there is.
    """
    made = argparse.ArgumentParser(
        prog="ivc",
        description="Virtual ECUs talk SOME/IP through shared memory.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"ivc {__version__}")
    subparsers = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    modules = dict.fromkeys(
        one.module for one in COMMANDS if words is None or one.name in _named(words)
    )
    for module in modules:
        import_module(module).add_commands(subparsers)
    if not modules:
        for one in COMMANDS:
            subparsers.add_parser(one.name, help=one.help)
    return made


def _named(words: Sequence[str]) -> list[str]:
    """The command of a command line, if there is one: what stands before it takes no value."""
    if {"-h", "--help"} & set(words[:1]):  # of `ivc` itself, whatever comes after it
        return []
    return [word for word in words if not word.startswith("-")][:1]
