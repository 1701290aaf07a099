# SPDX-License-Identifier: Apache-2.0
"""Sockets in the status document: each with its path, the reason why, and what it has counted."""

from collections import defaultdict
from typing import Any, Final

from ivc.controller.dispatch import Dispatcher
from ivc.controller.flows import Flow, State
from ivc.controller.protocol import NOWHERE, ROUTE_COMPLETE, Address
from ivc.controller.registry import Process, Socket
from ivc.controller.wants import Want
from ivc.reasons import Reason
from ivc.shm.layout import StatsHeader, StatsSlot

Document = dict[str, Any]

SOCKET_COUNTERS: Final = (
    "tx_ring_msgs",
    "tx_ring_bytes",
    "tx_net_msgs",
    "tx_net_bytes",
    "rx_ring_msgs",
    "rx_ring_bytes",
    "rx_net_msgs",
    "rx_net_bytes",
    "tx_full",
    "rx_twins",
    "rx_refused",
    "fence_timeouts",
)


class SocketsTold:
    """What is asked for each socket, looked up once for all."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._flows: defaultdict[Socket, list[Flow]] = defaultdict(list)
        self._wants: defaultdict[Address, list[Want]] = defaultdict(list)
        for flow in dispatcher.flows.flows.values():
            for end in {flow.spec.sender, flow.spec.receiver}:
                self._flows[end].append(flow)
        for want in dispatcher.wants:
            self._wants[want.destination].append(want)

    def of(self, process: Process) -> list[Document]:
        """The sockets of a process: those it has announced, and those only it counts."""
        slots = _slots(process)
        numbers = dict.fromkeys([*process.sockets, *slots])
        return [
            self._socket(process, number, process.sockets.get(number), slots.get(number))
            for number in numbers
        ]

    def _socket(self, process: Process, number: int, socket: Socket | None, slot: Any) -> Document:
        flows = self._flows.get(socket, []) if socket is not None else []
        path, reason = _path(flows, slot, self._route_reasons(socket))
        local = socket.local if socket is not None else Address(slot.local_ip, slot.local_port)
        peer = socket.peer if socket is not None else Address(slot.peer_ip, slot.peer_port)
        return {
            "pid": process.identity.pid,
            "command": process.identity.command,
            "node": socket.place.name if socket is not None and socket.place else None,
            "socket": number,
            "fd": slot.fd if slot is not None else None,
            "protocol": "tcp" if slot is not None and slot.protocol == 6 else "udp",
            "local": str(local),
            "peer": str(peer) if peer != NOWHERE else None,
            "path": path,
            "reason": reason,
            "destinations": self._destinations(socket),
            "counters": {name: slot[name] if slot is not None else 0 for name in SOCKET_COUNTERS},
        }

    def _route_reasons(self, socket: Socket | None) -> list[Reason]:
        """Why destinations of a socket are on the network; then why others do not reach it by
        ring."""
        if socket is None or socket.place is None:
            return []
        if socket.place.quiesced:
            return [Reason.QUIESCED]
        if socket.is_stream:
            told = self._dispatcher.streams.reason(socket)
            return [told] if told else []
        address = Address(socket.place.ip, socket.local.port)
        wants = [*self._dispatcher.wants.of(socket), *self._wants.get(address, ())]
        return [want.announced[0] for want in wants if want.announced and want.announced[0]]

    def _destinations(self, socket: Socket | None) -> list[Document]:
        return [
            {
                "to": str(want.destination),
                "reason": want.announced[0].name,
                "complete": bool(want.announced[1] & ROUTE_COMPLETE),
            }
            for want in (self._dispatcher.wants.of(socket) if socket is not None else ())
            if want.announced is not None
        ]


def _slots(process: Process) -> dict[int, Any]:
    """Statistics of a process by socket number; whatever it wrote there."""
    page = bytes(process.link.statistics or b"")
    size, first = StatsSlot.sizeof(), StatsHeader.sizeof()
    raw = (page[at : at + size] for at in range(first, len(page), size))
    parsed = (StatsSlot.parse(data) for data in raw if data[:4] != bytes(4))
    return {slot.socket: slot for slot in parsed}


def _path(flows: list[Flow], slot: Any, routes: list[Reason]) -> tuple[str, str]:
    """Path and the name of the reason."""
    active = [flow for flow in flows if flow.state is State.ACTIVE]
    if active:
        relayed = any(flow.spec.relay for flow in active)
        return "relay" if relayed else "direct", Reason.NONE.name
    if flows:
        return "network", Reason.PENDING.name
    if slot is not None and slot.reason != Reason.NONE:
        return "network", _name(slot.reason)
    if routes:
        return "network", routes[0].name
    return "network", Reason.NO_TRAFFIC.name


def _name(reason: int) -> str:
    try:
        return Reason(reason).name
    except ValueError:
        return str(reason)
