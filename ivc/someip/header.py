# SPDX-License-Identifier: Apache-2.0
"""The 16 bytes in front of every SOME/IP message: who calls what, and with what outcome."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ivc.message_types import MessageType as MessageType  # it belongs to a header
from ivc.someip.convert import Buffer, encode
from ivc.someip.errors import ParseError
from ivc.someip.schema import FAST_HEADER, HEADER, HEADER_SIZE, LENGTH_COVERED

TP_FLAG = 0x20
"""Bit of the message type: the message is one segment of a larger one (Open SOME/IP 761)."""

SD_SERVICE = 0xFFFF
"""Service id of service discovery."""

SD_METHOD = 0x8100
"""Method id of service discovery."""


class ReturnCode(IntEnum):
    """Return codes with a name (Open SOME/IP 144, 371; 0x0B to 0x0F are AUTOSAR's, for E2E)."""

    E_OK = 0x00
    E_NOT_OK = 0x01
    E_UNKNOWN_SERVICE = 0x02
    E_UNKNOWN_METHOD = 0x03
    E_NOT_READY = 0x04
    E_NOT_REACHABLE = 0x05
    E_TIMEOUT = 0x06
    E_WRONG_PROTOCOL_VERSION = 0x07
    E_WRONG_INTERFACE_VERSION = 0x08
    E_MALFORMED_MESSAGE = 0x09
    E_WRONG_MESSAGE_TYPE = 0x0A
    E_E2E_REPEATED = 0x0B
    E_E2E_WRONG_SEQUENCE = 0x0C
    E_E2E = 0x0D
    E_E2E_NOT_AVAILABLE = 0x0E
    E_E2E_NO_NEW_DATA = 0x0F


@dataclass(frozen=True, slots=True)
class Header:
    """All fields of the header but the length, which follows from what comes after it.

    Numbers are kept as they came, also where they have no name or break a convention: a
    relay passes on what it does not know. `message_type` is the whole byte, TP flag included.
    Layout: `schema.HEADER` (Open SOME/IP ids_505, 626, 699, 700, 90, 92, 684, 144).
    """

    service_id: int
    method_id: int
    client_id: int = 0
    session_id: int = 0
    protocol_version: int = 1
    interface_version: int = 1
    message_type: int = MessageType.REQUEST
    return_code: int = ReturnCode.E_OK

    @property
    def is_tp(self) -> bool:
        """Whether a TP header follows (Open SOME/IP 761)."""
        return bool(self.message_type & TP_FLAG)

    @property
    def base_type(self) -> int:
        """The message type without its TP flag: a MessageType, if it has a name."""
        return self.message_type & ~TP_FLAG

    @property
    def is_sd(self) -> bool:
        """Whether the payload is a service discovery message."""
        return self.service_id == SD_SERVICE and self.method_id == SD_METHOD

    def build(self, following: int) -> bytes:
        """The 16 bytes of the header in front of `following` bytes of TP header and payload.

        Raises BuildError for a number that does not fit its field.
        """
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return encode(HEADER, fields | {"length": LENGTH_COVERED + following}, "header")


def peek(data: Buffer) -> Header:
    """Read the header at the start of `data`, and nothing else: what a relay routes by.

    The length field is checked against `data`, so the whole message is there; what follows
    it, be it the TP header or another message, is not looked at.
    Raises ParseError with the path "header" or "header.length" (Open SOME/IP 77, 798).
    """
    return read_header(data, 0)[0]


def read_header(data: Buffer, offset: int) -> tuple[Header, int]:
    """As `peek`, at `offset`; returns also the offset where the message ends."""
    head = bytes(data[offset : offset + HEADER_SIZE])
    if len(head) < HEADER_SIZE:
        raise ParseError("header", f"{len(head)} bytes, expected at least {HEADER_SIZE}")
    header, length = parse_header(head)
    there = len(data) - offset - (HEADER_SIZE - LENGTH_COVERED)
    if not LENGTH_COVERED <= length <= there:
        raise ParseError("header.length", f"{length}, expected {LENGTH_COVERED} to {there}")
    return header, offset + HEADER_SIZE - LENGTH_COVERED + length


def parse_header(head: bytes) -> tuple[Header, int]:
    """The fields of the 16 bytes of a header, and its length field, whatever that says."""
    fields = FAST_HEADER.parse(head)
    header = Header(
        fields.service_id,
        fields.method_id,
        fields.client_id,
        fields.session_id,
        fields.protocol_version,
        fields.interface_version,
        fields.message_type,
        fields.return_code,
    )
    return header, fields.length
