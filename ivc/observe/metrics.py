# SPDX-License-Identifier: Apache-2.0
"""A controller's status document as metrics: which there are, and where their numbers stand.

A number of one socket, process, flow or kind of message has a series of its own: added up, it would
fall when one of them ends, and whoever computes rates would take that for a new beginning.
docs/metrics.md lists them all; a test compares.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from ivc.controller.tables import fill
from ivc.message_types import type_name
from ivc.observe.openmetrics import Family, Kind, Samples, exposition

Document = dict[str, Any]
Reader = Callable[[Document], Samples]

FAMILIES: Final[dict[str, tuple[Family, Reader]]] = {}
"""By name, in the order they are told."""

_PROCESS: Final = ("pid", "command", "nodes")
_SOCKET: Final = ("node", "pid", "command", "socket", "protocol", "local")
_FLOW: Final = ("flow", "from", "to")
_KIND: Final = ("from", "to", "service", "method", "client", "type")
_DENIAL: Final = ("from", "to", "service", "method")


def render_metrics(document: Document | None) -> str:
    """The text; without a document, that there is no controller."""
    if document is None:
        return exposition([(_UP, [((), 0)])])
    told = [(family, read(document)) for family, read in FAMILIES.values()]
    return exposition([(_UP, [((), 1)]), *told])


_UP: Final = Family("ivc_up", Kind.GAUGE, "Whether a controller answers.")


def _gauge(name: str, text: str, *labels: str, unit: str = "") -> Callable[[Reader], Reader]:
    return _told(Family(name, Kind.GAUGE, text, labels, unit))


def _counter(name: str, text: str, *labels: str, unit: str = "") -> Callable[[Reader], Reader]:
    return _told(Family(name, Kind.COUNTER, text, labels, unit))


def _told(family: Family) -> Callable[[Reader], Reader]:
    def told(read: Reader) -> Reader:
        FAMILIES[family.name] = family, read
        return read

    return told


# ---- nodes ------------------------------------------------------------------------------------


@_gauge("ivc_default_path", "1 for the plan's default path.", "path")
def _default_path(document: Document) -> Samples:
    yield (document["controller"]["path"],), 1


@_gauge("ivc_node_present", "Whether the node's domain is there.", "node", "address", "domain")
def _present(document: Document) -> Samples:
    for node in _inside(document):
        labels = node["name"], node["address"], node["domain"]
        yield labels, int(node["host"] is not None)


@_gauge("ivc_node_quiesced", "Whether the node's domain is off the rings.", "node")
def _quiesced(document: Document) -> Samples:
    return (((node["name"],), int(node["quiesced"])) for node in _inside(document))


@_gauge(
    "ivc_node_flows",
    "Flows the node has caused: it sends on them, or they bring answers to its calls.",
    "node",
)
def _node_flows(document: Document) -> Samples:
    return (((node["name"],), node["flows"]) for node in _inside(document))


@_gauge(
    "ivc_node_ring_bytes",
    "Shared memory of the flows the node has caused.",
    "node",
    unit="bytes",
)
def _node_bytes(document: Document) -> Samples:
    return (((node["name"],), node["ring_bytes"]) for node in _inside(document))


def _inside(document: Document) -> Iterator[Document]:
    return (node for node in document["nodes"] if node["inside"])


# ---- processes --------------------------------------------------------------------------------


@_gauge("ivc_processes", "Processes with the wrapper.")
def _processes(document: Document) -> Samples:
    yield (), len(document["processes"])


@_counter("ivc_process_spin_hits", "Waits that ended while spinning.", *_PROCESS)
def _spin_hits(document: Document) -> Samples:
    return _of_processes(document, "spin_hits")


@_counter("ivc_process_spin_misses", "Waits that went to sleep.", *_PROCESS)
def _spin_misses(document: Document) -> Samples:
    return _of_processes(document, "spin_misses")


@_counter("ivc_process_wakes", "Doorbells that woke the process.", *_PROCESS)
def _wakes(document: Document) -> Samples:
    return _of_processes(document, "wakes")


@_gauge(
    "ivc_process_wake_cost_seconds",
    "From publishing to being awake, the least of 16.",
    *_PROCESS,
    unit="seconds",
)
def _wake_cost(document: Document) -> Samples:
    return ((labels, ns / 1e9) for labels, ns in _of_processes(document, "wake_cost_ns"))


@_counter("ivc_process_sockets_lost", "Sockets that found no place to be counted.", *_PROCESS)
def _sockets_lost(document: Document) -> Samples:
    return _of_processes(document, "sockets_lost")


def _of_processes(document: Document, counter: str) -> Samples:
    for process in document["processes"]:
        labels = process["pid"], process["command"], ",".join(process["nodes"])
        yield labels, process["counters"][counter]


# ---- sockets ----------------------------------------------------------------------------------


@_gauge("ivc_sockets", "Sockets by path and reason.", "node", "protocol", "path", "reason")
def _sockets(document: Document) -> Samples:
    for socket in document["sockets"]:
        yield tuple(socket[key] for key in ("node", "protocol", "path", "reason")), 1


@_counter("ivc_socket_messages", "Messages of a socket.", *_SOCKET, "direction", "via")
def _messages(document: Document) -> Samples:
    return _carried(document, "msgs")


@_counter("ivc_socket_bytes", "Bytes of a socket.", *_SOCKET, "direction", "via", unit="bytes")
def _bytes(document: Document) -> Samples:
    return _carried(document, "bytes")


@_counter(
    "ivc_socket_drops",
    "Messages dropped: the ring was full, or refused: they were not the peer's.",
    *_SOCKET,
    "cause",
)
def _drops(document: Document) -> Samples:
    for socket in document["sockets"]:
        for cause, counter in (("full", "tx_full"), ("refused", "rx_refused")):
            yield (*_socket(socket), cause), socket["counters"][counter]


@_counter("ivc_socket_twins", "Kernel's copies of messages that had come by ring.", *_SOCKET)
def _twins(document: Document) -> Samples:
    return ((_socket(one), one["counters"]["rx_twins"]) for one in document["sockets"])


@_counter("ivc_socket_fence_timeouts", "Waits for a message the kernel had lost.", *_SOCKET)
def _fence_timeouts(document: Document) -> Samples:
    return ((_socket(one), one["counters"]["fence_timeouts"]) for one in document["sockets"])


def _carried(document: Document, what: str) -> Samples:
    for socket in document["sockets"]:
        for way, direction in (("tx", "sent"), ("rx", "received")):
            for road, via in (("ring", "ring"), ("net", "network")):
                counted = socket["counters"][f"{way}_{road}_{what}"]
                yield (*_socket(socket), direction, via), counted


def _socket(socket: Document) -> tuple[object, ...]:
    return tuple(socket[key] for key in _SOCKET)


# ---- flows ------------------------------------------------------------------------------------


@_gauge("ivc_flows", "Flows by path and state.", "path", "state")
def _flows(document: Document) -> Samples:
    return (((flow["path"], flow["state"]), 1) for flow in document["flows"])


@_gauge("ivc_flow_ring_bytes", "Shared memory of flows by path.", "path", unit="bytes")
def _flow_bytes(document: Document) -> Samples:
    return (((flow["path"],), flow["ring_bytes"]) for flow in document["flows"])


@_counter(
    "ivc_flow_ring_written_bytes",
    "Bytes of records written to a flow's ring, headers included.",
    *_FLOW,
    unit="bytes",
)
def _ring_written(document: Document) -> Samples:
    for flow in document["flows"]:
        for ring in flow["rings"][:1]:  # the second of a relayed flow has the same once more
            yield (flow["id"], flow["from"], flow["to"]), ring["written"]


@_gauge("ivc_flow_fill_ratio", "What of a flow's fuller ring is taken.", *_FLOW, unit="ratio")
def _ring_fill(document: Document) -> Samples:
    for flow in document["flows"]:
        share = fill(flow)
        if share is not None:
            yield (flow["id"], flow["from"], flow["to"]), share


@_counter("ivc_flow_relayed_messages", "Messages of a relayed flow.", *_FLOW)
def _relayed_messages(document: Document) -> Samples:
    return _of_relayed(document, "messages")


@_counter("ivc_flow_relayed_bytes", "Bytes of a relayed flow.", *_FLOW, unit="bytes")
def _relayed_bytes(document: Document) -> Samples:
    return _of_relayed(document, "bytes")


@_counter("ivc_flow_drops", "Messages of a relayed flow its receiver took too late.", *_FLOW)
def _relayed_drops(document: Document) -> Samples:
    return _of_relayed(document, "dropped_full")


@_counter("ivc_flow_answered", "Denied requests of a flow that were answered.", *_FLOW)
def _answered(document: Document) -> Samples:
    return _of_relayed(document, "answered")


@_counter("ivc_flow_unanswered", "Denied requests of a flow that could not be.", *_FLOW)
def _unanswered(document: Document) -> Samples:
    return _of_relayed(document, "unanswered")


@_counter(
    "ivc_flow_unframed_bytes", "Bytes of TCP nobody knew the message of.", *_FLOW, unit="bytes"
)
def _unframed(document: Document) -> Samples:
    return _of_relayed(document, "unframed")


def _of_relayed(document: Document, counter: str) -> Samples:
    for flow in document["flows"]:
        if counter in flow:
            yield (flow["id"], flow["from"], flow["to"]), flow[counter]


# ---- the relay --------------------------------------------------------------------------------


@_counter("ivc_relay_messages", "Messages the relay has seen.")
def _relay_messages(document: Document) -> Samples:
    return _seen(document, "messages")


@_counter("ivc_relay_bytes", "Bytes the relay has seen.", unit="bytes")
def _relay_bytes(document: Document) -> Samples:
    return _seen(document, "bytes")


@_counter("ivc_relay_drops", "Messages dropped at the relay: the receiver took nothing.")
def _relay_drops(document: Document) -> Samples:
    yield (), document["relay"]["dropped_full"]


@_counter(
    "ivc_relay_kind_messages",
    "Messages of a kind, since the relay's table of kinds (4,096) was last full.",
    *_KIND,
)
def _kind_messages(document: Document) -> Samples:
    return ((_kind(kind), kind["messages"]) for kind in document["relay"]["kinds"])


@_counter(
    "ivc_relay_kind_bytes",
    "Bytes of a kind, since the relay's table of kinds (4,096) was last full.",
    *_KIND,
    unit="bytes",
)
def _kind_bytes(document: Document) -> Samples:
    return ((_kind(kind), kind["bytes"]) for kind in document["relay"]["kinds"])


@_counter("ivc_denied_messages", "Messages rules have denied.", *_DENIAL)
def _denied(document: Document) -> Samples:
    return _judged(document, passed=False)


@_counter("ivc_audited_messages", "Messages an allow-list would deny, but let pass.", *_DENIAL)
def _audited(document: Document) -> Samples:
    return _judged(document, passed=True)


@_counter("ivc_fault_matched_messages", "Messages a fault is about.", "fault", "effect")
def _matched(document: Document) -> Samples:
    return (((one["id"], one["effect"]), one["matched"]) for one in document["faults"])


@_counter("ivc_fault_acted_messages", "Messages a fault has acted on.", "fault", "effect")
def _acted(document: Document) -> Samples:
    return (((one["id"], one["effect"]), one["acted"]) for one in document["faults"])


def _seen(document: Document, counter: str) -> Samples:
    """All kinds, and those that a new plan had forgotten: the sum never falls."""
    relay = document["relay"]
    yield (), relay["forgotten"][counter]
    yield from (((), kind[counter]) for kind in relay["kinds"])


def _kind(kind: Document) -> tuple[object, ...]:
    ids = (_hex(kind[key]) for key in ("service", "method", "client"))
    return kind["from"], kind["to"], *ids, type_name(kind["type"])


def _judged(document: Document, passed: bool) -> Samples:
    for one in document["relay"]["denied"]:
        if one["passed"] is passed:
            ids = _hex(one["service"]), _hex(one["method"])
            yield (one["from"], one["to"], *ids), one["messages"]


def _hex(value: int | None) -> str | None:
    return None if value is None else f"0x{value:04x}"
