# SPDX-License-Identifier: Apache-2.0
"""What is measured side by side: one `Case` for each row of the table."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


class Transport(enum.StrEnum):
    """What carries the messages."""

    VETH = "veth"
    """UDP and TCP between two network namespaces, veth and a bridge: as guests have it"""
    LOOPBACK = "loopback"
    UNIX = "unix"
    """AF_UNIX, datagrams and streams"""
    RING = "ring"
    """the bare ring of core/ring.c, spinning: no sockets"""
    IVC = "ivc"
    """sockets as on veth, under the wrapper: direct rings"""
    RELAY = "relay"
    """the same through the controller"""


class Pattern(enum.StrEnum):
    """Who sends when."""

    PING_PONG = "ping-pong"
    ONE_WAY = "one-way"
    """a system call for each message, as fast as it goes"""
    BATCHED = "batched"
    """the same, 32 at a time: sendmmsg, recvmmsg"""
    PACED = "paced"
    """a round trip each millisecond"""


class Mode(enum.StrEnum):
    """How long who waits looks at the ring before it sleeps. Sockets of the kernel block."""

    SPIN = "spin"
    """1 ms at every wait"""
    ADAPTIVE = "adaptive"
    """the wrapper as it comes"""
    BLOCK = "block"
    """not at all"""


WAITS = ("blocking", "poll", "select", "epoll", "epoll-et")
ASYNCIO = "asyncio"
"""Both sides are Python programs; all others are in C."""
BUSY = (1, 4, 16)
NODES = (2, 8, 32)
STREAMS = ("tcp", "stream")
RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Case:
    """`size` in bytes of payload. `sockets`: so many are in the epoll set, all but one idle.

    `busy`: so many on either side are used in turn. `nodes`: one serves all others at once.
    """

    transport: Transport
    protocol: str
    pattern: Pattern
    mode: Mode = Mode.BLOCK
    wait: str = "blocking"
    size: int = 64
    sockets: int = 1
    busy: int = 1
    nodes: int = 2

    @property
    def may_lose(self) -> bool:
        """Who floods with datagrams may find no room for them; nobody else."""
        return self.pattern in (Pattern.ONE_WAY, Pattern.BATCHED) and self.protocol == "udp"

    def __str__(self) -> str:
        more = f", {self.sockets} sockets" if self.sockets > 1 else ""
        more += f", {self.busy} busy" if self.busy > 1 else ""
        more += f", {self.nodes} nodes" if self.nodes > 2 else ""
        return (
            f"{self.transport} {self.protocol} {self.pattern} {self.size} B"
            f" {self.mode} {self.wait}{more}"
        )


def veth(protocol: str, pattern: Pattern, **more: object) -> Case:
    """What all is compared with."""
    return replace(Case(Transport.VETH, protocol, pattern), **more)  # type: ignore[arg-type]


def on(case: Case, transport: Transport, mode: Mode = Mode.BLOCK) -> Case:
    """The same over something else, which has its own names of the protocols."""
    stream = case.protocol in STREAMS
    protocol = "tcp" if stream else "udp"
    if transport is Transport.UNIX:
        protocol = "stream" if stream else "dgram"
    if transport is Transport.RING:
        protocol, mode = RECORDS, Mode.SPIN
        case = replace(case, wait="blocking", sockets=1, busy=1, nodes=2)
    return replace(case, transport=transport, protocol=protocol, mode=mode)


def cases(quick: bool) -> list[Case]:
    """All of them, each once. Quick: what has a target, and every transport in every pattern."""
    found = [*_transports(quick), *_waits(quick), *_sizes(quick), *_sockets(), *_asyncio(quick)]
    if not quick:
        found += _scaling()
    return list(dict.fromkeys(found))


def _transports(quick: bool) -> Iterator[Case]:
    for pattern in Pattern:
        yield from _every_transport(veth("udp", pattern))
        if pattern is Pattern.PING_PONG or (pattern is not Pattern.BATCHED and not quick):
            yield from _every_transport(veth("tcp", pattern))
        yield on(veth("udp", pattern), Transport.RELAY, Mode.ADAPTIVE)
    if quick:
        for pattern, mode in ((Pattern.ONE_WAY, Mode.SPIN), (Pattern.PACED, Mode.ADAPTIVE)):
            case = veth("tcp", pattern)
            yield from (case, on(case, Transport.IVC, mode))


def _every_transport(case: Case) -> Iterator[Case]:
    yield case
    yield from (on(case, one) for one in (Transport.LOOPBACK, Transport.UNIX, Transport.RING))
    yield from (on(case, Transport.IVC, mode) for mode in Mode)


def _waits(quick: bool) -> Iterator[Case]:
    for protocol in ("udp", "tcp"):
        for wait in WAITS:
            yield from _pair(veth(protocol, Pattern.PING_PONG, wait=wait), quick)


def _sizes(quick: bool) -> Iterator[Case]:
    wanted: Sequence[tuple[str, Pattern, tuple[int, ...]]] = (
        ("udp", Pattern.PING_PONG, (1024, 32768)),
        ("udp", Pattern.ONE_WAY, (1024,)),
        ("tcp", Pattern.ONE_WAY, (65536,)),
    )
    if not quick:
        sizes = {"udp": (8, 1024, 8192, 32768, 65507), "tcp": (8, 1024, 8192, 32768, 65536)}
        both = (Pattern.PING_PONG, Pattern.ONE_WAY)
        wanted = [(protocol, pattern, sizes[protocol]) for protocol in sizes for pattern in both]
    for protocol, pattern, some in wanted:
        for size in some:
            case = veth(protocol, pattern, size=size)
            yield from _pair(case, quick)
            yield on(case, Transport.RING)
            if not quick:
                yield from (on(case, one) for one in (Transport.LOOPBACK, Transport.UNIX))


def _sockets() -> Iterator[Case]:
    for sockets in (101, 1001):
        case = veth("udp", Pattern.PING_PONG, wait="epoll", sockets=sockets)
        yield from _pair(case, quick=True)
        yield on(case, Transport.IVC, Mode.BLOCK)


def _asyncio(quick: bool) -> Iterator[Case]:
    for protocol in ("udp",) if quick else ("udp", "tcp"):
        yield from _pair(veth(protocol, Pattern.PING_PONG, wait=ASYNCIO), quick)


def _scaling() -> Iterator[Case]:
    for busy in BUSY:
        yield from _pair(veth("udp", Pattern.PING_PONG, wait="epoll", busy=busy), quick=False)
    for nodes in NODES:
        case = veth("udp", Pattern.PING_PONG, wait="epoll", nodes=nodes)
        yield case
        yield from (on(case, Transport.IVC, mode) for mode in (Mode.ADAPTIVE, Mode.BLOCK))


def _pair(case: Case, quick: bool) -> Iterator[Case]:
    yield case
    yield from (on(case, Transport.IVC, mode) for mode in ((Mode.SPIN,) if quick else Mode))
