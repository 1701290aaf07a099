# SPDX-License-Identifier: Apache-2.0
"""One guest as the controller serves it: its nodes in XenStore, and its processes' links.

What the guest itself writes is hostile text. Names are checked before they become part of a path,
and how much of it is looked at between two ticks is bounded.
"""

import logging
from contextlib import suppress
from typing import Final

from ivc.network import limits
from ivc.platform import PlatformError
from ivc.platform.announcement import parse_announcement, parse_nonce
from ivc.platform.xen_devices import Devices
from ivc.platform.xen_link import XenLink
from ivc.platform.xenstore import XenStore

log = logging.getLogger(__name__)

PART: Final = 2016
"""Bytes of the match table in one node (docs/xen.md)."""

CREDIT: Final = 64
"""How much of one guest's is looked at between two ticks: a process costs 1, rubbish `_FINE`."""

EVENTS_MOST: Final = 256
"""Changes below a guest's node between two ticks before we stop listening until the next."""

LINKS_SHARE: Final = 4
"""Its processes together take at most one part in so many of the pages our domain may grant."""

_FINE: Final = 16

DATA: Final = "data"
CONTROL: Final = "control"
"""Second word of a watch's token, after the domain's id: what has changed."""

_SUSPEND: Final = b"suspend"


def _joined(*words: int) -> bytes:
    return " ".join(map(str, words)).encode()


def shutdown_node(domid: int) -> str:
    """Where the toolstack asks a guest's kernel to power off, reboot or suspend."""
    return f"/local/domain/{domid}/control/shutdown"


class Guest:
    """A domain of the mapping, alive."""

    def __init__(self, store: XenStore, devices: Devices, domid: int, here: int) -> None:
        self._store = store
        self._devices = devices
        self._domid = domid
        self._here = here
        self._ours = f"/local/domain/{domid}/ivc"
        self._theirs = f"/local/domain/{domid}/data/ivc"
        self._serial = 0
        self._links: dict[str, XenLink] = {}
        self._links_most = devices.pages // LINKS_SHARE // limits.CONTROLLER_PROCESS.pages
        self._credit = CREDIT
        self._events = 0
        self._complaint: bytes | None = None
        self._shutdown = shutdown_node(domid)
        self._hears: bool | None = None
        self.shall_suspend = False
        """Its kernel has been asked to suspend, and must not hear that before we have let go."""
        self.is_leaving = False
        """Nobody is let in any more, and who is in has to go."""

    def open(self, generation: int) -> None:
        """Be found by its wrappers. What a controller before us left is gone. Raises
        `PlatformError`.
        """
        self._store.remove(self._ours)
        self._store.watch(self._theirs, f"{self._domid} {DATA}")
        self._store.watch(self._shutdown, f"{self._domid} {CONTROL}")
        self._store.write(
            f"{self._ours}/controller", _joined(1, self._here, generation), self._domid
        )

    def publish(self, table: bytes, serial: int) -> None:
        """The match table, complete before its serial says so. Raises `PlatformError`."""
        folder = f"{self._ours}/match"
        for number, start in enumerate(range(0, len(table), PART)):
            part = table[start : start + PART]
            self._store.write(f"{folder}/{serial}/{number}", part, self._domid)
        self._store.write(folder, _joined(serial), self._domid)
        if self._serial:
            self._store.remove(f"{folder}/{self._serial}")
        self._serial = serial

    def is_heard(self) -> bool:
        """Something has changed there. False: too often, we do not listen for now."""
        self._events += 1
        if self._events == EVENTS_MOST:
            self._store.unwatch(self._theirs, f"{self._domid} {DATA}")
        return self._events < EVENTS_MOST

    def control(self) -> None:
        """The toolstack may have asked its kernel for something (Xen's control/shutdown).

        Requests reach the kernel through us as long as we serve the guest: to suspend has to wait
        until it holds no page of anybody's, all else is passed on at once.
        """
        request = self._store.read(self._shutdown)
        self.shall_suspend = request == _SUSPEND
        if request is not None:
            self._let_hear(request not in (b"", _SUSPEND))

    def leave(self) -> None:
        """Let nobody in any more: `ivc/controller` is gone. Raises `PlatformError`."""
        self.is_leaving = True
        self._store.remove(self._ours)

    def _let_hear(self, hears: bool) -> None:
        if hears != self._hears:
            self._hears = hears
            with suppress(PlatformError):  # the domain is gone
                self._store.give(self._shutdown, self._domid if hears else self._here)

    def tick(self) -> None:
        """Listen again to it and to its processes; say what it complains about, once."""
        if self._events >= EVENTS_MOST:
            with suppress(PlatformError):
                self._store.watch(self._theirs, f"{self._domid} {DATA}")
        self._events = 0
        self._credit = CREDIT
        for link in self._links.values():
            link.tick()
        complaint = self._store.read(f"{self._theirs}/error")
        if complaint and complaint != self._complaint:
            text = complaint[:200].decode("ascii", errors="replace")
            printable = "".join(char if char.isprintable() else "?" for char in text)
            log.warning("domain %d says: %s", self._domid, printable)
        self._complaint = complaint

    def connect(self) -> XenLink | None:
        """The next process that wants in. Raises `PlatformError` if one had to be turned away."""
        for name in () if self.is_leaving else self._store.children(self._theirs):
            if name == "error" or name in self._links:
                continue
            if self._credit <= 0:
                return None
            self._credit -= 1
            try:
                return self._answer(name)
            except PlatformError:
                self._credit -= _FINE
                raise
        return None

    def end(self, why: str) -> None:
        """Serve it no more: its links break, and nothing of ours is left in XenStore."""
        for link in list(self._links.values()):
            link.end(why)
        if self._hears is False:
            self._let_hear(True)
        with suppress(PlatformError):
            self._store.unwatch(self._theirs, f"{self._domid} {DATA}")
            self._store.unwatch(self._shutdown, f"{self._domid} {CONTROL}")
            self._store.remove(self._ours)
            if not self._store.children(f"/local/domain/{self._domid}"):
                # Dead: nobody else will remove what we wrote in its last moment.
                self._store.remove(f"/local/domain/{self._domid}")

    def _answer(self, name: str) -> XenLink:
        announced, answer = f"{self._theirs}/{name}", f"{self._ours}/answer/{name}"

        def withdraw() -> None:
            with suppress(PlatformError):
                self._store.remove(announced)
                self._store.remove(answer)

        def gone() -> None:
            self._links.pop(name, None)
            withdraw()

        try:
            if len(self._links) >= self._links_most:
                raise PlatformError(f"it has {self._links_most} processes already")
            nonce = parse_nonce(name)
            text = parse_announcement(self._store.read(announced) or b"")
            link = XenLink(self._devices, self._domid, nonce, text, withdraw, gone)
        except PlatformError as error:
            withdraw()  # of a process that is dead, or that will never be let in
            raise PlatformError(f"domain {self._domid}: {error}") from error
        try:
            self._store.write(answer, _joined(1, *link.answer), self._domid)
        except PlatformError:
            link.close()
            raise
        self._links[name] = link
        link.ring()
        return link
