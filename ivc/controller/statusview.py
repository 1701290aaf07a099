# SPDX-License-Identifier: Apache-2.0
"""The status document as tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ivc.controller.faultview import fault_line


def render_status(document: dict[str, Any]) -> str:
    """Nodes, sockets and flows, one line each."""
    controller = document["controller"]
    parts = [
        f"controller pid {controller['pid']}, path {controller['path']}\n",
        *map(_quiesced, document["quiesced"]),
        *(f"fault {_printable(fault_line(fault))}\n" for fault in document["faults"]),
        _table(
            ("node", "address", "runs on", "flows", "ring bytes"), map(_node, document["nodes"])
        ),
        _table(
            ("process", "node", "local", "peer", "path", "reason", "ring msgs", "net msgs"),
            map(_socket, document["sockets"]),
        ),
        _table(
            ("flow", "from", "to", "path", "state", "ring bytes"), map(_flow, document["flows"])
        ),
        *_deeds(document["relay"]["denied"], "passed", {False: "denied", True: "audited"}),
        *_deeds(document["relay"]["copied"], "sent", {True: "copied", False: "not copied"}),
    ]
    return "\n".join(parts)


def _quiesced(one: dict[str, Any]) -> str:
    waiting = ", ".join(map(_printable, one["waiting_for"]))
    return f"quiesced: {one['domain']}, {one['stage']}{waiting and ', waiting for '}{waiting}\n"


def _node(node: dict[str, Any]) -> Sequence[object]:
    there = not node["inside"] or node["host"] is not None
    domain = node["domain"] if there else f"{node['domain']} (not there)"
    if node["quiesced"]:
        domain += " (quiesced)"
    return node["name"], node["address"], domain, node["flows"], node["ring_bytes"]


def _socket(socket: dict[str, Any]) -> Sequence[object]:
    counters = socket["counters"]
    return (
        f"{socket['command']}[{socket['pid']}]",
        socket["node"] or "-",
        socket["local"],
        socket["peer"] or "-",
        socket["path"],
        socket["reason"],
        counters["tx_ring_msgs"] + counters["rx_ring_msgs"],
        counters["tx_net_msgs"] + counters["rx_net_msgs"],
    )


def _flow(flow: dict[str, Any]) -> Sequence[object]:
    return (
        flow["id"],
        flow["from"],
        flow["to"],
        flow["path"],
        flow["state"],
        flow["ring_bytes"],
    )


def _deeds(deeds: Sequence[dict[str, Any]], by: str, titles: Mapping[bool, str]) -> Iterable[str]:
    """What rules have done, if anything: a table for each value of the key `by`."""
    keys = ("from", "to", "service", "method", "messages")
    for value, title in titles.items():
        rows = [[_hex(key, one[key]) for key in keys] for one in deeds if one[by] is value]
        if rows:
            yield _table((f"{title} from", *keys[1:]), rows)


def _hex(key: str, value: object) -> str:
    if value is None:
        return "-"
    return f"0x{value:04x}" if key in {"service", "method"} else str(value)


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns; names that processes chose themselves cannot disturb the terminal."""
    cells = [list(titles), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines) + "\n"


def _printable(cell: object) -> str:
    return "".join(char if char.isprintable() else "?" for char in str(cell))
