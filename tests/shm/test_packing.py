# SPDX-License-Identifier: Apache-2.0
"""What is packed by `struct` is what the declaration in `construct` builds."""

from typing import Any

import pytest
from construct import Bytes, Default, Int8ul, Int16ul, Int32ul, Int64ul, Struct
from hypothesis import given
from hypothesis import strategies as st

from ivc.shm.layout import Ctrl
from ivc.shm.packing import packer

INNER = Struct("x" / Int32ul, "y" / Default(Int16ul, 0))
LAYOUT = Struct(
    "a" / Int8ul, "pad" / Default(Bytes(3), bytes(3)), "inner" / INNER, "b" / Default(Int64ul, 7)
)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_inner_structs_defaults_and_padding_are_where_they_are_declared(
    a: int, x: int, y: int
) -> None:
    expected = LAYOUT.build({"a": a, "inner": {"x": x, "y": y}, "b": 9})
    assert packer(LAYOUT).pack(a, x, y, 9) == expected
    assert packer(LAYOUT).unpack(expected) == (a, x, y, 9)


@pytest.mark.parametrize("layout", [LAYOUT, Ctrl])
def test_it_takes_as_many_bytes(layout: Any) -> None:
    assert packer(layout).size == layout.sizeof()
