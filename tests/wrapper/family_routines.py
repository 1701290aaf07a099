# SPDX-License-Identifier: Apache-2.0
"""What agents run for test_wrapper_stream_family.py."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path


def child_is_told_by_epoll(sock: socket.socket) -> bool:
    pid = os.fork()
    if pid == 0:
        told = False
        try:
            epoll = select.epoll()
            epoll.register(sock.fileno(), select.EPOLLIN)
            told = bool(epoll.poll(2.0))
        finally:
            os._exit(not told)
    return os.waitpid(pid, 0)[1] == 0


def child_serves(sock: socket.socket) -> None:
    """The parent closes at once, then the child reads, answers and closes."""
    closed, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(closed, 1)
            sock.sendall(b"answer to " + sock.recv(100))
            sock.close()
        finally:
            os._exit(0)
    sock.close()
    os.write(say, b"x")
    os.waitpid(pid, 0)
    os.close(closed)
    os.close(say)


def linger_after_a_child_has_closed(sock: socket.socket) -> int:
    """Whether SO_LINGER is on."""
    pid = os.fork()
    if pid == 0:
        try:
            sock.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    on: int = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]
    return on


def fill(sock: socket.socket) -> None:
    """Send until nothing goes for a while."""
    sock.setblocking(False)
    last = time.monotonic()
    while time.monotonic() - last < 0.2:
        try:
            sock.send(b"z" * 65536)
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.002)


def wait_for_room(sock: socket.socket, seconds: float) -> None:
    """Nothing else is waited for."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        poll.poll(int(seconds * 1000))


def read_by_epoll(sock: socket.socket, size: int) -> int:
    """How many bytes came before none did for a second."""
    epoll, got = select.epoll(), 0
    epoll.register(sock.fileno(), select.EPOLLIN)
    while got < size and epoll.poll(1.0):
        got += len(sock.recv(65536))
    return got


def send_one_by_one(sock: socket.socket, count: int, pause: float) -> None:
    for _ in range(count):
        sock.send(b"m")
        time.sleep(pause)


def replace_what_was_watched(sock: socket.socket) -> int:
    """A set that another number of the socket was in, and was taken out of; its descriptor."""
    number = os.dup(sock.fileno())
    epoll = select.epoll()
    epoll.register(number, select.EPOLLIN)
    epoll.poll(0)
    epoll.unregister(number)
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
    return os.dup(epoll.fileno())


def cpu_of_waiting(descriptor: int, seconds: float) -> tuple[int, float]:
    """Events of a set, and the processor time of waiting for them."""
    epoll, begin = select.epoll.fromfd(descriptor), time.thread_time()
    return len(epoll.poll(seconds)), time.thread_time() - begin


def pass_on(sock: socket.socket) -> int:
    """By SCM_RIGHTS, to ourselves; the number it has there."""
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [sock.fileno()])
    return socket.recv_fds(other, 10, 1)[1][0]


def read_at_once(descriptor: int) -> bytes:
    """What the kernel has: this number is no socket of the wrapper's."""
    os.set_blocking(descriptor, False)
    return os.read(descriptor, 100)


def read_exactly(descriptor: int, size: int) -> bytes:
    """As read_at_once(), but waiting for so much, two seconds at most."""
    data, poll = b"", select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(data) < size and poll.poll(2000):
        data += os.read(descriptor, size - len(data))
    return data


def child_reads(sock: socket.socket) -> bytes:
    """What a child gets of it; the parent waits."""
    result, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(say, sock.recv(100, socket.MSG_DONTWAIT))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(say)
    data = os.read(result, 100)
    os.close(result)
    return data


_READER = """
import os, select, sys
poll = select.poll()
poll.register(int(sys.argv[1]), select.POLLIN)
if poll.poll(2000):
    os.write(1, os.read(int(sys.argv[1]), 100))
"""


def child_becomes_a_reader(sock: socket.socket) -> subprocess.Popen[bytes]:
    """Forked, not vforked: a program that writes down what it reads of the connection at once."""
    command = _reader_of(sock)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, close_fds=False, preexec_fn=lambda: None
    )


def _reader_of(sock: socket.socket) -> list[str]:
    sock.set_inheritable(True)
    return [sys.executable, "-S", "-c", _READER, str(sock.fileno())]


def vforked_reader(sock: socket.socket) -> subprocess.Popen[bytes]:
    """The same by vfork, as libc says it is to be done without a preexec_fn."""
    return subprocess.Popen(_reader_of(sock), stdout=subprocess.PIPE, close_fds=False)


class Spawned:
    """The same by posix_spawn."""

    def __init__(self, command: list[str]) -> None:
        self._result, say = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, say, 1)]
        self._pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        os.close(say)

    def communicate(self, timeout: float) -> tuple[bytes, None]:
        """As that of a Popen; it ends by itself."""
        with os.fdopen(self._result, "rb") as result:
            data = result.read()
        os.waitpid(self._pid, 0)
        return data, None


def spawned_reader(sock: socket.socket) -> Spawned:
    return Spawned(_reader_of(sock))


def output(process: subprocess.Popen[bytes] | Spawned) -> bytes:
    return process.communicate(timeout=5)[0]


def splice(sock: socket.socket, data: bytes) -> int:
    into, out = os.pipe()
    os.write(out, data)
    os.close(out)
    moved = os.splice(into, sock.fileno(), len(data))
    os.close(into)
    return moved


def seconds_to_set_an_option(sock: socket.socket) -> float:
    """One that takes the connection off its rings."""
    begin = time.monotonic()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return time.monotonic() - begin


def cpu_of_peeking(sock: socket.socket, size: int, milliseconds: int) -> tuple[bytes, float]:
    """What a peek for all of `size` bytes shows in its time, and its processor time."""
    limit = struct.pack("ll", 0, milliseconds * 1000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    begin = time.thread_time()
    data = sock.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)
    return data, time.thread_time() - begin


def _mapped() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def mapped_by_a_peek(sock: socket.socket, size: int) -> int:
    """Bytes of memory it has left mapped; it has to show what the kernel has, too."""
    room = bytearray(size)
    before = _mapped()
    shown = sock.recv_into(room, size, socket.MSG_PEEK)
    assert shown > 300_000, shown
    return _mapped() - before


def _all_by_fours(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(TimeoutError):
        while piece := sock.recv(4):
            data += piece
    return data


def both_read(sock: socket.socket) -> tuple[bytes, bytes]:
    """What a child and its parent get at the same time, until nothing has come for a second."""
    sock.settimeout(1.0)
    result, say = os.pipe()
    pid = os.fork()
    mine = _all_by_fours(sock)
    if pid == 0:
        with os.fdopen(say, "wb") as out:
            out.write(mine)
        os._exit(0)
    os.close(say)
    with os.fdopen(result, "rb") as into:
        theirs = into.read()
    os.waitpid(pid, 0)
    return mine, theirs
