# SPDX-License-Identifier: Apache-2.0
"""Whole SOME/IP messages, and datagrams that hold several of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from ivc.someip.convert import Buffer, decode, encode
from ivc.someip.errors import BuildError, ParseError
from ivc.someip.header import Header, read_header
from ivc.someip.schema import HEADER_SIZE, TP, TP_SIZE

UDP_LIMIT: Final = 1416
"""Bytes of the largest message that goes over UDP without SOME/IP-TP (Open SOME/IP 36)."""

TP_UNIT = 16
"""TP offsets are multiples of this many bytes."""


@dataclass(frozen=True, slots=True)
class TpHeader:
    """Where a segment belongs in its message (Open SOME/IP tp).

    `offset` is in bytes, a multiple of 16; `more` says that this is not the last segment.
    """

    offset: int
    more: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One SOME/IP message; `tp` is there exactly if the message type has the TP flag.

    `payload` is what follows the header, for a segment what follows the TP header.
    """

    header: Header
    payload: bytes = b""
    tp: TpHeader | None = None

    @classmethod
    def parse(cls, data: Buffer) -> tuple[Self, bytes]:
        """Read the first message of `data`; return it and the bytes after it.

        Raises ParseError with the path "header", "header.length" or "tp".
        """
        message, end = cls._read(data, 0)
        return message, bytes(data[end:])

    @classmethod
    def _read(cls, data: Buffer, offset: int) -> tuple[Self, int]:
        header, end = read_header(data, offset)
        payload = bytes(data[offset + HEADER_SIZE : end])
        if not header.is_tp:
            return cls(header, payload), end
        if len(payload) < TP_SIZE:
            raise ParseError("tp", f"{len(payload)} bytes, expected at least {TP_SIZE}")
        fields, segment = decode(TP, payload, "tp")
        return cls(header, segment, TpHeader(fields.units * TP_UNIT, fields.more)), end

    def build(self) -> bytes:
        """The bytes of the message.

        Raises BuildError for a number that does not fit its field, and where TP flag and
        TP header do not go together.
        """
        body = self._build_tp() + self.payload
        return self.header.build(len(body)) + body

    def _build_tp(self) -> bytes:
        if self.header.is_tp != (self.tp is not None):
            raise BuildError("tp", "TP header and TP flag of the message type need each other")
        if self.tp is None:
            return b""
        units, odd = divmod(self.tp.offset, TP_UNIT)
        if odd:
            raise BuildError("tp.offset", f"{self.tp.offset} is no multiple of {TP_UNIT}")
        return encode(TP, {"units": units, "more": self.tp.more}, "tp")


def parse_datagram(data: Buffer) -> list[Message]:
    """All messages of one datagram, in order; none if it is empty (Open SOME/IP 316, 743).

    Raises ParseError if any of them is damaged, the path beginning with its number, for
    example "messages[1].header.length". What is left over at the end is damage too.
    """
    whole = bytes(data)
    messages: list[Message] = []
    offset = 0
    while offset < len(whole):
        try:
            message, offset = Message._read(whole, offset)
        except ParseError as error:
            raise ParseError(f"messages[{len(messages)}].{error.path}", error.problem) from error
        messages.append(message)
    return messages


def build_datagrams(messages: Iterable[Message], limit: int = UDP_LIMIT) -> list[bytes]:
    """The bytes of all `messages` in order, as many in a datagram as fit (Open SOME/IP 702).

    Raises BuildError for a message that does not fit `limit` bytes, its path beginning with its
    number: it wants TCP, or `tp.segment`.
    """
    datagrams: list[bytes] = []
    for number, message in enumerate(messages):
        data = message.build()
        if len(data) > limit:
            problem = f"{len(data)} bytes, expected at most {limit}"
            raise BuildError(f"messages[{number}]", problem)
        if datagrams and len(datagrams[-1]) + len(data) <= limit:
            datagrams[-1] += data
        else:
            datagrams.append(data)
    return datagrams
