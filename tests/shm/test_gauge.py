# SPDX-License-Identifier: Apache-2.0
"""How full a ring is, as seen from outside."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivc.shm.gauge import Gauge, Level, Window, level
from ivc.shm.layout import PAGE, Ctrl

ORDER = 12
SIZE = 1 << ORDER
BEYOND = 1 << 64


def memory(index: int) -> int:
    """A descriptor of a control page that says so."""
    fd = os.memfd_create("page")
    page = {name: 0 for name in ("role", "order", "flow_id", "epoch")}
    os.write(fd, Ctrl.build({**page, "index": index}).ljust(PAGE, b"\0"))
    return fd


@given(st.integers(0, BEYOND - 1), st.integers(0, SIZE))
def test_what_waits_is_between_the_indices(head: int, waiting: int) -> None:
    tail = (head + waiting) % BEYOND
    assert level(tail, head, ORDER) == Level(SIZE, tail, waiting)


def test_a_head_read_later_may_be_further_than_the_tail() -> None:
    assert level(64, 96, ORDER).waiting == 0


@given(st.integers(SIZE + 1, BEYOND // 2 - 1))
def test_more_than_fits_is_not_told(waiting: int) -> None:
    assert level(waiting, 0, ORDER).waiting is None


def test_a_gauge_follows_what_others_write_and_keeps_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    fds = memory(96), memory(32)
    gauge = Gauge(Window(fds[0]), Window(fds[1]), ORDER)
    os.pwrite(fds[0], (128).to_bytes(8, "little"), 64)
    for fd in fds:
        os.close(fd)
    assert gauge.level() == Level(SIZE, 128, 96)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    gauge.close()
    gauge.close()


def test_what_is_no_memory_cannot_be_looked_at() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="No such device"):
        Window(reader)
    os.close(reader)
    os.close(writer)
