# SPDX-License-Identifier: Apache-2.0
"""A trace ring on Xen: the guest grants our domain what it writes, we grant it the reader's page.

Both ends of ours are descriptors somebody else in our domain maps: who traces reads the guest's
pages by himself. What is in them is the guest's claim, as everywhere.
"""

import os
from contextlib import suppress
from typing import Final

from ivc.platform import Attachment, PlatformError
from ivc.platform.announcement import check_references
from ivc.platform.xen_devices import Devices
from ivc.shm.layout import PAGE, trace_region_size
from ivc.shm.record import Buffer
from ivc.shm.trace import real_ahead, trace_page

ORDER_MOST: Final = 18
"""256 KiB of records, 73 of the 1024 pages a guest has for everything."""

_WORD: Final = (1 << 32) - 1


class GuestTrace:
    """One a guest writes. Satisfies `ivc.platform.TraceMemory`; `here` is our own domain."""

    awaited = True

    def __init__(self, order: int, devices: Devices, guest: int, here: int) -> None:
        """Raises `PlatformError`."""
        self._order = min(order, ORDER_MOST)
        self.size = trace_region_size(self._order)
        self._devices = devices
        self._guest = guest
        self._here = here
        self._refs: tuple[int, ...] = ()
        page, self._ref = devices.lend(guest, trace_page(self._order))
        self._fds = [page]

    def for_writer(self) -> Attachment:
        """Who reads it, where, how large it is, and by what our clocks differ."""
        ahead = real_ahead()
        words = (self._here, self._ref, self._order, ahead & _WORD, ahead >> 32 & _WORD)
        return Attachment(words=words)

    def traced(self, attachment: Attachment) -> None:
        """Take the references. Raises `PlatformError`: what the guest has is none of its pages."""
        refs = attachment.words
        if not refs:
            raise PlatformError("its domain has no pages left to grant, or cannot map ours")
        if len(refs) != self.size // PAGE:
            raise PlatformError(f"{len(refs)} numbers came with TRACED")
        check_references(list(refs))
        self._refs = refs

    def for_reader(self) -> Attachment:
        """The guest's pages and our own, after `traced`. Raises `PlatformError`."""
        self._fds.append(self._devices.pick(self._guest, self._refs))
        return Attachment((self._fds[-1], self._fds[0]))

    def map(self) -> tuple[Buffer, Buffer]:
        """Nobody in the controller writes it."""
        raise AssertionError("a guest writes its trace itself")

    def close(self) -> None:
        """Idempotent."""
        while self._fds:
            with suppress(OSError):
                os.close(self._fds.pop())
