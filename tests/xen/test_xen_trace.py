# SPDX-License-Identifier: Apache-2.0
"""`ivc trace` in dom0 of what unmodified stacks send each other from guest to guest, by tshark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from trace_rows import Row, calls, complaints, decode
from traffic import (
    SECONDS,
    before,
    controlled,
    die,
    given_back,
    is_well,
    nothing_lost,
    on_rings,
    stop,
    wait_for_rings,
)

from ivc.lab.control import CLIENT_HOST, SERVER_HOST, JsonObject
from ivc.lab.xen.counts import Counts, look, take
from ivc.lab.xen.lab import XenLab, wait_until
from ivc.lab.xen.machine import Process
from ivc.lab.xen.ways import Way
from ivc.platform.xen_trace import ORDER_MOST
from ivc.shm.layout import PAGE, trace_region_size

__all__ = ["before", "controlled"]  # fixtures

CALLS = 300
CAPTURE = "/tmp/trace.pcapng"
COMMAND_LINE = "python3 -m ivc trace"
FIELDS = (
    *("frame.comment", "frame.time_epoch", "ip.src"),
    *("someip.serviceid", "someip.messagetype", "someip.sessionid"),
)
REQUEST, RESPONSE = "0x00", "0x80"
DOM0 = "Domain-0"
GRANTED = trace_region_size(ORDER_MOST) // PAGE
CLOCKS_S = 0.5
"""How far the real clocks of two domains may be apart: they begin with Xen's."""


@contextmanager
def tracing(lab: XenLab) -> Iterator[Process]:
    with lab.dom0.popen([*COMMAND_LINE.split(), "-w", CAPTURE, "--all"]) as process:
        process.wait_for("ivc trace: tracing", SECONDS)
        yield process


def end(lab: XenLab, process: Process, signal: str = "INT") -> str:
    """End it; what it has said."""
    lab.dom0.run(["pkill", f"-{signal}", "-f", COMMAND_LINE])
    return process.wait(SECONDS).stderr


@dataclass(frozen=True)
class Traced:
    """One run of two programs, its trace, and when that was by dom0's clock."""

    rows: list[Row]
    words: str
    server: JsonObject
    client: JsonObject
    began: float
    ended: float


def report(process: Process) -> JsonObject:
    found = json.loads(process.stdout)
    assert isinstance(found, dict)
    return found


def now(lab: XenLab) -> float:
    return float(lab.dom0.shell("date +%s.%N"))


def run(lab: XenLab, server_stack: str, client_stack: str, folder: Path) -> Traced:
    server, client = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
    env = Way.DIRECT.environment

    def command(module: str, address: str) -> list[str]:
        options = ["--address", address, "--count", str(CALLS)]
        return ["python3", "-m", f"ivc.lab.peers.{module}", *options]

    began = now(lab)
    serves = command(f"{server_stack}_server", server.address)
    asks = command(f"{client_stack}_client", client.address)
    with (
        tracing(lab) as trace,
        server.popen(serves, env=env, open_input=True) as serving,
        client.popen(asks, env=env, open_input=True) as calling,
    ):
        calling.wait_for("}\n", SECONDS)
        for process in (calling, serving):
            process.end_input()
            process.wait(SECONDS)
        words = end(lab, trace)
        reports = report(serving), report(calling)
    capture = folder / "trace.pcapng"
    capture.write_bytes(lab.dom0.get(CAPTURE))
    return Traced(decode(capture, FIELDS), words, *reports, began, now(lab))


@pytest.fixture(scope="module", params=["opensomeip", "pysomeip"])
def traced(
    request: pytest.FixtureRequest,
    controlled: XenLab,
    before: Counts,
    tmp_path_factory: pytest.TempPathFactory,
) -> Traced:
    server = str(request.param)
    client = "pysomeip" if server == "opensomeip" else "opensomeip"
    return run(controlled, server, client, tmp_path_factory.mktemp(f"of-{server}"))


def test_tshark_has_nothing_against_any_of_it(traced: Traced) -> None:
    assert traced.rows
    assert complaints(traced.rows) == []


def test_as_many_calls_and_answers_as_the_programs_counted(traced: Traced) -> None:
    counts = [calls(traced.rows, kind, CALLS) for kind in (REQUEST, RESPONSE)]
    assert counts == [traced.client["sent"], traced.server["sent"]]
    assert traced.client["sent"] >= CALLS
    assert "no room" not in traced.words


def test_nearly_all_of_it_went_directly(traced: Traced) -> None:
    direct = sum("path=direct" in row["frame.comment"] for row in traced.rows)
    assert direct > CALLS


def test_times_are_those_of_dom0(traced: Traced) -> None:
    times = [float(row["frame.time_epoch"]) for row in traced.rows]
    assert traced.began - CLOCKS_S < min(times)
    assert max(times) < traced.ended + CLOCKS_S


def test_afterwards_nothing_is_left(controlled: XenLab, traced: Traced, before: Counts) -> None:
    given_back(controlled, before)


def granted(counts: Counts) -> list[int]:
    """Pages of the guests that dom0 maps."""
    return [counts.grants.get((name, DOM0), 0) for name in (SERVER_HOST, CLIENT_HOST)]


def wait_for_trace_rings(lab: XenLab, without: Counts) -> None:
    wanted = [pages + GRANTED for pages in granted(without)]
    wait_until(lambda: granted(look(lab)) == wanted, f"no {wanted} pages", SECONDS)


@contextmanager
def traced_traffic(lab: XenLab) -> Iterator[tuple[Process, Process, Counts]]:
    """The client on rings, who traces it, and Xen's counts without the trace."""
    with on_rings(lab) as client:
        without = take(lab)
        with tracing(lab) as trace:
            wait_for_trace_rings(lab, without)
            yield client, trace, without


@pytest.mark.parametrize("signal", [pytest.param("INT", marks=pytest.mark.full), "KILL"])
def test_what_tracing_takes_is_given_back_while_programs_go_on(
    controlled: XenLab, signal: str
) -> None:
    with traced_traffic(controlled) as (client, trace, without):
        end(controlled, trace, signal)
        given_back(controlled, without)
        nothing_lost(controlled, client)


@pytest.mark.full
def test_a_guest_that_dies_while_it_is_traced_leaves_nothing(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with traced_traffic(controlled) as (_, trace, _):
        die(controlled, guest)
        assert trace.status is None
        end(controlled, trace)
        guest.create()
    given_back(controlled, before)


@pytest.mark.full
def test_a_guest_is_saved_and_restored_while_it_is_traced(
    controlled: XenLab, before: Counts
) -> None:
    """Its kernel would not survive a page of dom0's that is still mapped."""
    guest = controlled.domU(SERVER_HOST)
    with traced_traffic(controlled) as (client, trace, without):
        guest.save()
        guest.restore()
        wait_for_rings(controlled, client)
        wait_for_trace_rings(controlled, without)
        end(controlled, trace)
        stop(controlled, client)
    is_well(guest)
    given_back(controlled, before)
