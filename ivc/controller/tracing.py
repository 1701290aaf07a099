# SPDX-License-Identifier: Apache-2.0
"""Tracing as ordered by `ivc trace`, one at a time: every process gets a trace ring, and so does
the relay; their readers' ends go to whoever asked, over a socket in the run directory.

The tracer says {"order": log2 of a ring's bytes, "snap": bytes kept of a message, "all": whether
what goes by the kernel's network counts} and hears, each a packet:

    {"ring": N, "of": who writes it, "size": bytes}
                                       [the writer's region, read-only; the reader's, a page]
    {"ready": N}                       so many processes there were at the beginning
    {"gone": N}                        nothing more comes on it
    {"warning": TEXT}
    {"error": TEXT}                    and no more

On Linux hosts the rings of these have been told of by then. In a guest of Xen the process has to
grant the memory first, and does when it reads its messages next: it says TRACED, and its ring is
told of then.

Its end of the connection ends it all. What it reads never passes by here.
"""

import array
import json
import logging
import selectors
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

from ivc.controller.protocol import TRACE_ALL, Message, Type
from ivc.controller.quota import Quotas
from ivc.controller.registry import Process
from ivc.platform import NOTHING, Attachment, Platform, PlatformError, TraceMemory
from ivc.platform.outbox import Outbox
from ivc.shm.layout import PAGE, TRACE_ORDER_MAX, TRACE_ORDER_MIN
from ivc.shm.trace import WHOLE, TraceWriter

log = logging.getLogger(__name__)

PACKET_MAX: Final = 4096
ASKING_MAX: Final = 4
"""Connections that have said nothing yet; the oldest one loses if there are more."""

RELAY: Final = 0
"""The number of the relay's ring; those of processes are theirs."""


class Relay(Protocol):
    """Who tells of relayed messages."""

    def trace(self, writer: TraceWriter | None) -> None:
        """From now on to this ring, or to none."""


NONSENSE: Final = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What reading it raises if it is none."""

_BEHIND: Final = "the tracer is behind"
"""Each ring that waits for it to be told of holds memory and descriptors."""

MEMORY_MOST: Final = 4 << 30
"""Bytes of the processes' trace rings together: memory is for what they do themselves."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    order: int
    snap: int
    everything: bool

    @classmethod
    def read(cls, packet: bytes) -> "_Wanted":
        """Raises one of `NONSENSE`."""
        asked: dict[str, Any] = json.loads(packet)
        order, snap = int(asked["order"]), int(asked["snap"])
        if not TRACE_ORDER_MIN <= order <= TRACE_ORDER_MAX or not 1 <= snap <= WHOLE:
            raise ValueError
        return cls(order, snap, bool(asked["all"]))


@dataclass(frozen=True, slots=True)
class _Traced:
    """A process that has a trace ring, or has been asked for one, and its bytes; `granted`: they
    are its guest's."""

    process: Process
    size: int
    granted: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    """A process that has to make its part of this memory, and the number of that order."""

    memory: TraceMemory
    number: int


class _Tracer(Outbox):
    """The connection of who traces."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        sock.setblocking(False)
        self.socket = sock

    def say(self, document: dict[str, Any], attachment: Attachment = NOTHING) -> None:
        """Send, or queue."""
        self.send(json.dumps(document).encode(), attachment)

    def close(self) -> None:
        """Idempotent."""
        super().close()
        self.socket.close()

    def _try(self, packet: bytes, attachment: Attachment) -> bool:
        fds = attachment.fds
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([packet], control, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            self._break(f"send failed: {error.strerror}")
            return False
        return True


class Tracing:
    """Whether anybody traces, and who is traced."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        platform: Platform,
        processes: dict[int, Process],
        relay: Relay,
        quotas: Quotas,
    ) -> None:
        """`processes` are those connected, as they come and go."""
        self._selector = selector
        self._listener = listener
        self._platform = platform
        self._processes = processes
        self._relay = relay
        self._quotas = quotas
        self._asking: list[_Tracer] = []
        self._tracer: _Tracer | None = None
        self._wanted: _Wanted | None = None
        self._traced: dict[int, _Traced] = {}
        self._asked: dict[int, _Asked] = {}
        self._orders = count(1)
        self._relay_ring: tuple[TraceMemory, TraceWriter] | None = None
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def welcomed(self, process: Process) -> None:
        """A process is there, and can be told."""
        if self._tracer is None or self._wanted is None:
            return
        if self._tracer.wants_write:
            self._refuse(process, _BEHIND)
        else:
            self._trace(process, self._wanted)

    def answered(self, process: Process, number: int, attachment: Attachment) -> None:
        """TRACED has come from it."""
        asked = self._asked.get(process.id)
        if asked is None or asked.number != number:
            return  # of an order that has been taken back
        assert self._tracer is not None
        del self._asked[process.id]
        try:
            if self._tracer.wants_write:
                raise PlatformError(_BEHIND)
            asked.memory.traced(attachment)
            self._tell(process, asked.memory)
        except PlatformError as error:
            self._refuse(process, str(error))
            self._forget(process.id)
            process.send(Message(Type.TRACE))
        finally:
            asked.memory.close()

    def left(self, process: Process) -> None:
        """A process has gone."""
        asked = self._asked.pop(process.id, None)
        if asked is not None:
            asked.memory.close()
        if self._forget(process.id) is not None and self._tracer is not None:
            self._tracer.say({"gone": process.id})

    def turn(self) -> None:
        """Send what is queued, and see whether somebody is still there."""
        if self._tracer is not None:
            self._tracer.flush()
            if self._tracer.broken is not None:
                self._end()

    def close(self) -> None:
        """End it."""
        self._end()
        while self._asking:
            self._drop(self._asking.pop())
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            sock, _address = self._listener.accept()
            tracer = _Tracer(sock)
            if len(self._asking) >= ASKING_MAX:
                self._drop(self._asking.pop(0))
            self._asking.append(tracer)
            self._selector.register(sock, selectors.EVENT_READ, lambda _: self._read(tracer))

    def _read(self, tracer: _Tracer) -> None:
        try:
            packet = tracer.socket.recv(PACKET_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if tracer is self._tracer:  # it has nothing more to say but its end
            self._end()
            return
        self._asking.remove(tracer)
        problem = self._answer(tracer, packet) if packet else ""
        if problem is not None:
            tracer.say({"error": problem})
            self._drop(tracer)

    def _answer(self, tracer: _Tracer, packet: bytes) -> str | None:
        """Trace for somebody; what is wrong with that, or None."""
        if self._tracer is not None:
            return "somebody traces already, one at a time: end the other first"
        try:
            self._begin(tracer, _Wanted.read(packet))
        except NONSENSE:
            return f"no order to trace: {packet[:80]!r}"
        except (PlatformError, OSError) as error:
            return str(error)
        return None

    def _begin(self, tracer: _Tracer, wanted: _Wanted) -> None:
        """Raises `PlatformError`, `OSError`; nothing has begun then."""
        self._begin_relay(tracer, wanted)
        self._tracer = tracer
        self._wanted = wanted
        for process in _welcomed(self._processes.values()):
            self._trace(process, wanted)
        tracer.say({"ready": len(self._traced)})
        log.info("tracing: %d processes and the relay", len(self._traced))

    def _begin_relay(self, tracer: _Tracer, wanted: _Wanted) -> None:
        memory = self._platform.create_trace(wanted.order, None)
        writer = None
        try:
            writer = TraceWriter(*memory.map(), wanted.snap)
            tracer.say({"ring": RELAY, "of": "relay", "size": memory.size}, memory.for_reader())
        except BaseException:
            if writer is not None:  # what it has of the memory keeps that from being closed
                writer.close()
            memory.close()
            raise
        self._relay_ring = memory, writer
        self._relay.trace(writer)

    def _trace(self, process: Process, wanted: _Wanted) -> None:
        assert self._tracer is not None
        try:
            traced = self._order(process, wanted)
        except (PlatformError, OSError) as error:
            self._refuse(process, str(error))
            return
        self._traced[process.id] = traced
        if traced.granted:
            self._quotas.take_trace(process.identity.host, traced.size // PAGE)

    def _forget(self, number: int) -> _Traced | None:
        """A process is traced no more; None: it was not."""
        traced = self._traced.pop(number, None)
        if traced is not None and traced.granted:
            self._quotas.give_back_trace(traced.process.identity.host, traced.size // PAGE)
        return traced

    def _order(self, process: Process, wanted: _Wanted) -> _Traced:
        """Raises `PlatformError`, `OSError`."""
        number = next(self._orders)
        flags = TRACE_ALL if wanted.everything else 0
        memory = self._platform.create_trace(wanted.order, process.identity.host)
        with ExitStack() as stack:
            stack.callback(memory.close)
            self._check_memory(memory.size)
            if not memory.awaited:
                self._tell(process, memory)
            order = Message(Type.TRACE, flow=number, flags=flags, arg=wanted.snap)
            process.send(order, memory.for_writer())
            if memory.awaited:
                self._asked[process.id] = _Asked(memory, number)
                stack.pop_all()
        return _Traced(process, memory.size, memory.awaited)

    def _check_memory(self, more: int) -> None:
        """Raises `PlatformError`: there is too much with it."""
        if sum(traced.size for traced in self._traced.values()) + more > MEMORY_MOST:
            most = MEMORY_MOST >> 20
            raise PlatformError(f"trace rings may take {most} MiB; use less --buffer")

    def _tell(self, process: Process, memory: TraceMemory) -> None:
        """Raises `PlatformError`."""
        assert self._tracer is not None
        told = {"ring": process.id, "of": str(process), "size": memory.size}
        self._tracer.say(told, memory.for_reader())

    def _refuse(self, process: Process, why: str) -> None:
        assert self._tracer is not None
        log.warning("%s is not traced: %s", process, why)
        self._tracer.say({"warning": f"{process} is not traced: {why}"})

    def _end(self) -> None:
        """Nobody traces any more. Idempotent."""
        tracer, self._tracer = self._tracer, None
        if self._wanted is not None:
            log.info("tracing has ended")
        self._wanted = None
        for number in list(self._traced):
            traced = self._forget(number)
            assert traced is not None
            traced.process.send(Message(Type.TRACE))
        while self._asked:
            self._asked.popitem()[1].memory.close()
        if self._relay_ring is not None:
            memory, writer = self._relay_ring
            self._relay_ring = None
            self._relay.trace(None)
            writer.close()
            memory.close()
        if tracer is not None:
            self._drop(tracer)

    def _drop(self, tracer: _Tracer) -> None:
        self._selector.unregister(tracer.socket)
        tracer.close()


def _welcomed(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if process.link.statistics is not None]
