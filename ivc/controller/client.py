# SPDX-License-Identifier: Apache-2.0
"""Asking a running controller for its status, and giving it orders."""

import json
import socket
from pathlib import Path
from typing import Any, Final

from ivc.controller.errors import NoController, NotPermitted, OrderFailed
from ivc.controller.run_dir import ORDERS, STATUS

_PATIENCE_S: Final = 5.0
_RELOAD_S: Final = 60.0


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status document. Raises `NoController` if nobody answers, `NotPermitted`."""
    return _ask(run_dir.absolute() / STATUS, b"", _PATIENCE_S)


def quiesce(run_dir: Path, domain: str, timeout: float) -> dict[str, Any]:
    """Have a domain quiesced, and wait for it.

    Raises `OrderFailed`, and what `read_status` raises.
    """
    order = {"order": "quiesce", "domain": domain, "timeout": timeout}
    return _give_order(run_dir, order, timeout + _PATIENCE_S)


def unquiesce(run_dir: Path, domain: str) -> dict[str, Any]:
    """Have a domain served again. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "unquiesce", "domain": domain}, _PATIENCE_S)


def reload(run_dir: Path) -> dict[str, Any]:
    """Have the files read again and the plan applied. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "reload"}, _RELOAD_S)


def read_plan(run_dir: Path) -> dict[str, Any]:
    """The plan a controller goes by, see `ivc.controller.orders`. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "plan"}, _PATIENCE_S)


def add_fault(run_dir: Path, fault: dict[str, Any]) -> dict[str, Any]:
    """Have a fault, see `ivc.controller.faults`. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "fault-add", "fault": fault}, _PATIENCE_S)


def list_faults(run_dir: Path) -> dict[str, Any]:
    """Those there are. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "fault-list"}, _PATIENCE_S)


def clear_faults(run_dir: Path, ident: int | None = None) -> dict[str, Any]:
    """Have one no more, or all. Raises as `quiesce` does."""
    return _give_order(run_dir, {"order": "fault-clear", "id": ident}, _PATIENCE_S)


def _give_order(run_dir: Path, order: dict[str, Any], patience: float) -> dict[str, Any]:
    question = json.dumps(order).encode() + b"\n"
    document = _ask(run_dir.absolute() / ORDERS, question, patience)
    if "error" in document:
        raise OrderFailed(document["error"], document)
    return document


def _ask(path: Path, question: bytes, patience: float) -> dict[str, Any]:
    chunks = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(patience)
            sock.connect(str(path))
            if question:
                sock.sendall(question)
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
