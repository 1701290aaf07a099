# SPDX-License-Identifier: Apache-2.0
"""An agent that talks SOME/IP over TCP, cut in odd places; what is said follows from a seed."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct

DENIED, COPIED, AUDITED = 0x0666, 0x0777, 0x0888
METHODS = (0x0001, 0x0002, DENIED, COPIED, AUDITED)
COOKIE = bytes.fromhex("ffff000000000008deadbeef01010100")
REQUEST_NO_RETURN = 1


def header(method: int, session: int, size: int) -> bytes:
    """Of a call that asks for no answer, with so much payload."""
    numbers = 0x2000, method, 8 + size, 1, session & 0xFFFF, 1, 1, REQUEST_NO_RETURN, 0
    return struct.pack("!HHIHHBBBB", *numbers)


def conversation(seed: int, count: int) -> list[tuple[int, bytes]]:
    """Messages with their method; cookies between them."""
    dice = random.Random(seed)
    found: list[tuple[int, bytes]] = []
    for number in range(count):
        if dice.random() < 0.05:
            found.append((0, COOKIE))
        size = dice.choice((0, 1, 15, 16, 300, 5000, 60_000, 400_000 if number % 50 == 7 else 2))
        method = dice.choice(METHODS)
        found.append((method, header(method, number, size) + dice.randbytes(size)))
    return found


def expected(seed: int, count: int) -> bytes:
    """What of it may arrive."""
    said = conversation(seed, count)
    return b"".join(data for method, data in said if method != DENIED)


def say(sock: socket.socket, seed: int, count: int) -> int:
    """All of it, in pieces that begin and end anywhere."""
    dice = random.Random(seed + 1)
    rest = memoryview(b"".join(data for _, data in conversation(seed, count)))
    total = len(rest)
    while rest:
        size = dice.choice((1, 3, 10, 16, 17, 1000, 20_000, 200_000))
        sock.sendall(rest[:size])
        rest = rest[size:]
    return total


def hear(sock: socket.socket, seed: int, count: int) -> str:
    """Nothing if just that arrives; else what is wrong."""
    wanted, at = expected(seed, count), 0
    dice = random.Random(seed + 2)
    while at < len(wanted):
        data = sock.recv(dice.choice((1, 16, 4000, 100_000)))
        if not data:
            return f"the end, after {at} of {len(wanted)}"
        if wanted[at : at + len(data)] != data:
            return f"other bytes, after {at} of {len(wanted)}"
        at += len(data)
    return ""


def say_and_die(sock: socket.socket, data: bytes) -> None:
    """Sent, and killed before anybody could look."""
    sock.sendall(data)
    os.kill(os.getpid(), signal.SIGKILL)
