# SPDX-License-Identifier: Apache-2.0
"""A trace ring in plain memory, and what a capture reads of it."""

from contextlib import closing
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


FOR_EVER = (1 << 64) - 1


def given_out(capture: Capture, horizon: int = FOR_EVER) -> list[Captured]:
    """All that is old enough; each flow is asked about once."""
    found = []
    while (step := capture.next(horizon)) is not Step.EMPTY:
        if step is Step.ASKS_FLOW:
            capture.name_flow(0)
        else:
            found.append(capture.at)
            capture.done()
    return found


def captured(ring: TraceRing) -> list[Captured]:
    """All there is."""
    with closing(Capture(0)) as capture:
        capture.add(ring.reader)
        return given_out(capture)
