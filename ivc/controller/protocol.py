# SPDX-License-Identifier: Apache-2.0
"""Control messages between wrapper and controller: core/protocol.h, declared with `construct`.

One message is one packet of `MESSAGE_SIZE` bytes. Which process sent it, and so which node, is
never in it: the kernel says that. A test compares every offset and number with the C header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from construct import Bytes, ConstructError, Int16ul, Int32ul, Int64ul, Struct

from ivc.controller.errors import MessageError

VERSION: Final = 1
MESSAGE_SIZE: Final = 64
MAX_FDS: Final = 2


class Type(IntEnum):
    """enum ivc_msg_type. Below 32 a wrapper speaks, from 32 on the controller."""

    HELLO = 1
    BOUND = 2
    UNBOUND = 3
    JOIN = 4
    LEAVE = 5
    WANT = 6
    MAPPED = 7
    ACK = 8
    DROPPED = 9
    WELCOME = 32
    ATTACH_TX = 33
    ATTACH_RX = 34
    PEER = 35
    ACTIVE = 36
    CLOSE = 37
    ROUTE = 38
    TABLE = 39
    QUIESCE = 40
    TRACE = 41


class Role(IntEnum):
    """enum ivc_role: an end of a flow."""

    SENDER = 1
    RECEIVER = 2

    @property
    def other(self) -> "Role":
        """The opposite end."""
        return Role(3 - self)


class SocketFlag(IntFlag):
    """Flags of BOUND: options that decide who receives a datagram."""

    REUSE = 1
    MC_ALL = 2
    MC_LOOP = 4
    STREAM = 8


FLOW_RELAY: Final = 1
"""Flag of ATTACH_TX and ATTACH_RX: the other end is the controller."""

FLOW_STREAM: Final = 2
"""Flag of ATTACH_TX and ATTACH_RX: one way of a TCP connection."""

ROUTE_COMPLETE: Final = 1
"""Flag of ROUTE: every receiver is reached by an active flow, no kernel copy is needed."""


TRACE_ALL: Final = 1
"""Flag of TRACE: also what goes by the kernel's network."""


class Address(NamedTuple):
    """IPv4 address and UDP port as plain numbers; (0, 0) is "none"."""

    ip: int
    port: int

    def __str__(self) -> str:
        return f"{IPv4Address(self.ip)}:{self.port}"

    @property
    def is_multicast(self) -> bool:
        """224.0.0.0/4."""
        return self.ip >> 28 == 0xE


NOWHERE: Final = Address(0, 0)

ENDPOINT = Struct("ip" / Int32ul, "port" / Int16ul, "reserved" / Int16ul)

LAYOUT = Struct(
    "version" / Int16ul,
    "type" / Int16ul,
    "socket" / Int32ul,
    "flow" / Int32ul,
    "node" / Int32ul,
    "local" / ENDPOINT,
    "peer" / ENDPOINT,
    "flags" / Int32ul,
    "reason" / Int32ul,
    "arg" / Int64ul,
    "pid" / Int32ul,
    "reserved" / Bytes(12),
)
"""struct ivc_msg, little-endian."""

_CODEC: Final = LAYOUT.compile()
"""Three times as fast, and setting up one flow takes ten messages."""


@dataclass(frozen=True, slots=True)
class Message:
    """One control message; which fields mean something depends on `type` (core/protocol.h)."""

    type: Type
    socket: int = 0
    flow: int = 0
    node: int = 0
    local: Address = NOWHERE
    peer: Address = NOWHERE
    flags: int = 0
    reason: int = 0
    arg: int = 0
    pid: int = 0

    def pack(self) -> bytes:
        """The packet, exactly `MESSAGE_SIZE` bytes."""
        packet: bytes = _CODEC.build(
            {
                "version": VERSION,
                "type": int(self.type),
                "socket": self.socket,
                "flow": self.flow,
                "node": self.node,
                "local": _endpoint(self.local),
                "peer": _endpoint(self.peer),
                "flags": self.flags,
                "reason": self.reason,
                "arg": self.arg,
                "pid": self.pid,
                "reserved": bytes(12),
            }
        )
        return packet

    @classmethod
    def parse(cls, packet: bytes, allowed: Sequence[Type] = tuple(Type)) -> "Message":
        """The message in `packet`.

        Raises `MessageError` for another size or version, or a type not in `allowed`.
        """
        if len(packet) != MESSAGE_SIZE:
            raise MessageError(f"packet of {len(packet)} bytes, expected {MESSAGE_SIZE}")
        try:
            raw = _CODEC.parse(packet)
        except ConstructError as error:  # cannot happen at this size; never trust that
            raise MessageError(str(error)) from error
        if raw.version != VERSION:
            raise MessageError(f"protocol version {raw.version}, expected {VERSION}")
        if raw.type not in allowed:
            raise MessageError(f"message type {raw.type} is not for this side")
        return cls(
            Type(raw.type),
            raw.socket,
            raw.flow,
            raw.node,
            Address(raw.local.ip, raw.local.port),
            Address(raw.peer.ip, raw.peer.port),
            raw.flags,
            raw.reason,
            raw.arg,
            raw.pid,
        )


def _endpoint(address: Address) -> dict[str, int]:
    return {"ip": address.ip, "port": address.port, "reserved": 0}


FROM_WRAPPER: Final = tuple(kind for kind in Type if kind < Type.WELCOME)
FROM_CONTROLLER: Final = tuple(kind for kind in Type if kind >= Type.WELCOME)
