# SPDX-License-Identifier: Apache-2.0
"""The doorbell for Python: a typed class over core/doorbell.h."""

import os
from typing import Any, Protocol

from ivc.shm.library import ffi, lib


class Doorbell(Protocol):
    """Whatever C can hear or ring."""

    @property
    def c(self) -> Any:
        """The bell as C knows it: ``struct ivc_bell *``. It goes with this one."""


class Bell:
    """A descriptor to ring and to wait on; consume it before looking at the rings.

    ``channel`` is the test mode (environment ``IVC_BELL=channel``): event-channel semantics.
    The bell owns its descriptor; ``close()`` closes it.
    """

    def __init__(self, fd: int | None = None, *, channel: bool | None = None) -> None:
        """Adopt ``fd``, or make a new bell. Raises ``OSError`` when out of descriptors."""
        self._bell = ffi.new("struct ivc_bell *")
        if fd is not None:
            lib.ivc_bell_adopt(self._bell, fd)
        else:
            rc = lib.ivc_bell_open(self._bell)
            if rc != 0:
                raise OSError(-rc, os.strerror(-rc))
        if channel is not None:
            self._bell.channel = channel

    @property
    def c(self) -> Any:
        """See ``Doorbell``."""
        return self._bell

    def fileno(self) -> int:
        """Return the descriptor to poll for reading; -1 after ``close()``."""
        return int(self._bell.fd)

    def ring(self) -> None:
        """Wake whoever waits. Never blocks, never fails."""
        lib.ivc_bell_ring(self._bell)

    def consume(self) -> bool:
        """Clear and unmask; True if it had been rung. Look at the rings after it."""
        return bool(lib.ivc_bell_consume(self._bell))

    def close(self) -> None:
        """Close the descriptor; further rings go nowhere."""
        fd, self._bell.fd = self.fileno(), -1
        if fd >= 0:
            os.close(fd)
