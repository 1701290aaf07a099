# SPDX-License-Identifier: Apache-2.0
"""Files that others read while we write them."""

import os
from pathlib import Path

from ivc.errors import IvcError


def write_whole(output: Path, text: str) -> None:
    """Write a whole file or none. Raises `IvcError`."""
    beside = output.with_name(f"{output.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except (OSError, ValueError) as error:
        from ivc.network.files import display  # long to import, and seldom wanted

        beside.unlink(missing_ok=True)
        why = (error.strerror if isinstance(error, OSError) else None) or "an impossible file name"
        raise IvcError(f"cannot write {display(output)}: {why}; name another file") from None
