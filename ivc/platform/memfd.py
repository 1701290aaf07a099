# SPDX-License-Identifier: Apache-2.0
"""Shared memory on plain Linux: memfds, sealed before anybody but the owner sees them."""

import fcntl
import mmap
import os
from contextlib import suppress
from typing import Final

from ivc.platform import Attachment, PlatformError, RegionSpec
from ivc.shm.bell import Bell
from ivc.shm.gauge import Window
from ivc.shm.layout import PAGE, Role, trace_region_size
from ivc.shm.trace import trace_page

F_ADD_SEALS: Final = 1033
F_SEAL_SEAL: Final = 0x01
F_SEAL_SHRINK: Final = 0x02
F_SEAL_GROW: Final = 0x04
F_SEAL_FUTURE_WRITE: Final = 0x10
"""Linux 5.1: no new writable mapping and no write(); mappings already there stay writable."""


class Memfd:
    """Zeroed memory of a fixed size that starts with `head`."""

    def __init__(self, name: str, size: int, head: bytes = b"") -> None:
        """Raises `PlatformError`; nothing is left then."""
        self._fds: list[int] = []
        self._maps: list[mmap.mmap] = []
        try:
            self._fds.append(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            # Reserved now: a page missing later would be SIGBUS inside the application.
            os.posix_fallocate(self.fileno(), 0, size)
            os.pwrite(self.fileno(), head, 0)
            fcntl.fcntl(self.fileno(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
        except OSError as error:
            self.close()
            raise PlatformError(f"no memory of {size} bytes: {error.strerror}") from error

    def fileno(self) -> int:
        """Descriptor that allows writing, for the owner only; -1 once closed."""
        return self._fds[0] if self._fds else -1

    def seal(self) -> None:
        """No new writers from now on. Raises `PlatformError` if the owner sealed it otherwise."""
        try:
            fcntl.fcntl(self.fileno(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
        except OSError as error:
            raise PlatformError(f"region cannot be sealed: {error.strerror}") from error

    def read_only(self) -> int:
        """A read-only descriptor of the same memory; it goes with this one."""
        # Opened anew and not dup()ed: a duplicate would share the writable file description.
        try:
            self._fds.append(os.open(f"/proc/self/fd/{self.fileno()}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise PlatformError(f"no read-only view of a region: {error.strerror}") from error
        return self._fds[-1]

    def map(self, *, writable: bool) -> mmap.mmap:
        """Map all of it; that goes with this one. Raises `PlatformError`."""
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._maps.append(mmap.mmap(self.fileno(), 0, prot=prot))
        except OSError as error:
            raise PlatformError(f"region cannot be mapped: {error.strerror}") from error
        return self._maps[-1]

    def close(self) -> None:
        """Idempotent."""
        while self._maps:
            self._maps.pop().close()
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Keep only what is mapped."""
        while self._fds:
            os.close(self._fds.pop())


class MemfdRegion:
    """Satisfies `ivc.platform.Region`."""

    def __init__(self, spec: RegionSpec) -> None:
        """Raises `PlatformError`."""
        end = "tx" if spec.role is Role.SENDER else "rx"
        self._spec = spec
        self._memory = Memfd(f"ivc-{spec.flow.flow_id}-{end}", spec.size, spec.head)
        self._view: mmap.mmap | None = None
        self._bell: Bell | None = None

    def for_owner(self) -> Attachment:
        """The writable descriptor."""
        return Attachment((self._memory.fileno(),))

    def mapped(self, attachment: Attachment) -> None:
        """Seal it. Raises `PlatformError` if the owner has sealed it otherwise."""
        self._memory.seal()

    def for_peer(self) -> Attachment:
        """A read-only descriptor; for the sender also the receiver's doorbell."""
        bell: tuple[int, ...] = ()
        if self._spec.role is Role.RECEIVER:
            own = self._spec.owner is None
            bell = (self.bell().fileno(),) if own else self._spec.bell.fds
        return Attachment((self._memory.read_only(), *bell))

    def map(self) -> mmap.mmap:
        """Writable if the controller is the owner; then it is sealed, too."""
        if self._view is None:
            own = self._spec.owner is None
            self._view = self._memory.map(writable=own)
            if own:
                self._memory.seal()
        return self._view

    def bell(self) -> Bell:
        """A new eventfd if the controller hears it, else the receiving socket's."""
        if self._bell is None:
            try:
                own = self._spec.owner is None
                self._bell = Bell() if own else Bell(os.dup(self._spec.bell.fds[0]))
            except OSError as error:
                raise PlatformError(f"no doorbell: {error.strerror}") from error
        return self._bell

    def window(self) -> Window | None:
        """None if there is no room left for it."""
        with suppress(OSError):
            return Window(self._memory.fileno())
        return None

    def close(self) -> None:
        """Idempotent."""
        self._memory.close()
        if self._bell is not None:
            self._bell.close()


class MemfdTrace:
    """Satisfies `ivc.platform.TraceMemory`."""

    def __init__(self, order: int) -> None:
        """Raises `PlatformError`; nothing is left then."""
        page = trace_page(order)
        self.size = trace_region_size(order)
        self.awaited = False
        self._writer = Memfd("ivc-trace", self.size, page)
        try:
            self._reader = Memfd("ivc-trace-reader", PAGE, page)
        except PlatformError:
            self._writer.close()
            raise

    def for_writer(self) -> Attachment:
        """Its own region, and the reader's, read-only. Raises `PlatformError`."""
        return Attachment((self._writer.fileno(), self._reader.read_only()))

    def traced(self, attachment: Attachment) -> None:
        """Nobody has to make anything."""

    def for_reader(self) -> Attachment:
        """The writer's region, read-only, and its own. Raises `PlatformError`."""
        return Attachment((self._writer.read_only(), self._reader.fileno()))

    def map(self) -> tuple[mmap.mmap, mmap.mmap]:
        """Both, as the writer has them. Raises `PlatformError`."""
        return self._writer.map(writable=True), self._reader.map(writable=False)

    def close(self) -> None:
        """Idempotent."""
        self._writer.close()
        self._reader.close()
