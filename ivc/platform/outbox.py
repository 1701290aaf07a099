# SPDX-License-Identifier: Apache-2.0
"""The sending half of a control connection, the same on every platform.

The controller never waits for a wrapper: what cannot be sent now is queued up to `QUEUE_MAX`
messages, then the connection counts as broken.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from ivc.platform import NOTHING, Attachment

QUEUE_MAX: Final = 1024
"""Messages kept for a wrapper that does not read."""


class Outbox(ABC):
    """`send`, `flush` and `broken` of `ivc.platform.Link`."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Attachment]] = deque()
        self.broken: str | None = None
        self.notice: Callable[[], None] = lambda: None

    @property
    def wants_write(self) -> bool:
        """Whether something is queued."""
        return bool(self._queue)

    def send(self, packet: bytes, attachment: Attachment = NOTHING) -> None:
        """Send, or queue. Never blocks; `broken` says if it failed."""
        if self.broken is not None:
            return
        if not self._queue and self._try(packet, attachment):
            return
        if self.broken is None:
            self._enqueue(packet, attachment)

    def flush(self) -> None:
        """Send what is queued, as far as it is taken."""
        while self._queue and self.broken is None:
            packet, attachment = self._queue[0]
            if not self._try(packet, attachment):
                return
            self._queue.popleft()
            attachment.close()

    def close(self) -> None:
        """Forget what is queued. Idempotent."""
        self.broken = self.broken or "closed"
        while self._queue:
            self._queue.popleft()[1].close()

    @abstractmethod
    def _try(self, packet: bytes, attachment: Attachment) -> bool:
        """Send one message. False: there is no room now, or it broke."""

    def _break(self, why: str) -> None:
        self.broken = why
        self.notice()

    def _enqueue(self, packet: bytes, attachment: Attachment) -> None:
        if len(self._queue) >= QUEUE_MAX:
            self._break("does not read its messages")
            return
        try:
            # The caller may close its own before there is room.
            self._queue.append((packet, attachment.duplicate()))
        except OSError as error:
            self._break(f"no descriptors left: {error.strerror}")
            return
        self.notice()
