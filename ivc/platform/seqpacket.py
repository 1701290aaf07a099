# SPDX-License-Identifier: Apache-2.0
"""The control connection on plain Linux: a SOCK_SEQPACKET socket that passes descriptors."""

import array
import mmap
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ivc.platform import Attachment, Hangup, Identity, PlatformError
from ivc.platform.memfd import Memfd
from ivc.platform.outbox import Outbox
from ivc.shm.layout import STATS_SIZE
from ivc.shm.library import lib

MESSAGE_SIZE: Final[int] = lib.IVC_MSG_SIZE
MAX_FDS: Final[int] = lib.IVC_MSG_MAX_FDS

_BACKLOG: Final = 128
# As numbers: to join the flags of an enum takes longer than the call they are for.
_RECEIVE: Final = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_SEND: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
_ANCILLARY: Final = socket.CMSG_SPACE(8 * array.array("i").itemsize)


def listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A listening socket, non-blocking, mode 0660; one left over from a crash is replaced.

    Raises `PlatformError`.
    """
    listener = socket.socket(socket.AF_UNIX, kind)
    before = os.umask(0o117)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PlatformError(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


class SeqpacketLink(Outbox):
    """Satisfies `ivc.platform.Link`. A page, mapped by the process too, counts its mail."""

    def __init__(self, sock: socket.socket, identity: Identity) -> None:
        """Raises `PlatformError`; the socket is still the caller's then."""
        super().__init__()
        sock.setblocking(False)
        self._socket = sock
        self._identity = identity
        self._control = Memfd("ivc-control", mmap.PAGESIZE)
        self._pages = [self._control]
        self._statistics: mmap.mmap | None = None
        self._sent = 0
        try:
            # One store of 8 bytes, so that the wrapper never sees half a number.
            self._word = memoryview(self._control.map(writable=True)).cast("Q")
            self._control.seal()
        except PlatformError:
            self._control.close()
            raise

    @property
    def identity(self) -> Identity:
        """Who connected."""
        return self._identity

    @property
    def statistics(self) -> mmap.mmap | None:
        """The page the process counts in; None before it was welcomed."""
        return self._statistics

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def receive(self) -> tuple[bytes, Attachment] | None:
        """The next packet and its descriptors.

        Raises `Hangup` at the end and `PlatformError` for what does not fit a message.
        """
        try:
            packet, ancillary, flags, _ = self._socket.recvmsg(
                MESSAGE_SIZE + 1, _ANCILLARY, _RECEIVE
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise Hangup from error
        attachment = Attachment(_descriptors(ancillary))
        if len(attachment.fds) > MAX_FDS or flags & _TRUNCATED:
            attachment.close()
            raise PlatformError("more descriptors than a message can have")
        if not packet:
            attachment.close()
            raise Hangup
        return packet, attachment

    def welcome(self, hello: Attachment, packet: bytes) -> None:
        """With the control page, read-only, and a new statistics page. Raises `PlatformError`."""
        page = Memfd("ivc-statistics", STATS_SIZE)
        self._pages.append(page)
        self._statistics = page.map(writable=False)
        self.send(packet, Attachment((self._control.read_only(), page.fileno())))
        for each in self._pages:
            each.close_descriptors()

    def close(self) -> None:
        """Idempotent."""
        super().close()
        self._socket.close()
        self._word.release()
        for page in self._pages:
            page.close()

    def _try(self, packet: bytes, attachment: Attachment) -> bool:
        fds = attachment.fds
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([packet], control, _SEND)
        except BlockingIOError:
            return False
        except OSError as error:
            self._break(f"send failed: {error.strerror}")
            return False
        # After the send: the word never counts a message that cannot be read yet.
        self._sent += 1
        self._word[0] = self._sent
        return True


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, ...]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return tuple(fds)
