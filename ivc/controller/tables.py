# SPDX-License-Identifier: Apache-2.0
"""The status document as tables: their values and how they are written, whatever shows them.

Where the document has rates (`ivc.controller.rates`) the tables have them too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ivc.message_types import type_name

Document = dict[str, Any]
Cell = str | int | float | None
Row = tuple[Cell, ...]

NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A title, and how its values are written."""

    title: str
    write: Callable[[Cell], str]
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values, as many in each as there are columns."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def written(self) -> Iterator[Sequence[str]]:
        """Each row as text."""
        for row in self.rows:
            yield [column.write(cell) for column, cell in zip(self.columns, row, strict=True)]


def printable(cell: Cell) -> str:
    """Names that processes chose themselves cannot disturb the terminal."""
    if cell is None:
        return NOTHING
    return "".join(char if char.isprintable() else "?" for char in str(cell)) or NOTHING


def scaled(cell: Cell) -> str:
    """A number with three or four digits and a letter: 12, 1.5k, 230M."""
    if not isinstance(cell, int | float):
        return NOTHING
    if cell < 1000:
        return f"{cell:.0f}" if cell >= 10 or cell == int(cell) else f"{cell:.1f}"
    value = float(cell)
    for letter in "kMG":
        value /= 1000
        if value < 1000 or letter == "G":
            return f"{value:.1f}{letter}" if value < 100 else f"{value:.0f}{letter}"
    raise AssertionError("unreachable")


def percent(cell: Cell) -> str:
    """A share, given as a number from 0 to 1."""
    return f"{cell:.0%}" if isinstance(cell, int | float) else NOTHING


def microseconds(cell: Cell) -> str:
    """A time."""
    return f"{cell:.0f} us" if isinstance(cell, int | float) else NOTHING


def identifier(cell: Cell) -> str:
    """A SOME/IP id."""
    return f"0x{cell:04x}" if isinstance(cell, int) else NOTHING


def nodes(document: Document) -> Table:
    """Where each is, and what it uses."""
    return Table(
        "nodes",
        (
            _text("node"),
            _text("address"),
            _text("runs on"),
            _number("flows"),
            _number("ring bytes"),
        ),
        tuple(map(_node, document["nodes"])),
    )


def processes(document: Document) -> Table:
    """How each waits, and how long messages were on their way to it when it slept."""
    latency = (Column(f"{name} <", microseconds) for name in ("p50", "p99", "max"))
    return Table(
        "processes",
        (
            _text("process"),
            _text("nodes"),
            _number("spun"),
            _number("slept"),
            _number("woken"),
            *latency,
        ),
        tuple(map(_process, document["processes"])),
    )


def sockets(document: Document) -> Table:
    """Each with its path and the reason why."""
    listed = document["sockets"]
    columns = (
        *map(_text, ("process", "node", "proto", "local", "path", "reason")),
        *_rates(document, "ring msg/s", "net msg/s", "B/s", "drop/s"),
        *map(_number, ("ring msgs", "net msgs", "drops")),
        _text("peer"),
    )
    return Table("sockets", columns, tuple(map(_socket, listed)))


def services(document: Document) -> Table:
    """Who offers each planned one, and who uses it."""
    titles = ("service", "node", "endpoints", "offered", "served by", "clients", "events to")
    return Table("services", tuple(map(_text, titles)), tuple(map(_service, document["services"])))


def flows(document: Document) -> Table:
    """Each with how full its ring is."""
    listed = document["flows"]
    columns = (
        _number("flow"),
        *map(_text, ("from", "to", "path")),
        Column("fill", percent),
        *_rates(document, "msg/s", "ring B/s"),
        _number("drops"),
        _text("state"),
        _number("ring bytes"),
    )
    return Table("flows", columns, tuple(map(_flow, listed)))


def kinds(document: Document) -> Table:
    """What the relay has seen."""
    listed = document["relay"]["kinds"]
    columns = (
        *map(_text, ("from", "to")),
        *(Column(title, identifier) for title in ("service", "method", "client")),
        _text("type"),
        *_rates(document, "msg/s", "B/s"),
        *map(_number, ("messages", "bytes", "denied")),
    )
    return Table("relay", columns, tuple(map(_kind, listed)))


TABLES: Final[dict[str, Callable[[Document], Table]]] = {
    "flows": flows,
    "sockets": sockets,
    "services": services,
    "processes": processes,
    "nodes": nodes,
    "relay": kinds,
}
"""By name, the busiest first."""


# ---- columns ----------------------------------------------------------------------------------


def _text(title: str) -> Column:
    return Column(title, printable, is_number=False)


def _number(title: str) -> Column:
    return Column(title, printable)


def _rates(document: Document, *titles: str) -> Iterator[Column]:
    """None in a document without."""
    if "rated" in document:
        yield from (Column(title, scaled) for title in titles)


# ---- rows -------------------------------------------------------------------------------------


def _node(node: Document) -> Row:
    there = not node["inside"] or node["host"] is not None
    domain = node["domain"] if there else f"{node['domain']} (not there)"
    if node["quiesced"]:
        domain += " (quiesced)"
    return node["name"], node["address"], domain, node["flows"], node["ring_bytes"]


def _process(process: Document) -> Row:
    counters, latency = process["counters"], process["latency"]
    return (
        _name(process),
        ",".join(process["nodes"]),
        *(counters[name] for name in ("spin_hits", "spin_misses", "wakes")),
        *(latency[name] for name in ("p50_us", "p99_us", "max_us")),
    )


def _socket(socket: Document) -> Row:
    return (
        _name(socket),
        *(socket[key] for key in ("node", "protocol", "local", "path", "reason")),
        *(_socket_rates(socket["rates"]) if "rates" in socket else ()),
        *_socket_numbers(socket["counters"])[:2],
        _sum(socket["counters"], "tx_full", "rx_refused"),
        socket["peer"],
    )


def _socket_rates(rates: Document) -> Row:
    return (*_socket_numbers(rates), _sum(rates, "tx_full", "rx_refused"))


def _socket_numbers(counted: Document) -> Row:
    """Messages by ring and by network, and the bytes of both."""
    roads = (f"{way}_{road}" for road in ("ring", "net") for way in ("tx", "rx"))
    return (
        _sum(counted, "tx_ring_msgs", "rx_ring_msgs"),
        _sum(counted, "tx_net_msgs", "rx_net_msgs"),
        _sum(counted, *(f"{road}_bytes" for road in roads)),
    )


def _sum(counted: Document, *names: str) -> int | float | None:
    found = [counted[name] for name in names]
    return None if None in found else sum(found)


def _service(service: Document) -> Row:
    served = ", ".join(map(_name, service["servers"]))
    return (
        f"0x{service['service']:04x}.0x{service['instance']:04x}",
        service["node"],
        ", ".join(service["endpoints"]),
        _offered(service["discovery"]),
        served,
        ", ".join(_at_node(one) for one in service["clients"]),
        ", ".join(_listeners(service)),
    )


def _offered(discovery: Document | None) -> str | None:
    """What service discovery says, if it is heard at all."""
    if discovery is None:
        return None
    return "yes" if discovery["offered_at"] else "no"


def _listeners(service: Document) -> Iterator[str]:
    """Who has asked for events or joined their groups, and which nodes they were passed on to."""
    for one in (service["discovery"] or {"subscribers": ()})["subscribers"]:
        yield f"0x{one['eventgroup']:04x}: {one['node'] or one['endpoint']}"
    for group in service["eventgroups"]:
        for one in group["members"]:
            yield f"0x{group['eventgroup']:04x}: {_at_node(one)}"
    yield from service["notified"]


def _at_node(one: Document) -> str:
    return f"{_name(one)}@{one['node']}" if one["node"] else _name(one)


def _name(one: Document) -> str:
    return f"{one['command']}[{one['pid']}]"


def _flow(flow: Document) -> Row:
    return (
        *(flow[key] for key in ("id", "from", "to", "path")),
        fill(flow),
        *(_flow_rates(flow["rates"]) if "rates" in flow else ()),
        flow.get("dropped_full"),
        flow["state"],
        flow["ring_bytes"],
    )


def fill(flow: Document) -> float | None:
    """What of the fuller ring of a flow is taken, from 0 to 1; None if there is no telling."""
    known = [ring for ring in flow["rings"] if ring["waiting"] is not None]
    return max((ring["waiting"] / ring["size"] for ring in known), default=None)


def _flow_rates(rates: Document) -> Row:
    return rates.get("messages"), rates.get("written")


def _kind(kind: Document) -> Row:
    return (
        *(kind[key] for key in ("from", "to", "service", "method", "client")),
        type_name(kind["type"]),
        *((kind["rates"]["messages"], kind["rates"]["bytes"]) if "rates" in kind else ()),
        *(kind[key] for key in ("messages", "bytes", "denied")),
    )


def aligned(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns one below the other."""
    cells = [list(titles), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines) + "\n"
