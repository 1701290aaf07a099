# SPDX-License-Identifier: Apache-2.0
"""Will the loader put the wrapper into this program, and will it call libc?"""

from collections.abc import Iterator

from ivc.doctor.case import Case
from ivc.doctor.elf import Elf
from ivc.doctor.facts import Library, Process, Program
from ivc.doctor.finding import about, error
from ivc.errors import Finding, Severity

_STAYS = "it stays on the network"


def judge_program(case: Case) -> Iterator[Finding]:
    """See above."""
    program = case.facts.program
    if program is None:
        return
    if program.problem:
        yield error(
            "no-program",
            program.path or program.name,
            program.problem,
            "a program that can be executed",
            "check its name, and chmod +x; a script begins with #! and its interpreter",
        )
    if program.elf is not None:
        yield from _linked(program, program.elf, case.facts.library)
    yield from _privileged(program, case.facts.process)


def _linked(program: Program, elf: Elf, library: Library) -> Iterator[Finding]:
    where = _where(program)
    own = library.elf
    if own is not None and (elf.machine, elf.bits) != (own.machine, own.bits):
        yield error(
            "other-architecture",
            where,
            f"a program for {elf.architecture}",
            f"{own.architecture}, as {library.path}",
            "build the wrapper for it: python3 build.py preload --cc CROSS --prefix DIR, and set "
            "IVC_LIBRARY",
        )
    if elf.is_go:
        yield error(
            "go-program",
            where,
            "a Go program: it makes system calls without libc",
            "one whose socket calls are libc's",
            f"none: {_STAYS}",
        )
    elif not elf.interpreter:
        yield error(
            "static-program",
            where,
            "a statically linked program: nothing can be preloaded",
            "one that is linked dynamically",
            f"link it without -static; else {_STAYS}",
        )
    elif "musl" in elf.interpreter:
        yield error(
            "other-libc",
            where,
            f"a program for musl ({elf.interpreter})",
            "one for glibc",
            "build it for glibc; the wrapper is",
        )


def _privileged(program: Program, process: Process) -> Iterator[Finding]:
    """The loader ignores LD_PRELOAD where a program gains rights by being executed."""
    path, root = program.path, process.uid == 0
    if program.set_uid is not None:
        found = f"set-user-ID, owner {program.set_uid}"
        yield _gains(path, found, program.set_uid != process.uid, f"chmod u-s {path}")
    if program.set_gid is not None:
        found = f"set-group-ID, group {program.set_gid}"
        yield _gains(path, found, not root, f"chmod g-s {path}")
    if program.capabilities:
        yield _gains(path, "file capabilities", not root, f"setcap -r {path}")


def _gains(path: str, found: str, now: bool, remedy: str) -> Finding:
    """An error if this user gains rights by it, else a note."""
    whom = "" if now else " if another user starts it"
    return about(
        Severity.ERROR if now else Severity.NOTE,
        "privileged-program",
        path,
        f"{found}: the loader ignores LD_PRELOAD{whom}",
        "a program that gains no rights by being executed",
        f"{remedy}, and start it with the rights it needs (AmbientCapabilities= of a unit, or as "
        "root)",
    )


def _where(program: Program) -> str:
    return " by ".join((program.path, *program.interpreters[-1:]))
