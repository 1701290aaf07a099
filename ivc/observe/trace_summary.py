# SPDX-License-Identifier: Apache-2.0
"""What was traced, by service and method: how many messages, and how long they took."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from ivc.controller.latency import within
from ivc.controller.tables import aligned, identifier
from ivc.observe.trace_names import Names, path_of, verdict_of
from ivc.observe.trace_session import TextSink, Write
from ivc.observe.trace_text import Reader, type_of
from ivc.shm.trace import Capture, Captured
from ivc.someip import Message, Skipped

_FIELDS: Final = ("service", "method", "type", "from", "to", "path", "verdict")
_NUMBERS: Final = ("messages", "bytes", "timed", "p50_us", "p99_us", "max_us")
_PRECISION: Final = 7
"""Bits of a time that are kept: it is told up to a hundredth too small."""


@dataclass(slots=True)
class Times:
    """Times in ns, counted by what is left of them with `_PRECISION` bits."""

    counts: Counter[int] = field(default_factory=Counter)
    most: int = 0

    def add(self, ns: int) -> None:
        """One more."""
        rest = max(ns.bit_length() - _PRECISION, 0)
        self.counts[ns >> rest << rest] += 1
        self.most = max(self.most, ns)

    def within_us(self, percent: int) -> float | None:
        """In which time so many of a hundred were there; None if there were none."""
        return within(((ns / 1000, self.counts[ns]) for ns in sorted(self.counts)), percent)


@dataclass(slots=True)
class _Kind:
    messages: int = 0
    bytes: int = 0
    times: Times = field(default_factory=Times)

    def add(self, message: Message, latency: int | None) -> None:
        """One more; of several segments the last one is the message, and all have bytes of it."""
        self.bytes += len(message.payload)
        if message.tp is not None and message.tp.more:
            return
        self.messages += 1
        if latency is not None:
            self.times.add(latency)

    def numbers(self) -> dict[str, int | float | None]:
        times = self.times
        most = times.most / 1000 if times.counts else None
        timed = times.counts.total()
        values = (times.within_us(50), times.within_us(99), most)
        return dict(zip(_NUMBERS, (self.messages, self.bytes, timed, *values), strict=True))


class SummarySink(TextSink):
    """Writes at the end, a line or an object for each kind of message between two nodes."""

    def __init__(self, write: Write, names: Names, *, as_json: bool) -> None:
        super().__init__(write, self._add)
        self._names = names
        self._as_json = as_json
        self._reader = Reader()
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._skipped = 0

    def end(self, capture: Capture, lost: int) -> None:
        """The summary."""
        rows = [
            dict(zip(_FIELDS, key, strict=True)) | kind.numbers()
            for key, kind in sorted(self._kinds.items())
        ]
        document = {"messages": rows, "skipped": self._skipped, "lost": lost}
        text = json.dumps(document) + "\n" if self._as_json else _table(rows) + _missing(document)
        self._write(text.encode())

    def _add(self, at: Captured) -> str:
        ends = (self._names.node(at.source[0]), self._names.node(at.destination[0]))
        for message in self._reader.messages(at):
            if isinstance(message, Skipped):
                self._skipped += 1
            else:
                key = (*_kind_of(message), *ends, path_of(at), verdict_of(at))
                self._kinds.setdefault(key, _Kind()).add(message, at.latency)
        return ""


def _kind_of(message: Message) -> tuple[str, str, str]:
    header = message.header
    return identifier(header.service_id), identifier(header.method_id), type_of(message)


def _table(rows: list[dict[str, Any]]) -> str:
    titles = (*_FIELDS, *_NUMBERS)
    return aligned(titles, ([_text(row[name]) for name in titles] for row in rows))


def _missing(document: dict[str, Any]) -> str:
    """What the table does not have, a line for each that there was."""
    texts = {
        "skipped": "no SOME/IP, or not whole",
        "lost": "there was no room for",
    }
    return "".join(f"{text}: {document[name]}\n" for name, text in texts.items() if document[name])


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
