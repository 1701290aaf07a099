# SPDX-License-Identifier: Apache-2.0
"""SOME/IP-TP: messages too large for a datagram, cut into segments and put together again."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from enum import StrEnum
from typing import Final

from ivc.someip.errors import BuildError
from ivc.someip.header import TP_FLAG
from ivc.someip.message import TP_UNIT, Message, TpHeader

SEGMENT_SIZE: Final = 1392
"""Bytes of payload in the largest segment (Open SOME/IP TP 773)."""

_MAX_RUNS: Final = 8  # a segment 3 places from its own needs 4 (TP 790)


def segment(message: Message, size: int = SEGMENT_SIZE) -> list[Message]:
    """Cut `message` into segments of `size` bytes, in the order they are to be sent.

    Raises BuildError for a message that is a segment itself or has no session id, by which
    the receiver knows what belongs together (Open SOME/IP TP 762), and for a size that is no
    positive multiple of 16 (TP 772).
    """
    if message.tp is not None:
        raise BuildError("tp", "this message is a segment already")
    if not message.header.session_id:
        raise BuildError("header.session_id", "0, but segments need session handling")
    if size < TP_UNIT or size % TP_UNIT:
        raise BuildError("size", f"{size}, expected a positive multiple of {TP_UNIT}")
    header = replace(message.header, message_type=message.header.message_type | TP_FLAG)
    whole = message.payload
    return [
        Message(header, whole[at : at + size], TpHeader(at, more=at + size < len(whole)))
        for at in range(0, max(len(whole), 1), size)
    ]


class TpLoss(StrEnum):
    """Why a message was given up."""

    INCOMPLETE = "segments were missing when the next message began"
    CONTRADICTION = "segments did not fit each other"
    TOO_LARGE = "it was larger than allowed"
    CROWDED = "too many messages were under way at once"


class TpReassembler:
    """Puts segments together again, of any number of senders at once; knows no clock.

    Segments may come doubled and out of order, and one that is lost costs its own message and
    no other. That rests on session ids; a sender that has none, or always the same, is found out
    by its second message, and from there on its segments have to come in order.

    `max_payload`: bytes of the largest message put together; the rest of a larger one is
    skipped (Open SOME/IP TP 782). `max_messages`: so many are under way at once; the one that
    was quiet longest makes way. Their product is the memory this takes at most.
    `first_wins`: where segments overlap and differ, keep what came first (TP 797); otherwise
    the message is given up, as it is most likely two (TP 810).
    `lost` counts the messages given up.
    """

    def __init__(
        self,
        *,
        max_payload: int = 128 * 1024,
        max_messages: int = 64,
        first_wins: bool = False,
    ) -> None:
        self.lost: Counter[TpLoss] = Counter()
        self._max_payload = max_payload
        self._max_messages = max_messages
        self._first_wins = first_wins
        self._pending: dict[Hashable, _Assembly] = {}  # the one used last stands last

    @property
    def held(self) -> int:
        """Bytes of payload kept for messages that are under way."""
        return sum(len(assembly.data) for assembly in self._pending.values())

    def add(self, message: Message, source: Hashable = None) -> Message | None:
        """Take a message; return it once it is whole, its TP flag cleared (TP 785).

        A message that is no segment is returned as it is. `source` tells senders apart, for
        example by address and port (TP 787).
        """
        if message.tp is None:
            return message
        assembly = self._assembly_of(message, source)
        if not assembly.add(message.tp, message.payload, message.header.return_code):
            return None
        header = replace(
            message.header,
            message_type=message.header.base_type,
            return_code=assembly.return_code,
        )
        return Message(header, assembly.take())

    def _assembly_of(self, message: Message, source: Hashable) -> "_Assembly":
        header = message.header
        key = (
            source,
            header.service_id,
            header.method_id,
            header.client_id,
            header.protocol_version,
            header.interface_version,
            header.base_type,
        )
        assembly = self._pending.pop(key, None)
        if assembly is not None and assembly.session_id != header.session_id:
            assembly.give_up(TpLoss.INCOMPLETE)
            assembly = None
        if assembly is None:
            assembly = _Assembly(header.session_id, self._max_payload, self._first_wins, self.lost)
        self._pending[key] = assembly
        if len(self._pending) > self._max_messages:
            self._pending.pop(next(iter(self._pending))).give_up(TpLoss.CROWDED)
        return assembly


class _Assembly:
    """One message under way, then what is remembered of it: the session id it had."""

    def __init__(
        self, session_id: int, max_payload: int, first_wins: bool, lost: Counter[TpLoss]
    ) -> None:
        self.session_id = session_id
        self.return_code = 0
        self.data = bytearray()
        self._runs: list[tuple[int, int]] = []  # start and end of what is there, ascending
        self._size: int | None = None  # known once the last segment is there
        self._latest = 0  # offset of the segment before this one
        self._open = True
        self._in_order = not session_id  # 0: the sender has no session handling
        self._max_payload = max_payload
        self._first_wins = first_wins
        self._lost = lost

    def add(self, tp: TpHeader, piece: bytes, return_code: int) -> bool:
        """Take a segment; return whether the message is whole now."""
        if tp.offset == 0 and self._begins_anew(piece):
            self._begin_anew()
        if not self._open:
            return False  # the rest of what was given up, or a late double
        loss = self._objection(tp, piece)
        if loss is not None:
            self.give_up(loss)
            return False
        self._insert(tp.offset, piece)
        self._latest = tp.offset
        if not tp.more:
            self._size, self.return_code = tp.offset + len(piece), return_code
        if len(self._runs) > _MAX_RUNS:
            self.give_up(TpLoss.INCOMPLETE)
        return self._size is not None and self._runs == ([(0, self._size)] if self._size else [])

    def take(self) -> bytes:
        """The payload of the whole message, which is forgotten here."""
        whole = bytes(self.data)
        self._close()
        return whole

    def give_up(self, loss: TpLoss) -> None:
        """Forget the message, and count it as lost unless it was whole or is counted already."""
        if self._open:
            self._lost[loss] += 1
        self._close()

    def _close(self) -> None:
        self.data, self._runs, self._size, self._open = bytearray(), [], None, False

    def _begins_anew(self, piece: bytes) -> bool:
        """Whether a first segment is not of the message under way, but of the next one.

        That has the same session id then: the sender does not count (COVESA/vsomeip #737).
        """
        if not self._open:
            return True
        if not self._runs or self._runs[0][0] != 0:
            return False  # the first segment has not been here yet
        if self._latest == 0 and self._agrees(0, piece):
            return False  # doubled on its way
        if self._in_order or self._size is not None:
            return True
        return not (self._first_wins or self._agrees(0, piece))

    def _begin_anew(self) -> None:
        self.give_up(TpLoss.INCOMPLETE)
        self._open = self._in_order = True

    def _objection(self, tp: TpHeader, piece: bytes) -> TpLoss | None:
        """Why the segment cannot be of the message under way."""
        end = tp.offset + len(piece)
        if end > self._max_payload:
            return TpLoss.TOO_LARGE
        if self._in_order and tp.offset > len(self.data):
            return TpLoss.INCOMPLETE
        if tp.more and (not piece or len(piece) % TP_UNIT):
            return TpLoss.CONTRADICTION  # the next one would begin in between (TP 792)
        if tp.more:
            beyond = self._size is not None and end >= self._size
        else:
            beyond = self._size not in (None, end) or len(self.data) > end
        keep_first = self._first_wins and not self._in_order
        if beyond or not (keep_first or self._agrees(tp.offset, piece)):
            return TpLoss.CONTRADICTION
        return None

    def _agrees(self, offset: int, piece: bytes) -> bool:
        """Whether what is there already is the same where `piece` overlaps it."""
        end = offset + len(piece)
        overlaps = ((max(offset, a), min(end, b)) for a, b in self._runs if a < end and offset < b)
        return all(self.data[a:b] == piece[a - offset : b - offset] for a, b in overlaps)

    def _insert(self, offset: int, piece: bytes) -> None:
        """Write `piece` where nothing is yet."""
        end = offset + len(piece)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        at = offset
        for a, b in [*self._runs, (end, end)]:
            if at < min(a, end):
                self.data[at : min(a, end)] = piece[at - offset : min(a, end) - offset]
            at = max(at, b)
        if piece:
            self._runs = _merged([*self._runs, (offset, end)])


def _merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """`runs` in ascending order, those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
