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
import os
import select
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from ivc.netns import NETNS_DIRECTORY
from ivc.network import Domain, LocalHost
from ivc.platform import Attachment, Identity, PlatformError, RegionSpec
from ivc.platform.memfd import MemfdRegion, MemfdTrace
from ivc.platform.seqpacket import SeqpacketLink, listen

CONTROL: Final = "control"
"""SOCK_SEQPACKET socket for wrappers, mode 0660: programs of root and its group for now."""

MATCH: Final = "match"
"""The match table."""

SO_PEERPIDFD: Final = 77


class LinuxPlatform:
    """Satisfies `ivc.platform.Platform`."""

    pages = None

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._run_dir = Path()

    def listen(self, run_dir: Path) -> None:
        """On a socket in the run directory. Raises `PlatformError`."""
        self._run_dir = run_dir
        self._listener = listen(run_dir / CONTROL, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        """The listening socket; -1 if there is none."""
        return self._listener.fileno() if self._listener is not None else -1

    def accept(self) -> SeqpacketLink | None:
        """The next process. Raises `PlatformError` for one turned away, `OSError`."""
        assert self._listener is not None
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return None
        try:
            return SeqpacketLink(sock, self.identify(sock))
        except PlatformError:
            sock.close()
            raise

    def publish(self, table: bytes, hosts: Collection[int]) -> None:
        """A file, replaced in one step: readers map the old one or the new one.

        All hosts of the machine see it.
        """
        partial = self._run_dir / f".{MATCH}.new"
        try:
            partial.write_bytes(table)
            partial.chmod(0o644)
            partial.replace(self._run_dir / MATCH)
        except OSError as error:
            raise PlatformError(f"match table {partial}: {error.strerror}") from error

    def quiesce(self, host: int) -> bool:
        """Nothing of ours hinders a host from being stopped; False."""
        return False

    def suspending(self) -> Collection[int]:
        """Nobody saves a namespace."""
        return ()

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

    def refresh(self) -> None:
        """Namespaces are looked up each time."""

    def resolve(self, domain: Domain) -> int | None:
        """Inode of the host's network namespace; None if it does not exist now or is no host."""
        if not isinstance(domain, LocalHost):
            return None
        path = NETNS_DIRECTORY / domain.netns if domain.netns else Path("/proc/self/ns/net")
        try:
            return path.stat().st_ino
        except OSError:
            return None

    def create_region(self, spec: RegionSpec) -> MemfdRegion:
        """Sealed memory. Raises `PlatformError`."""
        return MemfdRegion(spec)

    def create_trace(self, order: int, host: int | None) -> MemfdTrace:
        """Memory that cannot shrink. Raises `PlatformError`."""
        return MemfdTrace(order)

    def check_doorbell(self, bound: Attachment) -> None:
        """It has to be an eventfd, which is made non-blocking on the way. Raises `PlatformError`.

        Anything else (a full pipe, a terminal) could block or signal whoever rings it.
        """
        if len(bound.fds) == 1:
            with suppress(OSError):
                # Not by pathlib: a controller does this for every socket.
                name = os.readlink(f"/proc/self/fd/{bound.fds[0]}")  # noqa: PTH115
                if name == "anon_inode:[eventfd]":
                    os.set_blocking(bound.fds[0], False)
                    return
        raise PlatformError("a doorbell has to be one eventfd")

    def close(self) -> None:
        """Remove socket and match table, also what an interrupted `publish` left."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for name in (CONTROL, MATCH, f".{MATCH}.new"):
            with suppress(OSError):
                (self._run_dir / name).unlink()


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
