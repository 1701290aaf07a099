# SPDX-License-Identifier: Apache-2.0
"""A few pages over HTTP: each request makes its page anew; nothing is kept."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address
from socketserver import TCPServer
from typing import Final

from ivc import __version__
from ivc.errors import IvcError

_PATIENCE_S: Final = 10  # with whoever asks and does not go on


@dataclass(frozen=True, slots=True)
class Page:
    """What is served at one path; `read` may raise `IvcError`."""

    kind: str
    read: Callable[[], str]


class Exporter(ThreadingHTTPServer):
    """Serves pages by path, until it is shut down. Made, it listens."""

    daemon_threads = True

    def __init__(
        self, address: IPv4Address | IPv6Address, port: int, pages: Mapping[str, Page]
    ) -> None:
        """Raises `IvcError` if nobody can listen there."""
        self.address_family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self.pages = pages
        try:
            super().__init__((str(address), port), _Handler)
        except OSError as error:
            raise IvcError(
                f"cannot listen at {address} port {port}: {error.strerror}; name another --listen"
            ) from None

    def server_bind(self) -> None:
        """Without asking a name server what we are called, as HTTPServer does."""
        TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Where its first page can be asked for."""
        host, port = self.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}{next(iter(self.pages))}"


class _Handler(BaseHTTPRequestHandler):
    server: Exporter
    server_version = f"ivc/{__version__}"
    sys_version = ""
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        """Answer with a page, and nothing else."""
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            there = ", ".join(self.server.pages)
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"there is only {there}\n")
            return
        try:
            text = page.read()
        except IvcError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")
        else:
            self._answer(HTTPStatus.OK, page.kind, text)

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: somebody asks every few seconds."""
