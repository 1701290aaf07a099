# SPDX-License-Identifier: Apache-2.0
"""XenStore, as much of it as the controller needs, through libxenstore loaded at run time.

Interface: Xen tools/include/xenstore.h. A test has a XenStore of its own behind the same verbs.
"""

import errno
import os
from typing import Any, Final, Protocol

from ivc.platform import MissingInterface, PlatformError
from ivc.shm.library import ffi

_LIBRARIES: Final = ("libxenstore.so.4", "libxenstore.so.3.0", "libxenstore.so")

_PERM_NONE: Final = 0
_PERM_READ: Final = 1
_WATCH_TOKEN: Final = 1
"""Index of the token among the strings of a watch event (XS_WATCH_TOKEN)."""


class XenStore(Protocol):
    """The verbs. Those that change something raise `PlatformError` if it cannot be done."""

    def read(self, path: str) -> bytes | None:
        """Value of a node; None if it is not there."""

    def write(self, path: str, value: bytes, reader: int) -> None:
        """Set a node which only we may write and only domain `reader` may read besides."""

    def give(self, path: str, domid: int) -> None:
        """Make a node one domain's own: nobody else may read or write it, but dom0 anything.

        Watches of those who may read it then fire.
        """

    def children(self, path: str) -> list[str]:
        """Names of the nodes below one, as their owner chose them; none if it is not there."""

    def remove(self, path: str) -> None:
        """Remove a node and all below it; nothing happens if it is not there."""

    def introduced(self, domid: int) -> bool:
        """Whether a domain lives: it has been built and has not begun to die."""

    def watch(self, path: str, token: str) -> None:
        """Be told of changes at and below a node from now on. The first event comes at once."""

    def unwatch(self, path: str, token: str) -> None:
        """Be told no more."""

    def fileno(self) -> int:
        """Readable when there are events."""

    def events(self) -> list[str]:
        """Tokens of the watches that have fired since. Never blocks."""

    def close(self) -> None:
        """Give up the connection, its watches with it."""


class LibXenStore:
    """Satisfies `XenStore`."""

    def __init__(self) -> None:
        """Connect. Raises `MissingInterface`."""
        self._lib: Any = _load()
        self._handle = self._lib.xs_open(0)
        if not self._handle:
            raise MissingInterface(
                f"XenStore does not answer ({os.strerror(ffi.errno)}); is this dom0, with "
                "xenstored running, and are we root?"
            )

    def read(self, path: str) -> bytes | None:
        """See `XenStore.read`."""
        length = ffi.new("unsigned int *")
        data = self._lib.xs_read(self._handle, 0, path.encode(), length)
        if not data:
            return None
        try:
            return bytes(ffi.buffer(data, length[0]))
        finally:
            self._lib.free(data)

    def write(self, path: str, value: bytes, reader: int) -> None:
        """See `XenStore.write`."""
        if not self._lib.xs_write(self._handle, 0, path.encode(), value, len(value)):
            raise self._error(f"cannot write {path}")
        self._permit(path, 0, _PERM_NONE, reader, _PERM_READ)

    def give(self, path: str, domid: int) -> None:
        """See `XenStore.give`."""
        self._permit(path, domid, _PERM_NONE)

    def children(self, path: str) -> list[str]:
        """See `XenStore.children`."""
        count = ffi.new("unsigned int *")
        names = self._lib.xs_directory(self._handle, 0, path.encode(), count)
        if not names:
            return []
        try:
            found = (ffi.string(names[number]) for number in range(count[0]))
            return [name.decode(errors="replace") for name in found]
        finally:
            self._lib.free(names)

    def remove(self, path: str) -> None:
        """See `XenStore.remove`."""
        if not self._lib.xs_rm(self._handle, 0, path.encode()) and ffi.errno != errno.ENOENT:
            raise self._error(f"cannot remove {path}")

    def introduced(self, domid: int) -> bool:
        """See `XenStore.introduced`."""
        return bool(self._lib.xs_is_domain_introduced(self._handle, domid))

    def watch(self, path: str, token: str) -> None:
        """See `XenStore.watch`."""
        if not self._lib.xs_watch(self._handle, path.encode(), token.encode()):
            raise self._error(f"cannot watch {path}")

    def unwatch(self, path: str, token: str) -> None:
        """See `XenStore.unwatch`."""
        self._lib.xs_unwatch(self._handle, path.encode(), token.encode())

    def fileno(self) -> int:
        """See `XenStore.fileno`; -1 once closed."""
        return int(self._lib.xs_fileno(self._handle)) if self._handle else -1

    def events(self) -> list[str]:
        """See `XenStore.events`."""
        tokens = []
        while event := self._lib.xs_check_watch(self._handle):
            tokens.append(ffi.string(event[_WATCH_TOKEN]).decode(errors="replace"))
            self._lib.free(event)
        return tokens

    def close(self) -> None:
        """Idempotent."""
        handle, self._handle = self._handle, None
        if handle:
            self._lib.xs_close(handle)

    def _permit(self, path: str, *pairs: int) -> None:
        """Pairs of domain and permission; the first one's domain becomes the owner."""
        permissions = ffi.new("unsigned int[]", list(pairs))
        count = len(pairs) // 2
        if not self._lib.xs_set_permissions(self._handle, 0, path.encode(), permissions, count):
            raise self._error(f"cannot set the permissions of {path}")

    def _error(self, what: str) -> PlatformError:
        return PlatformError(f"XenStore: {what}: {os.strerror(ffi.errno)}")


def _load() -> Any:
    for name in _LIBRARIES:
        try:
            return ffi.dlopen(name)
        except OSError as error:
            why = error
    raise MissingInterface(f"no {_LIBRARIES[0]}: {why}; on Debian: apt-get install libxenstore4")
