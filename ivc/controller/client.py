# SPDX-License-Identifier: Apache-2.0
"""Asking a running controller for its status."""

import json
import socket
from pathlib import Path
from typing import Any, Final

from ivc.controller.errors import NoController, NotPermitted
from ivc.controller.run_dir import STATUS

_PATIENCE_S: Final = 5.0


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status document. Raises `NoController` if nobody answers, `NotPermitted`."""
    path = run_dir.absolute() / STATUS
    chunks = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect(str(path))
            while chunk := sock.recv(65536):
                chunks.append(chunk)
        document: dict[str, Any] = json.loads(b"".join(chunks))
    except PermissionError as error:
        raise NotPermitted(
            f"{path}: {error.strerror}; run it as root, or as the controller's user"
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise NoController(
            f"no controller answers at {path} ({why}); start one (ivc controller CONFIG... "
            "--mapping M), or name the --run-dir of the one that runs"
        ) from error
    return document
