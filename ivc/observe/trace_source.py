# SPDX-License-Identifier: Apache-2.0
"""The trace rings of a running controller: asked for, mapped, and given back (see
ivc.controller.tracing for what is said)."""

import json
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ivc.controller.errors import ControllerError, NoController, NotPermitted
from ivc.controller.run_dir import TRACE
from ivc.errors import IvcError
from ivc.shm.errors import AttachError
from ivc.shm.layout import PAGE
from ivc.shm.trace import TraceReader

_PATIENCE_S: Final = 10.0
_PACKET_MAX: Final = 4096


class Ring:
    """One that is there: its number, who writes it, and our end of it."""

    def __init__(self, number: int, of: str, size: int, fds: list[int]) -> None:
        """The descriptors are its own from here on. Raises `OSError`, `AttachError`."""
        self.number = number
        self.of = of
        with ExitStack() as made:
            for fd in fds:
                made.callback(os.close, fd)
            with ExitStack() as maps:
                writer = maps.enter_context(mmap.mmap(fds[0], size, prot=mmap.PROT_READ))
                own = maps.enter_context(mmap.mmap(fds[1], PAGE))
                self.reader = TraceReader(own, writer)
                self._maps = maps.pop_all()

    def close(self) -> None:
        """Unmap it."""
        self.reader.close()
        self._maps.close()


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing more comes on this ring."""

    number: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The controller has gone, or has thrown us out."""


News = Ring | Gone | Warned | Ended


class TraceSource:
    """The connection. As long as it is there, everything is traced."""

    def __init__(self, run_dir: Path, order: int, snap: int, *, everything: bool) -> None:
        """Raises `NoController`, `NotPermitted`, or `ControllerError`: it does not trace."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = run_dir.absolute() / TRACE
        asked = {"order": order, "snap": snap, "all": everything}
        try:
            self._socket.settimeout(_PATIENCE_S)
            self._socket.connect(str(path))
            self._socket.send(json.dumps(asked).encode())
            self.first = list(self._until_ready())
            self._socket.setblocking(False)
        except PermissionError as error:
            self._socket.close()
            raise NotPermitted(
                f"{path}: {error.strerror}; run it as root, or as the controller's user"
            ) from error
        except OSError as error:
            self._socket.close()
            raise NoController(
                f"no controller answers at {path} ({error.strerror or error}); start one "
                "(ivc controller CONFIG... --mapping M), or name the --run-dir of the one that runs"
            ) from error
        except IvcError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._socket.fileno()

    def news(self) -> Iterator[News]:
        """What has happened since. Never waits."""
        with suppress(BlockingIOError):
            while (document := self._read()) is not None:
                if document:
                    yield _news(*document)
                else:
                    yield Ended()
                    return

    def close(self) -> None:
        """Nobody is traced any more. Idempotent."""
        self._socket.close()

    def _until_ready(self) -> Iterator[News]:
        while True:
            document = self._read()
            if not document:
                raise ConnectionResetError("it hung up")
            said, fds = document
            if "error" in said:
                raise ControllerError(str(said["error"]))
            if "ready" in said:
                self.processes = int(said["ready"])
                return
            yield _news(said, fds)

    def _read(self) -> tuple[dict[str, Any], list[int]] | tuple[()] | None:
        """A packet and its descriptors; () at the end. Raises `OSError`, `BlockingIOError`."""
        try:
            packet, fds, _flags, _from = socket.recv_fds(self._socket, _PACKET_MAX, 2)
        except BlockingIOError:
            return None
        except OSError:
            return ()
        return (json.loads(packet), list(fds)) if packet else ()


def _news(said: dict[str, Any], fds: list[int]) -> News:
    match said:
        case {"ring": number, "of": of, "size": size}:
            try:
                return Ring(int(number), str(of), int(size), fds)
            except (OSError, AttachError) as error:  # a guest may have granted anything
                return Warned(f"{of} is not traced: {error}")
        case {"gone": number}:
            return Gone(int(number))
        case _:
            return Warned(str(said.get("warning", said)))
