# SPDX-License-Identifier: Apache-2.0
"""What the four peers have in common: the service they speak, and how they count.

One service with one method and one event. The method returns its payload; every
payload begins with a 32-bit big-endian sequence number, so that loss,
duplication and reordering show in the applications themselves. With every
`EVENT_EVERY`th call the server also sends a numbered event to the host that called. Numbers
are each caller's own.

A peer runs until its standard input ends and prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

SERVICE = 0x1234
INSTANCE = 0x5678
MAJOR = 1
METHOD = 0x0001
EVENT = 0x8001
EVENTGROUP = 0x0001
EVENT_EVERY = 10

SD_GROUP = "224.224.224.245"
SD_PORT = 30490
SERVER_PORT = 30509
CLIENT_PORT = 30519

HEADER_BYTES = 16
ANSWER_SECONDS = 1.0
"""After this long without an answer a call counts as lost."""
DISCOVERY_SECONDS = 15.0

_NUMBER = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of every peer."""

    address: str
    count: int
    payload: int


def options(name: str) -> Options:
    """Parse a peer's command line."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--address", required=True, help="own IPv4 address")
    parser.add_argument("--count", type=int, default=1000, help="calls to make (clients)")
    parser.add_argument("--payload", type=int, default=64, help="payload bytes of a message")
    known = parser.parse_args()
    return Options(address=known.address, count=known.count, payload=max(known.payload, 4))


def numbered(number: int, size: int) -> bytes:
    """A payload of `size` bytes that carries a sequence number."""
    return _NUMBER.pack(number).ljust(size, b"\xa5")


def number_of(payload: bytes) -> int:
    """The sequence number a payload carries."""
    return int(_NUMBER.unpack_from(payload)[0])


@dataclass(slots=True)
class Tally:
    """Counts numbered messages that should arrive as 0, 1, 2, ... each once."""

    received: int = 0
    twice: int = 0
    out_of_order: int = 0
    _seen: set[int] = field(default_factory=set)
    _highest: int = -1

    def count(self, number: int) -> None:
        """Take note of one message."""
        if number in self._seen:
            self.twice += 1
            return
        if number < self._highest:
            self.out_of_order += 1
        self._seen.add(number)
        self._highest = max(self._highest, number)
        self.received += 1


@dataclass(slots=True)
class Report:
    """What a peer tells at its end; bytes are UDP payload it handed to its socket."""

    peer: str
    sent: int = 0
    received: int = 0
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    events: int = 0
    events_lost: int = 0
    bytes_sent: int = 0
    rtt_us: dict[str, float] = field(default_factory=dict)
    reboots_detected: int | None = None
    """None: this stack does not tell"""

    def count_up(self, tallies: Iterable[Tally]) -> None:
        """Set what was received, twice or out of order: the sum over all senders."""
        self.received = self.twice = self.out_of_order = 0
        for tally in tallies:
            self.received += tally.received
            self.twice += tally.twice
            self.out_of_order += tally.out_of_order

    def print(self) -> None:
        """Write the report as one line of JSON on standard output."""
        record = {name: getattr(self, name) for name in self.__slots__}
        print(json.dumps(record), flush=True)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 of round-trip times, in microseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6, 1)
        for name, share in (("p50", 0.50), ("p99", 0.99))
    }


def wait_for_end() -> None:
    """Block until standard input ends: the laboratory has seen enough."""
    sys.stdin.read()
