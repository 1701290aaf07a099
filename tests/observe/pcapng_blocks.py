# SPDX-License-Identifier: Apache-2.0
"""Blocks of a pcapng file, as its specification has them."""

from __future__ import annotations

from pathlib import Path

PACKET = 6
"""The type of an enhanced packet block,"""
PACKET_DATA = 20
"""and where its packet begins in its body."""


def blocks(capture: Path) -> list[tuple[int, bytes]]:
    """Type and body of each."""
    data, found, at = capture.read_bytes(), [], 0
    while at < len(data):
        kind, size = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        assert size % 4 == 0 and data[at + size - 4 : at + size] == data[at + 4 : at + 8]
        found.append((kind, data[at + 8 : at + size - 4]))
        at += size
    return found


def captured(packet: bytes) -> int:
    """Bytes of a packet block that are the packet."""
    return int.from_bytes(packet[12:16], "little")
