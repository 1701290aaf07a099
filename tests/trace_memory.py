# SPDX-License-Identifier: Apache-2.0
"""A trace ring in plain memory, and what a capture reads of it."""

from mmap import mmap

from ivc.shm.layout import PAGE, trace_region_size
from ivc.shm.trace import Capture, Captured, Step, TraceReader, TraceWriter, trace_page

ORDER = 16


class TraceRing:
    """Both ends of one."""

    def __init__(self, snap: int = 65535, order: int = ORDER) -> None:
        self.memory = mmap(-1, trace_region_size(order))
        self.page = mmap(-1, PAGE)
        self.memory[:PAGE] = self.page[:] = trace_page(order)
        self.writer = TraceWriter(self.memory, self.page, snap)
        self.reader = TraceReader(self.page, self.memory)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


def captured(ring: TraceRing) -> list[Captured]:
    """All there is."""
    capture, found = Capture(0), []
    capture.add(ring.reader)
    while (step := capture.next((1 << 64) - 1)) is not Step.EMPTY:
        if step is Step.ASKS_FLOW:
            capture.name_flow(0)
        else:
            found.append(capture.at)
            capture.done()
    capture.close()
    return found
