# SPDX-License-Identifier: Apache-2.0
"""Programs as they lie on disk: real ones, and files that are none."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivc.cli import main
from ivc.doctor.elf import parse_elf
from ivc.doctor.gather.library import gather_library
from ivc.doctor.gather.machine import gather_machine, gather_process
from ivc.doctor.gather.program import gather_program
from ivc.shm.layout import RING_ABI_MAJOR

PYTHON = Path(sys.executable).resolve()
SOURCE = "int main(void) { return 0; }\n"
_WHOLE = PYTHON.read_bytes()[:4096]


def compiled(folder: Path, *options: str) -> Path:
    subprocess.run(
        ["cc", "-x", "c", "-", "-o", str(folder / "ecu"), *options],
        input=SOURCE,
        text=True,
        check=True,
    )
    return folder / "ecu"


def test_dynamic_program_has_an_interpreter(tmp_path: Path) -> None:
    elf = gather_program(str(compiled(tmp_path))).elf
    assert elf is not None and "ld-linux" in elf.interpreter and not elf.is_go


@pytest.mark.parametrize("option", ["-static", "-static-pie"])
def test_static_program_has_none(tmp_path: Path, option: str) -> None:
    elf = gather_program(str(compiled(tmp_path, option))).elf
    assert elf is not None and elf.interpreter == ""


def test_go_signs_its_programs(tmp_path: Path) -> None:
    """Its note, put into a program of C as its linker would: name Go, type 4, the build's id."""
    lines = ('.section .note.go.buildid,"a",@note', ".long 4, 4, 4", '.ascii "Go\\\\0\\\\0abcd"')
    source = tmp_path / "note.c"
    text = "\\n".join(lines).replace('"', '\\"')
    source.write_text(f'__asm__("{text}\\n.text\\n");\n')
    elf = gather_program(str(compiled(tmp_path, str(source)))).elf
    assert elf is not None and elf.is_go


def test_script_is_its_interpreters(tmp_path: Path) -> None:
    script = tmp_path / "ecu"
    script.write_text("#!/usr/bin/env sh\n")
    script.chmod(0o755)
    program = gather_program(str(script))
    assert program.interpreters == ("/usr/bin/env", shutil.which("sh")) or (
        program.interpreters == (shutil.which("sh"),)
    )
    assert program.elf is not None


def test_script_that_calls_itself_ends(tmp_path: Path) -> None:
    script = tmp_path / "ecu"
    script.write_text(f"#!{script}\n")
    script.chmod(0o755)
    assert gather_program(str(script)).problem


def test_what_cannot_be_executed_is_told(tmp_path: Path) -> None:
    plain = tmp_path / "ecu"
    plain.write_text("")
    for name in ("no-such-program-anywhere", str(tmp_path / "nothing"), str(tmp_path), str(plain)):
        assert gather_program(name).problem


def test_set_ids_and_capabilities_are_seen(tmp_path: Path) -> None:
    path = compiled(tmp_path)
    path.chmod(0o6755)
    program = gather_program(str(path))
    assert (program.set_uid, program.set_gid) == (os.getuid(), os.getgid())
    assert not program.capabilities
    if os.geteuid() == 0:  # VFS_CAP_REVISION_2, effective, CAP_NET_RAW
        os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
        assert gather_program(str(path)).capabilities


@given(at=st.integers(0, 4095), byte=st.integers(0, 255), length=st.integers(0, 4096))
def test_damaged_files_never_raise(at: int, byte: int, length: int) -> None:
    data = bytearray(_WHOLE)
    data[at % len(data)] = byte
    parse_elf(bytes(data[:length]))


def test_library_says_its_abi() -> None:
    library = gather_library()
    assert (library.abi, library.problem) == (RING_ABI_MAJOR, "")
    assert library.elf is not None


def test_library_the_loader_refuses_has_a_problem(tmp_path: Path) -> None:
    other = tmp_path / "libivcsock.so"
    other.write_bytes(_WHOLE[:100])
    library = gather_library({**os.environ, "IVC_LIBRARY": str(other)})
    assert library.abi is None and "cannot be preloaded" in library.problem


def test_missing_library_has_a_problem(tmp_path: Path) -> None:
    library = gather_library({**os.environ, "IVC_LIBRARY": str(tmp_path / "none")})
    assert library.path == "" and library.problem


def test_machine_and_process_can_be_gathered() -> None:
    assert gather_machine().cpus >= 1
    assert gather_process().uid == os.geteuid()


def test_library_of_another_abi_says_so(tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("int ivcsock_present(void); int ivcsock_present(void) { return 2; }\n")
    other = tmp_path / "libivcsock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(other), str(source)], check=True)
    assert gather_library({**os.environ, "IVC_LIBRARY": str(other)}).abi == 2


def test_program_is_what_stands_behind_the_dashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = compiled(tmp_path, "-static")
    words = ["--run-dir", str(tmp_path), "--json", "--", str(path), "--json", "--", "-x"]
    assert main(["doctor", *words]) == 1
    found = {one["code"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["static-program"]["file"] == str(path)
