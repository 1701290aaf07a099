# SPDX-License-Identifier: Apache-2.0
"""Processes and their sockets, as far as their wrappers told and the kernel confirms.

A process is known by its control connection and sits on the host the kernel names; its socket
numbers mean something only together with it, so no process can name a socket of another. What it
may claim is checked here: local addresses of nodes of its own host, nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ivc.controller.errors import Violation
from ivc.controller.hosts import Hosts, Place
from ivc.controller.protocol import NOWHERE, Address, Message, Role, SocketFlag
from ivc.platform import NOTHING, Attachment, Identity, Link

SOCKETS_MAX: Final = 4096
"""Sockets of all processes on one host; each costs the controller a descriptor."""

PROCESSES_MAX: Final = 256
"""Control connections from one host."""

GROUPS_MAX: Final = 256
"""Multicast memberships of one socket; the kernel's own default limit is 20."""

Key = TypeVar("Key")

NO_FLAGS: Final = SocketFlag(0)


@dataclass(slots=True, eq=False)
class Process:
    """One process, known by its control connection.

    One that is `expelled` may well live on without us.

    `leaving` are ends of flows it was told to let go of and has not yet, by flow and role, each
    with the hosts of both ends.
    """

    id: int
    link: Link
    sockets: dict[int, "Socket"] = field(default_factory=dict)
    leaving: dict[tuple[int, Role], tuple[int, int]] = field(default_factory=dict)
    expelled: bool = False

    @property
    def identity(self) -> Identity:
        """Who it is and where."""
        return self.link.identity

    def send(self, message: Message, attachment: Attachment = NOTHING) -> None:
        """Send, or queue; see `Link.send`."""
        self.link.send(message.pack(), attachment)

    def __str__(self) -> str:
        return f"{self.identity.command}[{self.identity.pid}]"


@dataclass(slots=True, eq=False)
class Socket:
    """A bound UDP socket of a process, or an end of an established TCP connection.

    `place` is the node it belongs to, or None (see `Hosts.owner`); `doorbell` is what came with
    its BOUND.
    """

    process: Process
    number: int
    doorbell: Attachment
    local: Address = NOWHERE
    peer: Address = NOWHERE
    flags: SocketFlag = NO_FLAGS
    place: Place | None = None
    groups: set[int] = field(default_factory=set)

    @property
    def is_stream(self) -> bool:
        """Whether it is an end of a TCP connection."""
        return SocketFlag.STREAM in self.flags

    @property
    def host(self) -> int:
        """The host its process runs on."""
        return self.process.identity.host

    def __str__(self) -> str:
        return f"{self.process}#{self.number}"


class Registry:
    """Everything that is known about processes and sockets; no flows, no messages."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.processes: dict[int, Process] = {}
        self._by_port: dict[int, dict[Socket, None]] = {}
        self._streams: dict[tuple[Address, Address], dict[Socket, None]] = {}
        self._count: Counter[int] = Counter()
        self._last_process = 0

    def add(self, link: Link) -> Process:
        """A process has connected. Raises `Violation` if its host has too many."""
        if len(self.on(link.identity.host)) >= PROCESSES_MAX:
            raise Violation(f"more than {PROCESSES_MAX} processes on one host")
        self._last_process += 1
        process = Process(self._last_process, link)
        self.processes[process.id] = process
        return process

    def remove(self, process: Process) -> None:
        """A process is gone; its sockets must be gone already. Idempotent."""
        assert not process.sockets
        self.processes.pop(process.id, None)
        process.link.close()

    def relocate(self, hosts: Hosts) -> None:
        """Nodes have moved: find the node of every socket again."""
        self.hosts = hosts
        for socket in self.sockets():
            socket.place = hosts.owner(socket.host, socket.local.ip)

    def sockets(self) -> Iterator[Socket]:
        """All of them."""
        for process in self.processes.values():
            yield from process.sockets.values()

    def across(self, socket: Socket) -> Sequence[Socket]:
        """Stream sockets that could be the other end of a connection."""
        return tuple(self._streams.get((socket.peer, socket.local), ()))

    def at_port(self, port: int) -> Iterable[Socket]:
        """Sockets bound to a port, in the order they came."""
        return self._by_port.get(port, ())

    def bind(
        self,
        process: Process,
        number: int,
        local: Address,
        peer: Address,
        flags: int,
        bell: Attachment,
    ) -> Socket:
        """Register or update a socket; the registry owns `bell` if the socket is new.

        Raises `Violation`; `bell` is then still the caller's.
        """
        self._check_claim(process, local)
        socket = process.sockets.get(number)
        if socket is None:
            if self._count[process.identity.host] >= SOCKETS_MAX:
                raise Violation(f"more than {SOCKETS_MAX} sockets on one host")
            socket = process.sockets[number] = Socket(process, number, bell)
            self._count[socket.host] += 1
        else:
            self._unindex(socket)
        socket.local, socket.peer = local, peer
        socket.flags = SocketFlag(flags & 15)
        socket.place = self.hosts.owner(socket.host, local.ip)
        if socket.is_stream:
            self._streams.setdefault((local, peer), {})[socket] = None
        else:
            self._by_port.setdefault(local.port, {})[socket] = None
        return socket

    def unbind(self, socket: Socket) -> None:
        """Forget a socket and give its doorbell back. Idempotent."""
        if socket.process.sockets.pop(socket.number, None) is None:
            return
        self._count[socket.host] -= 1
        self._unindex(socket)
        socket.doorbell.close()

    def join(self, socket: Socket, group: int) -> None:
        """A socket joined a multicast group. Raises `Violation`."""
        if group >> 28 != 0xE:
            raise Violation(f"{Address(group, 0)} is not a multicast group")
        if len(socket.groups) >= GROUPS_MAX:
            raise Violation(f"more than {GROUPS_MAX} groups")
        socket.groups.add(group)

    def joined_on(self, host: int, group: int) -> bool:
        """Whether any socket on a host has joined a group."""
        return any(group in socket.groups for socket in self.sockets() if socket.host == host)

    def on(self, host: int) -> list[Process]:
        """The processes of a host."""
        return [each for each in self.processes.values() if each.identity.host == host]

    def _check_claim(self, process: Process, local: Address) -> None:
        place = self.hosts.at(local.ip)
        if place is not None and place.host != process.identity.host:
            raise Violation(f"claims {local}, an address of node {place.name} on another host")

    def _unindex(self, socket: Socket) -> None:
        _discard(self._by_port, socket.local.port, socket)
        _discard(self._streams, (socket.local, socket.peer), socket)


def _discard(index: dict[Key, dict[Socket, None]], key: Key, socket: Socket) -> None:
    here = index.get(key, {})
    here.pop(socket, None)
    if not here:
        index.pop(key, None)
