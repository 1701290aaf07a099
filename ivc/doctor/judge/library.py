# SPDX-License-Identifier: Apache-2.0
"""Is there a wrapper, can it be preloaded, and does it fit?"""

from collections.abc import Iterator

from ivc.controller.launch import LIBRARY
from ivc.doctor.case import Case
from ivc.doctor.finding import error, note
from ivc.errors import Finding
from ivc.shm.layout import RING_ABI_MAJOR

_BUILD = "python3 build.py builds it, python3 build.py install puts it where the loader looks"


def judge_library(case: Case) -> Iterator[Finding]:
    """See above."""
    library = case.facts.library
    if not library.path:
        yield error("no-library", LIBRARY, library.problem, "the wrapper", _BUILD)
    elif library.elf is None:
        yield error("no-library", library.path, "no ELF file", "the wrapper", _BUILD)
    elif library.abi is None:
        yield error(
            "not-preloaded",
            library.path,
            library.problem,
            "a library the loader accepts",
            f"build it on this machine; it has to be for {library.elf.architecture} as its "
            "programs, and readable for all",
        )
    elif library.abi != RING_ABI_MAJOR:
        yield error(
            "abi-mismatch",
            library.path,
            f"rings of ABI {library.abi}",
            f"ABI {RING_ABI_MAJOR}, as this program has",
            f"{_BUILD}; is IVC_LIBRARY, or an older installation, in the way?",
        )
    elif not library.by_name:
        yield note(
            "not-installed",
            LIBRARY,
            "a name the loader does not find",
            "LD_PRELOAD=libivcsock.so to be enough",
            f"write LD_PRELOAD={library.path}, or python3 build.py install; ivc run needs neither",
        )
