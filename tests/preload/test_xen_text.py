# SPDX-License-Identifier: Apache-2.0
"""The text the wrapper writes to and reads from XenStore (docs/xen.md)."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from hypothesis import given
from hypothesis import strategies as st

import build

ROOT = Path(__file__).parents[2]
MOST = 160
ffi = FFI()
ffi.cdef(
    """
    struct xen_text { char at[160]; size_t length; };
    void text_add(struct xen_text *text, const char *string);
    void text_add_number(struct xen_text *text, uint64_t number);
    void text_add_nonce(struct xen_text *text, uint32_t nonce);
    bool text_numbers(const char *text, size_t length, uint64_t *numbers, size_t count);
    """
)
NUMBERS = st.integers(0, 2**64 // 100 - 1)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("text") / "text.so"
    source = ROOT / "preload" / "xen_text.c"
    subprocess.run([*build.COMPILE, "-shared", "-fPIC", "-o", target, source], check=True)
    return ffi.dlopen(str(target))


def text(words: Any) -> str:
    return bytes(ffi.string(words.at)).decode()


def read(lib: Any, value: bytes, count: int) -> list[int] | None:
    numbers = ffi.new("uint64_t[]", count)
    good = lib.text_numbers(ffi.from_buffer(value), len(value), numbers, count)
    return list(numbers) if good else None


@given(numbers=st.lists(NUMBERS, min_size=1, max_size=7))
def test_numbers_are_read_as_they_are_written(lib: Any, numbers: Sequence[int]) -> None:
    words = ffi.new("struct xen_text *")
    for number in numbers:
        lib.text_add_number(words, number)
    assert text(words) == " ".join(map(str, numbers))
    assert read(lib, text(words).encode(), len(numbers)) == numbers


@given(value=st.text(st.sampled_from("0123456789 -x\0"), max_size=60), count=st.integers(1, 5))
def test_any_text_is_exactly_those_numbers_or_nothing(lib: Any, value: str, count: int) -> None:
    numbers = read(lib, value.encode(), count)
    parts = value.split(" ")
    good = len(parts) == count and all(p.isdecimal() and int(p) < 2**64 // 100 for p in parts)
    assert (numbers is not None) == good
    if numbers is not None:
        assert numbers == [int(part) for part in parts]


def test_a_number_that_could_overflow_is_none(lib: Any) -> None:
    most = 2**64 // 100
    assert read(lib, str(most - 1).encode(), 1) == [most - 1]
    assert read(lib, str(most).encode(), 1) is None
    assert read(lib, b"9" * 40, 1) is None


@given(nonce=st.integers(0, 2**32 - 1))
def test_a_nonce_is_eight_hexadecimal_digits(lib: Any, nonce: int) -> None:
    words = ffi.new("struct xen_text *")
    lib.text_add_nonce(words, nonce)
    assert text(words) == f"{nonce:08x}"


def test_text_never_outgrows_its_room(lib: Any) -> None:
    words = ffi.new("struct xen_text *")
    for _ in range(50):
        lib.text_add(words, b"0123456789")
    assert len(text(words)) == words.length == MOST - 1
