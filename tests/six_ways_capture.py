# SPDX-License-Identifier: Apache-2.0
"""Takes down all IPv4 that crosses interfaces of this machine; stdlib only.

    six_ways_capture.py INTERFACE...

Prints "ready" once it listens; when its input ends, one line of JSON: of each interface the frames
in hexadecimal, and how many frames the kernel had no room for.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
ROOM = 1 << 25


def listener(interface: str) -> socket.socket:
    """Hears both directions."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    made.bind((interface, ETH_P_ALL))
    made.setblocking(False)
    return made


def drain(sock: socket.socket, frames: list[str]) -> None:
    """All there is now."""
    while True:
        try:
            frame = sock.recv(65536)
        except BlockingIOError:
            return
        if frame[12:14] == b"\x08\x00":
            frames.append(frame.hex())


def dropped(sock: socket.socket) -> int:
    counts = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
    return int(struct.unpack("II", counts)[1])


def main(interfaces: list[str]) -> None:
    frames: dict[str, list[str]] = {interface: [] for interface in interfaces}
    sockets = {interface: listener(interface) for interface in interfaces}
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    for interface, sock in sockets.items():
        selector.register(sock, selectors.EVENT_READ, interface)
    print("ready", flush=True)
    ended = False
    while not ended:
        for key, _ in selector.select():
            if key.data is None:
                ended = True
            else:
                drain(sockets[key.data], frames[key.data])
    for interface, sock in sockets.items():
        drain(sock, frames[interface])
    print(json.dumps({"frames": frames, "dropped": sum(map(dropped, sockets.values()))}))


if __name__ == "__main__":
    main(sys.argv[1:])
