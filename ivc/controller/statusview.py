# SPDX-License-Identifier: Apache-2.0
"""The status document as text for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ivc.controller import tables
from ivc.controller.faultview import fault_line
from ivc.controller.tables import Table, aligned, printable
from ivc.reasons import Reason


def render_status(document: dict[str, Any]) -> str:
    """Nodes, processes, sockets, services and flows, one line each."""
    controller = document["controller"]
    shown = (tables.nodes, tables.processes, tables.sockets, tables.services, tables.flows)
    parts = [
        f"controller pid {controller['pid']}, path {controller['path']}\n",
        *map(_quiesced, document["quiesced"]),
        *(f"fault {printable(fault_line(fault))}\n" for fault in document["faults"]),
        *(_text(table(document)) for table in shown),
        *_deeds(document["relay"]["denied"], "passed", {False: "denied", True: "audited"}),
        *_deeds(document["relay"]["copied"], "sent", {True: "copied", False: "not copied"}),
    ]
    return "\n".join(parts)


def fallbacks(document: dict[str, Any]) -> list[str]:
    """A line for each socket that goes by the network and was not meant to, or for each of its
    destinations that does so beside others."""
    return [
        f"{printable(one['command'])} (pid {one['pid']}): {one['local']}{to} goes by the network: "
        f"{reason.name}, {reason.text}"
        for one in document["sockets"]
        for to, reason in _fallen(one)
    ]


def _fallen(socket: dict[str, Any]) -> list[tuple[str, Reason]]:
    """What of it, and why: all of it, or what goes to some destinations."""
    whole = _fallback(socket["reason"]) if socket["path"] == "network" else None
    if whole is not None:
        return [("", whole)]
    each = [(one["to"], _fallback(one["reason"])) for one in socket["destinations"]]
    return [(f" to {to}", reason) for to, reason in each if reason is not None]


def _fallback(name: str) -> Reason | None:
    reason = Reason.__members__.get(name)
    return reason if reason is not None and reason.is_fallback else None


def _quiesced(one: dict[str, Any]) -> str:
    waiting = ", ".join(map(printable, one["waiting_for"]))
    return f"quiesced: {one['domain']}, {one['stage']}{waiting and ', waiting for '}{waiting}\n"


def _text(table: Table) -> str:
    return aligned([column.title for column in table.columns], table.written())


def _deeds(deeds: Sequence[dict[str, Any]], by: str, titles: Mapping[bool, str]) -> Iterable[str]:
    """What rules have done, if anything: a table for each value of the key `by`."""
    keys = ("from", "to", "service", "method", "messages")
    for value, title in titles.items():
        rows = [[_hex(key, one[key]) for key in keys] for one in deeds if one[by] is value]
        if rows:
            yield aligned((f"{title} from", *keys[1:]), rows)


def _hex(key: str, value: Any) -> str:
    return tables.identifier(value) if key in {"service", "method"} else printable(value)
