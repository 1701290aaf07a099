# SPDX-License-Identifier: Apache-2.0
"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng); those of packets core/capture.c makes.

Everything is little-endian; times are ns.
"""

import struct
from collections.abc import Iterable
from typing import Final

LINKTYPE_RAW: Final = 101
"""Packets begin with the IP header."""

_SECTION, _INTERFACE, _STATISTICS = 0x0A0D0D0A, 1, 5
_MAGIC: Final = 0x1A2B3C4D
_APPLICATION: Final = 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_START, _END, _RECEIVED, _DROPPED = 2, 3, 4, 5

Option = tuple[int, bytes]


def section(application: str) -> bytes:
    """What a file begins with; of a length nobody knows yet."""
    body = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
    return _block(_SECTION, body, [(_APPLICATION, application.encode())])


def interface(name: str, description: str, snap: int) -> bytes:
    """An interface; they are numbered in the order they come."""
    options = [
        (_NAME, name.encode()),
        (_DESCRIPTION, description.encode()),
        (_RESOLUTION, bytes([9])),
    ]
    return _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, snap), options)


def statistics(number: int, times: tuple[int, int, int], received: int, dropped: int) -> bytes:
    """Of an interface: now, first and last, in ns; messages there were, and those of them lost."""
    now, start, end = (struct.pack("<II", time >> 32, time & 0xFFFFFFFF) for time in times)
    options = [
        (_START, start),
        (_END, end),
        (_RECEIVED, struct.pack("<Q", received)),
        (_DROPPED, struct.pack("<Q", dropped)),
    ]
    return _block(_STATISTICS, struct.pack("<I", number) + now, options)


def _block(kind: int, body: bytes, options: Iterable[Option]) -> bytes:
    content = body + b"".join(map(_option, options)) + bytes(4)
    size = struct.pack("<I", 12 + len(content))
    return struct.pack("<I", kind) + size + content + size


def _option(option: Option) -> bytes:
    code, value = option
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
