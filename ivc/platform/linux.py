# SPDX-License-Identifier: Apache-2.0
"""Plain Linux: memfds, eventfds, and network namespaces as hosts.

A process belongs to the network namespace it lives in when it connects. The kernel tells its
pid (SO_PEERCRED); a pidfd of the same peer (SO_PEERPIDFD, Linux 6.5) proves afterwards that the
pid was not re-used meanwhile. Older kernels cannot prove it: there a process that dies in the
microseconds between both looks could lend its identity to whoever gets its pid next.

An eventfd is shared by both ends, so a peer could fill it and make a write block; doorbells are
forced to O_NONBLOCK, but a hostile holder can undo that. Hosts on Linux are one trust domain in
this respect.
"""

import errno
import fcntl
import os
import select
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from ivc.network import Domain, LocalHost
from ivc.platform import Identity, PlatformError

NETNS_DIRECTORY: Final = Path("/run/netns")
"""Where `ip netns` keeps named network namespaces."""

F_ADD_SEALS: Final = 1033
F_SEAL_SEAL: Final = 0x01
F_SEAL_SHRINK: Final = 0x02
F_SEAL_GROW: Final = 0x04
F_SEAL_FUTURE_WRITE: Final = 0x10
"""Linux 5.1: no new writable mapping and no write(); mappings already there stay writable."""

SO_PEERPIDFD: Final = 77


class MemfdRegion:
    """A sealed memfd. Satisfies `ivc.platform.Region`."""

    def __init__(self, name: str, size: int, head: bytes) -> None:
        self._size = size
        self._fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Reserved now: a page missing later would be SIGBUS inside the application.
            os.posix_fallocate(self._fd, 0, size)
            os.pwrite(self._fd, head, 0)
            fcntl.fcntl(self._fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
        except OSError:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def fileno(self) -> int:
        """Descriptor that allows writing, for the owner only; -1 once closed."""
        return self._fd

    def seal(self) -> None:
        """No new writers from now on. Raises `PlatformError` if the owner sealed it otherwise."""
        try:
            fcntl.fcntl(self._fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
        except OSError as error:
            raise PlatformError(f"region cannot be sealed: {error.strerror}") from error

    def read_only(self) -> int:
        """A new read-only descriptor of the same memory; the caller closes it."""
        # Opened anew and not dup()ed: a duplicate would share the writable file description.
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise PlatformError(f"no read-only view of a region: {error.strerror}") from error

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LinuxPlatform:
    """Satisfies `ivc.platform.Platform`."""

    def create_region(self, name: str, size: int, head: bytes = b"") -> MemfdRegion:
        """A memfd whose size is fixed from the start. Raises `PlatformError`."""
        try:
            return MemfdRegion(name, size, head)
        except OSError as error:
            raise PlatformError(f"no region of {size} bytes: {error.strerror}") from error

    def identify(self, connection: socket.socket) -> Identity:
        """Pid, network namespace and command of the peer. Raises `PlatformError`."""
        try:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid = struct.unpack("iII", raw)[0]
            if pid <= 0:
                raise PlatformError("peer lives in a pid namespace that is not below ours")
            host = Path(f"/proc/{pid}/ns/net").stat().st_ino
            command = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except OSError as error:
            raise PlatformError(f"peer cannot be identified: {error}") from error
        if not _still_alive(connection):
            raise PlatformError("peer died while it was being identified")
        return Identity(pid, host, command)

    def resolve(self, domain: Domain) -> int | None:
        """Inode of the host's network namespace; None if it does not exist now or is no host."""
        if not isinstance(domain, LocalHost):
            return None
        path = NETNS_DIRECTORY / domain.netns if domain.netns else Path("/proc/self/ns/net")
        try:
            return path.stat().st_ino
        except OSError:
            return None

    def is_doorbell(self, fd: int) -> bool:
        """Whether `fd` is an eventfd; makes it non-blocking on the way."""
        # Anything else (a full pipe, a terminal) could block or signal whoever rings it.
        with suppress(OSError):
            if str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[eventfd]":
                os.set_blocking(fd, False)
                return True
        return False


def _still_alive(connection: socket.socket) -> bool:
    """Whether the process that connected still has its pid; True where the kernel cannot say."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4)
    except OSError as error:
        # ENODATA/ESRCH: it is dead and reaped; ENOPROTOOPT: kernel before 6.5.
        return error.errno == errno.ENOPROTOOPT
    pidfd = struct.unpack("i", raw)[0]
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return not poller.poll(0)
    finally:
        os.close(pidfd)
