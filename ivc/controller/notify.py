# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how we are (sd_notify)."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send `state`, for example "READY=1"; nothing happens where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
