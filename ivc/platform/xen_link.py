# SPDX-License-Identifier: Apache-2.0
"""The control connection on Xen: a pair of rings between one process and us (docs/xen.md)."""

import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from ivc.platform import Attachment, Hangup, Identity, PlatformError
from ivc.platform.announcement import Announcement, check_references
from ivc.platform.outbox import Outbox
from ivc.platform.xen_devices import Devices, Pages
from ivc.shm.errors import RingError, RingFull, RingPoisoned
from ivc.shm.layout import PAGE, Ctrl, RegionState, fields, sender_region_size
from ivc.shm.library import lib
from ivc.shm.record import Buffer, Ident, Record
from ivc.shm.region import Flow, receiver_page, sender_page
from ivc.shm.ring import Receiver, Sender

ORDER: Final = 13
STATISTICS_PAGES: Final = 4

IDLE_MOST: Final = 64
"""Rings more than messages that a process may send between two ticks; then we listen at the next.

Their difference counts: who rings for a message we have read already has done nothing wrong.
"""

_MESSAGE_SIZE: Final[int] = lib.IVC_MSG_SIZE
_WORDS_MOST: Final[int] = lib.IVC_MSG_MAX_WORDS
_STATE: Final = fields(Ctrl)["state"][0]


class XenLink(Outbox):
    """Satisfies `ivc.platform.Link`.

    `settled` is called when the process needs nothing more of what XenStore says about this
    connection, `gone` at its end.
    """

    def __init__(
        self,
        devices: Devices,
        domid: int,
        nonce: int,
        announced: Announcement,
        settled: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """Map what the process grants, grant it ours. Raises `PlatformError`."""
        super().__init__()
        self._identity = Identity(announced.pid, domid, announced.command)
        self._devices = devices
        self._settled = settled
        self._gone = gone
        self._statistics: Pages | None = None
        self._idle = 0  # rings less messages
        self._muted = False
        flow = Flow(0, nonce, ORDER)
        with ExitStack() as stack:
            up = devices.map(domid, announced.up)
            stack.callback(up.close)
            down = devices.map(domid, (announced.down,))
            stack.callback(down.close)
            self._channel = devices.bind(domid, announced.port)
            stack.callback(self._channel.close)
            pages = sender_region_size(ORDER) // PAGE
            # However we end, the process's next look or the ring tells it.
            self._down_pages = devices.share(domid, pages, (_STATE, self._channel.port))
            stack.callback(self._down_pages.close)
            self._up_pages = devices.share(domid, 1)
            stack.callback(self._up_pages.close)
            memoryview(self._down_pages.buffer)[:PAGE] = sender_page(flow)
            memoryview(self._up_pages.buffer)[:PAGE] = receiver_page(flow)
            ident = Ident(flow.flow_id, nonce, ORDER)
            try:
                self._up = Receiver(self._up_pages.buffer, up.buffer, ident)
                stack.callback(self._up.close)
                self._down = Sender(self._down_pages.buffer, down.buffer, ident)
                stack.callback(self._down.close)
            except RingError as error:
                raise PlatformError(f"a control ring that is none: {error}") from error
            if self._up.peer_state != RegionState.OPEN:
                raise PlatformError("the process has ended")
            self._resources: ExitStack | None = stack.pop_all()

    @property
    def answer(self) -> tuple[int, ...]:
        """What the process has to know: references of our region of `down` and of `up`."""
        return (*self._down_pages.refs, *self._up_pages.refs)

    @property
    def identity(self) -> Identity:
        """The domain as XenStore knows it; pid and command as the guest says."""
        return self._identity

    @property
    def statistics(self) -> Buffer | None:
        """The pages the process counts in; None before it was welcomed."""
        return self._statistics.buffer if self._statistics is not None else None

    def fileno(self) -> int:
        """The event channel's descriptor; -1 once closed."""
        return self._channel.fileno()

    def ring(self) -> None:
        """Make the process look."""
        self._channel.ring()

    def end(self, why: str) -> None:
        """Whoever is told shall close this connection."""
        self._break(why)

    def receive(self) -> tuple[bytes, Attachment] | None:
        """The next message. Raises `Hangup`, `PlatformError`."""
        try:
            while (taken := self._up.read()) is None:
                self._clear_bell()
                if self._up.arm():
                    if self._up.peer_state != RegionState.OPEN:
                        raise Hangup
                    return None
        except RingPoisoned as error:
            raise PlatformError(f"control ring: {error}") from error
        self._idle -= 1
        return _split(taken[1])

    def tick(self) -> None:
        """Listen again to one that has rung for nothing too often."""
        if self._muted:
            self._channel.unmute()
        self._muted = False
        self._idle = 0

    def _clear_bell(self) -> None:
        if self._muted or self._idle >= IDLE_MOST:
            self._channel.mute()
            self._muted = True
        elif self._channel.consume():
            self._idle += 1

    def welcome(self, hello: Attachment, packet: bytes) -> None:
        """Map the statistics pages that came with HELLO. Raises `PlatformError`."""
        if len(hello.words) != STATISTICS_PAGES:
            raise PlatformError(f"{len(hello.words)} numbers came with HELLO")
        check_references(list(hello.words))
        assert self._resources is not None
        self._statistics = self._devices.map(self._identity.host, hello.words)
        self._resources.callback(self._statistics.close)
        self._settled()
        self.send(packet)

    def close(self) -> None:
        """Idempotent."""
        resources, self._resources = self._resources, None
        if resources is None:
            return
        super().close()
        self._gone()
        self._down.set_state(RegionState.CLOSED)
        self._channel.ring()
        self._statistics = None
        resources.close()

    def _try(self, packet: bytes, attachment: Attachment) -> bool:
        words = attachment.words
        try:
            self._down.write(Record(), packet + struct.pack(f"<{len(words)}I", *words))
        except RingFull:
            return False
        except RingError as error:
            self._break(f"control ring: {error}")
            return False
        if self._down.publish():
            self._channel.ring()
        return True


def _split(payload: bytes) -> tuple[bytes, Attachment]:
    count, rest = divmod(len(payload) - _MESSAGE_SIZE, 4)
    if rest or not 0 <= count <= _WORDS_MOST:
        raise PlatformError(f"a record of {len(payload)} bytes is no message")
    words = struct.unpack_from(f"<{count}I", payload, _MESSAGE_SIZE)
    return payload[:_MESSAGE_SIZE], Attachment(words=words)
