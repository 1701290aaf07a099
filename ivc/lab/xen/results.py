# SPDX-License-Identifier: Apache-2.0
"""What a scenario has shown: judged, as one JSON object, or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ivc.lab.control import JsonObject
from ivc.lab.report import WIRE_LIMIT, columns
from ivc.lab.xen.ways import Way


@dataclass(frozen=True, slots=True)
class Run:
    """One program or pair of programs, one way. Times in us, sizes in bytes of payload.

    `spoiled` messages came twice, damaged or out of order. `vif_fraction` is the payload
    that crossed the client's vif, service discovery included, per byte sent. `outside_*`
    count what the node outside exchanged with the server meanwhile, None: there was none.
    """

    path: Way
    program: str
    size: int
    p50: float
    p99: float
    messages: int
    lost: int
    spoiled: int
    vif_fraction: float
    outside_messages: int | None = None
    outside_lost: int | None = None

    @property
    def good(self) -> bool:
        """Nothing lost or spoiled anywhere; a stack's messages all but absent from the vif."""
        if self.lost or self.spoiled or self.outside_lost:
            return False
        inside = self.outside_messages is not None and self.path is not Way.VIF
        return not inside or self.vif_fraction < WIRE_LIMIT


def ratio(run: Run, runs: Sequence[Run]) -> float | None:
    """How many times faster it is than the same over the vif, by p50; None: not measured."""
    for other in runs:
        same = (other.program, other.size) == (run.program, run.size)
        if same and other.path is Way.VIF and run.p50:
            return other.p50 / run.p50
    return None


def as_json(runs: Sequence[Run]) -> JsonObject:
    """All runs as one object."""
    return {"good": all(run.good for run in runs), "runs": [_as_json(run, runs) for run in runs]}


def _as_json(run: Run, runs: Sequence[Run]) -> JsonObject:
    times = ratio(run, runs)
    return {
        "path": run.path.value,
        "protocol": "udp",
        "program": run.program,
        "size": run.size,
        "rtt_us": {"p50": run.p50, "p99": run.p99},
        "ratio_to_vif": None if times is None else round(times, 2),
        "messages": run.messages,
        "lost": run.lost,
        "spoiled": run.spoiled,
        "vif_fraction": round(run.vif_fraction, 4),
        "outside": None
        if run.outside_messages is None
        else {"messages": run.outside_messages, "lost": run.outside_lost},
    }


def as_table(runs: Sequence[Run]) -> str:
    """All runs as text."""
    rows: list[tuple[str, ...]] = [
        (
            *("program", "path", "bytes", "p50 us", "p99 us", "vs vif", "messages", "lost"),
            *("spoiled", "on vif", "outside: messages", "lost"),
        )
    ]
    for run in runs:
        times = ratio(run, runs)
        rows.append(
            (
                *(run.program, run.path.value, str(run.size), f"{run.p50:.0f}", f"{run.p99:.0f}"),
                "-" if times is None else f"{times:.1f}x",
                *(f"{run.messages:,}", str(run.lost), str(run.spoiled), f"{run.vif_fraction:.2%}"),
                "-" if run.outside_messages is None else f"{run.outside_messages:,}",
                "-" if run.outside_lost is None else str(run.outside_lost),
            )
        )
    return columns(rows)
