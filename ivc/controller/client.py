# SPDX-License-Identifier: Apache-2.0
"""Asking a running controller for its status."""

import json
import socket
from pathlib import Path
from typing import Any, Final

from ivc.controller.errors import NoController
from ivc.controller.run_dir import STATUS

_PATIENCE_S: Final = 5.0


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status document. Raises `NoController` if nobody answers."""
    path = run_dir.absolute() / STATUS
    chunks = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect(str(path))
            while chunk := sock.recv(65536):
                chunks.append(chunk)
        document: dict[str, Any] = json.loads(b"".join(chunks))
    except (OSError, ValueError) as error:
        raise NoController(
            f"no controller answers at {path} ({error}); start one: ivc controller"
        ) from error
    return document
