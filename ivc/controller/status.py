# SPDX-License-Identifier: Apache-2.0
"""What `ivc status` shows: one JSON document, made from registry, flows and statistics pages.

The pages are written by the processes themselves: their numbers are shown, never used.
"""

import os
import time
from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from ivc import __version__
from ivc.controller.data_communication import DataCommunicationController, Deed, Done, Kind
from ivc.controller.dispatch import Dispatcher
from ivc.controller.faultview import describe_fault
from ivc.controller.flows import Flow
from ivc.controller.latency import describe_latency
from ivc.controller.orders import describe
from ivc.controller.quiesce import Quiescence
from ivc.controller.registry import Process, Socket
from ivc.controller.status_services import ServicesTold
from ivc.controller.status_sockets import SocketsTold
from ivc.shm.layout import RING_ABI_MAJOR, StatsHeader
from ivc.shm.relay import Counts, Relayed

Document = dict[str, Any]

_PROCESS_COUNTERS: Final = ("spin_hits", "spin_misses", "wakes", "wake_cost_ns", "sockets_lost")


def build_status(
    dispatcher: Dispatcher, dcc: DataCommunicationController, quiescence: Quiescence
) -> Document:
    """The document. Keys are stable; new ones may be added."""
    deeds, clock = dcc.deeds, time.monotonic()
    sockets, services = SocketsTold(dispatcher), ServicesTold(dispatcher, dcc, clock)
    return {
        "controller": {
            "pid": os.getpid(),
            "clock": clock,
            "path": dcc.plan.path.value,
            "version": __version__,
            "ring_abi": RING_ABI_MAJOR,
        },
        "nodes": _nodes(dispatcher, dcc),
        "quiesced": [describe(quiescence, one) for one in quiescence],
        "processes": [_process(process, dispatcher) for process in _processes(dispatcher)],
        "sockets": [socket for process in _processes(dispatcher) for socket in sockets.of(process)],
        "services": [services.of(service) for service in dcc.plan.services],
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
        "latency": describe_latency(page.latency if page is not None else ()),
    }


def _flow(flow: Flow) -> Document:
    spec = flow.spec
    relay = flow.relay
    return {
        "id": flow.id,
        "from": str(spec.source),
        "to": str(spec.destination),
        "sender": _end(spec.sender),
        "receiver": _end(spec.receiver),
        "path": "relay" if spec.relay else "direct",
        "state": flow.state.value,
        "ring_bytes": flow.bytes,
        "rings": [asdict(level) for level in flow.levels],
        **(_relayed(relay.relayed) if relay is not None else {}),
    }


def _end(socket: Socket) -> Document:
    return {
        "pid": socket.process.identity.pid,
        "socket": socket.number,
        "node": socket.place.name if socket.place is not None else None,
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
