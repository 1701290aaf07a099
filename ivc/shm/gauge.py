# SPDX-License-Identifier: Apache-2.0
"""How full a ring is, for who is neither of its ends: two words are loaded, nothing is written."""

import mmap
import os
from dataclasses import dataclass
from typing import Any

from ivc.shm.layout import PAGE
from ivc.shm.library import ffi, lib

_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Level:
    """Bytes of records, headers and padding included: what fits, what was ever written, what waits.

    A receiver says how far it has read every eighth of a ring, and before it sleeps: what waits is
    that at most. None: the two ends say what cannot be.
    """

    size: int
    written: int
    waiting: int | None


def level(tail: int, head: int, order: int) -> Level:
    """What two indices say that their owners wrote; `tail` was read first."""
    size = 1 << order
    waiting = (tail - head) % _WORD
    if waiting >= _WORD // 2:  # it was read meanwhile
        waiting = 0
    return Level(size, tail, waiting if waiting <= size else None)


class Window:
    """The first page of memory, to be read. No descriptor stays open, as with Python's `mmap`."""

    def __init__(self, fd: int) -> None:
        """Raises `OSError`."""
        page = lib.mmap(ffi.NULL, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if page == ffi.cast("void *", -1):
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._page: Any = ffi.cast("struct ivc_ctrl *", page)

    @property
    def index(self) -> int:
        """The index its owner has published last; not after `close`."""
        return int(self._page.index)

    def close(self) -> None:
        """Idempotent."""
        page, self._page = self._page, ffi.NULL
        if page:
            lib.munmap(page, PAGE)


class Gauge:
    """The control pages of a ring's two regions; they go with it."""

    def __init__(self, sender: Window, receiver: Window, order: int) -> None:
        self._sender = sender
        self._receiver = receiver
        self._order = order

    def level(self) -> Level:
        """As of now; not after `close`."""
        tail = self._sender.index
        return level(tail, self._receiver.index, self._order)

    def close(self) -> None:
        """Idempotent."""
        self._sender.close()
        self._receiver.close()
