# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/performance.md, from figures of one run or more as `--json` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

JsonObject = dict[str, Any]

_SIZES = ("veth", "loopback", "unix", "ring", "ivc spin", "ivc adaptive", "ivc block")
_SCALING = ("veth", "ivc spin", "ivc adaptive", "ivc block")


def as_markdown(runs: Sequence[JsonObject]) -> str:
    """Targets have a column for each run; what is measured beside them is of the first."""
    first = runs[0]
    return "\n".join(
        [
            *_table(["target", "wanted", *_headings(runs)], _targets(runs)),
            "",
            "Round trips over datagrams, p50 in us, by size:",
            "",
            *_by(first, "size", _SIZES, {"wait": "blocking"}),
            "",
            "By sockets in use on either side, 64 bytes, epoll:",
            "",
            *_by(first, "busy", _SCALING, {"wait": "epoll", "size": 64, "nodes": 2, "sockets": 1}),
            "",
            "Messages a second by nodes, one of which answers all others at once, 64 bytes, epoll:",
            "",
            *_by(
                first,
                "nodes",
                _SCALING,
                {"wait": "epoll", "size": 64, "busy": 1, "sockets": 1},
                "msgs_per_s",
                ".0f",
            ),
            "",
            *_table(
                ["measured once", "found"],
                ([name, f"{value:.3f}"] for name, value in first["figures"].items()),
            ),
        ]
    )


def carrier(row: JsonObject) -> str:
    """What a column is called: the wrapper's modes are told apart."""
    return f"{row['transport']} {row['mode']}" if row["transport"] == "ivc" else row["transport"]


def values(
    run: JsonObject, by: str, fixed: JsonObject, figure: str = "p50_us"
) -> dict[str, dict[int, float]]:
    """Medians of round trips over datagrams: by carrier, then by what is in the key `by`."""
    found: dict[str, dict[int, float]] = {}
    for row in run["rows"]:
        spread = row[figure]
        datagrams = row["protocol"] in ("udp", "dgram", "records")
        asked = row["transport"] == "ring" or all(row[key] == it for key, it in fixed.items())
        if row["pattern"] == "ping-pong" and datagrams and asked and spread:
            found.setdefault(carrier(row), {})[row[by]] = spread["median"]
    return found


def _headings(runs: Sequence[JsonObject]) -> list[str]:
    return ["found"] if len(runs) == 1 else [f"run {number}" for number in range(1, len(runs) + 1)]


def _targets(runs: Sequence[JsonObject]) -> Iterator[list[str]]:
    for targets in zip(*(run["targets"] for run in runs), strict=True):
        least, most = targets[0]["at_least"], targets[0]["at_most"]
        wanted = f"<= {most:g}" if least is None else f">= {least:g}"
        yield [targets[0]["name"], wanted, *map(_verdict, targets)]


def _verdict(target: JsonObject) -> str:
    if target["measured"] is None:
        return "-"
    text = f"{target['measured']:.2f}"
    return text if target["met"] else f"**{text}**"


def _by(
    run: JsonObject,
    key: str,
    columns: Sequence[str],
    fixed: JsonObject,
    figure: str = "p50_us",
    form: str = ".2f",
) -> Iterator[str]:
    found = values(run, key, fixed, figure)
    there = [name for name in columns if name in found]
    lines = sorted({at for name in there if name != "ring" for at in found[name]})
    return _table(
        [key, *there],
        (
            [
                str(at),
                *(format(found[name][at], form) if at in found[name] else "-" for name in there),
            ]
            for at in lines
        ),
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *lines):
        yield f"| {' | '.join(cells)} |"
