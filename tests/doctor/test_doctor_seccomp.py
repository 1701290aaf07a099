# SPDX-License-Identifier: Apache-2.0
"""Under a real filter: what it blocks is found by trying."""

import platform
import subprocess
import sys

import pytest

FILTERED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
what = int(sys.argv[1])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 290), (6, 0, 0, what), (6, 0, 0, 0x7FFF0000)]
text = b"".join(struct.pack("=HBBI", *one) for one in code)
program = struct.pack("@HP", len(code), ctypes.cast(text, ctypes.c_void_p).value)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
from ivc.doctor.gather.machine import gather_process
process = gather_process()
print(process.seccomp, *process.blocked)
"""
"""A filter that has `what` for eventfd2, which is number 290 on x86-64, and passes all else."""

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050001, 0x80000000


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of x86-64")
@pytest.mark.parametrize(
    ("what", "seen"), [(ALLOW, "True"), (ERRNO, "True eventfd2"), (KILL, "True eventfd2")]
)
def test_what_a_filter_blocks_is_found(what: int, seen: str) -> None:
    command = [sys.executable, "-c", FILTERED, str(what)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == seen, done.stderr


def test_without_a_filter_nothing_is_tried() -> None:
    code = "from ivc.doctor.gather.machine import gather_process as g; print(g().blocked)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "()\n"
