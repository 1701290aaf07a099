# SPDX-License-Identifier: Apache-2.0
"""Traced messages as text: a line for each, for people, or one JSON object for each record."""

import json
from datetime import datetime
from typing import Any

from ivc.observe.trace_names import Names, faults_of, path_of, protocol_of, verdict_of
from ivc.shm.layout import RecordKind
from ivc.shm.trace import Captured
from ivc.someip import (
    Entry,
    EntryType,
    EventgroupEntry,
    Message,
    MessageType,
    ParseError,
    SdMessage,
    ServiceEntry,
    Skipped,
    StreamSplitter,
)


class Reader:
    """Finds the messages of records; those of streams as they become whole."""

    def __init__(self) -> None:
        self._streams: dict[int, tuple[int, StreamSplitter]] = {}

    def messages(self, at: Captured) -> list[Message | Skipped]:
        """Those that end in a record; Skipped is what is none."""
        return self._stream(at) if at.kind == RecordKind.STREAM else _datagram(at.data)

    def _stream(self, at: Captured) -> list[Message | Skipped]:
        expected, splitter = self._streams.get(at.place, (at.position, StreamSplitter()))
        if at.position != expected:  # bytes are missing: begin anew
            splitter = StreamSplitter()
        self._streams[at.place] = (at.position + at.length) % (1 << 32), splitter
        if len(at.data) < at.length:
            self._streams.pop(at.place)
            return [Skipped(at.length, "cut short")]
        return splitter.feed(at.data)


def _datagram(data: bytes) -> list[Message | Skipped]:
    found: list[Message | Skipped] = []
    while data:
        try:
            message, data = Message.parse(data)
        except ParseError as error:
            found.append(Skipped(len(data), str(error)))
            break
        found.append(message)
    return found


class Compact:
    """A line for each message."""

    def __init__(self, names: Names, real: int) -> None:
        """`real`: what the real clock is ahead of the monotonic one, in ns."""
        self._names = names
        self._real = real
        self._reader = Reader()

    def render(self, at: Captured) -> str:
        """The lines of a record."""
        time = at.time + self._real
        clock = f"{datetime.fromtimestamp(time // 10**9):%H:%M:%S}.{time % 10**9:09d}"
        ends = f"{self._names.end(at.source)} > {self._names.end(at.destination)}"
        marks = ",".join([verdict_of(at), *faults_of(at)])
        head = f"{clock} {path_of(at):7} {marks:8} {ends} {protocol_of(at).value}"
        lost = [f"{head} {at.lost} before it are not in the trace"] if at.lost else []
        found = self._reader.messages(at)
        if not found:
            return "\n".join([*lost, f"{head} {at.length} bytes", ""])
        took = "" if at.latency is None else f", taken after {at.latency / 1000:.1f} us"
        return "\n".join([*lost, *(f"{head} {_line(each)}{took}" for each in found), ""])


class Json:
    """One object a line for each record."""

    def __init__(self, names: Names, real: int) -> None:
        """As `Compact`."""
        self._names = names
        self._real = real
        self._reader = Reader()

    def render(self, at: Captured) -> str:
        """The line of a record."""
        document = {
            "time_ns": at.time + self._real,
            "path": path_of(at),
            "verdict": verdict_of(at),
            "faults": faults_of(at),
            "protocol": protocol_of(at).value,
            "from": self._names.node(at.source[0]),
            "to": self._names.node(at.destination[0]),
            "source": _endpoint(at.source),
            "destination": _endpoint(at.destination),
            "flow": at.flow,
            "length": at.length,
            "latency_ns": at.latency,
            "lost_before": at.lost,
            "messages": [_document(each) for each in self._reader.messages(at)],
        }
        return json.dumps(document) + "\n"


def _endpoint(end: tuple[int, int]) -> str:
    return Names({}).end(end)


def type_of(message: Message) -> str:
    """Its name, or its number if it has none."""
    try:
        return MessageType(message.header.base_type).name
    except ValueError:
        return f"0x{message.header.message_type:02x}"


def _line(found: Message | Skipped) -> str:
    if isinstance(found, Skipped):
        return f"no SOME/IP ({found.count} bytes: {found.problem})"
    header = found.header
    text = f"0x{header.service_id:04x}.0x{header.method_id:04x} {type_of(found)}"
    text += f" client 0x{header.client_id:04x} session {header.session_id}"
    if header.return_code:
        text += f" return 0x{header.return_code:02x}"
    if found.tp is not None:
        text += f" segment at {found.tp.offset}" + (", more" if found.tp.more else ", last")
    entries = _entries(found)
    return f"{text} {len(found.payload)} bytes" + (f": {', '.join(entries)}" if entries else "")


def _document(found: Message | Skipped) -> dict[str, Any]:
    if isinstance(found, Skipped):
        return {"skipped": found.count, "problem": found.problem}
    header = found.header
    document: dict[str, Any] = {
        "service": f"0x{header.service_id:04x}",
        "method": f"0x{header.method_id:04x}",
        "client": f"0x{header.client_id:04x}",
        "session": header.session_id,
        "type": type_of(found),
        "return_code": header.return_code,
        "payload_length": len(found.payload),
    }
    if found.tp is not None:
        document["tp"] = {"offset": found.tp.offset, "more": found.tp.more}
    entries = _entries(found)
    return document | ({"sd": entries} if entries else {})


def _entries(message: Message) -> list[str]:
    """Of service discovery."""
    if not message.header.is_sd:
        return []
    try:
        sd = SdMessage.parse(message.payload)[0]
    except ParseError:
        return []
    return [_entry(each) for each in sd.entries]


def _entry(entry: Entry) -> str:
    known = entry.type in set(EntryType)
    name = EntryType(entry.type).name if known else f"type 0x{entry.type:02x}"
    if isinstance(entry, ServiceEntry):
        return f"{name} 0x{entry.service_id:04x}.0x{entry.instance_id:04x} ttl {entry.ttl}"
    if isinstance(entry, EventgroupEntry):
        ids = f"0x{entry.service_id:04x}.0x{entry.instance_id:04x}"
        return f"{name} {ids} eventgroup 0x{entry.eventgroup_id:04x} ttl {entry.ttl}"
    return name
