# SPDX-License-Identifier: Apache-2.0
"""What was measured, as one JSON object and as tables to be read. See docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cases import Case, Mode, Transport
from bench.flows import Figures
from bench.pingpong import Run
from bench.rounds import Measured, Series
from bench.targets import Target, ratios, targets

Spread = dict[str, float]
JsonObject = dict[str, Any]


def as_json(measured: Measured) -> JsonObject:
    """Its keys are described in docs/performance.md."""
    return {
        "machine": machine(),
        "rounds": len(measured.idle),
        "seconds": round(measured.seconds, 1),
        "idle": spread(measured.idle),
        "rows": [row(case, runs) for case, runs in measured.series.items()],
        "figures": dict(measured.figures),
        "instructions": dict(measured.instructions),
        "targets": [_target(one) for one in all_targets(measured)],
    }


def all_targets(measured: Measured) -> list[Target]:
    """Every target, met, missed or not measured."""
    return targets(measured.series, measured.instructions, measured.figures)


def machine() -> JsonObject:
    """What figures depend on."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return {
        "cpus": os.cpu_count(),
        "model": model[1] if model else platform.machine(),
        "kernel": platform.release(),
    }


def row(case: Case, runs: Sequence[Run]) -> JsonObject:
    """A case with medians and ranges over the rounds; null for what it has not."""
    return {
        "transport": case.transport,
        "protocol": case.protocol,
        "pattern": case.pattern,
        "mode": case.mode,
        "wait": case.wait,
        "size": case.size,
        "sockets": case.sockets,
        "busy": case.busy,
        "nodes": case.nodes,
        "p50_us": spread(run.p50_us for run in runs),
        "p90_us": spread(run.p90_us for run in runs),
        "p99_us": spread(run.p99_us for run in runs),
        "msgs_per_s": spread(run.msgs_per_s for run in runs),
        "cpu_us_per_msg": spread(run.cpu_us_per_msg for run in runs),
        "lost": spread(run.lost / run.sent for run in runs),
        "strange": sum(run.strange for run in runs),
        "wire": spread(run.wire for run in runs),
    }


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median and range."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "low": min(known), "high": max(known)}


def _target(target: Target) -> JsonObject:
    return {
        "name": target.name,
        "at_least": target.at_least,
        "at_most": target.at_most,
        "measured": target.measured,
        "low": min(target.values, default=None),
        "high": max(target.values, default=None),
        "met": target.met,
    }


def wrong(series: Series) -> list[str]:
    """What was lost where nothing may be, or came twice, late or damaged."""
    return [
        f"{case}: {lost} of {sent} lost, {strange} strange"
        for case, runs in series.items()
        for sent, lost, strange in [
            (
                sum(run.sent for run in runs),
                sum(run.lost for run in runs),
                sum(run.strange for run in runs),
            )
        ]
        if strange or (lost and not case.may_lose)
    ]


# ---- tables -------------------------------------------------------------------------------------


def as_text(measured: Measured) -> str:
    """Both tables."""
    here = machine()
    idle = statistics.median(measured.idle)
    lines = [
        f"{len(measured.idle)} rounds in {measured.seconds:.0f} s on {here['cpus']} CPUs"
        f" ({here['model']}, Linux {here['kernel']}), {idle:.0%} idle before them.",
        "Medians (lowest..highest of the rounds); CPU time of both sides; a round trip is two"
        " messages.",
        "",
        *_rows(measured.series),
        "",
        *_figures(measured.figures),
        *_targets(all_targets(measured)),
    ]
    return "\n".join(lines)


def _rows(series: Series) -> Iterator[str]:
    yield (
        f"{'transport':10}{'protocol':9}{'pattern':10}{'mode':9}{'wait':9}{'size':>6}{'sockets':>8}"
        f"{'busy':>5}{'nodes':>6}"
        f"  {'p50 us':24}{'p99 us':>9}{'b / x':>8}  {'messages a second':32}{'CPU us':>8}"
        f"{'lost':>7}{'wire':>6}"
    )
    for case, runs in series.items():
        this = row(case, runs)
        yield (
            f"{case.transport:10}{case.protocol:9}{case.pattern:10}{case.mode:9}{case.wait:9}"
            f"{case.size:6}{case.sockets:8}{case.busy:5}{case.nodes:6}"
            f"  {_range(this['p50_us'], '.2f'):24}{_median(this['p99_us'], '.2f'):>9}"
            f"{_gain(series, case):>8}  {_range(this['msgs_per_s'], '.0f'):32}"
            f"{_median(this['cpu_us_per_msg'], '.3f'):>8}{_median(this['lost'], '.1%'):>7}"
            f"{_median(this['wire'], '.2f'):>6}"
        )


def _figures(figures: Figures) -> Iterator[str]:
    for name, value in figures.items():
        yield f"{name:60}{value:12.3f}"
    if figures:
        yield ""


def _targets(found: Sequence[Target]) -> Iterator[str]:
    yield f"{'target (b veth and bridge, d bare ring, x ivc)':60}{'wanted':>9}  measured"
    for one in found:
        text = "not measured"
        if one.measured is not None:
            low, high = min(one.values), max(one.values)
            verdict = "met" if one.met else "MISSED"
            text = f"{one.measured:6.2f} ({low:.2f}..{high:.2f}) {verdict}"
        yield f"{one.name:60}{one.wanted:>9}  {text}"
    known = [one.met for one in found if one.met is not None]
    yield f"{sum(known)} of {len(known)} met"


def _gain(series: Series, case: Case) -> str:
    """How many times faster than veth, by p50 or by rate."""
    protocol = {"dgram": "udp", "stream": "tcp", "records": "udp"}.get(case.protocol, case.protocol)
    base = replace(case, transport=Transport.VETH, protocol=protocol, mode=Mode.BLOCK)
    values = ratios(series, base, case)
    if case.transport is Transport.VETH:
        return ""
    values = values or ratios(series, case, base, lambda run: run.msgs_per_s)
    return f"{statistics.median(values):.2f}" if values else "-"


def _median(found: Spread | None, form: str) -> str:
    return format(found["median"], form) if found else "-"


def _range(found: Spread | None, form: str) -> str:
    if not found:
        return "-"
    return f"{found['median']:{form}} ({found['low']:{form}}..{found['high']:{form}})"
