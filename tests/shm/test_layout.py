# SPDX-License-Identifier: Apache-2.0
"""The construct declarations and the C headers describe the same bytes."""

import re
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import pytest

from ivc.reasons import Reason
from ivc.shm import layout
from ivc.shm.library import ffi, lib

STRUCTS = {
    "ivc_ctrl": layout.Ctrl,
    "ivc_record": layout.RecordHeader,
    "ivc_match_header": layout.MatchHeader,
    "ivc_match_entry": layout.MatchEntry,
    "ivc_control": layout.Control,
    "ivc_stats_header": layout.StatsHeader,
    "ivc_stats_slot": layout.StatsSlot,
    "ivc_trace_ctrl": layout.TraceCtrl,
    "ivc_trace_record": layout.TraceRecord,
}

ENUMS = {
    "ivc_role": ("IVC_ROLE_", layout.Role),
    "ivc_region_state": ("IVC_REGION_", layout.RegionState),
    "ivc_record_kind": ("IVC_RECORD_", layout.RecordKind),
    "ivc_match_kind": ("IVC_MATCH_", layout.MatchKind),
    "ivc_trace_event": ("IVC_TRACE_", layout.TraceEvent),
    "ivc_reason": ("IVC_REASON_", Reason),
}

CONSTANTS = [
    *("RING_MAGIC", "RING_ABI_MAJOR", "RING_ABI_MINOR", "PAGE", "LINE", "RECORD_ALIGN"),
    *("ORDER_MIN", "ORDER_MAX", "DATA_OFFSET"),
    *("MATCH_MAGIC", "MATCH_ABI", "MATCH_EAGER", "MATCH_LOOPBACK"),
    *("STATS_MAGIC", "STATS_ABI", "STATS_SLOTS", "STATS_SIZE", "STATS_LATENCIES"),
    *("TRACE_MAGIC", "TRACE_ABI", "TRACE_UNIT", "TRACE_ORDER_MIN", "TRACE_ORDER_MAX"),
]


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_have_the_same_names_offsets_and_sizes(name: str) -> None:
    in_c = ffi.typeof(f"struct {name}").fields
    expected = {field: (info.offset, ffi.sizeof(info.type)) for field, info in in_c}
    assert layout.fields(STRUCTS[name]) == expected
    assert STRUCTS[name].sizeof() == ffi.sizeof(f"struct {name}")


@pytest.mark.parametrize("name", ENUMS)
def test_enumerations_have_the_same_names_and_values(name: str) -> None:
    prefix, enum = ENUMS[name]
    in_c = {text.removeprefix(prefix): n for n, text in ffi.typeof(f"enum {name}").elements.items()}
    assert {member.name: member.value for member in enum} == in_c


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_equal(name: str) -> None:
    assert getattr(layout, name) == getattr(lib, f"IVC_{name}")


@pytest.mark.parametrize("flag", layout.RecordFlag)
def test_record_flags_are_equal(flag: IntFlag) -> None:
    assert flag == getattr(lib, f"IVC_RECORD_{flag.name}")


@pytest.mark.parametrize("name", ["ivc_ctrl", "ivc_record", "ivc_stats_slot", "ivc_trace_record"])
def test_a_value_written_in_c_is_read_by_construct(name: str) -> None:
    """Byte order and width, not only the place: every scalar field carries its own number."""
    value = ffi.new(f"struct {name} *")
    scalars = [(f, i) for f, i in ffi.typeof(value[0]).fields if i.type.kind == "primitive"]
    expected: dict[str, Any] = {}
    for number, (field, info) in enumerate(scalars, start=1):
        expected[field] = (number * 0x0102030405060709) % (1 << 8 * ffi.sizeof(info.type))
        setattr(value, field, expected[field])
    parsed = STRUCTS[name].parse(bytes(ffi.buffer(value)))
    assert {field: parsed[field] for field in expected} == expected


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_one_clear_line(reason: IntEnum) -> None:
    assert isinstance(reason, Reason)
    assert reason.text
    assert "\n" not in reason.text
    assert [other for other in Reason if other.text == reason.text] == [reason]


def test_every_reason_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (\w+) \|", text, re.MULTILINE))
    assert rows == {str(int(reason)): reason.name for reason in Reason}
