# SPDX-License-Identifier: Apache-2.0
"""What an agent does that is too fast, too long or too low for one call at a time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_HEAD = struct.Struct("!III")  # own number, how many of the other's came, size
_WINDOW = 16

# ---- traffic ----------------------------------------------------------------


def send_numbered(sock: socket.socket, to: Any, first: int, count: int, size: int) -> int:
    """Send `count` datagrams of `size` bytes that begin with their number."""
    for number in range(first, first + count):
        sock.sendto(number.to_bytes(4, "big").ljust(size, b"."), tuple(to))
    return count


def receive_numbers(sock: socket.socket, quiet: float, most: int = 1 << 30) -> list[int]:
    """The numbers of what arrives, until nothing does for `quiet` seconds."""
    numbers: list[int] = []
    while len(numbers) < most and select.select([sock], [], [], quiet)[0]:
        numbers.append(int.from_bytes(sock.recv(70000)[:4], "big"))
    return numbers


def receive_blocking(sock: socket.socket, end: int) -> list[int]:
    """Numbers from blocking receives until one is `end`, which is not part of the result."""
    numbers: list[int] = []
    while (number := int.from_bytes(sock.recv(70000)[:4], "big")) != end:
        numbers.append(number)
    return numbers


def receive_by_epoll(epoll: Any, sock: socket.socket, end: int) -> list[int]:
    """As `receive_blocking`, by an epoll set that others wait in too; the socket must not block."""
    numbers: list[int] = []
    while True:
        epoll.poll(5)
        try:
            number = int.from_bytes(sock.recv(70000)[:4], "big")
        except BlockingIOError:
            continue
        if number == end:
            return numbers
        numbers.append(number)


def echo(sock: socket.socket, end: bytes) -> int:
    """Send everything back to where it came from, until `end` comes; how many there were."""
    count = 0
    while True:
        data, sender = sock.recvfrom(70000)
        if data == end:
            return count
        sock.sendto(data, sender)
        count += 1


def content(seed: int, number: int, acknowledged: int) -> bytes:
    """Datagram `number` of a conversation: its size and bytes follow from the numbers."""
    size = random.Random(seed * 1_000_003 + number).choice((0, 1, 7, 64, 300, 1000, 1472, 2000))
    filler = bytes([(number + seed) & 0xFF]) * size
    return _HEAD.pack(number, acknowledged, size) + filler


def converse(sock: socket.socket, to: Any, own: int, other: int, count: int) -> dict[str, int]:
    """Exchange `count` numbered datagrams each way with a peer that does the same.

    Never more than a window ahead of the other, so that nothing may be lost. `own` and `other`
    are the seeds of contents and pauses. Returns how many came, were strange or out of order.
    """
    dice = random.Random(own)
    sent = came = acknowledged = strange = 0
    deadline = time.monotonic() + 60
    while came < count or acknowledged < count:
        if time.monotonic() > deadline:
            break
        if dice.random() < 0.002:
            time.sleep(dice.random() * 0.002)
        burst = dice.randrange(1, 5)
        while sent < count and sent - acknowledged < _WINDOW and burst:
            sock.sendto(content(own, sent, came), tuple(to))
            sent, burst = sent + 1, burst - 1
        if not select.select([sock], [], [], 0.0 if burst == 0 else 0.02)[0]:
            if sent == count or sent - acknowledged >= _WINDOW:
                # Only an acknowledgement: the other may have nothing to say any more.
                sock.sendto(_HEAD.pack(0xFFFFFFFF, came, 0), tuple(to))
            continue
        data = sock.recv(70000)
        number, acknowledged_now, _ = _HEAD.unpack_from(data)
        acknowledged = max(acknowledged, acknowledged_now)
        if number != 0xFFFFFFFF:
            strange += data != content(other, came, acknowledged_now)
            came += 1
    for _ in range(3):
        sock.sendto(_HEAD.pack(0xFFFFFFFF, came, 0), tuple(to))
    return {"came": came, "acknowledged": acknowledged, "strange": strange}


# ---- time -------------------------------------------------------------------


def timed(method: Any, *args: Any) -> tuple[float, int | None]:
    """Seconds a call took, and the errno it failed with."""
    begin = time.monotonic()
    try:
        method(*args)
    except OSError as error:
        return time.monotonic() - begin, error.errno
    return time.monotonic() - begin, None


def timed_recv(sock: socket.socket) -> tuple[float, int | None]:
    return timed(sock.recv, 100)


def cpu_seconds() -> float:
    """Processor time of this process so far."""
    return time.process_time()


# ---- processes --------------------------------------------------------------


def fork_and_send(sock: socket.socket, data: bytes, to: Any) -> int:
    """The child sends on the inherited socket and ends; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if sock.sendto(data, tuple(to)) == len(data) else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_and_exchange(address: str, to: Any) -> int:
    """The child makes a socket of its own, sends and awaits the echo; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((address, 0))
                sock.settimeout(3)
                status = 0
                for number in range(50):
                    data = b"child %d" % number
                    sock.sendto(data, tuple(to))
                    status |= sock.recv(100) != data
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_programs(count: int) -> list[int]:
    """Start a program `count` times (by vfork, descriptors closed); their exit statuses."""
    return [subprocess.run(["/bin/true"], close_fds=True).returncode for _ in range(count)]


# ---- calls Python does not make ----------------------------------------------


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _EpollEvent(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def epoll_ctl(epfd: int, op: int, fd: int, events: int, data: int) -> int:
    """epoll_ctl with 64 bits of data."""
    event = _EpollEvent(events, data)
    return _checked(_LIBC.epoll_ctl(epfd, op, fd, ctypes.byref(event)))


def epoll_wait(epfd: int, most: int, timeout_ms: int) -> list[tuple[int, int]]:
    """epoll_wait; (data, events) of each."""
    events = (_EpollEvent * most)()
    n = _checked(_LIBC.epoll_wait(epfd, events, most, timeout_ms))
    return [(event.data, event.events) for event in events[:n]]


def epoll_data(epfd: int) -> list[int]:
    """What the kernel holds as data of each descriptor in a set, the wrapper's own among them."""
    text = Path(f"/proc/self/fdinfo/{epfd}").read_text()
    return [int(line.split()[5], 16) for line in text.splitlines() if line.startswith("tfd:")]


def write(fd: int, data: bytes) -> int:
    """write(2)."""
    return os.write(fd, data)


def plain_dup(fd: int) -> int:
    """dup(2), where Python takes fcntl."""
    return _checked(_LIBC.dup(fd))


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint))


def _vector(buffers: list[Any]) -> tuple[Any, Any]:
    iovs = (_IoVec * len(buffers))()
    vector = (_MMsgHdr * len(buffers))()
    for i, buffer in enumerate(buffers):
        iovs[i] = _IoVec(ctypes.cast(buffer, ctypes.c_void_p), len(buffer))
        vector[i].header.iov = ctypes.pointer(iovs[i])
        vector[i].header.iovlen = 1
    return vector, iovs


def sendmmsg(fd: int, datagrams: list[bytes]) -> int:
    """sendmmsg(2) on a connected socket; how many were sent."""
    buffers = [(ctypes.c_char * len(data)).from_buffer_copy(data) for data in datagrams]
    vector, _keep = _vector(buffers)
    return _checked(_LIBC.sendmmsg(fd, vector, len(buffers), 0))


def recvmmsg(fd: int, most: int, flags: int) -> list[bytes]:
    """recvmmsg(2): up to `most` datagrams of up to 2,000 bytes."""
    buffers = [(ctypes.c_char * 2000)() for _ in range(most)]
    vector, _keep = _vector(buffers)
    n = _checked(_LIBC.recvmmsg(fd, vector, most, flags, None))
    return [buffers[i].raw[: vector[i].length] for i in range(n)]


def buffer(size: int) -> memoryview:
    """Writable memory that stays here."""
    return memoryview(bytearray(size))


def disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC: any peer again."""
    address = struct.pack("H14x", socket.AF_UNSPEC)
    _checked(_LIBC.connect(sock.fileno(), address, len(address)))


def attach_filter_that_drops_all(sock: socket.socket) -> None:
    """SO_ATTACH_FILTER with the program `return 0`."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    packed = struct.pack("HL", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, 26, packed)


def poll_in_vain(epoll: Any, count: int = 300) -> int:
    """So often that sockets in the set are not looked at any more; how many events there were."""
    return sum(len(epoll.poll(0)) for _ in range(count))


def timed_poll(poller: Any, timeout: float) -> tuple[float, int | None]:
    return timed(poller.poll, timeout)


def ppoll(fd: int, seconds: int, nanoseconds: int) -> int:
    """ppoll for input with any timeout, also one that Python would not let through."""
    entry = ctypes.create_string_buffer(struct.pack("ihh", fd, select.POLLIN, 0))
    timeout = ctypes.create_string_buffer(struct.pack("qq", seconds, nanoseconds))
    return _checked(_LIBC.ppoll(entry, 1, timeout, None))


def timer(seconds: float) -> int:
    """A timerfd that fires once."""
    fd = _checked(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, 0))
    spec = struct.pack("llll", 0, 0, int(seconds), int(seconds % 1 * 1e9))
    _checked(_LIBC.timerfd_settime(fd, 0, spec, None))
    return fd


def echo_by_edge(epoll: Any, sock: socket.socket, end: bytes) -> int:
    """Echo as edge-triggered programs do: wait, then drain; how many before `end`."""
    count = 0
    while True:
        epoll.poll(5)
        while True:
            try:
                data, sender = sock.recvfrom(70000)
            except BlockingIOError:
                break
            if data == end:
                return count
            sock.sendto(data, sender)
            count += 1


def ping(sock: socket.socket, to: Any, count: int) -> int:
    """Send and await the echo, `count` times; how many came back right before a time-out."""
    sock.settimeout(2)
    for number in range(count):
        data = b"ping %d" % number
        sock.sendto(data, tuple(to))
        if sock.recv(100) != data:
            return number
    return count


def send_paced(sock: socket.socket, to: Any, count: int, pause: float) -> int:
    """Numbered datagrams with a pause after each."""
    for number in range(count):
        sock.sendto(number.to_bytes(4, "big") + b" paced", tuple(to))
        time.sleep(pause)
    return count


def poll_then_receive(sock: socket.socket, count: int) -> list[int]:
    """Receive without waiting, but only after poll has said that there is something."""
    numbers: list[int] = []
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while len(numbers) < count:
        if not poll.poll(3000):
            break
        numbers.append(int.from_bytes(sock.recv(100, socket.MSG_DONTWAIT)[:4], "big"))
    return numbers


# ---- streams ------------------------------------------------------------------


def send_until_full(sock: socket.socket) -> int:
    """Send without waiting until nothing goes for 50 ms, asked often; how many bytes went."""
    sent, refused, quiet_since = 0, 0, time.monotonic()
    while refused < 20 or time.monotonic() - quiet_since < 0.05:
        try:
            sent += sock.send(b"x" * 10_000, socket.MSG_DONTWAIT)
            refused, quiet_since = 0, time.monotonic()
        except BlockingIOError:
            refused += 1
            time.sleep(0.001)
    return sent


def send_until_refused(sock: socket.socket) -> int:
    """Send without waiting as long as it goes; how many bytes went."""
    sent = 0
    while True:
        try:
            sent += sock.send(b"x" * 10_000, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return sent


def receive_exactly(sock: socket.socket, size: int) -> int:
    """Receive until `size` bytes have come, or the end; how many."""
    got = 0
    while got < size:
        data = sock.recv(min(65536, size - got))
        if not data:
            break
        got += len(data)
    return got


def timed_sendall(sock: socket.socket, size: int) -> tuple[float, int | None]:
    return timed(sock.sendall, b"x" * size)


def timed_send(sock: socket.socket) -> tuple[float, int | None]:
    return timed(sock.send, b"x" * 10_000)


def fork_and_serve(sock: socket.socket) -> int:
    """The child receives once on the inherited connection and answers; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sock.sendall(b"seen: " + sock.recv(100))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sendfile(sock: socket.socket, data: bytes) -> int:
    """sendfile(2) of a file with this content."""
    fd = os.memfd_create("content")
    try:
        os.write(fd, data)
        return os.sendfile(sock.fileno(), fd, 0, len(data))
    finally:
        os.close(fd)


def send_files(sock: socket.socket, data: bytes) -> list[Any]:
    """sendfile(2) in each way: from a place, from the file's own, past its end, from nothing."""
    fd, out = os.memfd_create("content"), sock.fileno()
    try:
        os.write(fd, data)
        os.lseek(fd, 2, os.SEEK_SET)
        placed = os.sendfile(out, fd, 1, 3), os.lseek(fd, 0, os.SEEK_CUR)
        own = os.sendfile(out, fd, None, 3), os.lseek(fd, 0, os.SEEK_CUR)
        rest = os.sendfile(out, fd, None, 10 * len(data)), os.lseek(fd, 0, os.SEEK_CUR)
        return [*placed, *own, *rest, os.sendfile(out, fd, None, 10), os.sendfile(out, fd, 0, 0)]
    finally:
        os.close(fd)


def bad_sendfile(sock: socket.socket, what: str) -> tuple[int, int]:
    """What sendfile() of a file of 100 bytes returns, and errno."""
    file = os.memfd_create("content")
    os.write(file, bytes(100))
    os.lseek(file, 0, os.SEEK_SET)
    offset = ctypes.c_void_p(8) if what == "no offset" else None
    size = {"no bytes": 0, "too many": (1 << 64) - 1}.get(what, 10)
    ctypes.set_errno(0)
    result = _LIBC.sendfile(
        sock.fileno(), -1 if what == "no file" else file, offset, ctypes.c_size_t(size)
    )
    return result, ctypes.get_errno() if result < 0 else 0


def waiting(sock: socket.socket) -> int:
    """FIONREAD."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0])


def polled_twice(sock: socket.socket) -> list[int]:
    """What poll says of reading and writing, and says again at once."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    return [event for _ in range(2) for _, event in poll.poll(0)]


def send_to_the_deaf(one: socket.socket, other: socket.socket) -> int:
    """The error of what is sent at once to an end that has shut down both ways."""
    one.send(b"it is whole")
    other.recv(100)
    other.shutdown(socket.SHUT_RDWR)
    one.send(b"nobody")
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _sizes(dice: random.Random) -> int:
    return dice.choice((1, 2, 7, 64, 500, 1448, 4000, 20_000, 70_000))


def _numbered(at: int, size: int, seed: int) -> bytes:
    """Bytes `at` to `at + size` of a stream whose every eight bytes tell their own place."""
    first = at // 8
    words = range(first, (at + size) // 8 + 1)
    text = b"".join(struct.pack("!II", seed & 0xFFFFFFFF, word) for word in words)
    return text[at - first * 8 : at - first * 8 + size]


def stream_out(sock: socket.socket, total: int, seed: int, flags: list[int]) -> int:
    """Send `total` numbered bytes in pieces of random size, each with one of `flags`."""
    dice, sent = random.Random(seed), 0
    while sent < total:
        data = _numbered(sent, min(_sizes(dice), total - sent), seed)
        flag = dice.choice(flags)
        while data:
            try:
                n = sock.send(data, flag)
            except BlockingIOError:
                select.select([], [sock], [], 5)
                continue
            data, sent = data[n:], sent + n
        if dice.random() < 0.01:
            time.sleep(dice.random() * 0.003)
    return sent


def stream_in(sock: socket.socket, total: int, seed: int, how: str) -> str:
    """Receive `total` numbered bytes; "" or what was wrong. `how`: recv, poll, level, edge."""
    dice, got = random.Random(seed + 1), 0
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLIN | (select.EPOLLET if how == "edge" else 0))
    while got < total:
        if how == "poll":
            select.select([sock], [], [], 5)
        elif how in ("level", "edge"):
            epoll.poll(5)
        while got < total:
            flags = 0 if how == "recv" else socket.MSG_DONTWAIT
            if dice.random() < 0.05:
                flags |= socket.MSG_PEEK
            try:
                data = sock.recv(_sizes(dice), flags)
            except BlockingIOError:
                break
            if not data:
                return f"the end after {got} bytes"
            if data != _numbered(got, len(data), seed):
                return f"wrong bytes behind {got}"
            got += 0 if flags & socket.MSG_PEEK else len(data)
            if dice.random() < 0.002:
                time.sleep(dice.random() * 0.02)
    epoll.close()
    return ""


_POOL = random.Random(0).randbytes(1 << 20)
_HURRY = threading.Event()


def by_kernel(sock: socket.socket) -> int:
    """Bytes sent on a connection that went by the kernel, as that counts them in TCP_INFO."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    not_sent = struct.unpack_from("I", info, 144)[0]
    sent, again = struct.unpack_from("QQ", info, 200)
    return int(sent - again + not_sent)


def hurry() -> None:
    """Senders of a checksum need not wait any more."""
    _HURRY.set()


def _await_read(sock: socket.socket, most: float) -> None:
    end = time.monotonic() + most
    while any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))) and time.monotonic() < end:
        time.sleep(0)


def _road(sock: socket.socket, dice: random.Random, kernel: int, sent: int) -> int:
    """The flag of the next piece: either path by chance, but neither gets far ahead."""
    if kernel * 5 < sent * 2:
        return socket.MSG_DONTROUTE
    if kernel * 5 <= sent * 3:
        return dice.choice((0, socket.MSG_DONTROUTE))
    _await_read(sock, 0.002)  # or a full ring would send it to the kernel
    return 0


def checksum_out(sock: socket.socket, total: int, seed: int, digest: int) -> tuple[int, int]:
    """Send `total` bytes by changing paths; the digest carried on, and how often they changed.

    From the middle on it goes slowly until told to hurry.
    """
    dice, sent, changes, last = random.Random(seed), 0, 0, None
    begun, kernel = by_kernel(sock), 0
    while sent < total:
        size = min(dice.choice((1, 100, 1448, 9000, 30_000)), total - sent)
        if sent > total // 2 and not _HURRY.is_set():
            size = 1
            time.sleep(0.001)
        at = dice.randrange(len(_POOL) - size)
        piece = memoryview(_POOL)[at : at + size]
        flag = _road(sock, dice, kernel, sent)
        digest, sent = zlib.crc32(piece, digest), sent + size
        while piece:
            piece = piece[sock.send(piece, flag) :]
        before, kernel = kernel, by_kernel(sock) - begun
        changes, last = changes + (last != (kernel > before)), kernel > before
    return digest, changes


def send_by_ring(sock: socket.socket, size: int, digest: int) -> tuple[int, bool]:
    """Send `size` bytes once all before them are read; the digest, and whether a ring has them."""
    _await_read(sock, 2.0)
    piece, before = memoryview(_POOL)[:size], by_kernel(sock)
    sock.sendall(piece)
    return zlib.crc32(piece, digest), by_kernel(sock) == before


def checksum_in(sock: socket.socket, total: int, digest: int) -> int:
    """Receive `total` bytes; the digest carried on."""
    dice, got = random.Random(total), 0
    while got < total and (data := sock.recv(min(dice.choice((1000, 60_000)), total - got))):
        digest = zlib.crc32(data, digest)
        got += len(data)
    return digest


def become_another_program(sock: socket.socket) -> None:
    """The agent anew, which gets the connection; it answers this call."""
    os.set_inheritable(sock.fileno(), True)
    os.execv(sys.executable, [sys.executable, "-S", sys.argv[0], "successor"])


def answer_connections(listener: socket.socket, count: int) -> list[int]:
    """Accept `count` connections, echo each to its end; the first number each began with."""
    numbers = []
    for _ in range(count):
        sock, _address = listener.accept()
        first = b""
        try:
            while data := sock.recv(4096):
                first = first or data[:4]
                sock.sendall(data)
        except ConnectionError:
            pass
        sock.close()
        numbers.append(int.from_bytes(first, "big"))
    return numbers


def reconnect(address: str, port: int, to: Any, count: int) -> int:
    """Connect from one port, exchange numbered bytes, reset; `count` times. How many went well."""
    good = 0
    for number in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.settimeout(5)
        sock.bind((address, port))
        sock.connect(tuple(to))
        expected = b""
        for piece in range(4):
            data = number.to_bytes(4, "big") * (1 + piece * 100)
            sock.sendall(data)
            expected += data
        got = b""
        while len(got) < len(expected):
            data = sock.recv(4096)
            if not data:
                break
            got += data
        good += got == expected
        sock.sendall(b"never read")
        sock.close()
    return good


def converse_in_chunks(sock: socket.socket, count: int) -> int:
    """Send numbered chunks, await the echo of each; how many came back right."""
    sock.settimeout(5)
    for number in range(count):
        data = number.to_bytes(4, "big") * (1 + number % 50)
        sock.sendall(data)
        got = b""
        while len(got) < len(data) and (piece := sock.recv(len(data) - len(got))):
            got += piece
        if got != data:
            return number
    return count


# ---- past the wrapper ---------------------------------------------------------

_BEHIND = ctypes.CDLL("libc.so.6", use_errno=True)
"""The library behind any preload: its functions are not the wrapper's."""


def send_past(sock: socket.socket, data: bytes) -> int:
    """Send as io_uring, a raw system call or another process would."""
    return _checked(_BEHIND.send(sock.fileno(), data, len(data), 0))


def recv_past(sock: socket.socket, size: int) -> bytes:
    """Receive past the wrapper, without waiting."""
    room = ctypes.create_string_buffer(size)
    n = _checked(_BEHIND.recv(sock.fileno(), room, size, socket.MSG_DONTWAIT))
    return room.raw[:n]


def echo_stream(listener: socket.socket) -> int:
    """Accept one connection and send back what comes until it ends; how many bytes."""
    sock, _address = listener.accept()
    count = 0
    try:
        while data := sock.recv(4096):
            sock.sendall(data)
            count += len(data)
    except ConnectionError:
        pass
    sock.close()
    return count


def _echo_one(sock: socket.socket) -> None:
    with sock, contextlib.suppress(OSError):
        while data := sock.recv(4096):
            sock.sendall(data)


def echo_each(listener: socket.socket) -> int:
    """Echo every connection until the listener is shut down; how many there were."""
    count = 0
    with contextlib.suppress(OSError):
        while True:
            sock, _address = listener.accept()
            threading.Thread(target=_echo_one, args=(sock,), daemon=True).start()
            count += 1
    return count


_LIBC.fdopen.restype = ctypes.c_void_p


def stdio_read(sock: socket.socket, size: int) -> bytes:
    """Read by stdio, which the wrapper does not see."""
    room = ctypes.create_string_buffer(size)
    file = _LIBC.fdopen(sock.fileno(), b"r")
    n = _LIBC.fread(room, ctypes.c_size_t(1), ctypes.c_size_t(size), ctypes.c_void_p(file))
    return room.raw[:n]
