# SPDX-License-Identifier: Apache-2.0
"""A connection in a guest: SOME/IP calls, each answered, at any pace. Needs the standard library.

server ADDRESS PORT, or client ADDRESS PORT METHOD: calls one after the other until its input ends.
It then says how many were answered by the service, and how many were refused in its name.
"""

import select
import socket
import struct
import sys

# Service, method; length; client, session; versions, type, return code.
HEADER = struct.Struct(">HHIHHBBBB")
REQUEST, RESPONSE, ERROR = 0x00, 0x80, 0x81
NOT_REACHABLE = 0x05
SETTLE_S = 4.0  # where there is to be a flow before the first byte: an emulator takes its time
PAUSE_S = 0.02


def message(method: int, session: int, kind: int, code: int = 0) -> bytes:
    return HEADER.pack(0x1234, method, 8, 1, session, 1, 1, kind, code)


def serve(address: str, port: str) -> None:
    listener = socket.create_server((address, int(port)))
    print("ready", flush=True)
    connection, _ = listener.accept()
    while call := connection.recv(HEADER.size, socket.MSG_WAITALL):
        _, method, _, _, session, *_ = HEADER.unpack(call)
        connection.sendall(message(method, session, RESPONSE))


def call(address: str, port: str, method: str) -> None:
    connection = socket.create_connection((address, int(port)))
    connection.settimeout(SETTLE_S)
    try:
        connection.recv(1)
    except TimeoutError:
        connection.settimeout(None)
    counts = {RESPONSE: 0, ERROR: 0}
    session = 0
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        session = session % 0xFFFF + 1
        connection.sendall(message(int(method), session, REQUEST))
        answer = connection.recv(HEADER.size, socket.MSG_WAITALL)
        kind = HEADER.unpack(answer)[7]
        code = NOT_REACHABLE if kind == ERROR else 0
        assert answer == message(int(method), session, kind, code), (answer, session)
        counts[kind] += 1
    print(*counts.values(), flush=True)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    serve(*rest) if role == "server" else call(*rest)
