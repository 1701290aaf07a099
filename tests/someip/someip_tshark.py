# SPDX-License-Identifier: Apache-2.0
"""Frames for tshark, and what it reads in them."""

import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

SD_PORT, UDP_PORT, TCP_PORT = 30490, 30509, 30510
COMPLAINTS = ("_ws.expert.message", "_ws.expert.severity", "_ws.malformed")
"""Fields that are there only if tshark has something against a frame."""

Row = dict[str, list[str]]
"""Of one frame: the values of each field in the order of the bytes."""


def udp(payload: bytes, port: int = UDP_PORT) -> bytes:
    """An Ethernet frame from and to `port`."""
    return _ethernet(17, struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload)


def tcp(parts: Iterable[bytes]) -> list[bytes]:
    """Ethernet frames of one direction of a connection, a segment for each of `parts`."""
    frames, number = [], 1
    for part in parts:
        head = struct.pack(">HHIIBBHHH", 40000, TCP_PORT, number, 1, 0x50, 0x18, 0xFFFF, 0, 0)
        frames.append(_ethernet(6, head + part))
        number += len(part)
    return frames


def decode(frames: list[bytes], fields: Iterable[str], folder: Path) -> list[Row]:
    """What tshark reads: for each frame the values of `fields` and its complaints."""
    program = shutil.which("tshark")
    if program is None:
        pytest.fail("tshark is missing: apt-get install --no-install-recommends tshark")
    capture = folder / "frames.pcap"
    capture.write_bytes(_pcap(frames))
    names = [*fields, *COMPLAINTS]
    command = [program, "-r", str(capture), "-T", "fields", "-E", "aggregator=;"]
    for port in (f"udp.port=={SD_PORT}", f"udp.port=={UDP_PORT}", f"tcp.port=={TCP_PORT}"):
        command += ["-d", f"{port},someip"]
    for name in names:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == len(frames)
    values = ([v.split(";") if v else [] for v in line.split("\t")] for line in lines)
    return [dict(zip(names, row, strict=True)) for row in values]


def _ethernet(protocol: int, rest: bytes) -> bytes:
    size = 20 + len(rest)
    source, destination = bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2])
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, protocol, 0, source, destination)
    return bytes(12) + b"\x08\x00" + head + rest


def _pcap(frames: list[bytes]) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, 1)
    records = (
        struct.pack("<IIII", n // 1000, n % 1000 * 1000, len(frame), len(frame)) + frame
        for n, frame in enumerate(frames)
    )
    return head + b"".join(records)
