# SPDX-License-Identifier: Apache-2.0
"""One control connection: packets and descriptors in, packets and descriptors out, no policy.

The controller never waits for a wrapper: what its socket does not take is queued up to
`QUEUE_MAX` messages, then the connection counts as broken.
"""

import array
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socket import socket as Socket
from typing import Final

from ivc.controller.errors import Violation
from ivc.controller.protocol import MAX_FDS, MESSAGE_SIZE, Message
from ivc.platform import Platform, PlatformError, Region

QUEUE_MAX: Final = 1024
"""Messages kept for a wrapper that does not read."""

CONTROL_PAGE: Final = mmap.PAGESIZE

_ANCILLARY = socket.CMSG_SPACE(8 * array.array("i").itemsize)


class Hangup(Exception):
    """The other end is gone."""


@dataclass(slots=True)
class _Queued:
    packet: bytes
    fds: tuple[int, ...]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


class Connection:
    """A SOCK_SEQPACKET connection to one process, with the page that counts its mail."""

    def __init__(self, sock: socket.socket, platform: Platform, notice: Callable[[], None]) -> None:
        """`notice` is called when messages begin to queue, and when it breaks.

        Raises `PlatformError`; the socket is still the caller's then.
        """
        sock.setblocking(False)
        self._socket = sock
        self._notice = notice
        self._queue: deque[_Queued] = deque()
        self._sent = 0
        region = platform.create_region("ivc-control", CONTROL_PAGE)
        try:
            self._page = mmap.mmap(region.fileno(), CONTROL_PAGE)
        except OSError as error:
            region.close()
            raise PlatformError(f"no control page: {error.strerror}") from error
        # One store of 8 bytes, so that the wrapper never sees half a number.
        self._word = memoryview(self._page).cast("Q")
        region.seal()
        self._region: Region | None = region
        self.broken: str | None = None

    def fileno(self) -> int:
        """The socket, for a selector."""
        return self._socket.fileno()

    @property
    def socket(self) -> "Socket":
        """The socket itself, to ask the kernel about its peer."""
        return self._socket

    @property
    def wants_write(self) -> bool:
        """Whether messages wait for room in the socket."""
        return bool(self._queue)

    def control_page(self) -> int:
        """A read-only descriptor of the control page; only once, the caller closes it."""
        assert self._region is not None
        fd = self._region.read_only()
        self._region.close()
        self._region = None
        return fd

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next packet and its descriptors (the caller closes them); None if there is none.

        Raises `Hangup` at the end and `Violation` for what does not fit a message.
        """
        try:
            packet, ancillary, flags, _ = self._socket.recvmsg(
                MESSAGE_SIZE + 1, _ANCILLARY, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise Hangup from error
        fds = _descriptors(ancillary)
        if len(fds) > MAX_FDS or flags & socket.MSG_CTRUNC:
            close_all(fds)
            raise Violation("more descriptors than a message can have")
        if not packet:
            close_all(fds)
            raise Hangup
        return packet, fds

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or queue until the socket takes it. Never blocks; `broken` says if it failed.

        The descriptors stay the caller's.
        """
        if self.broken is not None:
            return
        packet = message.pack()
        if not self._queue and self._try(packet, fds):
            return
        if self.broken is None:
            self._enqueue(packet, fds)

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        while self._queue and self.broken is None:
            if not self._try(self._queue[0].packet, self._queue[0].fds):
                return
            self._queue.popleft().close()

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.broken = self.broken or "closed"
        while self._queue:
            self._queue.popleft().close()
        self._socket.close()
        self._word.release()
        self._page.close()
        if self._region is not None:
            self._region.close()
            self._region = None

    def _try(self, packet: bytes, fds: Sequence[int]) -> bool:
        control = []
        if fds:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            self._socket.sendmsg([packet], control, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            self._break(f"send failed: {error.strerror}")
            return False
        # After the send: the word never counts a message that cannot be read yet.
        self._sent += 1
        self._word[0] = self._sent
        return True

    def _enqueue(self, packet: bytes, fds: Sequence[int]) -> None:
        if len(self._queue) >= QUEUE_MAX:
            self._break("does not read its messages")
            return
        copies: list[int] = []
        try:
            # The caller may close its own before the socket has room.
            copies.extend(os.dup(fd) for fd in fds)
        except OSError as error:
            close_all(copies)
            self._break(f"no descriptors left: {error.strerror}")
            return
        self._queue.append(_Queued(packet, tuple(copies)))
        self._notice()

    def _break(self, why: str) -> None:
        self.broken = why
        self._notice()


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, whatever they are."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
