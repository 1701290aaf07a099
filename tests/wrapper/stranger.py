# SPDX-License-Identifier: Apache-2.0
"""The whole life of sockets that do not match, between two marks in a trace.

Arguments: the address to bind to, and the one to send to. Started under strace.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys


def live(own: str, other: str, epoll: select.epoll) -> None:
    """Everything a program does with a socket, once."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    epoll.register(sock, select.EPOLLIN | select.EPOLLET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((own, 0))
    sock.sendto(b"to myself", sock.getsockname())
    epoll.poll(1)
    select.select([sock], [], [], 1)
    sock.recvfrom(100)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.recv(100)
    copy = sock.dup()
    poll = select.poll()
    poll.register(copy, select.POLLIN)
    poll.poll(0)
    copy.sendmsg([b"to ", b"myself"], [], 0, sock.getsockname())
    with contextlib.suppress(OSError):  # there is no way from 127.0.0.1 to elsewhere
        copy.connect((other, 40000))
        copy.send(b"to another")  # the last: nobody knows when its refusal comes
    epoll.unregister(sock)
    copy.close()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


if __name__ == "__main__":
    with select.epoll() as waiting:
        live("127.0.0.1", "127.0.0.1", waiting)  # whatever is done once only is done
        os.access("/the-life-begins", os.F_OK)
        live(sys.argv[1], sys.argv[2], waiting)
        os.access("/the-life-ends", os.F_OK)
