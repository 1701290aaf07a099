# SPDX-License-Identifier: Apache-2.0
"""What IVC is to reach, as ratios within each round of one run.

In names, b is veth and bridge, d the bare ring spinning, x IVC through unmodified sockets.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bench.cases import ASYNCIO, WAITS, Case, Mode, Pattern, Transport, on, veth
from bench.flows import IDLE, MANY, SET_UP
from bench.pingpong import Run
from bench.rounds import Series

Value = Callable[[Run], float]


@dataclass(frozen=True, slots=True)
class Target:
    """`values` are of the rounds, none if it was not measured. `wanted` holds for `measured`."""

    name: str
    at_least: float | None
    at_most: float | None
    values: tuple[float, ...]
    measured: float | None

    @property
    def met(self) -> bool | None:
        """None: not measured."""
        if self.measured is None:
            return None
        high_enough = self.at_least is None or self.measured >= self.at_least
        return high_enough and (self.at_most is None or self.measured <= self.at_most)

    @property
    def wanted(self) -> str:
        """The bound, to be read."""
        return f">= {self.at_least:g}" if self.at_most is None else f"<= {self.at_most:g}"


FIGURES = (
    (f"{IDLE}: CPU, %", 0.1),
    (f"{IDLE}: wake-ups", 0),
    (f"{SET_UP}: p50, ms", 1),
    (f"{SET_UP}: p99, ms", 10),
    (f"{MANY}: plan, s", 1),
    (f"{MANY}: set-up, s", 10),
    (f"{MANY}: RSS, MiB", 200),
)
"""What bench/flows.py measures once: name, at most."""


_NOTHING: Mapping[str, float] = MappingProxyType({})


def targets(
    series: Series,
    instructions: Mapping[str, float] = _NOTHING,
    figures: Mapping[str, float] = _NOTHING,
) -> list[Target]:
    """All of them, without values those of cases that were left out."""
    found = [target for part in (_times, _floods, _sparing) for target in part(series)]
    found += _calls(instructions)
    return found + [
        _target(name, (figures[name],) if name in figures else (), at_most=most)
        for name, most in FIGURES
    ]


def _p50(run: Run) -> float:
    return run.p50_us or 0.0


def _p90(run: Run) -> float:
    return run.p90_us or 0.0


def _rate(run: Run) -> float:
    return run.msgs_per_s


def _cpu(run: Run) -> float:
    return run.cpu_us_per_msg


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _lower_quartile(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=4, method="inclusive")[0] if values[1:] else values[0]


def ratios(series: Series, over: Case, under: Case, value: Value = _p50) -> tuple[float, ...]:
    """`over` / `under` of each round; none if one of them was not run."""
    pairs = zip(series.get(over, ()), series.get(under, ()), strict=False)
    return tuple(value(a) / value(b) for a, b in pairs if value(b) > 0)


def _target(
    name: str,
    values: tuple[float, ...],
    at_least: float | None = None,
    at_most: float | None = None,
    by: Callable[[Sequence[float]], float] = _median,
) -> Target:
    return Target(name, at_least, at_most, values, by(values) if values else None)


def _times(series: Series) -> Iterator[Target]:
    """Round trips."""

    def gain(case: Case, mode: Mode, value: Value = _p50) -> tuple[float, ...]:
        return ratios(series, case, on(case, Transport.IVC, mode), value)

    for protocol in ("udp", "tcp"):
        for wait in WAITS:
            case = veth(protocol, Pattern.PING_PONG, wait=wait)
            ours, bare = on(case, Transport.IVC, Mode.SPIN), on(case, Transport.RING)
            name = f"{protocol} round trip 64 B p50, spin, {wait}"
            yield _target(f"{name}: b / x", gain(case, Mode.SPIN), at_least=20)
            most = 1.25 if wait == "blocking" else 1.6
            yield _target(f"{name}: x / d", ratios(series, ours, bare), at_most=most)
    case = veth("udp", Pattern.PING_PONG)
    yield _target("udp round trip 64 B p90, spin: b / x", gain(case, Mode.SPIN, _p90), at_least=18)
    for size, least in ((1024, 11), (32768, 5)):
        case = veth("udp", Pattern.PING_PONG, size=size)
        name = f"udp round trip {size} B p50, spin: b / x"
        yield _target(name, gain(case, Mode.SPIN), at_least=least)
    case = veth("udp", Pattern.PING_PONG, wait="epoll", sockets=101)
    yield _target("... 64 B, 100 idle in the set: b / x", gain(case, Mode.SPIN), at_least=18)
    case = veth("udp", Pattern.PING_PONG, wait="epoll", sockets=1001)
    for mode in (Mode.SPIN, Mode.BLOCK):
        name = f"... 1,000 idle in the set, {mode}: b / x"
        yield _target(name, gain(case, mode), at_least=1)
    for protocol in ("udp", "tcp"):
        values = gain(veth(protocol, Pattern.PING_PONG), Mode.BLOCK)
        name = f"{protocol} round trip 64 B p50, block: b / x"
        yield _target(name, values, at_least=1.2)
        yield _target(f"{name}, lower quartile", values, at_least=1, by=_lower_quartile)
        case = veth(protocol, Pattern.PACED)
        name = f"{protocol} at 1 kHz p50, adaptive: b / x"
        yield _target(name, gain(case, Mode.ADAPTIVE), at_least=2)


def _floods(series: Series) -> Iterator[Target]:
    """Messages delivered a second."""
    for protocol, pattern, size, least in (
        ("udp", Pattern.ONE_WAY, 64, 15),
        ("udp", Pattern.BATCHED, 64, 30),
        ("udp", Pattern.ONE_WAY, 1024, 10),
        ("tcp", Pattern.ONE_WAY, 64, 10),
        ("tcp", Pattern.ONE_WAY, 65536, 2),
    ):
        case = veth(protocol, pattern, size=size)
        ours = on(case, Transport.IVC, Mode.SPIN)
        name = f"{protocol} {pattern} {size} B, rate, spin"
        yield _target(f"{name}: x / b", ratios(series, ours, case, _rate), at_least=least)
        if size == 65536:
            bare = on(case, Transport.RING)
            yield _target(f"{name}: x / d", ratios(series, ours, bare, _rate), at_least=0.6)


def _sparing(series: Series) -> Iterator[Target]:
    """Processor time, and time saved."""
    case = veth("udp", Pattern.ONE_WAY)
    values = ratios(series, case, on(case, Transport.IVC, Mode.BLOCK), _cpu)
    yield _target("udp one-way 64 B, CPU a message, block: b / x", values, at_least=6)
    case = veth("udp", Pattern.PING_PONG, wait="epoll")
    bare = on(case, Transport.RING)
    asyncio = veth("udp", Pattern.PING_PONG, wait=ASYNCIO)
    yield _target(
        "epoll client: time saved a call / (b - d)", _saved(series, case, case, bare), 0.8
    )
    name = "asyncio client: time saved a call / (b - d), both of epoll"
    yield _target(name, _saved(series, asyncio, case, bare), at_least=0.8)


def _saved(series: Series, client: Case, case: Case, bare: Case) -> tuple[float, ...]:
    """What a round trip of `client` is shorter for IVC, as a share of what there is to save: the
    time of `case` without that of the bare ring. A slow client has more time, but no more to save.
    """
    ours = on(client, Transport.IVC, Mode.SPIN)
    rows = zip(*(series.get(one, ()) for one in (client, ours, case, bare)), strict=False)
    times = ([_p50(run) for run in runs] for runs in rows)
    return tuple((slow - fast) / (b - d) for slow, fast, b, d in times if b != d)


def _calls(instructions: Mapping[str, float]) -> Iterator[Target]:
    """What bench/instructions.py counts."""
    for protocol in ("udp", "tcp"):
        for call in ("send", "receive"):
            counted = instructions.get(f"{protocol} unmatched {call}")
            name = f"{protocol} {call}, socket of no plan: instructions more"
            yield _target(name, () if counted is None else (counted,), at_most=60)
