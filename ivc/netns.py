# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by their names, as `ip netns` keeps them, and being in another one."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NETNS_DIRECTORY: Final = Path("/run/netns")
OWN: Final = Path("/proc/thread-self/ns/net")
_CLONE_NEWNET: Final = 0x40000000


def path_of(netns: str | None) -> Path:
    """Where a namespace can be opened."""
    return NETNS_DIRECTORY / netns if netns else OWN


def enter(netns: str) -> None:
    """Move this thread into a namespace. Raises `OSError`."""
    fd = os.open(path_of(netns), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(fd)
    finally:
        os.close(fd)


@contextmanager
def inside(netns: str | None) -> Iterator[None]:
    """This thread is in the namespace for the time of a `with` block. Raises `OSError`."""
    if netns is None:
        yield
        return
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(netns)
        try:
            yield
        finally:
            _set(home)
    finally:
        os.close(home)


def _set(namespace: int) -> None:
    # os.setns came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
