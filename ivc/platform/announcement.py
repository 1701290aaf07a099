# SPDX-License-Identifier: Apache-2.0
"""What a process in a guest writes into XenStore to be let in (docs/xen.md): hostile text."""

import re
from dataclasses import dataclass
from typing import Final

from ivc.platform import PlatformError

PORTS_MOST: Final = 1 << 17
"""Event channels a domain can have (FIFO ABI, Xen public/event_channel.h)."""

_NONCE: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_TEXT: Final = re.compile(
    rb"1 ([0-9]{1,6}) ([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,10}) ([0-9]{1,10})"
    rb" ([\x20-\x7e]{1,15})"
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One process: its event channel, what it grants us, and what it says it is."""

    port: int
    up: tuple[int, int, int]
    down: int
    pid: int
    command: str


def parse_nonce(name: str) -> int:
    """The number in a node's name. Raises `PlatformError`."""
    nonce = int(name, 16) if _NONCE.fullmatch(name) else 0
    if nonce == 0:
        raise PlatformError(f"an announcement's name is not a nonce: {name[:20]!r}")
    return nonce


def parse_announcement(text: bytes) -> Announcement:
    """Read it. Raises `PlatformError` for whatever is not exactly as agreed."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise PlatformError(f"an announcement that is none: {text[:80]!r}")
    port, *refs, pid = (int(number) for number in match.groups()[:-1])
    check_port(port)
    check_references(refs)
    if pid >= 1 << 31:
        raise PlatformError(f"pid {pid} is not a number of its kind")
    up0, up1, up2, down = refs
    return Announcement(port, (up0, up1, up2), down, pid, match[7].decode("ascii"))


def check_port(port: int) -> None:
    """Raises `PlatformError` for what no event-channel port can be."""
    if not 0 < port < PORTS_MOST:
        raise PlatformError(f"port {port} cannot be")


def check_references(refs: list[int]) -> None:
    """Raises `PlatformError` unless these are different grant references."""
    if len(set(refs)) != len(refs) or not all(0 < ref < 1 << 32 for ref in refs):
        raise PlatformError(f"grant references that cannot be: {refs[:8]}")
