# SPDX-License-Identifier: Apache-2.0
"""Answers over a Unix socket: one JSON document a connection. Nobody can make us wait."""

import json
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

READERS_MAX: Final = 16
"""Connections at a time; the oldest one loses if there are more."""

QUESTION_MAX: Final = 4096
"""Bytes of a question."""

Answer = Callable[[dict[str, Any]], None]
"""Gives the document to whoever asked; may be called later, and does nothing if they have left."""


class AnswerServer:
    """Serves what `respond` says, which gets the question: one line, or nothing.

    With `asked` a connection is silent until its question has come, else it is answered at once.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        respond: Callable[[bytes, Answer], None],
        *,
        asked: bool,
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._respond = respond
        self._asked = asked
        self._readers: dict[socket.socket, bytes] = {}
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Drop everybody."""
        for reader in list(self._readers):
            self._drop(reader)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            reader, _address = self._listener.accept()
            reader.setblocking(False)
            if len(self._readers) >= READERS_MAX:
                self._drop(next(iter(self._readers)))
            self._readers[reader] = b""
            self._selector.register(reader, selectors.EVENT_READ, lambda _: self._read(reader))
            if not self._asked:
                self._ask(reader, b"")

    def _read(self, reader: socket.socket) -> None:
        try:
            data = reader.recv(QUESTION_MAX)
        except OSError:
            data = b""
        question = self._readers[reader] = self._readers[reader] + data
        if not data or len(question) > QUESTION_MAX:
            self._drop(reader)
        elif question.endswith(b"\n"):
            self._ask(reader, question)

    def _ask(self, reader: socket.socket, question: bytes) -> None:
        # Until it is answered a connection only has an end, or nothing, to say.
        self._readers[reader] = b""

        def answer(document: dict[str, Any]) -> None:
            if reader in self._readers:
                self._readers[reader] = json.dumps(document).encode() + b"\n"
                self._selector.modify(reader, selectors.EVENT_WRITE, lambda _: self._write(reader))

        self._respond(question, answer)

    def _write(self, reader: socket.socket) -> None:
        try:
            sent = reader.send(self._readers[reader])
        except BlockingIOError:
            return
        except OSError:
            self._drop(reader)
            return
        self._readers[reader] = self._readers[reader][sent:]
        if not self._readers[reader]:
            self._drop(reader)

    def _drop(self, reader: socket.socket) -> None:
        del self._readers[reader]
        self._selector.unregister(reader)
        reader.close()
