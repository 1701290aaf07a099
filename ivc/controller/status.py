# SPDX-License-Identifier: Apache-2.0
"""What `ivc status` shows: one JSON document, made from registry, flows and statistics pages.

The pages are written by the processes themselves: their numbers are shown, never used.
"""

import os
from collections import Counter
from typing import Any, Final

from ivc import __version__
from ivc.controller.data_communication import DataCommunicationController, Deed, Done, Kind
from ivc.controller.dispatch import Dispatcher
from ivc.controller.faultview import describe_fault
from ivc.controller.flows import Flow, State
from ivc.controller.orders import describe
from ivc.controller.protocol import NOWHERE, ROUTE_COMPLETE, Address
from ivc.controller.quiesce import Quiescence
from ivc.controller.registry import Process, Socket
from ivc.reasons import Reason
from ivc.shm.layout import RING_ABI_MAJOR, StatsHeader, StatsSlot
from ivc.shm.relay import Counts, Relayed

Document = dict[str, Any]

_PROCESS_COUNTERS: Final = ("spin_hits", "spin_misses", "wakes", "wake_cost_ns", "sockets_lost")
_SOCKET_COUNTERS: Final = (
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


def build_status(
    dispatcher: Dispatcher, dcc: DataCommunicationController, quiescence: Quiescence
) -> Document:
    """The document. Keys are stable; new ones may be added."""
    deeds = dcc.deeds
    return {
        "controller": {
            "pid": os.getpid(),
            "path": dcc.plan.path.value,
            "version": __version__,
            "ring_abi": RING_ABI_MAJOR,
        },
        "nodes": _nodes(dispatcher, dcc),
        "quiesced": [describe(quiescence, one) for one in quiescence],
        "processes": [_process(process, dispatcher) for process in _processes(dispatcher)],
        "sockets": [
            socket for process in _processes(dispatcher) for socket in _sockets(process, dispatcher)
        ],
        "flows": [_flow(flow) for flow in dispatcher.flows.flows.values()],
        "faults": [describe_fault(dcc, fault) for fault in dcc.faults.all.values()],
        "relay": {
            "dropped_full": dcc.dropped,
            "kinds": [_kind(kind) for kind in dcc.kinds.values()],
            "forgotten": _counts(dcc.forgotten),
            "denied": _deeds(
                deeds, {Done.DENIED: {"passed": False}, Done.AUDITED: {"passed": True}}
            ),
            "copied": _deeds(deeds, {Done.COPIED: {"sent": True}, Done.UNCOPIED: {"sent": False}}),
        },
    }


def _deeds(deeds: Counter[Deed], told: dict[Done, Document]) -> list[Document]:
    """What rules have done of some kinds, with a word for each."""
    return [
        {
            "from": deed.source,
            "to": deed.destination,
            "service": deed.service,
            "method": deed.method,
            "messages": messages,
            **told[deed.done],
        }
        for deed, messages in deeds.items()
        if deed.done in told
    ]


def _processes(dispatcher: Dispatcher) -> list[Process]:
    return list(dispatcher.registry.processes.values())


def _nodes(dispatcher: Dispatcher, dcc: DataCommunicationController) -> list[Document]:
    result = []
    for node in dcc.plan.nodes:
        place = dispatcher.registry.hosts.at(int(node.address)) if node.inside else None
        flows, size = dispatcher.quotas.usage(node.id)
        result.append(
            {
                "id": node.id,
                "name": node.name,
                "address": str(node.address),
                "domain": str(node.domain),
                "inside": node.inside,
                "host": place.host if place is not None else None,
                "quiesced": place is not None and place.quiesced,
                "flows": flows,
                "ring_bytes": size,
            }
        )
    return result


def _process(process: Process, dispatcher: Dispatcher) -> Document:
    statistics = process.link.statistics
    page = StatsHeader.parse(bytes(statistics[: StatsHeader.sizeof()])) if statistics else None
    here = dispatcher.registry.hosts.on(process.identity.host)
    return {
        "pid": process.identity.pid,
        "command": process.identity.command,
        "nodes": [place.name for place in here],
        "counters": {name: page[name] if page is not None else 0 for name in _PROCESS_COUNTERS},
    }


def _sockets(process: Process, dispatcher: Dispatcher) -> list[Document]:
    slots = _slots(process)
    numbers = dict.fromkeys([*process.sockets, *slots])
    return [
        _socket(process, number, process.sockets.get(number), slots.get(number), dispatcher)
        for number in numbers
    ]


def _slots(process: Process) -> dict[int, Any]:
    """Statistics of a process by socket number; whatever it wrote there."""
    page = bytes(process.link.statistics or b"")
    size, first = StatsSlot.sizeof(), StatsHeader.sizeof()
    raw = (page[at : at + size] for at in range(first, len(page), size))
    parsed = (StatsSlot.parse(data) for data in raw if data[:4] != bytes(4))
    return {slot.socket: slot for slot in parsed}


def _socket(
    process: Process, number: int, socket: Socket | None, slot: Any, dispatcher: Dispatcher
) -> Document:
    flows = [
        flow
        for flow in dispatcher.flows.flows.values()
        if socket is not None and socket in (flow.spec.sender, flow.spec.receiver)
    ]
    path, reason = _path(flows, slot, _route_reasons(socket, dispatcher))
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
        "destinations": _destinations(socket, dispatcher),
        "counters": {name: slot[name] if slot is not None else 0 for name in _SOCKET_COUNTERS},
    }


def _route_reasons(socket: Socket | None, dispatcher: Dispatcher) -> list[Reason]:
    """Why destinations of a socket are on the network; then why others do not reach it by ring."""
    if socket is None or socket.place is None:
        return []
    if socket.place.quiesced:
        return [Reason.QUIESCED]
    if socket.is_stream:
        told = dispatcher.streams.reason(socket)
        return [told] if told else []
    address = Address(socket.place.ip, socket.local.port)
    wants = [
        *dispatcher.wants.of(socket),
        *(want for want in dispatcher.wants if want.destination == address),
    ]
    return [want.announced[0] for want in wants if want.announced and want.announced[0]]


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


def _destinations(socket: Socket | None, dispatcher: Dispatcher) -> list[Document]:
    return [
        {
            "to": str(want.destination),
            "reason": want.announced[0].name,
            "complete": bool(want.announced[1] & ROUTE_COMPLETE),
        }
        for want in (dispatcher.wants.of(socket) if socket is not None else ())
        if want.announced is not None
    ]


def _flow(flow: Flow) -> Document:
    spec = flow.spec
    relay = flow.relay
    return {
        "id": flow.id,
        "from": str(spec.source),
        "to": str(spec.destination),
        "sender": {"pid": spec.sender.process.identity.pid, "socket": spec.sender.number},
        "receiver": {"pid": spec.receiver.process.identity.pid, "socket": spec.receiver.number},
        "path": "relay" if spec.relay else "direct",
        "state": flow.state.value,
        "ring_bytes": flow.bytes,
        **(_relayed(relay.relayed) if relay is not None else {}),
    }


def _relayed(relayed: Relayed | None) -> Document:
    return {
        **_counts(relayed),
        "dropped_full": relayed.full if relayed is not None else 0,
        "answered": relayed.answered if relayed is not None else 0,
        "unanswered": relayed.unanswered if relayed is not None else 0,
        "unframed": relayed.unframed if relayed is not None else 0,
    }


def _kind(kind: Kind) -> Document:
    way, header = kind.way, kind.header
    return {
        "from": way.source if way is not None else None,
        "to": way.destination if way is not None else None,
        "service": header.service_id if header is not None else None,
        "method": header.method_id if header is not None else None,
        "client": header.client_id if header is not None else None,
        "type": header.message_type if header is not None else None,
        **_counts(kind.counts),
        "denied": kind.counts.denied,
        "audited": kind.counts.audited,
        "copied": kind.counts.copied,
        "uncopied": kind.counts.uncopied,
    }


def _counts(counted: Counts | Relayed | None) -> Document:
    return {
        "messages": counted.messages if counted is not None else 0,
        "bytes": counted.bytes if counted is not None else 0,
    }
