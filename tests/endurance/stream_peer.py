# SPDX-License-Identifier: Apache-2.0
"""One end of a TCP connection on which both send all the time, in pieces of any size.

    stream_peer.py listen|connect ADDRESS PORT RATE

Which byte comes at which place is known to both, so that one lost, repeated or overtaken shows.
Prints "ready" when the connection is there; then takes orders as traffic.c does: go, pause, report.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time

PATTERN = random.Random(1).randbytes(65521)
"""Its length is prime: no power of two by which anything shifts leaves it as it was."""
LARGEST = 3000


class Peer:
    """Counts, and what it says of them."""

    def __init__(self, connection: socket.socket, rate: float) -> None:
        self._connection = connection
        self._tick = 1 / rate
        self._going = threading.Event()
        self._sent = self._received = 0
        self._wrong_at: int | None = None
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def order(self, word: str) -> None:
        if word == "go":
            self._going.set()
        elif word == "pause":
            self._going.clear()
        else:
            report = {"sent": self._sent, "received": self._received, "wrong_at": self._wrong_at}
            print(json.dumps(report), flush=True)

    def _send(self) -> None:
        sizes = random.Random(2)
        while self._going.wait():
            data = _piece(self._sent, sizes.randrange(1, LARGEST))
            self._connection.sendall(data)
            self._sent += len(data)
            time.sleep(self._tick)

    def _receive(self) -> None:
        while data := self._connection.recv(65536):
            if data != _piece(self._received, len(data)) and self._wrong_at is None:
                self._wrong_at = self._received
            self._received += len(data)


def _piece(at: int, size: int) -> bytes:
    start = at % len(PATTERN)
    return (PATTERN[start:] + PATTERN * (size // len(PATTERN) + 1))[:size]


def main(how: str, address: str, port: int, rate: float) -> None:
    if how == "listen":
        listener = socket.create_server((address, port))
        print("listening", flush=True)
        connection, _ = listener.accept()
    else:
        connection = socket.create_connection((address, port))
    peer = Peer(connection, rate)
    print("ready", flush=True)
    for line in sys.stdin:
        peer.order(line.strip())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
