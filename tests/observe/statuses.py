# SPDX-License-Identifier: Apache-2.0
"""A status document with something in every table."""

from typing import Any

from ivc.controller.status_sockets import SOCKET_COUNTERS

Document = dict[str, Any]


def socket(number: int, **changed: Any) -> Document:
    """One of node a."""
    counters = dict.fromkeys(SOCKET_COUNTERS, 0) | changed.pop("counters", {})
    return {
        "pid": 7,
        "command": "client",
        "node": "a",
        "socket": number,
        "fd": number,
        "protocol": "udp",
        "local": f"10.0.0.1:{40000 + number}",
        "peer": None,
        "path": "direct",
        "reason": "NONE",
        "destinations": [],
        "counters": counters,
    } | changed


def flow(number: int, **changed: Any) -> Document:
    """From node a to node b, its ring a quarter full."""
    return {
        "id": number,
        "from": "10.0.0.1:40000",
        "to": "10.0.0.2:30509",
        "sender": {"pid": 7, "socket": 1, "node": "a"},
        "receiver": {"pid": 8, "socket": 1, "node": "b"},
        "path": "direct",
        "state": "active",
        "ring_bytes": 8192,
        "rings": [{"size": 4096, "written": 4096, "waiting": 1024}],
    } | changed


def document(**changed: Any) -> Document:
    """Two nodes, a process each."""
    node = {"inside": True, "host": 1, "quiesced": False, "flows": 1, "ring_bytes": 8192}
    latency = {"messages": 3, "p50_us": 16.4, "p99_us": 32.8, "max_us": 65.5}
    process = {"counters": dict.fromkeys(("spin_hits", "spin_misses", "wakes"), 5)}
    kind = {"from": "a", "to": "b", "service": 0x1234, "method": 0x21, "client": 1, "type": 0}
    end = {"node": "b", "pid": 8, "command": "server", "socket": 1}
    service = {"service": 0x1234, "instance": 1, "node": "b", "endpoints": ["10.0.0.2:30509/udp"]}
    service["discovery"] = None
    return {
        "controller": {"pid": 1, "clock": 10.0, "path": "direct"},
        "nodes": [
            {"id": 1, "name": "a", "address": "10.0.0.1", "domain": "netns:a", **node},
            {"id": 2, "name": "b", "address": "10.0.0.2", "domain": "netns:b", **node},
        ],
        "quiesced": [],
        "processes": [
            {"pid": 7, "command": "client", "nodes": ["a"], "latency": latency, **process},
            {"pid": 8, "command": "server", "nodes": ["b"], "latency": latency, **process},
        ],
        "sockets": [
            socket(1, counters={"tx_ring_msgs": 100, "tx_ring_bytes": 6400}),
            socket(2, path="network", reason="NO_TRAFFIC"),
        ],
        "services": [
            {
                **service,
                "servers": [end],
                "clients": [],
                "notified": ["a"],
                "eventgroups": [],
                "discovery": None,
            }
        ],
        "flows": [flow(1), flow(2, rings=[], path="relay", messages=4, bytes=80, dropped_full=1)],
        "faults": [],
        "relay": {
            "dropped_full": 1,
            "kinds": [{**kind, "messages": 4, "bytes": 80, "denied": 0}],
            "denied": [],
            "copied": [],
        },
    } | changed
