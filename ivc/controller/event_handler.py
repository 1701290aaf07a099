# SPDX-License-Identifier: Apache-2.0
"""The Event Handler: doorbells in, doorbells out.

Every ring that ends in the controller has a doorbell of its own here. They are heard, and those
of the receivers rung, by the C loop of core/relay.h on a thread of its own, without the GIL. What
the loop cannot decide comes to the controller's thread as a call, through its selector.
"""

import selectors
import threading
from collections.abc import Callable
from typing import Final

from ivc.shm.relay import Call, Loop

BATCH: Final = 64
"""Calls answered before others get their turn."""


class EventHandler:
    """The loop, and how it is heard within the selector of the service loop."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._thread: threading.Thread | None = None
        self.loop: Loop | None = None

    def start(self, called: Callable[[Call], None]) -> Loop:
        """The loop; it begins to run with the first one who asks. Raises `OSError`.

        `called` answers its calls.
        """
        if self.loop is None:
            loop = Loop()
            thread = threading.Thread(target=loop.run, name="ivc-relay", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                loop.close()
                raise OSError(str(error)) from error
            self._selector.register(loop, selectors.EVENT_READ, lambda _: _answer(loop, called))
            self.loop, self._thread = loop, thread
        return self.loop

    def close(self) -> None:
        """End the loop. Idempotent."""
        loop, self.loop = self.loop, None
        if loop is None:
            return
        assert self._thread is not None
        self._selector.unregister(loop)
        loop.stop()
        self._thread.join()
        loop.close()


def _answer(loop: Loop, called: Callable[[Call], None]) -> None:
    for _ in range(BATCH):
        call = loop.next_call()
        if call is None:
            break
        called(call)
