# SPDX-License-Identifier: Apache-2.0
"""A ring's regions on Xen: pages their owner grants to exactly one other domain, to be read.

A guest's region is granted by the guest itself; we only say to whom, keep what it answers and
pass that on. A receiver's region comes with an event channel.
"""

import struct
from typing import Final

from ivc.platform import Attachment, PlatformError, RegionSpec
from ivc.platform.announcement import check_port, check_references
from ivc.platform.xen_devices import Channel, Devices, Pages
from ivc.shm.layout import PAGE, Role
from ivc.shm.library import lib
from ivc.shm.record import Buffer

_STATIC: Final = struct.Struct(f"<{lib.IVC_STATIC_WORDS}I")


def static_words(head: bytes) -> tuple[int, ...]:
    """The static line of a region as numbers, to be written by its owner."""
    return _STATIC.unpack_from(head)


class GuestRegion:
    """One a guest owns. Satisfies `ivc.platform.Region`; `here` is our own domain."""

    def __init__(self, spec: RegionSpec, devices: Devices, here: int) -> None:
        assert spec.owner is not None
        self._spec = spec
        self._owner = spec.owner
        self._peer = here if spec.peer is None else spec.peer
        self._devices = devices
        self._port: tuple[int, ...] = ()
        self._refs: tuple[int, ...] = ()
        self._pages: Pages | None = None
        self._channel: Channel | None = None

    def for_owner(self) -> Attachment:
        """Who may read it, and its static line."""
        return Attachment(words=(self._peer, *static_words(self._spec.head)))

    def mapped(self, attachment: Attachment) -> None:
        """Take the references, a receiver's port first. Raises `PlatformError`."""
        ports = 1 if self._spec.role is Role.RECEIVER else 0
        port, refs = attachment.words[:ports], attachment.words[ports:]
        if len(refs) != self._spec.size // PAGE:
            raise PlatformError(f"{len(attachment.words)} numbers came with MAPPED")
        for number in port:
            check_port(number)
        check_references(list(refs))
        self._port, self._refs = port, refs

    def for_peer(self) -> Attachment:
        """Whose pages these are; for the sender the port to bind; the references."""
        return Attachment(words=(self._owner, *self._port, *self._refs))

    def map(self) -> Buffer:
        """Read-only. Raises `PlatformError`."""
        if self._pages is None:
            self._pages = self._devices.map(self._owner, self._refs)
        return self._pages.buffer

    def bell(self) -> Channel:
        """Rings the owner. Raises `PlatformError`."""
        if self._channel is None:
            self._channel = self._devices.bind(self._owner, *self._port)
        return self._channel

    def window(self) -> None:
        """Its pages are granted to the peer alone."""

    def close(self) -> None:
        """Idempotent."""
        for part in (self._pages, self._channel):
            if part is not None:
                part.close()


class OwnRegion:
    """One the controller owns, for a relay. Satisfies `ivc.platform.Region`."""

    def __init__(self, spec: RegionSpec, devices: Devices, here: int) -> None:
        """Raises `PlatformError`."""
        assert spec.peer is not None
        self._spec = spec
        self._here = here
        self._pages = devices.share(spec.peer, spec.size // PAGE)
        memoryview(self._pages.buffer)[:PAGE] = spec.head
        self._channel: Channel | None = None
        if spec.role is Role.RECEIVER:
            try:
                self._channel = devices.listen(spec.peer)
            except PlatformError:
                self._pages.close()
                raise

    def for_owner(self) -> Attachment:
        """Nobody needs to be told."""
        raise AssertionError("the controller does not attach itself")

    def mapped(self, attachment: Attachment) -> None:
        """It is from the start."""

    def for_peer(self) -> Attachment:
        """Our domain; for the sender the port to bind; the references."""
        port = (self._channel.port,) if self._channel is not None else ()
        return Attachment(words=(self._here, *port, *self._pages.refs))

    def map(self) -> Buffer:
        """Writable."""
        return self._pages.buffer

    def bell(self) -> Channel:
        """What the peer rings."""
        assert self._channel is not None
        return self._channel

    def window(self) -> None:
        """Who relays has it mapped."""

    def close(self) -> None:
        """Idempotent. The peer's mapping keeps pages in use until it lets go."""
        self._pages.close()
        if self._channel is not None:
            self._channel.close()
