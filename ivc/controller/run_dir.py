# SPDX-License-Identifier: Apache-2.0
"""The run directory: where a controller can be found, and that there is only one.

lock      held (flock) by the live controller
control   SOCK_SEQPACKET socket for wrappers, mode 0660: programs of root and its group for now
status    SOCK_STREAM socket: one JSON document to whoever connects
match     the match table
"""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from ivc.controller import match_table
from ivc.controller.errors import AlreadyRunning, ControllerError, NotPermitted

DEFAULT: Final = Path("/run/ivc")
CONTROL: Final = "control"
STATUS: Final = "status"
LOCK: Final = "lock"

_BACKLOG: Final = 128


def default_run_dir() -> Path:
    """The environment's IVC_RUN_DIR, else /run/ivc."""
    return Path(os.environ.get("IVC_RUN_DIR") or DEFAULT)


class RunDir:
    """A run directory held by this process."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises `AlreadyRunning`, `NotPermitted`, `ControllerError`."""
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise NotPermitted(
                f"run directory {self.path}: {error.strerror}; run it as root, or name a folder "
                "of yours with --run-dir"
            ) from error
        except OSError as error:
            raise ControllerError(
                f"run directory {self.path}: {error.strerror}; name another with --run-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise AlreadyRunning(
                f"a controller is already running in {self.path}; stop it or use another --run-dir"
            ) from error

    def listen(self, name: str, kind: socket.SocketKind) -> socket.socket:
        """A listening socket there, non-blocking; one left over from a crash is replaced."""
        path = self.path / name
        listener = socket.socket(socket.AF_UNIX, kind)
        before = os.umask(0o117)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ControllerError(f"cannot listen on {path}: {error}") from error
        finally:
            os.umask(before)
        listener.setblocking(False)
        return listener

    def close(self) -> None:
        """Remove what we made and give it up. The lock file stays: its inode is the lock."""
        for name in (CONTROL, STATUS):
            with suppress(OSError):
                (self.path / name).unlink()
        match_table.withdraw(self.path)
        os.close(self._lock)
