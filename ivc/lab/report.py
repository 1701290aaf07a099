# SPDX-License-Identifier: Apache-2.0
"""What the demo found out: judged, as one JSON object, or as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ivc.lab.control import JsonObject
from ivc.lab.hosts import Mode
from ivc.lab.phase import Carrier, Outcome, Pair

WIRE_LIMIT = 0.02
"""More than this share of the payload on the bridge means the rings did not carry it."""

Results = dict[Pair, dict[Carrier, Outcome]]


def is_good(results: Results) -> bool:
    """Nothing lost or spoiled, the counting exact, the bridge all but silent with IVC."""
    return all(_is_good(outcome, carrier) for _, carrier, outcome in _each(results))


def _is_good(outcome: Outcome, carrier: Carrier) -> bool:
    if outcome.lost or outcome.spoiled or (outcome.wire and outcome.wire.drops):
        return False
    if carrier is Carrier.NETWORK:
        return True
    fraction = outcome.wire_fraction
    if fraction is None:  # no bridge to look at: IVC's own word must do
        return any(socket["path"] == carrier for socket in _sockets(outcome))
    return fraction < WIRE_LIMIT


def as_json(mode: Mode, results: Results) -> JsonObject:
    """The demo as one object; `ivc` is the direct path."""
    names = {Carrier.NETWORK: "network", Carrier.DIRECT: "ivc", Carrier.RELAY: "relay"}
    return {
        "mode": mode.value,
        "good": is_good(results),
        "messages": sum(outcome.messages for _, _, outcome in _each(results)),
        "pairs": [
            {"server": pair.server, "client": pair.client}
            | {names[carrier]: _outcome_json(outcome) for carrier, outcome in outcomes.items()}
            for pair, outcomes in results.items()
        ],
    }


def as_table(results: Results) -> str:
    """The demo as text: figures, sockets, one line a pair."""
    return "\n\n".join((_figures(results), _socket_table(results), _verdict(results)))


def _each(results: Results) -> Iterator[tuple[Pair, Carrier, Outcome]]:
    for pair, outcomes in results.items():
        for carrier, outcome in outcomes.items():
            yield pair, carrier, outcome


def _outcome_json(outcome: Outcome) -> JsonObject:
    wire = outcome.wire
    return {
        "rtt_us": outcome.client["rtt_us"],
        "messages": outcome.messages,
        "bytes": outcome.sent_bytes,
        "lost": outcome.lost,
        "spoiled": outcome.spoiled,
        "wire_fraction": outcome.wire_fraction,
        "wire_bytes": wire.udp_bytes if wire else None,
        "wire_drops": wire.drops if wire else None,
        "sockets": _sockets(outcome),
        "processes": [
            {"role": use.role, "cpu_seconds": use.cpu_seconds, "rss_bytes": use.rss_bytes}
            for use in outcome.usage
        ],
        "server": outcome.server,
        "client": outcome.client,
    }


def _sockets(outcome: Outcome) -> list[JsonObject]:
    """Sockets as `ivc status` shows them, with the role of their process."""
    if outcome.status is None:
        return []
    roles = {use.pid: use.role for use in outcome.usage}
    sockets: list[JsonObject] = outcome.status["sockets"]
    return [{"role": roles.get(socket["pid"], "?"), **socket} for socket in sockets]


def _figures(results: Results) -> str:
    rows: list[tuple[str, ...]] = [
        (
            *("server", "client", "path", "p50 us", "p99 us", "messages", "lost"),
            *("bytes sent", "on bridge", "CPU s / MB: server", "client", "controller"),
        )
    ]
    for pair, carrier, outcome in _each(results):
        rtt = outcome.client["rtt_us"]
        wire = "-" if outcome.wire is None else f"{outcome.wire.udp_bytes:,}"
        rows.append(
            (
                *(pair.server, pair.client, carrier.value),
                *(f"{rtt.get('p50', 0):.0f}", f"{rtt.get('p99', 0):.0f}"),
                *(f"{outcome.messages:,}", str(outcome.lost), f"{outcome.sent_bytes:,}", wire),
                *_usage_cells(outcome),
            )
        )
    return columns(rows)


def _usage_cells(outcome: Outcome) -> tuple[str, str, str]:
    cells = {
        use.role: f"{use.cpu_seconds:.2f} / {use.rss_bytes / 1e6:.0f}" for use in outcome.usage
    }
    return cells.get("server", "-"), cells.get("client", "-"), cells.get("controller", "-")


def _socket_table(results: Results) -> str:
    rows: list[tuple[str, ...]] = [
        (
            *("server", "client", "run", "socket of", "local", "path", "reason"),
            *("ring msgs", "ring bytes", "network msgs", "network bytes"),
        )
    ]
    for pair, carrier, outcome in _each(results):
        for socket in _sockets(outcome):
            first = (pair.server, pair.client, carrier.value, socket["role"])
            rows.append((*first, *(str(value) for value in _socket_cells(socket))))
    return columns(rows)


def _socket_cells(socket: JsonObject) -> Iterator[object]:
    counters = socket["counters"]
    yield from (socket["local"], socket["path"], socket["reason"])
    for way in ("ring", "net"):
        for unit in ("msgs", "bytes"):
            yield counters[f"tx_{way}_{unit}"] + counters[f"rx_{way}_{unit}"]


def _verdict(results: Results) -> str:
    lines = []
    for pair, outcomes in results.items():
        network, direct = outcomes[Carrier.NETWORK], outcomes[Carrier.DIRECT]
        before, after = (one.client["rtt_us"].get("p50", 0.0) for one in (network, direct))
        fraction = direct.wire_fraction
        share = "" if fraction is None else f", {fraction:.2%} of the payload on the bridge"
        lines.append(
            f"{pair.server} server, {pair.client} client: p50 {before:.0f} -> {after:.0f} us, "
            f"{direct.lost} lost{share}"
        )
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as text, each column as wide as it must be."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
