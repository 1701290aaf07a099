# SPDX-License-Identifier: Apache-2.0
"""The run directory: where a controller can be found, and that there is only one.

lock      held (flock) by the live controller
status    SOCK_STREAM socket, mode 0660: one JSON document to whoever connects
orders    SOCK_STREAM socket, mode 0660: a line is an order, answered by one JSON document

trace     SOCK_SEQPACKET socket, mode 0660: who traces, see ivc.controller.tracing

The platform puts what wrappers need beside them.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ivc.controller.errors import AlreadyRunning, ControllerError, NotPermitted

DEFAULT: Final = Path("/run/ivc")
STATUS: Final = "status"
ORDERS: Final = "orders"
TRACE: Final = "trace"
LOCK: Final = "lock"

ORDER_MOST_S: Final = 3600.0
"""How long an order may wait at most for what it asks for."""


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

    def close(self) -> None:
        """Remove what we made and give it up. The lock file stays: its inode is the lock."""
        for name in (STATUS, ORDERS, TRACE):
            with suppress(OSError):
                (self.path / name).unlink()
        os.close(self._lock)
