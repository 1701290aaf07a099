# SPDX-License-Identifier: Apache-2.0
"""SOME/IP calls one after the other, and what becomes of each.

Arguments: own address and port; a caller has the server's address and port too. It is told
"METHOD COUNT [SERVICE]" and answers with a line of JSON: the numbers that were not answered, the
median round trip in seconds.
"""

from __future__ import annotations

import json
import socket
import statistics
import struct
import sys
import time

HEADER = struct.Struct(">HHIHHBBBB")
SERVICE = 0x772D
PATIENCE_S = 0.25
REQUEST, RESPONSE = 0x00, 0x80


def message(service: int, method: int, number: int, kind: int) -> bytes:
    return HEADER.pack(service, method, 8, 1, number % 0xFFFF + 1, 1, 1, kind, 0)


def answered(sock: socket.socket, answer: bytes) -> bool:
    end = time.monotonic() + PATIENCE_S
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            if sock.recv(2000) == answer:
                return True
        except TimeoutError:
            break
    return False


def call(sock: socket.socket, method: int, count: int, service: int = SERVICE) -> None:
    lost, times = [], []
    for number in range(count):
        begin = time.monotonic()
        sock.send(message(service, method, number, REQUEST))
        if answered(sock, message(service, method, number, RESPONSE)):
            times.append(time.monotonic() - begin)
        else:
            lost.append(number)
    print(json.dumps({"lost": lost, "median": statistics.median(times or [0.0])}), flush=True)


def serve(sock: socket.socket) -> None:
    while True:
        data, sender = sock.recvfrom(2000)
        fields = HEADER.unpack(data)
        sock.sendto(message(fields[0], fields[1], fields[4] - 1, RESPONSE), sender)


def main() -> None:
    host, port, *server = sys.argv[1:]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, int(port)))
    print("ready", flush=True)
    if not server:
        serve(sock)
    sock.connect((server[0], int(server[1])))
    for line in sys.stdin:
        call(sock, *map(int, line.split()))


if __name__ == "__main__":
    main()
