# SPDX-License-Identifier: Apache-2.0
"""One trace from its beginning to its end: rings come and go, and what is on them is written."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ivc.observe import pcapng
from ivc.observe.trace_filter import Filter, Seen
from ivc.observe.trace_names import Names, path_of, protocol_of, verdict_of
from ivc.observe.trace_source import Ended, Gone, News, Ring, Warned
from ivc.shm.layout import RecordKind
from ivc.shm.trace import Capture, Captured, CapturedFlow, Step, TracePath
from ivc.someip import parse_header

SETTLE_NS: Final = 10_000_000
"""How old a record is when it is written: by then it is known whether its receiver has it."""

FOR_EVER: Final = (1 << 64) - 1
_TURN: Final = 4096
"""Records shown as text before rings and controller are looked at again."""

Write = Callable[[bytes | memoryview], object]


class Sink(ABC):
    """Where records go."""

    def begin(self) -> None:  # noqa: B027  # text has none
        """Before the first."""

    @abstractmethod
    def drain(self, capture: Capture, horizon: int) -> Step:
        """Write what is older than the horizon, until a question or EMPTY, or some of it."""

    def name(self, capture: Capture, at: Captured) -> None:
        """Answer which interface the flow of the record at hand is."""
        capture.name_flow(0)

    def end(self, capture: Capture, lost: int) -> None:  # noqa: B027  # text has none
        """After the last; `lost`: messages there was no room for, wanted or not."""


class PcapngSink(Sink):
    """A pcapng file, one interface a flow."""

    def __init__(self, write: Write, names: Names, snap: int, real: int) -> None:
        """`real`: what the real clock is ahead of the monotonic one, in ns."""
        self._write = write
        self._names = names
        self._snap = snap
        self._real = real
        self._began = 0
        self._places: list[int] = []

    def begin(self) -> None:
        """The section."""
        self._began = time.monotonic_ns() + self._real
        self._write(pcapng.section("ivc trace"))

    def drain(self, capture: Capture, horizon: int) -> Step:
        """Write a buffer of it."""
        step, data = capture.write(horizon)
        if data:
            self._write(data)
        return step

    def name(self, capture: Capture, at: Captured) -> None:
        """A new interface."""
        flow = capture.flow(at.place)
        assert flow is not None
        name, text = self._describe(flow) if at.place else ("others", "flows that are too many")
        self._write(pcapng.interface(name, text, self._snap + _HEADERS))
        capture.name_flow(len(self._places))
        self._places.append(at.place)

    def end(self, capture: Capture, lost: int) -> None:
        """What was received and lost, of each interface."""
        now = time.monotonic_ns() + self._real
        for number, place in enumerate(self._places):
            flow = capture.flow(place)
            assert flow is not None
            received = flow.records + flow.lost
            self._write(pcapng.statistics(number, (now, self._began, now), received, flow.lost))

    def _describe(self, flow: CapturedFlow) -> tuple[str, str]:
        ends = f"{self._names.end(flow.source)} > {self._names.end(flow.destination)}"
        stream = flow.kind == RecordKind.STREAM
        way = "TCP" if stream else f"UDP {TracePath(flow.path).name.lower()}"
        number = f", flow {flow.flow}" if flow.flow else ""
        return f"{ends} {way}", f"IVC: {way} from {ends}{number}"


_HEADERS: Final = 40
"""Bytes of IP and TCP before the payload."""


class TextSink(Sink):
    """Lines."""

    def __init__(self, write: Write, render: Callable[[Captured], str]) -> None:
        self._write = write
        self._render = render

    def drain(self, capture: Capture, horizon: int) -> Step:
        """Some of it, so that rings are not given back too late."""
        lines = []
        step = Step.EMPTY
        for _ in range(_TURN):
            step = capture.next(horizon)
            if step is not Step.RECORD:
                break
            lines.append(self._render(capture.at))
            capture.done()
        if any(lines):
            self._write("".join(lines).encode())
        return step


@dataclass(slots=True)
class _Held:
    """A ring at its place in the capture, and since when (ns) it is known to be gone."""

    ring: Ring
    place: int
    gone: int | None = None
    poisoned: bool = False


class Session:
    """What is traced. `say` is told what people should know."""

    def __init__(
        self,
        sink: Sink,
        names: Names,
        filters: Sequence[Filter],
        real: int,
        say: Callable[[str], None],
    ) -> None:
        """`real` as `PcapngSink`."""
        self._capture = Capture(real)
        self._sink = sink
        self._names = names
        self._filters = filters
        self._say = say
        self._held: dict[int, _Held] = {}
        self._lost = 0
        self.ended = False
        if filters:
            self._capture.filter()
        sink.begin()

    def hear(self, news: Iterable[News]) -> None:
        """Rings have come, or gone."""
        for each in news:
            match each:
                case Ring():
                    self._hold(each)
                case Gone():
                    if each.number in self._held:
                        self._held[each.number].gone = time.monotonic_ns()
                case Warned():
                    self._say(each.text)
                case Ended():
                    self.ended = True

    def turn(self) -> bool:
        """Write what is old enough; whether there was so much that there may be more."""
        horizon = time.monotonic_ns() - SETTLE_NS
        more = self._drain(horizon)
        self._look_after_rings(horizon)
        return more

    def finish(self) -> tuple[int, int]:
        """Write all there is, then the end; records written, and those there was no room for."""
        for _ in range(2):  # one may have begun with another horizon
            while self._drain(FOR_EVER):
                pass
        for held in list(self._held.values()):
            self._let_go(held)
        self._sink.end(self._capture, self._lost)
        records = 0
        place = 0
        while (flow := self._capture.flow(place)) is not None:
            records, place = records + flow.records, place + 1
        self._capture.close()
        return records, self._lost

    def _hold(self, ring: Ring) -> None:
        try:
            self._held[ring.number] = _Held(ring, self._capture.add(ring.reader))
        except OSError:
            ring.close()
            self._say(f"{ring.of} is not traced: too many trace rings")

    def _drain(self, horizon: int) -> bool:
        step = self._sink.drain(self._capture, horizon)
        while step in (Step.ASKS_FLOW, Step.ASKS_KIND):
            at = self._capture.at
            if step is Step.ASKS_FLOW:
                self._sink.name(self._capture, at)
            else:
                self._capture.decide(self._wants(at))
            step = self._sink.drain(self._capture, horizon)
        return step is not Step.EMPTY

    def _wants(self, at: Captured) -> bool:
        header = parse_header(at.header)[0] if at.key else None
        seen = Seen(
            self._names.node(at.source[0]),
            self._names.node(at.destination[0]),
            protocol_of(at),
            path_of(at),
            verdict_of(at),
            header,
        )
        return any(each.wants(seen) for each in self._filters)

    def _look_after_rings(self, horizon: int) -> None:
        for held in list(self._held.values()):
            if not held.poisoned and self._capture.is_poisoned(held.place):
                held.poisoned = True
                self._say(f"{held.ring.of}: its trace ring is damaged, and not read any more")
            if held.gone is not None and held.gone < horizon and self._capture.remove(held.place):
                self._let_go(held)

    def _let_go(self, held: _Held) -> None:
        self._lost += held.ring.reader.lost
        held.ring.close()
        del self._held[held.ring.number]
