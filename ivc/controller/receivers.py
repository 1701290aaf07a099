# SPDX-License-Identifier: Apache-2.0
"""Which sockets would the kernel hand a datagram to? The same answer, from the registry.

Unicast: the most specific socket wins: connected to the source, then bound to the address, then
bound to the wildcard. Multicast: every socket bound to the wildcard or the group which joined the
group itself, or has IP_MULTICAST_ALL while anybody on its host joined it.
"""

from collections.abc import Callable, Sequence

from ivc.controller.protocol import NOWHERE, Address, SocketFlag
from ivc.controller.registry import Registry, Socket


def unicast(registry: Registry, source: Address, destination: Address) -> Sequence[Socket]:
    """The equally most specific sockets for a datagram; more than one is ambiguous."""
    place = registry.hosts.at(destination.ip)
    ranked = [
        (_rank(socket, source, destination), socket)
        for socket in registry.at_port(destination.port)
        if place is not None and socket.host == place.host
    ]
    best = max((rank for rank, _ in ranked), default=0)
    return [socket for rank, socket in ranked if best and rank == best]


def _rank(socket: Socket, source: Address, destination: Address) -> int:
    """0 does not receive it, 1 wildcard, 2 exact, more if connected to the source."""
    if socket.local.ip not in (0, destination.ip):
        return 0
    if socket.peer not in (NOWHERE, source):
        return 0
    return 1 + (socket.local.ip != 0) + 2 * (socket.peer == source)


def multicast(
    registry: Registry, sender: Socket, source: Address, destination: Address
) -> Sequence[Socket]:
    """Every socket that would receive a datagram to a group, as far as a ring can lead to it.

    The sender's own host counts only if it sends with IP_MULTICAST_LOOP.
    """
    members = _members(registry, source, destination, _reached(sender))
    return [socket for socket in members if _ringable(socket)]


def reaches_all(registry: Registry, sender: Socket, source: Address, destination: Address) -> bool:
    """Whether the members we know are all there can be.

    Not so with nodes outside, with an inside node nobody has joined on (there may be a process
    without wrapper), or with a member that no ring can lead to.
    """
    reached = _reached(sender)
    members = list(_members(registry, source, destination, reached))
    there = {socket.place if _ringable(socket) else None for socket in members}
    awaited = {
        place
        for place in registry.hosts.places
        if place != sender.place and (place.host is None or reached(place.host))
    }
    return not registry.hosts.has_external and None not in there and awaited <= there


def _ringable(socket: Socket) -> bool:
    """Not so for a socket of no single node, or of one whose domain is quiesced."""
    return socket.place is not None and not socket.place.quiesced


def _reached(sender: Socket) -> Callable[[int], bool]:
    loop = SocketFlag.MC_LOOP in sender.flags
    return lambda host: loop or host != sender.host


def _members(
    registry: Registry, source: Address, destination: Address, reached: Callable[[int], bool]
) -> Sequence[Socket]:
    hosts = {place.host for place in registry.hosts.places}
    joined: dict[int, bool] = {}

    def listens(socket: Socket) -> bool:
        if socket.host not in joined:
            joined[socket.host] = registry.joined_on(socket.host, destination.ip)
        everything = SocketFlag.MC_ALL in socket.flags and joined[socket.host]
        return everything or destination.ip in socket.groups

    return [
        socket
        for socket in registry.at_port(destination.port)
        if socket.local.ip in (0, destination.ip)
        and socket.peer in (NOWHERE, source)
        and socket.host in hosts
        and reached(socket.host)
        and listens(socket)
    ]
