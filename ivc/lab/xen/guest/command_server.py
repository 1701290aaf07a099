# SPDX-License-Identifier: Apache-2.0
"""Runs programs inside a machine of the laboratory for whoever is outside; stdlib only.

One TCP connection is one program. The request is one line of JSON:
`{"argv": [...], "env": {...}, "input": "..."}`; with `"to": ADDRESS` it is
passed on to that machine's server (the outside reaches only dom0). With
`"open": true` the program's standard input stays open until anything more is
said. Answers are lines of JSON: `{"stdout": "..."}`, `{"stderr": "..."}`, at
last `{"exit": n}` (negative: the signal) or `{"error": "..."}`. Bytes travel as
Latin-1 text. When the connection ends first the program and its process group
are killed.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import socketserver
import subprocess
import threading
from typing import Any

PORT = 7000
CHUNK = 65536
ENVIRONMENT = {"PYTHONPATH": "/opt/ivc/python", "IVC_LIBRARY": "/opt/ivc/build/libivcsock.so"}


class Handler(socketserver.BaseRequestHandler):
    """One request, in a thread of its own."""

    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # whoever asked has left
            line = read_line(self.request)
            if line:
                self._serve(json.loads(line))

    def _serve(self, wanted: dict[str, Any]) -> None:
        there = wanted.pop("to", None)
        try:
            if there is not None:
                pass_on(self.request, there, wanted)
            else:
                run(self.request, wanted)
        except OSError as error:
            self.request.sendall(line_of(error=str(error)))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def line_of(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def read_line(connection: socket.socket) -> bytes:
    """One line and nothing of what follows it; b"" if the other side leaves first."""
    line = bytearray()
    while not line.endswith(b"\n"):
        seen = connection.recv(CHUNK, socket.MSG_PEEK)
        if not seen:
            return b""
        line += connection.recv(seen.find(b"\n") + 1 or len(seen))
    return bytes(line)


def pass_on(here: socket.socket, address: str, wanted: dict[str, Any]) -> None:
    """Join this connection with one to another machine until either ends."""
    with socket.create_connection((address, PORT), timeout=5) as there:
        there.settimeout(None)
        there.sendall(line_of(**wanted))
        threading.Thread(target=copy, args=(here, there), daemon=True).start()
        copy(there, here)


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def run(asker: socket.socket, wanted: dict[str, Any]) -> None:
    """Run a program and report what it prints until it has ended."""
    given = wanted.get("input", "")
    process = subprocess.Popen(
        wanted["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/root",
        env={**os.environ, **ENVIRONMENT, **wanted.get("env", {})},
        start_new_session=True,
        bufsize=0,
    )
    ended = False
    try:
        if not wanted.get("open"):
            threading.Thread(target=feed, args=(process, given), daemon=True).start()
        ended = report(process, asker)
    finally:
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)  # not yet waited for: the id is still its own
        status = process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    if ended:
        asker.sendall(line_of(exit=status))


def feed(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as pipe:
        data = memoryview(text.encode("latin-1"))
        while data:
            data = data[pipe.write(data) :]


def report(process: subprocess.Popen[bytes], asker: socket.socket) -> bool:
    """Pass output on. True: the program has ended; False: the asker has left.

    The program's end counts, not its pipes': a daemon it started may keep them open.
    """
    life = os.pidfd_open(process.pid)
    assert process.stdout is not None and process.stderr is not None
    pipes = {"stdout": process.stdout, "stderr": process.stderr}
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(life, selectors.EVENT_READ, "life")
            selector.register(asker, selectors.EVENT_READ, "asker")
            for name, pipe in pipes.items():
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
            while True:
                ready = {key.data: key.fileobj for key, _ in selector.select()}
                for name in pipes.keys() & ready.keys():
                    if not drain(name, pipes[name].fileno(), asker):
                        selector.unregister(ready[name])
                if "life" in ready:
                    for name, pipe in pipes.items():
                        drain(name, pipe.fileno(), asker)
                    return True
                if "asker" in ready:
                    if not asker.recv(CHUNK):
                        return False
                    if process.stdin is not None:
                        process.stdin.close()
        finally:
            os.close(life)


def drain(name: str, pipe: int, asker: socket.socket) -> bool:
    """Pass on what is there now. False: nothing will come any more."""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(pipe, CHUNK):
            asker.sendall(line_of(**{name: data.decode("latin-1")}))
        return False
    return True


if __name__ == "__main__":
    with Server(("", PORT), Handler) as server:
        server.serve_forever()
