# SPDX-License-Identifier: Apache-2.0
"""Control messages between wrapper and controller: core/protocol.h, declared with `construct`.

One message is one packet of `MESSAGE_SIZE` bytes. Which process sent it, and so which node, is
never in it: the kernel says that. A test compares every offset and number with the C header.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from construct import Bytes, Int16ul, Int32ul, Int64ul, Struct

from ivc.controller.errors import MessageError
from ivc.shm.packing import packer

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
    TRACED = 10
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

_PACKER: Final = packer(LAYOUT)


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
        local, peer = self.local, self.peer
        return _PACKER.pack(
            VERSION,
            self.type,
            self.socket,
            self.flow,
            self.node,
            local.ip,
            local.port,
            0,
            peer.ip,
            peer.port,
            0,
            self.flags,
            self.reason,
            self.arg,
            self.pid,
        )

    @classmethod
    def parse(cls, packet: bytes, allowed: Collection[int] = tuple(Type)) -> "Message":
        """The message in `packet`.

        Raises `MessageError` for another size or version, or a type not in `allowed`.
        """
        if len(packet) != MESSAGE_SIZE:
            raise MessageError(f"packet of {len(packet)} bytes, expected {MESSAGE_SIZE}")
        version, kind, socket, flow, node, *ends, flags, reason, arg, pid = _PACKER.unpack(packet)
        if version != VERSION:
            raise MessageError(f"protocol version {version}, expected {VERSION}")
        if kind not in allowed:
            raise MessageError(f"message type {kind} is not for this side")
        local, peer = Address(*ends[0:2]), Address(*ends[3:5])
        return cls(Type(kind), socket, flow, node, local, peer, flags, reason, arg, pid)


FROM_WRAPPER: Final = tuple(kind for kind in Type if kind < Type.WELCOME)
FROM_CONTROLLER: Final = tuple(kind for kind in Type if kind >= Type.WELCOME)
