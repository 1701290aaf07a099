# SPDX-License-Identifier: Apache-2.0
"""The status socket: whoever connects gets one JSON document. Nobody can make it wait."""

import json
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

READERS_MAX: Final = 16
"""Connections at a time; the oldest one loses if there are more."""


class StatusServer:
    """Serves what `build` returns."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        build: Callable[[], dict[str, Any]],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._build = build
        self._waiting: dict[socket.socket, memoryview] = {}
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Drop everybody."""
        for reader in list(self._waiting):
            self._drop(reader)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            reader, _address = self._listener.accept()
            reader.setblocking(False)
            if len(self._waiting) >= READERS_MAX:
                self._drop(next(iter(self._waiting)))
            self._waiting[reader] = memoryview(json.dumps(self._build()).encode() + b"\n")
            self._selector.register(reader, selectors.EVENT_WRITE, lambda _: self._write(reader))

    def _write(self, reader: socket.socket) -> None:
        try:
            sent = reader.send(self._waiting[reader])
        except BlockingIOError:
            return
        except OSError:
            self._drop(reader)
            return
        self._waiting[reader] = self._waiting[reader][sent:]
        if not self._waiting[reader]:
            self._drop(reader)

    def _drop(self, reader: socket.socket) -> None:
        del self._waiting[reader]
        self._selector.unregister(reader)
        reader.close()
