# SPDX-License-Identifier: Apache-2.0
"""The program that is to run under the wrapper."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ivc.doctor.elf import parse_elf
from ivc.doctor.facts import Program

_INTERPRETERS_MOST: Final = 4  # the kernel's own limit
_LINE_MOST: Final = 256


def gather_program(name: str) -> Program:
    """As a shell would find it."""
    path = name if "/" in name else shutil.which(name)
    if path is None:
        return Program(name, problem="no such program in PATH")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return Program(name, path, "no regular file")
        if not os.access(path, os.X_OK):
            return Program(name, path, "not executable")
        interpreters, head = _follow(path)
        elf = parse_elf(Path(interpreters[-1] if interpreters else path).read_bytes())
    except OSError as error:
        return Program(name, path, error.strerror or str(error))
    problem = "" if elf is not None else _no_elf(head)
    user, group = status.st_mode & stat.S_ISUID, status.st_mode & stat.S_ISGID
    return Program(
        name,
        path,
        problem,
        interpreters,
        elf,
        status.st_uid if user and not interpreters else None,
        status.st_gid if group and not interpreters else None,
        not interpreters and _has_capabilities(path),
    )


def _follow(path: str) -> tuple[tuple[str, ...], bytes]:
    """Whom first lines call, and env(1) of them; with the first bytes of the last."""
    found: list[str] = []
    while True:
        with Path(found[-1] if found else path).open("rb") as file:
            head = file.read(_LINE_MOST)
        if not head.startswith(b"#!") or len(found) == _INTERPRETERS_MOST:
            return tuple(found), head
        found.append(_interpreter(head))


def _interpreter(head: bytes) -> str:
    words = os.fsdecode(head[2:].split(b"\n")[0]).split()
    if not words:
        return "/bin/sh"
    if Path(words[0]).name == "env":
        called = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return (shutil.which(called[0]) if called else None) or words[0]
    return words[0]


def _no_elf(head: bytes) -> str:
    return "a script without #! in its first line" if head.isascii() else "no ELF file"


def _has_capabilities(path: str) -> bool:
    with suppress(OSError):
        return bool(os.getxattr(path, "security.capability"))
    return False
