# SPDX-License-Identifier: Apache-2.0
"""One end of a TCP connection on rings that breaks the rules of streams.

Arguments: run directory, own address, address and port to connect to, what to do. It speaks to
the controller as an honest wrapper would, sends "!" and says "on rings"; told to go on it does it
and says "done"; told again it closes the connection. Run with the folders of the tests of
controller and shm in PYTHONPATH.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from fakewrapper import End, FakeWrapper
from ring_memory import poke, poke_word, word

from ivc.controller.protocol import Role, SocketFlag
from ivc.shm.layout import DATA_OFFSET, RecordHeader, RecordKind, fields
from ivc.shm.record import Record
from ivc.shm.ring import Sender

FIELDS = fields(RecordHeader)


class Hostile:
    """Both flows of the connection, and its kernel socket."""

    def __init__(self, run_dir: Path, own: str, to: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.bind((own, 0))
        self.sock.connect(to)
        here, there = ("{}:{}".format(*end) for end in (self.sock.getsockname(), to))
        self.wrapper = FakeWrapper(run_dir)
        self.wrapper.bind(1, here, there, SocketFlag.STREAM)
        self.wrapper.await_active(there)
        self.out = next(end for end in self.wrapper.ends.values() if end.role is Role.SENDER)
        self.back = next(end for end in self.wrapper.ends.values() if end.role is Role.RECEIVER)
        self.size = len(self.out.own) - DATA_OFFSET
        self.by_kernel = self.sock.send(b"!")

    def write(self, payload: bytes, kpos: int = 0, kind: int = RecordKind.STREAM) -> int:
        """A record that is not published yet; where its header lies."""
        end, ring = self.out, self.out.ring
        assert isinstance(ring, Sender)
        local, peer = end.attach.local, end.attach.peer
        at = DATA_OFFSET + word(end.own, "index") % self.size
        kseq = (self.by_kernel + kpos) % (1 << 32)
        ring.write(Record(local.ip, local.port, peer.ip, peer.port, kseq=kseq, kind=kind), payload)
        return at

    def publish(self) -> None:
        assert isinstance(self.out.ring, Sender)
        self.out.ring.publish()
        self.bell()

    def bell(self) -> None:
        assert self.out.bell is not None
        self.out.bell.ring()

    def send(self, payload: bytes, kpos: int = 0, kind: int = RecordKind.STREAM) -> None:
        self.write(payload, kpos, kind)
        self.publish()

    def spoilt(self, field: str, value: int) -> None:
        """A record with one field of its header overwritten."""
        at = self.write(b"spoilt")
        offset, size = FIELDS[field]
        poke(self.out.own, at + offset, value.to_bytes(size, "little"))
        self.publish()

    def index(self, end: End, by: int) -> None:
        """Claim to have written, or read, `by` bytes more than is so."""
        poke_word(end.own, "index", word(end.own, "index") + by)
        self.bell()

    def rubbish(self, seed: int) -> None:
        """A few honest records, then anything anywhere in both pages."""
        dice = random.Random(seed)
        for _ in range(3):
            self.send(dice.randbytes(dice.randrange(1, 3000)))
        for _ in range(60):
            end = dice.choice((self.out, self.back))
            at = dice.choice((64, 128, 192, dice.randrange(64, len(end.own))))
            poke(end.own, at, dice.randbytes(dice.randrange(1, 9)))
            self.bell()


def ahead(hostile: Hostile) -> None:
    hostile.send(b"ring", kpos=6)
    hostile.sock.send(b"kernel")


ATTACKS: dict[str, Callable[[Hostile], None]] = {
    "kpos behind": lambda h: h.send(b"ring", kpos=-5),
    "kpos ahead": ahead,
    "kpos far ahead": lambda h: h.send(b"ring", kpos=(1 << 31) - 1),
    "no bytes": lambda h: h.send(b""),
    "a datagram": lambda h: h.send(b"ring", kind=RecordKind.DGRAM),
    "length of the ring": lambda h: h.spoilt("length", h.size),
    "length past the tail": lambda h: h.spoilt("length", 1000),
    "length past all": lambda h: h.spoilt("length", (1 << 32) - 1),
    "another source": lambda h: h.spoilt("src_ip", 1),
    "another sequence": lambda h: h.spoilt("seq", 7),
    "another epoch": lambda h: h.spoilt("epoch", 7),
    "tail too far": lambda h: h.index(h.out, h.size + 32),
    "tail back": lambda h: h.index(h.out, -32),
    "tail between": lambda h: h.index(h.out, 1),
    "head too far": lambda h: h.index(h.back, 32),
    "head back": lambda h: h.index(h.back, -32),
    "head between": lambda h: h.index(h.back, 1),
    "wake word": lambda h: poke_word(h.out.own, "wake_at", 12345),
    "state": lambda h: poke(h.out.own, 192, b"\xff\xff\xff\xff"),
}


def main() -> None:
    run_dir, own, host, port, what = sys.argv[1:]
    hostile = Hostile(Path(run_dir), own, (host, int(port)))
    print("on rings", flush=True)
    sys.stdin.readline()
    if what.isdigit():
        hostile.rubbish(int(what))
    else:
        ATTACKS[what](hostile)
    print("done", flush=True)
    sys.stdin.readline()
    hostile.sock.close()


if __name__ == "__main__":
    main()
