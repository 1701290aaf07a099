# SPDX-License-Identifier: Apache-2.0
"""What the controller asks of the machine it runs on, behind one `Platform`.

`ivc.platform.linux` answers with memfds, eventfds and network namespaces; on Xen the same verbs
are grants, event channels and domain ids.
"""

from dataclasses import dataclass
from socket import socket
from typing import Protocol

from ivc.errors import IvcError
from ivc.network import Domain


class PlatformError(IvcError):
    """The machine refused; out of memory or descriptors, or something is not what it claims."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end of a control connection, as the kernel says.

    `host` is the number of the place it runs in (Linux: inode of its network namespace) and
    compares with what `Platform.resolve` returns; `pid` is as seen by the controller.
    """

    pid: int
    host: int
    command: str


class Region(Protocol):
    """Shared memory with exactly one owner who may write it."""

    @property
    def size(self) -> int:
        """Bytes."""

    def fileno(self) -> int:
        """Descriptor that allows writing, for the owner only."""

    def seal(self) -> None:
        """Freeze size and writers: call it after the owner has mapped the region.

        Raises `PlatformError` if the owner has already spoilt it.
        """

    def read_only(self) -> int:
        """A new descriptor that allows reading only, for the peer; the caller closes it."""

    def close(self) -> None:
        """Let go of the memory; who has mapped it keeps it. Idempotent."""


class Platform(Protocol):
    """The verbs."""

    def create_region(self, name: str, size: int, head: bytes = b"") -> Region:
        """A region of `size` zeroed bytes that starts with `head`.

        Raises `PlatformError` when there is no memory or descriptor left.
        """

    def identify(self, connection: socket) -> Identity:
        """Who connected. Raises `PlatformError` if that cannot be told for sure."""

    def resolve(self, domain: Domain) -> int | None:
        """Number of the host a node is mapped to; None if it is not there (now)."""

    def is_doorbell(self, fd: int) -> bool:
        """Whether a descriptor received from a process can be rung without harm."""
