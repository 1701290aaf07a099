# SPDX-License-Identifier: Apache-2.0
"""One run of everything, of tiny counts: each transport in each pattern, and what is told of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import psutil
import pytest

from bench.cases import ASYNCIO, Case, Mode, Pattern, Transport, cases, on, veth
from bench.pingpong import PROGRAM, ROOT, Run
from bench.report import as_json, as_text, wrong
from bench.rounds import Effort, Measured, measure, wait_until_idle
from bench.targets import FIGURES, Target, targets
from ivc.lab.hosts import PREFIX

TINY = Effort(round_trips=100, paced=10, messages=500, idle_seconds=0)
LARGER = ({"busy": 4}, {"nodes": 3})
DOCUMENT = (ROOT / "docs" / "performance.md").read_text()


@pytest.fixture(scope="module")
def measured() -> Measured:
    waits = ("blocking", ASYNCIO)
    chosen = [case for case in cases(quick=True) if case.size == 64 and case.wait in waits]
    chosen += [veth("udp", Pattern.PING_PONG, wait="epoll", **more) for more in LARGER]
    return measure(chosen, 1, TINY)


def test_there_is_a_row_of_every_transport_in_every_pattern(measured: Measured) -> None:
    found = {(case.transport, case.pattern) for case in measured.series}
    assert found == {(one, pattern) for one in Transport for pattern in Pattern}


def test_nothing_is_lost_where_nothing_may_be(measured: Measured) -> None:
    assert wrong(measured.series) == []


def test_what_is_to_go_by_ring_does(measured: Measured) -> None:
    rings = {
        case: run.wire
        for case, (run,) in measured.series.items()
        if case.transport is Transport.IVC and case.pattern is Pattern.ONE_WAY
    }
    # What goes by the kernel while it warms up is less than 1; the flood would be 1.66.
    assert [case for case, wire in rings.items() if wire is None or wire > 1] == []


@pytest.fixture
def burner() -> Iterator[int]:
    """A process that takes all it gets."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def test_processor_time_is_the_other_sides_too(burner: int, tmp_path: Path) -> None:
    """200 round trips take the client 10 ms of it, in 400; the other gets a fair share of those."""
    server = subprocess.Popen([PROGRAM, "server", tmp_path, "s"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    command = [PROGRAM, "client", tmp_path, "c", tmp_path, "s", "--count", "200", "--warm", "1"]
    command += ["--pause", "2000", "--peer", str(burner)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    server.kill()
    server.wait()
    assert told["cpu_us_per_msg"] * 2 * told["received"] > 40e3


def documented(heading: str) -> set[str]:
    """The keys in the table under a heading of docs/performance.md."""
    section = DOCUMENT.split(f"\n{heading}\n")[1].split("\n#")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)", cell)}


def test_the_keys_of_the_json_are_those_documented(measured: Measured) -> None:
    told = json.loads(json.dumps(as_json(measured)))
    assert set(told) == documented("### The object")
    assert [set(row) for row in told["rows"]] == [documented("### A row")] * len(told["rows"])
    assert {key for one in told["targets"] for key in one} == documented("### A target")


def test_both_tables_have_a_line_for_each(measured: Measured) -> None:
    text = as_text(measured)
    assert len(text.splitlines()) >= len(measured.series) + len(targets(measured.series))


def test_no_round_is_begun_that_would_end_too_late() -> None:
    said: list[str] = []
    case = on(veth("udp", Pattern.PING_PONG), Transport.RING)
    brief = Effort(round_trips=10, idle_seconds=0, seconds=0.01)
    assert len(measure([case], 3, brief, said.append).idle) == 1
    assert "1 round(s) must do" in said[-1]


# ---- targets ------------------------------------------------------------------------------------

NATIVE = veth("udp", Pattern.PING_PONG)


def run_of(p50: float) -> Run:
    return Run(p50, p50, p50, 1.0, 1.0, 1, 0, 0, None)


def target_of(name: str, mode: Mode, native: list[float], rings: list[float]) -> Target:
    series = {
        NATIVE: [run_of(p50) for p50 in native],
        on(NATIVE, Transport.IVC, mode): [run_of(p50) for p50 in rings],
    }
    return next(target for target in targets(series) if target.name == name)


CALLS = ("send", "receive")
SPINNING = "udp round trip 64 B p50, spin, blocking: b / x"


@pytest.mark.parametrize(("rings", "met"), [([0.5, 0.5, 9.0], True), ([0.5, 0.6, 0.6], False)])
def test_a_target_is_judged_by_the_median_of_the_rounds(rings: list[float], met: bool) -> None:
    assert target_of(SPINNING, Mode.SPIN, [10.0, 10.0, 10.0], rings).met is met


def test_rounds_are_compared_with_themselves() -> None:
    """The machine became three times slower: no gain is made of it, and none lost."""
    target = target_of(SPINNING, Mode.SPIN, [10.0, 30.0], [0.5, 1.5])
    assert target.values == (20.0, 20.0)


def test_the_lower_quartile_counts_where_it_is_asked_for() -> None:
    name = "udp round trip 64 B p50, block: b / x, lower quartile"
    target = target_of(name, Mode.BLOCK, [8.0, 8.0, 15.0, 15.0, 15.0], [10.0] * 5)
    assert (target.measured, target.met) == (0.8, False)


def test_a_slow_client_is_measured_by_what_there_was_to_save() -> None:
    """Python takes 100 us on any transport; 8 of the 10 us that were to be saved are."""
    client = replace(NATIVE, wait=ASYNCIO)
    epoll = replace(NATIVE, wait="epoll")
    series = {
        client: [run_of(110.0)],
        on(client, Transport.IVC, Mode.SPIN): [run_of(102.0)],
        epoll: [run_of(10.5)],
        on(epoll, Transport.RING): [run_of(0.5)],
    }
    found = next(one for one in targets(series) if one.name.startswith("asyncio client"))
    assert (found.measured, found.met) == (pytest.approx(0.8), True)


def test_what_was_left_out_is_not_called_missed() -> None:
    assert {target.met for target in targets({})} == {None}


def test_every_target_has_its_rows_in_a_quick_run() -> None:
    times = {Transport.VETH: 15.0, Transport.RING: 0.5}
    series = {case: [run_of(times.get(case.transport, 1.0))] for case in cases(quick=True)}
    counted = {f"{one} unmatched {call}": 1.0 for one in ("udp", "tcp") for call in CALLS}
    unknown = {one.name for one in targets(series, counted) if one.met is None}
    assert unknown == {name for name, _ in FIGURES}


# ---- what is not good ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "good"),
    [
        (veth("udp", Pattern.ONE_WAY), True),
        (veth("udp", Pattern.PING_PONG), False),
        (veth("tcp", Pattern.ONE_WAY), False),
        (on(veth("udp", Pattern.ONE_WAY), Transport.RING), False),
    ],
)
def test_only_a_flood_of_datagrams_may_lose(case: Case, good: bool) -> None:
    run = Run(None, None, None, 1.0, 1.0, sent=10, lost=1, strange=0, wire=None)
    assert (wrong({case: [run]}) == []) is good


# ---- the command --------------------------------------------------------------------------------


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "build.py", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_verb_passes_its_arguments_on() -> None:
    done = bench("--help")
    assert (done.returncode, "--quick" in done.stdout) == (0, True)


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = bench("--quick", "--json", str(tmp_path / "none" / "f.json"))
    assert done.returncode == 1
    assert "none/f.json" in done.stderr
    assert "round 1" not in done.stderr


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(tmp_path / "f.json")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def test_ctrl_c_leaves_nothing_behind(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert running.stderr is not None
    assert "round 1" in running.stderr.readline()
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    mine = f"{PREFIX}-{running.pid}-"
    left = [*Path("/run/netns").glob(f"{mine}*"), *Path(gettempdir()).glob(f"{mine}*")]
    assert [*left, *tmp_path.iterdir()] == []
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert [command for command in commands if mine.encode() in command] == []


def test_a_short_look_at_idle_processors_finds_them_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's shares of less than a second add up to less than 100."""
    moment = psutil.cpu_times_percent()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 0.0))
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda _: moment._replace(idle=20.0))
    assert wait_until_idle(0) == 1.0
