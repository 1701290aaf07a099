# SPDX-License-Identifier: Apache-2.0
"""The SOME/IP wire formats, each declared once, in `construct`.

Everything is big-endian. Reserved bits are written as zero and not looked at when read.
This file only says where the bytes are; the modules beside it give them meaning.
"""

from construct import (
    BitsInteger,
    BitStruct,
    Byte,
    Bytes,
    Flag,
    GreedyBytes,
    GreedyRange,
    Int16ub,
    Int24ub,
    Int32ub,
    Nibble,
    Padding,
    Prefixed,
    RepeatUntil,
    Struct,
    Terminated,
)

HEADER_SIZE = 16
"""Bytes of the SOME/IP header."""

LENGTH_COVERED = 8
"""Bytes of the header that its own length field counts: those after that field."""

HEADER = Struct(
    "service_id" / Int16ub,
    "method_id" / Int16ub,
    "length" / Int32ub,
    "client_id" / Int16ub,
    "session_id" / Int16ub,
    "protocol_version" / Byte,
    "interface_version" / Byte,
    "message_type" / Byte,
    "return_code" / Byte,
)
"""Every message starts with these 16 bytes (Open SOME/IP ids_505 to 371)."""

FAST_HEADER = HEADER.compile()
"""The same declaration as generated code: four times cheaper to parse with."""

TP_SIZE = 4
"""Bytes of the TP header."""

TP = BitStruct("units" / BitsInteger(28), Padding(3), "more" / Flag)
"""Follows the header of a segment; `units` counts 16 bytes (Open SOME/IP tp)."""

SD = Struct(
    "flags" / BitStruct("reboot" / Flag, "unicast" / Flag, "initial_data" / Flag, Padding(5)),
    Padding(3),
    "entries" / Prefixed(Int32ub, GreedyBytes),
)
"""Head of an SD payload up to the end of the entries array."""

SD_OPTIONS = Prefixed(Int32ub, GreedyBytes)
"""The options array, length in bytes first."""

ENTRY_SIZE = 16
"""Bytes of every SD entry, whatever its type."""

_ENTRY_HEAD = (
    "type" / Byte,
    "first_1" / Byte,
    "first_2" / Byte,
    "counts" / BitStruct("run_1" / Nibble, "run_2" / Nibble),
    "service_id" / Int16ub,
    "instance_id" / Int16ub,
    "major_version" / Byte,
    "ttl" / Int24ub,
)

SERVICE_ENTRY = Struct(*_ENTRY_HEAD, "minor_version" / Int32ub)
"""Find, offer and stop offer ("type 1")."""

EVENTGROUP_ENTRY = Struct(
    *_ENTRY_HEAD,
    Padding(1),
    "bits" / BitStruct("initial_data" / Flag, Padding(3), "counter" / Nibble),
    "eventgroup_id" / Int16ub,
)
"""Subscribe, its stop, ack and nack ("type 2")."""

OPTION = Struct("length" / Int16ub, "type" / Byte)
"""Before every option; the length counts what follows these three bytes."""

OPTION_SIZE = 3
"""Bytes of `OPTION`."""

_TRANSPORT = (Padding(1), "protocol" / Byte, "port" / Int16ub)

IPV4_BODY = Struct(Padding(1), "address" / Bytes(4), *_TRANSPORT, Terminated)
IPV6_BODY = Struct(Padding(1), "address" / Bytes(16), *_TRANSPORT, Terminated)
LOAD_BALANCING_BODY = Struct(Padding(1), "priority" / Int16ub, "weight" / Int16ub, Terminated)
PROTECTION_BODY = Struct(Padding(1), "alive_counter" / Int32ub, "crc" / Int32ub, Terminated)
MAC_GROUPCAST_BODY = Struct(
    Padding(1), "address" / Bytes(6), "ether_type" / Int16ub, "identifier" / GreedyBytes
)
SELECTIVE_BODY = Struct(Padding(1), "clients" / GreedyRange(Int16ub), Terminated)
CONFIGURATION_BODY = Struct(
    Padding(1),
    "strings" / RepeatUntil(lambda string, _all, _context: not string, Prefixed(Byte, GreedyBytes)),
)
"""Strings with their length in one byte; the empty one ends the list."""
