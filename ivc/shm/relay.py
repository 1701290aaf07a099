# SPDX-License-Identifier: Apache-2.0
"""The relay for Python: typed classes over the C loop (core/relay.h)."""

import secrets
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from ivc.shm.bell import Doorbell
from ivc.shm.layout import RecordKind
from ivc.shm.library import ffi, lib
from ivc.shm.ring import Receiver, Sender
from ivc.shm.trace import TraceWriter

KINDS_MAX: Final[int] = lib.IVC_KINDS_MOST
"""Entries of the table of kinds."""


FAULTS_MAX: Final[int] = lib.IVC_FAULTS_MOST
"""Faults at a time."""


class Action(IntEnum):
    """What becomes of the messages of a kind."""

    RELAY = lib.IVC_ACTION_RELAY
    DENY = lib.IVC_ACTION_DENY
    AUDIT = lib.IVC_ACTION_AUDIT
    MIRROR = lib.IVC_ACTION_MIRROR
    WATCH = lib.IVC_ACTION_WATCH


def copy_to(ip: int, port: int) -> int:
    """An endpoint as the detail of MIRROR and WATCH."""
    return ip << 16 | port


class Effect(IntEnum):
    """What a fault does (core/faults.h)."""

    DROP = lib.IVC_FAULT_DROP
    DROP_NTH = lib.IVC_FAULT_DROP_NTH
    DELAY = lib.IVC_FAULT_DELAY
    DUPLICATE = lib.IVC_FAULT_DUPLICATE
    CORRUPT = lib.IVC_FAULT_CORRUPT
    RATE = lib.IVC_FAULT_RATE
    CUT = lib.IVC_FAULT_CUT


class What(IntEnum):
    """What CORRUPT changes."""

    BYTE = lib.IVC_FAULT_BYTE
    BIT = lib.IVC_FAULT_BIT
    LENGTH = lib.IVC_FAULT_LENGTH
    SESSION = lib.IVC_FAULT_SESSION


@dataclass(frozen=True, slots=True)
class ArmedFault:
    """What the loop knows of a fault: of the values those its effect has.

    `chance` is 0 to 1; `delay` and `jitter` are ns, `until` ns of the monotonic clock; `number` is
    every how manieth DROP_NTH drops, from 1, or how many RATE lets through in a second.
    """

    effect: Effect
    seed: int
    chance: float = 0.0
    number: int = 0
    delay: int = 0
    jitter: int = 0
    until: int = 0
    what: What = What.BYTE

    def to_c(self) -> Any:
        """A `struct ivc_fault *`."""
        fault = ffi.new("struct ivc_fault *")
        fault.effect, fault.what, fault.random = self.effect, self.what, self.seed
        fault.chance = round(self.chance * lib.IVC_FAULT_ALWAYS)
        fault.number, fault.until = self.number, self.until
        fault.delay, fault.jitter = self.delay, self.jitter
        return fault


class Result(IntEnum):
    """How a turn of a flow ended (core/relay.h)."""

    EMPTY = lib.IVC_RELAY_EMPTY
    MORE = lib.IVC_RELAY_MORE
    ASKS = lib.IVC_RELAY_ASKS
    FULL = lib.IVC_RELAY_FULL
    POISONED = lib.IVC_RELAY_POISONED
    ENDED = lib.IVC_RELAY_ENDED


class Counts:
    """Messages of a kind and their bytes, as counted by now."""

    def __init__(self, kind: Any) -> None:
        """`kind` is a `struct ivc_kind *`."""
        self._kind = kind

    @property
    def messages(self) -> int:
        """How many messages."""
        return int(self._kind.messages)

    @property
    def denied(self) -> int:
        """How many of them went nowhere."""
        return int(self._kind.denied)

    @property
    def audited(self) -> int:
        """How many of the others were of a kind to be told of."""
        return int(self._kind.audited)

    @property
    def copied(self) -> int:
        """Of how many of the others a copy was sent."""
        return int(self._kind.copied)

    @property
    def uncopied(self) -> int:
        """Of how many one should have been, and the kernel did not take it."""
        return int(self._kind.uncopied)

    @property
    def bytes(self) -> int:
        """Their bytes, headers included."""
        return int(self._kind.bytes)


class Relayed:
    """One flow the loop passes on: from `receiver`, whose sender rings `heard`, to `sender`,
    whose receiver hears `rung`. `way` is the number of what its kinds are kinds of, not 0. A
    `stream` is one way of a TCP connection.

    All of them are the loop's from `Loop.add` to `Loop.remove`.
    """

    def __init__(
        self,
        flow: int,
        receiver: Receiver,
        sender: Sender,
        heard: Doorbell,
        rung: Doorbell,
        way: int = 1,
        *,
        stream: bool = False,
    ) -> None:
        self.receiver = receiver
        self.sender = sender
        self.c = ffi.new("struct ivc_relayed *")
        self._stream = ffi.new("struct ivc_stream *") if stream else ffi.NULL
        self.c.stream = self._stream
        if stream:
            receiver.c.kind = RecordKind.STREAM
        self.c.flow, self.c.way = flow, way
        self.c.rx, self.c.tx = receiver.c, sender.c
        self.c.heard, self.c.rung = heard.c[0], rung.c[0]

    @property
    def messages(self) -> int:
        """Records taken from the first ring."""
        return int(self.c.messages)

    @property
    def bytes(self) -> int:
        """Bytes of their payload."""
        return int(self.c.bytes)

    @property
    def is_stream(self) -> bool:
        """Whether it is one way of a TCP connection."""
        return bool(self._stream)

    def set_strict(self, strict: bool) -> None:
        """Whether messages of a stream may be denied: none begins without its whole header then."""
        self._stream.strict = strict

    @property
    def unframed(self) -> int:
        """Bytes of a stream of which nobody knew what message they belong to."""
        return int(self._stream.unframed) if self._stream else 0

    @property
    def full(self) -> int:
        """Records there was no room for in the second ring."""
        return int(self.c.full)

    @property
    def answered(self) -> int:
        """Denied requests that got an answer."""
        return int(self.c.answered)

    @property
    def unanswered(self) -> int:
        """Denied requests that should have got one, and there was no way to give it."""
        return int(self.c.unanswered)


@dataclass(frozen=True, slots=True)
class Call:
    """The loop needs something: a decision about a kind (ASKS), or an end of a flow (POISONED); or
    a stream has come to its own (ENDED).

    A kind is a `way` and a `key`, which is 0 for what is no SOME/IP message; else `header` are the
    16 bytes in front of it.
    """

    flow: int
    why: Result
    way: int
    key: int
    header: bytes


class Loop:
    """The C loop. `run` it on a thread of its own; everything else is for any other thread."""

    def __init__(self) -> None:
        """Raises `OSError` when there is no memory or descriptor left."""
        self._relay = lib.ivc_relay_make(secrets.randbits(64))
        self._flows: set[Relayed] = set()  # they must be there as long as it is
        if not self._relay:
            raise OSError("no relay: no memory or descriptor left")

    def run(self) -> None:
        """Pass records on until `stop`. Without the GIL, deaf to signals."""
        lib.ivc_relay_run(self._relay)

    def stop(self) -> None:
        """Make `run` return."""
        lib.ivc_relay_stop(self._relay)

    def fileno(self) -> int:
        """Readable when `next_call` has something to say."""
        return int(lib.ivc_relay_fd(self._relay))

    def next_call(self) -> Call | None:
        """The next call; None if there is none left."""
        call = ffi.new("struct ivc_relay_call *")
        if not lib.ivc_relay_next(self._relay, call):
            return None
        return Call(
            int(call.flow), Result(call.why), int(call.way), int(call.key), bytes(call.header)
        )

    def decide(
        self, way: int, key: int, action: Action, detail: int = 0, faults: int = 0
    ) -> Counts | None:
        """Decide on a kind; flows that waited for it go on. None: the table is full.

        `detail` is the return code denied requests are answered with (0: they are not), or the
        endpoint copies of what is mirrored go to, see `copy_to`. `faults` has a bit for each place
        of a fault that acts on it, see `set_fault`.
        """
        kind = lib.ivc_relay_decide(self._relay, way, key, action, detail, faults)
        return Counts(kind) if kind else None

    def answer_on(self, relayed: Relayed, back: Relayed | None) -> None:
        """Answer what is denied on a flow on `back`, which leads to its sender.

        `back` must not be removed before this is taken back.
        """
        lib.ivc_relay_answer_on(self._relay, relayed.c, back.c if back is not None else ffi.NULL)

    def reroute(self, relayed: Relayed, way: int) -> None:
        """The messages of a flow are of other kinds from now on."""
        lib.ivc_relay_reroute(self._relay, relayed.c, way)

    def set_fault(self, place: int, fault: "ArmedFault") -> None:
        """Have a fault at a place (below `FAULTS_MAX`) instead of the one that was there."""
        lib.ivc_relay_set_fault(self._relay, place, fault.to_c())

    def clear_fault(self, place: int) -> None:
        """Have none there."""
        lib.ivc_relay_set_fault(self._relay, place, ffi.new("struct ivc_fault *"))

    def fault_counts(self, place: int) -> tuple[int, int]:
        """Messages the fault there was asked about, and those it has done something to."""
        fault = ffi.new("struct ivc_fault *")
        lib.ivc_relay_get_fault(self._relay, place, fault)
        return int(fault.matched), int(fault.acted)

    def trace(self, writer: TraceWriter | None) -> None:
        """What becomes of messages goes to this trace ring from now on, or to none."""
        lib.ivc_relay_trace(self._relay, writer.c if writer is not None else ffi.NULL)

    def ask_again(self) -> None:
        """Forget what was decided, but not what was counted."""
        lib.ivc_relay_ask_again(self._relay)

    def clear(self) -> None:
        """Forget all kinds; no `Counts` of them may be used any more. See `cleared`."""
        lib.ivc_relay_clear(self._relay)

    @property
    def cleared(self) -> Counts:
        """What kinds since forgotten had counted."""
        return Counts(lib.ivc_relay_cleared(self._relay))

    def add(self, relayed: Relayed) -> None:
        """Pass on a flow from now on. Raises `OSError`."""
        rc = lib.ivc_relay_add(self._relay, relayed.c)
        if rc != 0:
            raise OSError(-rc, "a doorbell cannot be heard")
        self._flows.add(relayed)

    def hurry(self, relayed: Relayed) -> bool:
        """What faults hold back of a flow goes out as soon as there is room, and nothing more is
        held. Whether some is left."""
        return bool(lib.ivc_relay_hurry(self._relay, relayed.c))

    def remove(self, relayed: Relayed) -> None:
        """The loop has let go of it when this returns."""
        lib.ivc_relay_remove(self._relay, relayed.c)
        self._flows.discard(relayed)

    def end(self, relayed: Relayed) -> None:
        """A stream that was removed ends: what is left is its sender's."""
        lib.ivc_relay_end(self._relay, relayed.c)

    def finish(self, relayed: Relayed) -> None:
        """A stream's sender is gone: a call says when all it has sent is passed on (ENDED)."""
        lib.ivc_relay_finish(self._relay, relayed.c)

    def turn(self, relayed: Relayed) -> Call | Result:
        """Pass on some of a flow that was removed. A `Call`, if it needs a decision first.

        What finds no room is dropped and counted.
        """
        c = relayed.c
        result = Result(lib.ivc_relay_turn(self._relay, c))
        if result is not Result.ASKS:
            return result
        return Call(int(c.flow), result, int(c.way), int(c.asked_key), bytes(c.asked_header))

    def close(self) -> None:
        """Free it, after `run` has returned. Idempotent."""
        relay, self._relay = self._relay, ffi.NULL
        lib.ivc_relay_free(relay)
