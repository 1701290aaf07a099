# SPDX-License-Identifier: Apache-2.0
"""The bytes of rings and shared pages: core/layout.h, core/pages.h and core/trace.h.

All integers are little-endian; addresses and ports are plain numbers (10.0.0.1 is 0x0A000001).
The names are the C names without their prefix. ``tests/shm/test_layout.py`` proves both equal.
"""

from enum import IntEnum, IntFlag
from typing import Any

from construct import Array, Bytes, Default, Int8ul, Int16ul, Int32ul, Int64ul, Struct

RING_MAGIC = int.from_bytes(b"IVCRING1", "little")
RING_ABI_MAJOR = 1
RING_ABI_MINOR = 0

PAGE = 4096
LINE = 64
RECORD_ALIGN = 32
ORDER_MIN = 12
ORDER_MAX = 26
DATA_OFFSET = PAGE
RECEIVER_REGION_SIZE = PAGE

MATCH_MAGIC = int.from_bytes(b"IVCMATCH", "little")
MATCH_ABI = 1
MATCH_EAGER = 1
MATCH_LOOPBACK = 2
STATS_MAGIC = int.from_bytes(b"IVCSTATS", "little")
STATS_ABI = 1
STATS_SLOTS = 255
STATS_SIZE = 65536
STATS_LATENCIES = 16

TRACE_MAGIC = int.from_bytes(b"IVCTRACE", "little")
TRACE_ABI = 1
TRACE_UNIT = 32
TRACE_ORDER_MIN = 16
TRACE_ORDER_MAX = 30


class Role(IntEnum):
    """Who owns a region."""

    SENDER = 1
    RECEIVER = 2


class RegionState(IntEnum):
    """What the owner of a region says about it."""

    INIT = 0
    OPEN = 1
    CLOSED = 2
    POISONED = 3
    FROZEN = 4
    LEAVING = 5


class RecordKind(IntEnum):
    """What a record carries."""

    DGRAM = 1
    STREAM = 2


class RecordFlag(IntFlag):
    """How a record stands to the datagrams that go through the kernel."""

    TWIN = 0x01
    FENCE = 0x02
    SAME = 0x04


class MatchKind(IntEnum):
    """What an entry of the match table stands for."""

    NODE = 1
    GROUP = 2
    EXTERNAL = 3
    STREAM = 4


class TraceEvent(IntEnum):
    """What has become of a traced message."""

    SENT = 1
    NETWORK = 2
    PASSED = 3
    DENIED = 4
    AUDITED = 5
    MIRRORED = 6
    ANSWER = 7
    FULL = 8
    DROPPED = 9
    TAKEN = 10


def _zero(integer: Any) -> Any:
    return Default(integer, 0)


def _reserved(size: int) -> Any:
    return Default(Bytes(size), bytes(size))


#: A control page's used part: static line, index and what belongs to it, wake_at, state and
#: kernel; a cache line each.
Ctrl = Struct(
    "magic" / Default(Int64ul, RING_MAGIC),
    "abi_major" / Default(Int16ul, RING_ABI_MAJOR),
    "abi_minor" / Default(Int16ul, RING_ABI_MINOR),
    "role" / Int8ul,
    "order" / Int8ul,
    "reserved0" / _zero(Int16ul),
    "flow_id" / Int32ul,
    "epoch" / Int32ul,
    "src_node" / _zero(Int32ul),
    "dst_node" / _zero(Int32ul),
    "src_ip" / _zero(Int32ul),
    "dst_ip" / _zero(Int32ul),
    "src_port" / _zero(Int16ul),
    "dst_port" / _zero(Int16ul),
    "reserved1" / _reserved(20),
    "index" / _zero(Int64ul),
    "passed" / _zero(Int64ul),
    "next" / _zero(Int64ul),
    "pad1" / _reserved(40),
    "wake_at" / _zero(Int64ul),
    "pad2" / _reserved(56),
    "state" / _zero(Int32ul),
    "reserved2" / _zero(Int32ul),
    "kernel" / _zero(Int64ul),
    "pad3" / _reserved(48),
)

#: The header in front of every datagram in a ring.
RecordHeader = Struct(
    "length" / Int32ul,
    "kind" / Int8ul,
    "flags" / Int8ul,
    "stamp" / Int16ul,
    "src_ip" / Int32ul,
    "dst_ip" / Int32ul,
    "src_port" / Int16ul,
    "dst_port" / Int16ul,
    "seq" / Int32ul,
    "epoch" / Int32ul,
    "kseq" / Int32ul,
)

MatchHeader = Struct(
    "magic" / Default(Int64ul, MATCH_MAGIC),
    "abi" / Default(Int32ul, MATCH_ABI),
    "entries" / Int32ul,
    "serial" / Int64ul,
    "reserved" / _reserved(40),
)

MatchEntry = Struct(
    "ip" / Int32ul,
    "port" / _zero(Int16ul),
    "kind" / Int8ul,
    "reserved0" / _zero(Int8ul),
    "node" / _zero(Int32ul),
    "flags" / _zero(Int32ul),
    "netns" / _zero(Int64ul),
)

#: The page in which the controller counts the messages it sent to one process.
Control = Struct(
    "sent" / _zero(Int64ul),
    "pad" / _reserved(56),
)

StatsHeader = Struct(
    "magic" / Default(Int64ul, STATS_MAGIC),
    "abi" / Default(Int32ul, STATS_ABI),
    "pid" / _zero(Int32ul),
    "command" / _reserved(16),
    "spin_hits" / _zero(Int64ul),
    "spin_misses" / _zero(Int64ul),
    "wakes" / _zero(Int64ul),
    "wake_cost_ns" / _zero(Int64ul),
    "sockets_lost" / _zero(Int64ul),
    "latency" / Default(Array(STATS_LATENCIES, Int64ul), (0,) * STATS_LATENCIES),
    "reserved" / _reserved(56),
)

StatsSlot = Struct(
    "socket" / _zero(Int32ul),
    "fd" / _zero(Int32ul),
    "protocol" / _zero(Int32ul),
    "reason" / _zero(Int32ul),
    "local_ip" / _zero(Int32ul),
    "peer_ip" / _zero(Int32ul),
    "local_port" / _zero(Int16ul),
    "peer_port" / _zero(Int16ul),
    "reserved0" / _zero(Int32ul),
    "tx_ring_msgs" / _zero(Int64ul),
    "tx_ring_bytes" / _zero(Int64ul),
    "tx_net_msgs" / _zero(Int64ul),
    "tx_net_bytes" / _zero(Int64ul),
    "rx_ring_msgs" / _zero(Int64ul),
    "rx_ring_bytes" / _zero(Int64ul),
    "rx_net_msgs" / _zero(Int64ul),
    "rx_net_bytes" / _zero(Int64ul),
    "tx_full" / _zero(Int64ul),
    "rx_twins" / _zero(Int64ul),
    "rx_refused" / _zero(Int64ul),
    "fence_timeouts" / _zero(Int64ul),
    "reserved1" / _reserved(128),
)

#: Either end's page of a trace ring.
TraceCtrl = Struct(
    "magic" / Default(Int64ul, TRACE_MAGIC),
    "abi" / Default(Int32ul, TRACE_ABI),
    "order" / Int32ul,
    "reserved0" / _reserved(48),
    "index" / _zero(Int64ul),
    "pad1" / _reserved(56),
    "lost" / _zero(Int64ul),
    "pad2" / _reserved(56),
)

#: The header in front of every message in a trace ring.
TraceRecord = Struct(
    "time" / Int64ul,
    "length" / Int32ul,
    "captured" / Int32ul,
    "flow" / Int32ul,
    "src_ip" / Int32ul,
    "dst_ip" / Int32ul,
    "src_port" / Int16ul,
    "dst_port" / Int16ul,
    "position" / Int32ul,
    "lost" / Int32ul,
    "kind" / Int8ul,
    "event" / Int8ul,
    "faults" / Int16ul,
    "number" / Int32ul,
)


def fields(layout: Any) -> dict[str, tuple[int, int]]:
    """Return offset and size in bytes of each field of a fixed-size ``Struct``."""
    result: dict[str, tuple[int, int]] = {}
    offset = 0
    for field in layout.subcons:
        size: int = field.sizeof()
        result[field.name] = (offset, size)
        offset += size
    return result


def sender_region_size(order: int) -> int:
    """Return the bytes of a sender's region with ``2**order`` bytes of records."""
    return DATA_OFFSET + (1 << order)


def trace_region_size(order: int) -> int:
    """Return the bytes of the writer's region of a trace ring with ``2**order`` of records."""
    return PAGE + ((1 << order) // TRACE_UNIT) * 4 + (1 << order)


def max_payload(order: int) -> int:
    """Return the largest payload in bytes: a record takes at most half a ring."""
    return (1 << (order - 1)) - RECORD_ALIGN


def record_bytes(length: int) -> int:
    """Return the bytes a payload of ``length`` takes in a ring: header, payload, padding."""
    return -(-(RECORD_ALIGN + length) // RECORD_ALIGN) * RECORD_ALIGN
