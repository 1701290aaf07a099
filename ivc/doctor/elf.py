# SPDX-License-Identifier: Apache-2.0
"""As much of an ELF file's headers as says who can be preloaded into it: bytes in, value out."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"\x7fELF"
_PT_INTERP: Final = 3
_PT_NOTE: Final = 4
_SHT_NOTE: Final = 7
_ENOUGH: Final = 4096
"""No interpreter's name and no note we look at is longer."""

_MACHINES: Final = {3: "x86", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}


@dataclass(frozen=True, slots=True)
class Elf:
    """`interpreter` is the dynamic loader, empty for what is linked statically."""

    machine: int
    bits: int
    interpreter: str = ""
    is_go: bool = False

    @property
    def architecture(self) -> str:
        """In words."""
        return f"{_MACHINES.get(self.machine, f'machine {self.machine}')}, {self.bits} bits"


def parse_elf(data: bytes) -> Elf | None:
    """What the file says of itself; None if it is no (whole) ELF file. Never trusts an offset."""
    if data[:4] != _MAGIC or len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    try:
        (machine,) = struct.unpack_from(f"{order}H", data, 18)
        segments = list(_segments(data, wide, order))
        sections = list(_sections(data, wide, order))
    except (struct.error, OverflowError):
        return None
    names = [text for kind, text in segments if kind == _PT_INTERP]
    notes = [text for kind, text in segments if kind == _PT_NOTE]
    notes += [text for kind, text in sections if kind == _SHT_NOTE]
    interpreter = names[0].split(b"\0")[0].decode(errors="replace") if names else ""
    return Elf(machine, 64 if wide else 32, interpreter, any(map(_is_go, notes)))


def _segments(data: bytes, wide: bool, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and beginning of each segment."""
    (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 32 if wide else 28)
    size, number = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
    for at in range(offset, offset + size * number, size or 1):
        (kind,) = struct.unpack_from(f"{order}I", data, at)
        start, length = (
            struct.unpack_from(f"{order}Q16xQ", data, at + 8)
            if wide
            else struct.unpack_from(f"{order}I8xI", data, at + 4)
        )
        yield kind, data[start : start + min(length, _ENOUGH)]


def _sections(data: bytes, wide: bool, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and beginning of each section; Go's own linker makes no segment of its note."""
    (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 40 if wide else 32)
    size, number = struct.unpack_from(f"{order}HH", data, 58 if wide else 46)
    for at in range(offset, offset + size * number, size or 1) if offset else ():
        (kind,) = struct.unpack_from(f"{order}I", data, at + 4)
        start, length = (
            struct.unpack_from(f"{order}QQ", data, at + 24)
            if wide
            else struct.unpack_from(f"{order}II", data, at + 16)
        )
        yield kind, data[start : start + min(length, _ENOUGH)]


def _is_go(note: bytes) -> bool:
    """Go's linker signs with a note of its own; its name is at the same place in either order."""
    return note[12:15] == b"Go\0"
