# SPDX-License-Identifier: Apache-2.0
"""Grants and event channels of the domain we run in: core/xen.c behind verbs a test can fake."""

import mmap
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from ivc.network.limits import LIMITS
from ivc.platform import MissingInterface, PlatformError
from ivc.shm.layout import PAGE
from ivc.shm.library import ffi, lib
from ivc.shm.record import Buffer

_NODES: Final = {
    "gntalloc": "modprobe xen-gntalloc",
    "gntdev": "modprobe xen-gntdev",
    "evtchn": "modprobe xen-evtchn",
}
_PORT: Final = struct.Struct("=I")
_LIMIT: Final = Path("/sys/module/xen_gntalloc/parameters/limit")


class Pages(Protocol):
    """Memory shared with another domain."""

    @property
    def refs(self) -> tuple[int, ...]:
        """The grant reference of each page."""

    @property
    def buffer(self) -> Buffer:
        """The pages; must not be used after `close`."""

    def close(self) -> None:
        """Let go of them. Idempotent."""


class Channel(Protocol):
    """One end of an event channel, on a descriptor of its own. Satisfies `Doorbell`."""

    @property
    def port(self) -> int:
        """Our port."""

    @property
    def c(self) -> Any:
        """See `Doorbell`."""

    def fileno(self) -> int:
        """Readable when it has been rung; -1 once closed."""

    def ring(self) -> None:
        """Ring the other end."""

    def consume(self) -> bool:
        """Take and unmask what has been rung."""

    def mute(self) -> None:
        """Take what has been rung and hear no more of it; it is kept until `unmute`."""

    def unmute(self) -> None:
        """Hear it again, and at once if it has been rung meanwhile."""

    def close(self) -> None:
        """Close the port. Idempotent."""


class Devices(Protocol):
    """The verbs. All raise `PlatformError`."""

    @property
    def pages(self) -> int:
        """How many may be shared at a time."""

    def share(self, domid: int, pages: int, notify: tuple[int, int] | None = None) -> Pages:
        """New zeroed pages which `domid` may read.

        When they go, however, the kernel clears the byte and rings the port of `notify`.
        """

    def map(self, domid: int, refs: Sequence[int]) -> Pages:
        """Pages of `domid`, read-only."""

    def lend(self, domid: int, page: bytes) -> tuple[int, int]:
        """A new page that begins as told and `domid` may read: a descriptor, and its reference.

        It is mapped at offset 0, and there as long as the descriptor or a mapping is.
        """

    def pick(self, domid: int, refs: Sequence[int]) -> int:
        """Pages of `domid` as a descriptor, to be mapped at offset 0, once and read-only."""

    def listen(self, domid: int) -> Channel:
        """A new event channel `domid` may bind to."""

    def bind(self, domid: int, port: int) -> Channel:
        """The other end of a channel of `domid`. It has been rung once for nothing."""

    def close(self) -> None:
        """Close the devices; everything else must be closed already. Idempotent."""


class _Pages:
    """Satisfies `Pages`."""

    def __init__(self, at: Any, refs: Sequence[int], close: Callable[[], None]) -> None:
        self.refs = tuple(refs)
        self.buffer: Any = ffi.buffer(ffi.cast("char *", at), len(self.refs) * PAGE)
        self._close = close

    def close(self) -> None:
        """Idempotent."""
        close, self._close = self._close, lambda: None
        self.buffer = b""
        close()


class _Channel:
    """Satisfies `Channel`."""

    def __init__(self, bind: Callable[..., int], *arguments: int) -> None:
        self._fd = _check(lib.ivc_evtchn_open(), "/dev/xen/evtchn")
        try:
            self.port = _check(bind(self._fd, *arguments), "no event channel")
        except PlatformError:
            self.close()
            raise
        self.c = ffi.new("struct ivc_bell *", {"fd": self._fd, "port": self.port})

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def ring(self) -> None:
        """Ring the other end; nothing happens if that is gone."""
        lib.ivc_evtchn_ring(self._fd, self.port)

    def consume(self) -> bool:
        """Take and unmask."""
        return bool(lib.ivc_evtchn_consume(self._fd))

    def mute(self) -> None:
        """A port that was read stays masked until it is written back."""
        with suppress(BlockingIOError):
            os.read(self._fd, _PORT.size)

    def unmute(self) -> None:
        """Write it back."""
        os.write(self._fd, _PORT.pack(self.port))

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class XenDevices:
    """Satisfies `Devices`."""

    def __init__(self) -> None:
        """Open them. Raises `MissingInterface`."""
        self._fds: dict[str, int] = {}
        for name, fix in _NODES.items():
            fd = lib.ivc_xen_open(name.encode())
            if fd < 0:
                self.close()
                raise MissingInterface(
                    f"/dev/xen/{name}: {os.strerror(-fd)}; {fix}, and run the controller as root"
                )
            self._fds[name] = fd

    @property
    def pages(self) -> int:
        """See `Devices.pages`."""
        try:
            return int(_LIMIT.read_text())
        except (OSError, ValueError):  # built without it, or no sysfs
            return LIMITS.pages

    def share(self, domid: int, pages: int, notify: tuple[int, int] | None = None) -> Pages:
        """See `Devices.share`."""
        share = ffi.new("struct ivc_xen_share *")
        refs = ffi.new("uint32_t[]", pages)
        when = ffi.new("struct ivc_xen_notify *", notify) if notify is not None else ffi.NULL
        rc = lib.ivc_xen_share(self._fds["gntalloc"], domid, pages, when, share, refs)
        _check(rc, f"cannot grant {pages} pages to domain {domid}")
        return _Pages(share.map, list(refs), lambda: lib.ivc_xen_unshare(share))

    def map(self, domid: int, refs: Sequence[int]) -> Pages:
        """See `Devices.map`."""
        fd = self._fds["gntdev"]
        mapping = ffi.new("struct ivc_xen_mapping *")
        rc = lib.ivc_xen_map(fd, domid, ffi.new("uint32_t[]", list(refs)), len(refs), mapping)
        _check(rc, f"cannot map {len(refs)} pages of domain {domid}")
        return _Pages(mapping.map, refs, lambda: lib.ivc_xen_unmap(fd, mapping))

    def lend(self, domid: int, page: bytes) -> tuple[int, int]:
        """See `Devices.lend`."""
        ref = ffi.new("uint32_t *")
        fd = _open("gntalloc", lambda fd: lib.ivc_xen_lend(fd, domid, ref))
        try:
            with mmap.mmap(fd, PAGE) as memory:
                memory[: len(page)] = page
        except OSError as error:
            os.close(fd)
            raise PlatformError(f"cannot map a page of our own: {error.strerror}") from error
        return fd, ref[0]

    def pick(self, domid: int, refs: Sequence[int]) -> int:
        """See `Devices.pick`."""
        all_of_them = ffi.new("uint32_t[]", list(refs))
        return _open("gntdev", lambda fd: lib.ivc_xen_pick(fd, domid, all_of_them, len(refs)))

    def listen(self, domid: int) -> Channel:
        """See `Devices.listen`."""
        return _Channel(lib.ivc_evtchn_unbound, domid)

    def bind(self, domid: int, port: int) -> Channel:
        """See `Devices.bind`."""
        return _Channel(lib.ivc_evtchn_bind, domid, port)

    def close(self) -> None:
        """Idempotent."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def _open(name: str, prepare: Callable[[int], int]) -> int:
    """A descriptor of its own that has been prepared. Raises `PlatformError`."""
    fd = _check(lib.ivc_xen_open(name.encode()), f"/dev/xen/{name}")
    try:
        _check(prepare(fd), f"/dev/xen/{name} has nothing left")
    except PlatformError:
        os.close(fd)
        raise
    return fd


def _check(result: int, what: str) -> int:
    if result < 0:
        raise PlatformError(f"{what}: {os.strerror(-result)}")
    return int(result)
