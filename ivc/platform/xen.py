# SPDX-License-Identifier: Apache-2.0
"""Xen, seen from dom0: domains as hosts, grants, event channels, XenStore (docs/xen.md).

Who a process is comes from Xen: an announcement lies below its own domain's node, and the pages
and ports it names are mapped and bound as that domain's. Domains are told apart by their ids; the
same guest started, rebooted or restored again is another one.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from ivc.network import Domain, XenDomain
from ivc.platform import (
    NOTHING,
    Attachment,
    PlatformError,
    Region,
    RegionSpec,
    TraceMemory,
)
from ivc.platform.memfd import MemfdTrace
from ivc.platform.xen_devices import Devices, XenDevices
from ivc.platform.xen_guest import CONTROL, Guest, shutdown_node
from ivc.platform.xen_link import XenLink
from ivc.platform.xen_region import GuestRegion, OwnRegion
from ivc.platform.xen_trace import GuestTrace
from ivc.platform.xenstore import LibXenStore, XenStore

_DOMAINS: Final = "/local/domain"
_DOMAINS_CHANGE: Final = ("@introduceDomain", "@releaseDomain")


@dataclass(frozen=True, slots=True)
class _Known:
    """What XenStore says about a living domain."""

    name: str
    uuid: UUID | None


class XenPlatform:
    """Satisfies `ivc.platform.Platform`."""

    def __init__(self, store: XenStore | None = None, devices: Devices | None = None) -> None:
        """Connect. Raises `MissingInterface`."""
        self._store = store or LibXenStore()
        self._devices = devices or XenDevices()
        self._here = int(self._store.read("domid") or b"0")
        self._generation = time.time_ns() // 1000
        self._domains: dict[int, _Known] = {}
        self._guests: dict[int, Guest] = {}
        self._calling: dict[int, None] = {}
        self._is_clean = False

    @property
    def pages(self) -> int:
        """What gntalloc allows all processes of our domain."""
        return self._devices.pages

    def listen(self, run_dir: Path) -> None:
        """Watch domains come and go. Raises `PlatformError`."""
        for event in _DOMAINS_CHANGE:
            self._store.watch(event, event)
        self._clean()

    def fileno(self) -> int:
        """XenStore's events."""
        return self._store.fileno()

    def accept(self) -> XenLink | None:
        """The next process that has announced itself. Raises `PlatformError`."""
        for token in self._store.events():
            if token in _DOMAINS_CHANGE:
                self._look()
            else:
                self._changed(*token.split())
        while self._calling:
            domid = next(iter(self._calling))
            guest = self._guests.get(domid)
            link = guest.connect() if guest is not None else None
            if link is not None:
                return link
            del self._calling[domid]
        return None

    def publish(self, table: bytes, hosts: Collection[int]) -> None:
        """Into each of these domains' nodes. Raises `PlatformError`."""
        for domid in self._guests.keys() - set(hosts):
            self._guests.pop(domid).end("its domain is not served any more")
        serial = time.time_ns() // 1000
        for domid in hosts:
            guest = self._guests.get(domid)
            if guest is not None and guest.is_leaving:
                guest.end("it is served anew")
                guest = None
            if guest is None:
                guest = Guest(self._store, self._devices, domid, self._here)
                guest.open(self._generation)
                self._guests[domid] = guest
            guest.publish(table, serial)
        self._clean_strangers()

    def quiesce(self, host: int) -> bool:
        """Its processes map pages of ours: they have to leave. Raises `PlatformError`."""
        guest = self._guests.get(host)
        if guest is not None:
            guest.leave()
        return guest is not None

    def suspending(self) -> Collection[int]:
        """Domains whose kernel has not been told yet that it shall suspend."""
        return [domid for domid, guest in self._guests.items() if guest.shall_suspend]

    def refresh(self) -> None:
        """Read the names of all domains that live; hear those again who had too much to say."""
        for domid, guest in self._guests.items():
            guest.tick()
            self._calling[domid] = None
        self._look()

    def _changed(self, domid: str, what: str) -> None:
        guest = self._guests.get(int(domid))
        if guest is None:
            return
        if what == CONTROL:
            guest.control()
        elif guest.is_heard():
            self._calling[int(domid)] = None

    def _look(self) -> None:
        self._domains = {
            int(number): self._describe(int(number))
            for number in self._store.children(_DOMAINS)
            if number.isdecimal() and self._store.introduced(int(number))
        }

    def resolve(self, domain: Domain) -> int | None:
        """Id of a living domain; None if there is none, or it is no domain of Xen."""
        if not isinstance(domain, XenDomain):
            return None
        found = [
            domid
            for domid, known in self._domains.items()
            if domid == domain.id
            or (domain.name is not None and known.name == domain.name)
            or (domain.uuid is not None and known.uuid == domain.uuid)
        ]
        return max(found, default=None)

    def create_region(self, spec: RegionSpec) -> Region:
        """Ours, or to be granted by its owner. Raises `PlatformError`."""
        if spec.owner is None:
            return OwnRegion(spec, self._devices, self._here)
        return GuestRegion(spec, self._devices, self._here)

    def create_trace(self, order: int, host: int | None) -> TraceMemory:
        """A guest grants its own; ours is of Linux. Raises `PlatformError`."""
        if host is None:
            return MemfdTrace(order)
        return GuestTrace(order, self._devices, host, self._here)

    def check_doorbell(self, bound: Attachment) -> None:
        """Event channels come with regions, not with sockets. Raises `PlatformError`."""
        if bound != NOTHING:
            raise PlatformError(f"{len(bound.words)} numbers came with BOUND")

    def close(self) -> None:
        """Take everything of ours out of XenStore."""
        while self._guests:
            self._guests.popitem()[1].end("the controller ends")
        self._store.close()
        self._devices.close()

    def _describe(self, domid: int) -> _Known:
        name = self._store.read(f"{_DOMAINS}/{domid}/name") or b""
        vm = (self._store.read(f"{_DOMAINS}/{domid}/vm") or b"").decode(errors="replace")
        uuid = None
        with suppress(ValueError):
            uuid = UUID(vm.removeprefix("/vm/"))
        return _Known(name.decode(errors="replace"), uuid)

    def _clean_strangers(self) -> None:
        """It may have died between a guest we do not serve and what its kernel is asked for."""
        for domid in () if self._is_clean else self._domains.keys() - self._guests.keys():
            if domid != self._here and self._store.read(shutdown_node(domid)) is not None:
                with suppress(PlatformError):
                    self._store.give(shutdown_node(domid), domid)
        self._is_clean = True

    def _clean(self) -> None:
        """A controller killed before us may have left nodes in domains we do not serve."""
        for number in self._store.children(_DOMAINS):
            if number.isdecimal():
                self._store.remove(f"{_DOMAINS}/{number}/ivc")
