# SPDX-License-Identifier: Apache-2.0
"""What was measured as tables for the documents, and as pictures."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cases import Case, Mode, Pattern, Transport, on, veth
from bench.markdown import as_markdown
from bench.pingpong import ROOT, Run
from bench.plots import PLOTS, draw_all
from bench.report import as_json
from bench.rounds import Measured

SPINNING = "udp round trip 64 B p50, spin, blocking: b / x"


def told(ours: float) -> dict[str, Any]:
    """A run in which veth takes 20 us, and IVC `ours`."""

    def run(p50: float) -> Run:
        return Run(p50, p50, p50, 1e6 / p50, 1.0, 10, 0, 0, None)

    natives = [
        *(veth("udp", Pattern.PING_PONG, size=size) for size in (8, 64)),
        *(veth("udp", Pattern.PING_PONG, wait="epoll", busy=busy) for busy in (1, 4)),
        veth("udp", Pattern.PING_PONG, wait="epoll", nodes=8),
    ]
    series: dict[Case, list[Run]] = {case: [run(20.0)] for case in natives}
    series |= {on(case, Transport.IVC, Mode.SPIN): [run(ours)] for case in natives}
    return json.loads(json.dumps(as_json(Measured(series, (1.0,), 1.0, {}, {"one, ms": 0.25}))))


def test_every_run_has_a_column_and_what_is_missed_is_bold() -> None:
    text = as_markdown([told(0.5), told(5.0)])
    assert "| target | wanted | run 1 | run 2 |" in text
    assert f"| {SPINNING} | >= 20 | 40.00 | **4.00** |" in text


def test_what_was_not_measured_is_not_bold() -> None:
    assert "| idle process, 50 attached sockets: CPU, % | <= 0.1 | - |" in as_markdown([told(1.0)])


@pytest.mark.parametrize(
    "line",
    [
        "| 8 | 20.00 | 0.50 |",
        "| 4 | 20.00 | 0.50 |",
        "| 8 | 50000 | 2000000 |",
        "| one, ms | 0.250 |",
    ],
)
def test_there_are_lines_by_size_by_sockets_by_nodes_and_what_was_measured_once(line: str) -> None:
    assert line in as_markdown([told(0.5)]).splitlines()


def test_figures_of_earlier_runs_are_read_back(tmp_path: Path) -> None:
    for name, ours in (("a", 0.5), ("b", 5.0)):
        (tmp_path / name).write_text(json.dumps(told(ours)))
    read = ["--read", str(tmp_path / "a"), "--read", str(tmp_path / "b"), "--markdown"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *read],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == as_markdown([told(0.5), told(5.0)]) + "\n"


def test_the_document_shows_every_picture() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    for plot in PLOTS:
        picture = f"pictures/bench-{plot.name}.svg"
        assert f"({picture})" in text
        assert (ROOT / "docs" / picture).stat().st_size < 60_000


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="no matplotlib: build.py bench --plots installs it",
)
def test_the_same_figures_are_the_same_pictures(tmp_path: Path) -> None:
    run = told(0.5)
    one, other = draw_all(run, tmp_path / "one"), draw_all(run, tmp_path / "other")
    assert [path.name for path in one] == [f"bench-{plot.name}.svg" for plot in PLOTS]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
