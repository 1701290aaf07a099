# SPDX-License-Identifier: Apache-2.0
"""A Xen in Python for one process: grants are shared mmaps, event channels are eventfds.

It answers `ivc.platform.xen_devices.Devices` and `ivc.platform.xenstore.XenStore` for every
domain, with the manners of the real ones that matter: who may map a grant, one event after
binding, silence when a domain dies, permissions of nodes.
"""

import mmap
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ivc.platform import PlatformError
from ivc.shm.layout import PAGE
from ivc.shm.library import ffi


@dataclass(eq=False)
class Port:
    """One end of an event channel."""

    domid: int
    number: int
    remote: int
    peer: "Port | None" = None
    fd: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))
    muted: bool = False
    latched: bool = False

    def raise_event(self) -> None:
        if self.muted:
            self.latched = True
            if self.muted:  # again: `unmute` may have looked at `latched` just before
                return
        if self.fd >= 0:
            os.eventfd_write(self.fd, 1)


@dataclass(eq=False)
class Grant:
    """Pages one domain may map."""

    owner: int
    to: int
    memory: mmap.mmap
    fd: int
    mapped: int = 0
    alive: bool = True

    def __del__(self) -> None:
        os.close(self.fd)


class Hypervisor:
    """All domains, their grants and ports, and XenStore."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.store = Store(self)
        self.alive = {0}
        self.ports: dict[tuple[int, int], Port] = {}
        self.grants: dict[tuple[int, int], tuple[Grant, int]] = {}
        self.next_number = 8
        self.store.set("/local/domain/0/domid", b"0", 0)

    def create(self, domid: int, name: str) -> None:
        """A guest as the toolstack makes it."""
        home = f"/local/domain/{domid}"
        self.store.set(home, b"", domid)
        self.store.set(f"{home}/domid", str(domid).encode(), domid)
        self.store.set(f"{home}/name", name.encode(), domid)
        uuid = f"/vm/00000000-0000-0000-0000-{domid:012x}"
        self.store.set(f"{home}/vm", uuid.encode(), domid)
        self.store.set(f"{home}/control/shutdown", b"", domid)
        self.alive.add(domid)
        self.store.fire("@introduceDomain")

    def ask(self, domid: int, what: str) -> None:
        """As the toolstack asks a guest's kernel for something; the node stays whose it was."""
        path = f"/local/domain/{domid}/control/shutdown"
        self.store.set(path, what.encode(), self.store.nodes[path][1])

    def destroy(self, domid: int) -> None:
        """No event, no byte: what it granted stays, its ports fall silent, its nodes go."""
        self.alive.discard(domid)
        for key, port in list(self.ports.items()):
            if key[0] == domid:
                self.close_port(port)
        self.store.drop(f"/local/domain/{domid}")
        self.store.fire("@releaseDomain")

    def number(self) -> int:
        with self.lock:
            self.next_number += 1
            return self.next_number

    def close_port(self, port: Port) -> None:
        self.ports.pop((port.domid, port.number), None)
        if port.peer is not None:
            port.peer.peer = None
        with suppress(OSError):
            os.close(port.fd)
        port.fd = -1

    def mapped_by_others(self, domid: int) -> int:
        """Mappings that keep a domain from being freed."""
        return sum(grant.mapped for (owner, _), (grant, _) in self.grants.items() if owner == domid)

    def given(self, domid: int) -> tuple[int, int]:
        """Pages a domain grants, and ports it has."""
        pages = sum(grant.alive for (owner, _), (grant, _) in self.grants.items() if owner == domid)
        return pages, sum(owner == domid for owner, _ in self.ports)


class FakePages:
    """Satisfies `Pages`."""

    def __init__(self, grant: Grant, refs: Sequence[int], own: bool, notify: Port | None) -> None:
        self.refs = tuple(refs)
        self.buffer = memoryview(grant.memory) if own else memoryview(grant.memory).toreadonly()
        self.grant = grant
        self.own = own
        self.notify = notify
        self.byte = 0
        self.closed = False
        grant.mapped += not own

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if not self.own:
            self.grant.mapped -= 1
            return
        self.grant.alive = False
        if self.notify is not None:
            self.grant.memory[self.byte] = 0
            if self.notify.peer is not None:
                self.notify.peer.raise_event()


class FakeChannel:
    """Satisfies `Channel`."""

    def __init__(self, xen: Hypervisor, end: Port) -> None:
        self.xen = xen
        self.end = end
        self.port = end.number
        # C hears the end that listens and rings by the one that binds, which may outlive the other.
        self.far = os.dup(end.peer.fd) if end.peer is not None else -1
        fd = end.fd if end.peer is None else self.far
        self.c = ffi.new("struct ivc_bell *", {"fd": fd})
        self.looked = 0

    def fileno(self) -> int:
        return self.end.fd

    def ring(self) -> None:
        if self.end.peer is not None:
            self.end.peer.raise_event()

    def consume(self) -> bool:
        self.looked += 1
        with suppress(OSError):
            return os.eventfd_read(self.end.fd) > 0
        return False

    def mute(self) -> None:
        self.end.muted = self.consume()

    def unmute(self) -> None:
        self.end.muted = False  # first: see `raise_event`
        latched, self.end.latched = self.end.latched, False
        if latched:
            self.end.raise_event()

    def close(self) -> None:
        self.xen.close_port(self.end)
        far, self.far = self.far, -1
        if far >= 0:
            os.close(far)


class FakeDevices:
    """Satisfies `Devices`, for one process in a domain."""

    pages = 1024

    def __init__(self, xen: Hypervisor, domid: int) -> None:
        self.xen = xen
        self.domid = domid
        self.held: list[FakePages | FakeChannel] = []

    def share(self, domid: int, pages: int, notify: tuple[int, int] | None = None) -> FakePages:
        grant, refs = self._grant(domid, pages)
        port = self.xen.ports[self.domid, notify[1]] if notify is not None else None
        made = FakePages(grant, refs, True, port)
        made.byte = notify[0] if notify is not None else 0
        self.held.append(made)
        return made

    def map(self, domid: int, refs: Sequence[int]) -> FakePages:
        made = FakePages(self._granted(domid, refs), refs, False, None)
        self.held.append(made)
        return made

    def lend(self, domid: int, page: bytes) -> tuple[int, int]:
        grant, (ref,) = self._grant(domid, 1)
        grant.memory[: len(page)] = page
        return os.dup(grant.fd), ref

    def pick(self, domid: int, refs: Sequence[int]) -> int:
        return os.dup(self._granted(domid, refs).fd)

    def _grant(self, domid: int, pages: int) -> tuple[Grant, list[int]]:
        fd = os.memfd_create("granted")
        os.truncate(fd, pages * PAGE)
        grant = Grant(self.domid, domid, mmap.mmap(fd, pages * PAGE), fd)
        refs = [self.xen.number() for _ in range(pages)]
        for index, ref in enumerate(refs):
            self.xen.grants[self.domid, ref] = grant, index
        return grant, refs

    def _granted(self, domid: int, refs: Sequence[int]) -> Grant:
        found = [self.xen.grants.get((domid, ref)) for ref in refs]
        grants = {id(each[0]) if each is not None else None for each in found}
        if None in grants or len(grants) != 1 or found[0] is None:
            raise PlatformError("no such grants")
        grant = found[0][0]
        whole = list(range(len(grant.memory) // PAGE))
        if domid == self.domid:
            raise PlatformError("a PVH guest's kernel would lose these pages")
        if grant.to != self.domid or [each[1] for each in found if each] != whole:
            raise PlatformError("not granted to us")
        if not grant.alive or domid not in self.xen.alive:
            raise PlatformError("granted no more")
        return grant

    def listen(self, domid: int) -> FakeChannel:
        return self._channel(Port(self.domid, self.xen.number(), domid))

    def bind(self, domid: int, port: int) -> FakeChannel:
        other = self.xen.ports.get((domid, port))
        if other is None or other.peer is not None or other.remote != self.domid:
            raise PlatformError("no such port")
        end = Port(self.domid, self.xen.number(), domid, other)
        other.peer = end
        end.raise_event()  # as on Xen: one for nothing
        return self._channel(end)

    def close(self) -> None:
        pass

    def die(self) -> None:
        """The process is gone: its kernel takes everything back, and says so."""
        for each in sorted(self.held, key=lambda each: isinstance(each, FakeChannel)):
            each.close()
        self.held.clear()

    def _channel(self, end: Port) -> FakeChannel:
        self.xen.ports[end.domid, end.number] = end
        made = FakeChannel(self.xen, end)
        self.held.append(made)
        return made


class Store:
    """The nodes: value, owner, and who may read besides."""

    def __init__(self, xen: Hypervisor) -> None:
        self.xen = xen
        self.nodes: dict[str, tuple[bytes, int]] = {}
        self.watches: list[tuple[StoreClient, str, str]] = []

    def set(self, path: str, value: bytes, reader: int) -> None:
        with self.xen.lock:
            parts = path.split("/")
            for end in range(2, len(parts)):
                self.nodes.setdefault("/".join(parts[:end]), (b"", reader))
            self.nodes[path] = value, reader
        self.fire(path)

    def drop(self, path: str) -> None:
        with self.xen.lock:
            for each in [each for each in self.nodes if f"{each}/".startswith(f"{path}/")]:
                del self.nodes[each]
        self.fire(path)

    def fire(self, path: str) -> None:
        for client, watched, token in list(self.watches):
            if f"{path}/".startswith(f"{watched}/"):
                client.tell(token)

    def below(self, path: str) -> dict[str, bytes]:
        """What a test looks at: all nodes below one."""
        with self.xen.lock:
            return {
                each[len(path) + 1 :]: value
                for each, (value, _) in self.nodes.items()
                if each.startswith(f"{path}/")
            }


class StoreClient:
    """Satisfies `XenStore`, for domain `domid`."""

    def __init__(self, xen: Hypervisor, domid: int) -> None:
        self.xen = xen
        self.store = xen.store
        self.domid = domid
        self.pending: list[str] = []
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def read(self, path: str) -> bytes | None:
        with self.xen.lock:
            found = self.store.nodes.get(self._absolute(path))
        if found is None or self.domid not in (0, found[1]):
            return None
        return found[0]

    def write(self, path: str, value: bytes, reader: int | None = None) -> None:
        where = self._absolute(path)
        allowed = self.domid == 0 or where.startswith(f"/local/domain/{self.domid}/data/")
        if not allowed or len(value) > 2048:
            raise PlatformError(f"{path} cannot be written")
        self.store.set(where, value, self.domid if reader is None else reader)

    def give(self, path: str, domid: int) -> None:
        """As xenstored does it: watches fire, of those who may read the node now."""
        assert self.domid == 0
        with self.xen.lock:
            if path not in self.store.nodes:
                raise PlatformError(f"{path} is not there")
            self.store.nodes[path] = self.store.nodes[path][0], domid
        self.store.fire(path)

    def children(self, path: str) -> list[str]:
        with self.xen.lock:
            start = f"{self._absolute(path)}/"
            found = [each[len(start) :] for each in self.store.nodes if each.startswith(start)]
        return list(dict.fromkeys(each.split("/")[0] for each in found))

    def remove(self, path: str) -> None:
        self.store.drop(self._absolute(path))

    def introduced(self, domid: int) -> bool:
        return domid in self.xen.alive

    def watch(self, path: str, token: str) -> None:
        self.store.watches.append((self, path, token))
        self.tell(token)

    def unwatch(self, path: str, token: str) -> None:
        with suppress(ValueError):
            self.store.watches.remove((self, path, token))

    def fileno(self) -> int:
        return self.fd

    def tell(self, token: str) -> None:
        with self.xen.lock:
            self.pending.append(token)
            with suppress(OSError):
                os.eventfd_write(self.fd, 1)

    def events(self) -> list[str]:
        with self.xen.lock, suppress(OSError):
            os.eventfd_read(self.fd)
            tokens, self.pending = self.pending, []
            return tokens
        return []

    def close(self) -> None:
        self.store.watches = [watch for watch in self.store.watches if watch[0] is not self]
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _absolute(self, path: str) -> str:
        return path if path.startswith(("/", "@")) else f"/local/domain/{self.domid}/{path}"
