# SPDX-License-Identifier: Apache-2.0
"""SOME/IP over TCP: one direction of a connection cut into messages, without any I/O."""

import re
from dataclasses import dataclass, replace
from typing import Final

from ivc.someip.convert import Buffer
from ivc.someip.header import TP_FLAG, Header, MessageType
from ivc.someip.message import Message
from ivc.someip.schema import FAST_HEADER, HEADER_SIZE, LENGTH_COVERED, TP_SIZE

CLIENT_COOKIE: Final = Message(Header(0xFFFF, 0x0000, 0xDEAD, 0xBEEF, message_type=0x01))
"""What a client sends between its messages, to be found again (Open SOME/IP 586, 609)."""

SERVER_COOKIE: Final = Message(Header(0xFFFF, 0x8000, 0xDEAD, 0xBEEF, message_type=0x02))
"""What a server sends between its messages."""

COOKIES: Final = (CLIENT_COOKIE, SERVER_COOKIE)
"""Both magic cookies: `message in COOKIES` tells them from other messages."""


def is_cookie(header: Header) -> bool:
    """Whether it is a magic cookie's, whatever its session."""
    return any(replace(header, session_id=one.header.session_id) == one.header for one in COOKIES)


_TYPES: Final = frozenset(MessageType)
_COOKIE: Final = re.compile(b"|".join(re.escape(cookie.build()) for cookie in COOKIES))
_OUTSIDE: Final = HEADER_SIZE - LENGTH_COVERED  # bytes that the length field does not count


@dataclass(frozen=True, slots=True)
class Skipped:
    """`count` bytes that belong to no message, and why they do not."""

    count: int
    problem: str


class StreamSplitter:
    """Finds the messages in what comes from a TCP connection, wherever reads cut it.

    Where no message can begin it looks for the next magic cookie and goes on there; what it
    passes over is handed out as `Skipped`. Who has no cookies to hope for closes the
    connection on the first of these. A message begins with protocol version 1, a message type
    with a name, and a length that it can have.

    `cookies`: the peer sends them (vsomeip's "enable-magic-cookies"), so that one in the
    midst of a message shows that its length was wrong.
    `limit`: bytes of the largest message taken; it is also the most that is ever kept.
    """

    def __init__(self, *, cookies: bool = False, limit: int = 1 << 20) -> None:
        self._cookies = cookies
        self._limit = limit
        self._kept = bytearray()
        self._searched = 0  # so far there is no cookie in what is kept
        self._problem = ""  # why we are out of step; empty: we are not

    @property
    def pending(self) -> int:
        """Bytes kept, fewer than `limit`: the message they belong to is not whole yet."""
        return len(self._kept)

    def feed(self, data: Buffer) -> list[Message | Skipped]:
        """Take what was read; return what it completes, in order, cookies included."""
        self._kept += data
        found: list[Message | Skipped] = []
        start = 0
        while (item := self._next(start)) is not None:
            found.append(item)
            start += item.count if isinstance(item, Skipped) else HEADER_SIZE + _body(item)
        del self._kept[:start]
        self._searched = max(0, self._searched - start)
        return found

    def _next(self, start: int) -> Message | Skipped | None:
        """What begins at `start`; None if more has to come first."""
        if self._problem and (skipped := self._skip(start)):
            return skipped
        there = len(self._kept) - start
        if self._problem or there < HEADER_SIZE:
            return None
        length, self._problem = self._look(start)
        if self._problem:
            return self._skip(start)
        size = _OUTSIDE + length
        if self._cookies:
            cookie = self._find_cookie(start + 1, start + size)
            if cookie >= 0:
                return Skipped(cookie - start, f"header.length: {length}, but a cookie is inside")
        if there < size:
            return None
        return Message.parse(self._kept[start : start + size])[0]

    def _look(self, start: int) -> tuple[int, str]:
        """The length of the message at `start`, and what is wrong with its header."""
        fields = FAST_HEADER.parse(bytes(self._kept[start : start + HEADER_SIZE]))
        version, kind, length = fields.protocol_version, fields.message_type, fields.length
        least = LENGTH_COVERED + (TP_SIZE if kind & TP_FLAG else 0)
        most = self._limit - _OUTSIDE
        problem = ""
        if version != 1:
            problem = f"header.protocol_version: {version}, expected 1"
        elif kind & ~TP_FLAG not in _TYPES:
            problem = f"header.message_type: 0x{kind:02x} has no name"
        elif not least <= length <= most:
            problem = f"header.length: {length}, expected {least} to {most}"
        return length, problem

    def _skip(self, start: int) -> Skipped | None:
        """Pass over what is before the next cookie; if none is there, over all but its begin."""
        cookie = self._find_cookie(start, len(self._kept))
        end = cookie if cookie >= 0 else max(start, len(self._kept) - HEADER_SIZE + 1)
        problem = self._problem
        if cookie >= 0:
            self._problem = ""
        return Skipped(end - start, problem) if end > start else None

    def _find_cookie(self, start: int, end: int) -> int:
        """Where the first whole cookie in between begins, -1 if there is none."""
        match = _COOKIE.search(self._kept, max(start, self._searched - HEADER_SIZE + 1), end)
        self._searched = match.start() if match else min(end, len(self._kept))
        return match.start() if match else -1


def _body(message: Message) -> int:
    """Bytes after the header."""
    return len(message.payload) + (TP_SIZE if message.tp else 0)
