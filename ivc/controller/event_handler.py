# SPDX-License-Identifier: Apache-2.0
"""The Event Handler: doorbells in, doorbells out.

Every ring that ends in the controller has a doorbell of its own here. When one rings, the
handler clears it and names the ring's `look` to whoever asked to watch it; the order matters:
clear first, look afterwards, or a ring in between would be lost.
"""

import selectors
from collections.abc import Callable

from ivc.platform import Bell


class EventHandler:
    """Doorbells that end in the controller, within the selector of the service loop."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def watch(self, bell: Bell, look: Callable[[], None]) -> None:
        """Call `look` after each ring, until `forget`."""

        def rung(_: int) -> None:
            bell.consume()
            look()

        self._selector.register(bell, selectors.EVENT_READ, rung)

    def forget(self, bell: Bell) -> None:
        """Watch it no more. Idempotent; call it before the bell is closed."""
        if bell.fileno() in self._selector.get_map():
            self._selector.unregister(bell)
