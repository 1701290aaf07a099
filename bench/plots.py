# SPDX-License-Identifier: Apache-2.0
"""How times and rates grow with message size, sockets and nodes: SVG, from what `--json` writes.

Needs matplotlib, which `build.py bench --plots` installs and nothing else uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.markdown import JsonObject, values

_COLOURS = {
    "veth": "tab:red",
    "loopback": "tab:orange",
    "unix": "tab:olive",
    "ring": "black",
    "ivc spin": "tab:blue",
    "ivc adaptive": "tab:cyan",
    "ivc block": "tab:purple",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture: a line for each carrier. `by` is a key of a row, as is `figure`."""

    name: str
    by: str
    across: str
    up: str = "round trip, p50, us"
    figure: str = "p50_us"
    fixed: JsonObject = field(default_factory=dict)


PLOTS = (
    Plot("size", "size", "bytes of a message", fixed={"wait": "blocking"}),
    Plot(
        "sockets",
        "busy",
        "sockets used in turn",
        fixed={"wait": "epoll", "size": 64, "nodes": 2, "sockets": 1},
    ),
    Plot(
        "nodes",
        "nodes",
        "nodes, of which one answers all others",
        "messages a second",
        "msgs_per_s",
        {"wait": "epoll", "size": 64, "busy": 1, "sockets": 1},
    ),
)


def draw_all(run: JsonObject, folder: Path) -> list[Path]:
    """Write every picture there are rows for; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for plot in PLOTS if (path := _draw(run, plot, folder)) is not None]


def _draw(run: JsonObject, plot: Plot, folder: Path) -> Path | None:
    lines = values(run, plot.by, plot.fixed, plot.figure)
    lines = {name: line for name, line in lines.items() if name in _COLOURS and len(line) > 1}
    if not lines:
        return None
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    for name in sorted(lines, key=list(_COLOURS).index):
        at = sorted(lines[name])
        heights = [lines[name][one] for one in at]
        axes.plot(at, heights, marker="o", markersize=3, label=name, color=_COLOURS[name])
    ticks = _apart(sorted({at for line in lines.values() for at in line}))
    axes.set(xscale="log", yscale="log", xlabel=plot.across, ylabel=plot.up)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1))
    path = folder / f"bench-{plot.name}.svg"
    # No date and no random ids: the same figures are the same file.
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)
    return path


def _apart(ticks: list[int]) -> list[int]:
    """Those that are not written over the one before."""
    kept: list[int] = []
    for tick in ticks:
        if not kept or tick >= 2.5 * kept[-1]:
            kept.append(tick)
    return kept


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ivc"
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    return pyplot
