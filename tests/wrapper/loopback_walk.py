# SPDX-License-Identifier: Apache-2.0
"""A program that does at random what one thread can do with sockets of its own, and says what came.

    loopback_walk.py SEED STEPS

What it prints follows from the seed alone: whatever a call waits for has happened before. One line
a step: number, what was done, what came of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import random
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

HERE = "127.0.0.1"
UNREAD_MOST = 20000  # nothing is ever full: how much fits is not for us to compare
POLLED = select.POLLIN | select.POLLOUT | select.POLLRDHUP
DONTWAIT = socket.MSG_DONTWAIT


class Walk:
    """The sockets there are, and the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.listener = socket.create_server((HERE, 0))
        self.pairs: list[list[socket.socket | None]] = []
        self.unread: dict[socket.socket, int] = {}
        self.udp = [self.datagrams() for _ in range(3)]
        self.sets: dict[socket.socket, select.epoll] = {}
        self.made = 0
        self.names: dict[int, int] = {}
        self.target = ""

    def datagrams(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HERE, 0))
        sock.setblocking(False)
        return sock

    def payload(self, most: int = 3000) -> bytes:
        return self.dice.randbytes(self.dice.choice((1, 2, 10, 100, 1000, most)))

    # ---- connections

    def stream(self) -> tuple[socket.socket, socket.socket | None]:
        """An end, and the other if it is still there."""
        while True:
            pair = self.dice.choice(self.pairs)
            end = self.dice.randrange(2)
            one = pair[end]
            if one is not None:
                self.target = f"{self.names[id(pair)]}.{end}"
                return one, pair[1 - end]

    def connect(self) -> Any:
        client = socket.create_connection(self.listener.getsockname())
        server = self.listener.accept()[0]
        for one in (client, server):
            one.setblocking(False)
            # Else what is small waits in the kernel for the acknowledgement of what was before it.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sets[one] = select.epoll()
            # No edges: of those there may be more, as with every MOD.
            self.sets[one].register(one, select.EPOLLIN | select.EPOLLRDHUP)
        self.pairs.append([client, server])
        self.made += 1
        self.names[id(self.pairs[-1])] = self.made
        if len(self.pairs) > 4:
            for one in self.pairs.pop(0):
                if one is not None:
                    self.sets.pop(one).close()
                    one.close()
        return len(self.pairs)

    def send(self) -> Any:
        one, other = self.stream()
        waiting = 0
        if other is not None:
            waiting = struct.unpack("i", fcntl.ioctl(other, termios.FIONREAD, bytes(4)))[0]
        if waiting > UNREAD_MOST:
            return "enough"
        data = self.payload()
        if self.dice.random() < 0.3:
            return one.sendmsg([data[:1], data[1:]])
        return one.send(data)

    def receive(self) -> Any:
        one, _ = self.stream()
        flags = self.dice.choice((0, 0, 0, socket.MSG_PEEK, socket.MSG_WAITALL | DONTWAIT))
        return digest(one.recv(self.dice.choice((1, 50, 1000, 100000)), flags))

    def receive_in_parts(self) -> Any:
        one, _ = self.stream()
        parts = [bytearray(self.dice.choice((1, 7, 500))) for _ in range(3)]
        count = one.recvmsg_into(parts)[0]
        return count, digest(b"".join(parts)[:count])

    def waiting(self) -> Any:
        one, _ = self.stream()
        return struct.unpack("i", fcntl.ioctl(one, termios.FIONREAD, bytes(4)))[0]

    def poll(self) -> Any:
        one, _ = self.stream()
        polled = select.poll()
        polled.register(one, POLLED)
        return [event for _, event in polled.poll(0)]

    def epoll(self) -> Any:
        one, _ = self.stream()
        return [event for _, event in self.sets[one].poll(0)]

    def select(self) -> Any:
        one, other = self.stream()
        both = [each for each in (one, other) if each is not None]
        found = select.select(both, both, both, 0)
        return [[both.index(each) for each in part] for part in found]

    def error(self) -> Any:
        one, _ = self.stream()
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def shutdown(self) -> Any:
        one, _ = self.stream()
        if self.dice.random() < 0.7:
            return "not now"
        return one.shutdown(self.dice.choice((socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR)))

    def close(self) -> Any:
        one, other = self.stream()
        if other is None or len(self.pairs) < 2 or self.dice.random() < 0.7:
            return "not now"
        pair = next(pair for pair in self.pairs if one in pair)
        pair[pair.index(one)] = None
        if self.dice.random() < 0.2:
            linger = struct.pack("ii", 1, 0)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sets.pop(one).close()
        return one.close()

    def copy(self) -> Any:
        """The same socket by another number."""
        one, _ = self.stream()
        pair = next(pair for pair in self.pairs if one in pair)
        other = pair[pair.index(one)] = one.dup()
        other.setblocking(False)
        self.sets.pop(one).close()
        self.sets[other] = select.epoll()
        self.sets[other].register(other, select.EPOLLIN | select.EPOLLRDHUP)
        return one.close()

    # ---- datagrams

    def send_datagram(self) -> Any:
        # One sender each: order is kept per sender, not between them.
        number = self.dice.randrange(3)
        one, other = self.udp[number], self.udp[(number + 1) % 3]
        if self.unread.get(other, 0) > 20:
            return "enough"
        try:
            sent = one.sendto(self.payload(9000), other.getsockname())
        finally:
            self.unread[other] = self.unread.get(other, 0) + 1
        return sent

    def receive_datagram(self) -> Any:
        one = self.dice.choice(self.udp)
        flags = self.dice.choice((0, 0, 0, socket.MSG_PEEK, socket.MSG_TRUNC))
        size = self.dice.choice((0, 1, 100, 10000))
        data, sender = one.recvfrom(size, flags)
        if not flags & socket.MSG_PEEK:
            self.unread[one] = self.unread.get(one, 1) - 1
        # What follows the first `size` bytes is whatever was there.
        return len(data), digest(data[:size]), self.name(sender)

    def receive_message(self) -> Any:
        one = self.dice.choice(self.udp)
        data, _, flags, sender = one.recvmsg(self.dice.choice((1, 100, 10000)))
        self.unread[one] = self.unread.get(one, 1) - 1
        return digest(data), flags, self.name(sender)

    def poll_datagrams(self) -> Any:
        polled = select.poll()
        for one in self.udp:
            polled.register(one, POLLED)
        numbers = [one.fileno() for one in self.udp]
        return sorted((numbers.index(fd), event) for fd, event in polled.poll(0))

    def next_length(self) -> Any:
        one = self.dice.choice(self.udp)
        return struct.unpack("i", fcntl.ioctl(one, termios.FIONREAD, bytes(4)))[0]

    def replace_datagrams(self) -> Any:
        if self.dice.random() < 0.7:
            return "not now"
        number = self.dice.randrange(3)
        hears = self.udp[(number + 1) % 3]
        if self.unread.get(hears, 0):
            return "not now"
        self.unread.pop(self.udp[number], None)
        self.udp[number].close()
        self.udp[number] = self.datagrams()
        return None

    def name(self, address: Any) -> Any:
        found = [n for n, one in enumerate(self.udp) if one.getsockname() == address]
        return found or "somebody gone"


def digest(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:8]}"


def told(call: Callable[[], Any]) -> str:
    try:
        return str(call())
    except OSError as error:
        return f"errno {error.errno}"


def main(seed: int, steps: int) -> None:
    walk = Walk(seed)
    walk.connect()
    often = [walk.send, walk.receive, walk.send_datagram, walk.receive_datagram] * 4
    seldom = [
        *(walk.receive_in_parts, walk.waiting, walk.poll, walk.epoll, walk.select, walk.error),
        *(walk.shutdown, walk.close, walk.connect, walk.copy),
        *(walk.receive_message, walk.poll_datagrams, walk.next_length, walk.replace_datagrams),
    ]
    for step in range(steps):
        do = walk.dice.choice(often + seldom)
        walk.target = ""
        came = told(do)
        print(step, do.__name__, walk.target, came)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
