# SPDX-License-Identifier: Apache-2.0
"""Trace rings and the capture of many for Python: typed classes over core/trace.h, core/capture.h.

Buffers are exported until ``close()``; an ``mmap`` cannot be closed before.
"""

import secrets
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ivc.shm.errors import AttachError
from ivc.shm.layout import PAGE, RecordKind, TraceCtrl, TraceEvent
from ivc.shm.library import ffi, lib
from ivc.shm.record import Buffer

WHOLE: Final = 65535
"""A snap length that keeps every datagram whole."""

_OUTPUT: Final = 1 << 20
_UNKNOWN: Final[int] = lib.IVC_CAPTURE_UNKNOWN


def real_ahead() -> int:
    """What the real clock is ahead of the monotonic one now, in ns."""
    return int(lib.ivc_real_ahead())


def trace_page(order: int) -> bytes:
    """The page either end of a trace ring begins with."""
    page: bytes = TraceCtrl.build({"order": order})
    return page.ljust(PAGE, b"\0")


class TraceWriter:
    """The writers' end: what a wrapper, or the relay, has of its trace ring."""

    def __init__(self, own: Buffer, peer: Buffer, snap: int = WHOLE) -> None:
        """Raises `AttachError`."""
        self._own = ffi.from_buffer(own, require_writable=True)
        self._peer = ffi.from_buffer(peer)
        self.c = ffi.new("struct ivc_trace *")
        rc = lib.ivc_trace_attach(
            self.c, self._own, len(self._own), self._peer, len(self._peer), snap
        )
        if rc != 0:
            self.close()
            raise AttachError("these are no regions of a trace ring")

    def put(
        self,
        payload: bytes,
        source: tuple[int, int],
        destination: tuple[int, int],
        *,
        time: int,
        kind: RecordKind = RecordKind.DGRAM,
        event: TraceEvent = TraceEvent.SENT,
        flow: int = 1,
        position: int = 0,
        lost: int = 0,
        faults: int = 0,
        number: int = 0,
    ) -> bool:
        """Write a record; False: there was no room. Ends are (IPv4 address, port)."""
        record = ffi.new("struct ivc_trace_record *")
        record.time, record.length, record.flow = time, len(payload), flow
        record.src_ip, record.src_port = source
        record.dst_ip, record.dst_port = destination
        record.kind, record.event, record.position = kind, event, position
        record.lost, record.faults, record.number = lost, faults, number
        data = ffi.from_buffer(payload)
        iov = ffi.new("struct iovec *", {"iov_base": data, "iov_len": len(payload)})
        return bool(lib.ivc_trace_put(self.c, record, iov, 1))

    def close(self) -> None:
        """Let go of both buffers. Idempotent."""
        ffi.release(self._own)
        ffi.release(self._peer)


class TraceReader:
    """The reader's end, for a `Capture`."""

    def __init__(self, own: Buffer, peer: Buffer) -> None:
        """Raises `AttachError`."""
        self._own = ffi.from_buffer(own, require_writable=True)
        self._peer = ffi.from_buffer(peer)
        self.c = ffi.new("struct ivc_trace_reader *")
        rc = lib.ivc_trace_reader_attach(
            self.c, self._own, len(self._own), self._peer, len(self._peer)
        )
        if rc != 0:
            self.close()
            raise AttachError("these are no regions of a trace ring")

    @property
    def lost(self) -> int:
        """Messages there was no room for, as the writer says."""
        return int(lib.ivc_trace_lost(self.c))

    def close(self) -> None:
        """Let go of both buffers. Idempotent."""
        ffi.release(self._own)
        ffi.release(self._peer)


class Step(IntEnum):
    """Why a capture stops (core/capture.h)."""

    EMPTY = lib.IVC_CAPTURE_EMPTY
    RECORD = lib.IVC_CAPTURE_RECORD
    ASKS_FLOW = lib.IVC_CAPTURE_ASKS_FLOW
    ASKS_KIND = lib.IVC_CAPTURE_ASKS_KIND
    FULL = lib.IVC_CAPTURE_FULL


class TracePath(IntEnum):
    """How the messages of a captured flow travel."""

    DIRECT = lib.IVC_PATH_DIRECT
    RELAY = lib.IVC_PATH_RELAY
    NETWORK = lib.IVC_PATH_NETWORK


@dataclass(frozen=True, slots=True)
class CapturedFlow:
    """A flow: one interface of a file. Ends are (IPv4 address, port)."""

    flow: int
    source: tuple[int, int]
    destination: tuple[int, int]
    kind: int
    path: TracePath
    records: int
    lost: int


@dataclass(frozen=True, slots=True)
class Captured:
    """The record at hand. `latency` is what it took until its receiver had it, in ns, if that is
    known. `header` is of the kind asked about, `key` 0: of no message."""

    time: int
    length: int
    source: tuple[int, int]
    destination: tuple[int, int]
    kind: int
    event: int
    faults: int
    flow: int
    place: int
    position: int
    lost: int
    latency: int | None
    key: int
    header: bytes
    data: bytes


class Capture:
    """The records of many rings in the order of their times."""

    def __init__(self, real: int) -> None:
        """`real`: what the real clock is ahead of the monotonic one, in ns."""
        self._capture = lib.ivc_capture_make(secrets.randbits(64), real)
        if not self._capture:
            raise MemoryError
        self._out = bytearray(_OUTPUT)
        self._room = ffi.from_buffer(self._out)
        self._size = ffi.new("size_t *")
        self._readers: dict[int, TraceReader] = {}

    def add(self, reader: TraceReader) -> int:
        """Read this ring, too; its place. Raises `OSError`: there are too many."""
        place = int(lib.ivc_capture_add(self._capture, reader.c))
        if place < 0:
            raise OSError(-place, "too many trace rings")
        self._readers[place] = reader
        return place

    def remove(self, place: int) -> bool:
        """Read what there is, and then no more. False: that is too much for now, it stays."""
        removed = bool(lib.ivc_capture_remove(self._capture, place))
        if removed:
            del self._readers[place]
        return removed

    def is_poisoned(self, place: int) -> bool:
        """Whether its writer has broken the rules."""
        return bool(lib.ivc_capture_is_poisoned(self._capture, place))

    def filter(self) -> None:
        """Ask about every kind of message from now on."""
        lib.ivc_capture_filter(self._capture)

    def next(self, horizon: int) -> Step:
        """Have the next record older than `horizon` (ns, monotonic) at hand, until `done`."""
        return Step(lib.ivc_capture_next(self._capture, horizon))

    def done(self) -> None:
        """Go on behind the record at hand."""
        lib.ivc_capture_done(self._capture)

    def write(self, horizon: int) -> tuple[Step, memoryview]:
        """All that is older than `horizon` as blocks of a pcapng file, as much as fits.

        The view is good until the next call.
        """
        step = Step(lib.ivc_capture_write(self._capture, horizon, self._room, _OUTPUT, self._size))
        return step, memoryview(self._out)[: self._size[0]]

    @property
    def at(self) -> Captured:
        """The record at hand, also the one of a question."""
        c = lib.ivc_capture_at(self._capture)
        record = c.record
        return Captured(
            int(record.time),
            int(record.length),
            (int(record.src_ip), int(record.src_port)),
            (int(record.dst_ip), int(record.dst_port)),
            int(record.kind),
            int(record.event),
            int(record.faults),
            int(record.flow),
            int(c.flow),
            int(record.position),
            int(record.lost),
            int(c.latency) if c.latency != _UNKNOWN else None,
            int(c.key),
            bytes(c.header),
            bytes(ffi.buffer(c.data, c.captured)),
        )

    def name_flow(self, interface: int) -> None:
        """Answer: the flow of the record at hand has this interface."""
        lib.ivc_capture_name_flow(self._capture, interface)

    def decide(self, wanted: bool) -> None:
        """Answer: messages of the kind asked about are wanted, or not."""
        lib.ivc_capture_decide(self._capture, wanted)

    def flow(self, place: int) -> CapturedFlow | None:
        """The flow at a place, from 1; at 0 what is too many. None: there is none."""
        c = lib.ivc_capture_flow(self._capture, place)
        if not c:
            return None
        return CapturedFlow(
            int(c.flow),
            (int(c.src_ip), int(c.src_port)),
            (int(c.dst_ip), int(c.dst_port)),
            int(c.kind),
            TracePath(c.path),
            int(c.records),
            int(c.lost),
        )

    def close(self) -> None:
        """Idempotent."""
        capture, self._capture = self._capture, ffi.NULL
        lib.ivc_capture_free(capture)
