# SPDX-License-Identifier: Apache-2.0
"""One socket serves a flooding client by ring and one outside by the kernel at once.

Two processors are enough: the server has one; on the other the flooding client gets only the
time the measured one leaves (SCHED_FIFO), so that what is measured is the socket and not the
scheduler; other programs of the machine get next to nothing of either. Rounds alternate between
alone and flooded; each has a p99, their medians are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

from endurance_field import ADDRESSES, ROOT, Field, FieldMaker, Program, Traffic, size

PINGPONG = str(ROOT / "build" / "pingpong")
ROUNDS = size(5, 15)
CALLS = size(1500, 5000)
SERVER_CPU, CLIENT_CPU = 1, 0
NOT_WORSE = 2.0
FLOOD = 100_000
"""Echoes a second by ring, at the least, for it to count as a flood."""


def goes_first(program: Program) -> None:
    """Other programs of this machine are not what is measured, alone or flooded.

    Every program here is a session of its own, and where the kernel groups by session
    (CONFIG_SCHED_AUTOGROUP) priorities count inside one only: the group needs its own.
    """
    os.setpriority(os.PRIO_PROCESS, program.pid, -20)
    autogroup = Path(f"/proc/{program.pid}/autogroup")
    if autogroup.exists():
        autogroup.write_text("-20")


def goes_at_once(program: Program) -> None:
    """Run as soon as it is woken: otherwise a kernel with PREEMPT_NONE or PREEMPT_LAZY lets
    whoever computes go on until the next tick, up to 4 ms, which no socket can help."""
    os.sched_setscheduler(program.pid, os.SCHED_FIFO, os.sched_param(1))


def p99_from_outside(field: Field) -> float:
    """Round trips of a client without wrapper on the outside host; none may be lost."""
    command = [PINGPONG, "client", ADDRESSES["ext"], "40000", ADDRESSES["adas"], "30509"]
    command += ["--cpu", str(CLIENT_CPU), "--count", str(CALLS)]
    with field.running(field.lab["ext"], command, wrapped=False) as (process, words):
        client = Program(process, words)
        goes_at_once(client)
        report = json.loads(client.line())
    assert (report["lost"], report["strange"]) == (0, 0)
    return float(report["rtt_us"]["p99"])


def answers(flood: Traffic) -> int:
    return flood.received()


def test_a_flood_by_ring_does_not_slow_a_client_outside(field_maker: FieldMaker) -> None:
    server = [PINGPONG, "server", ADDRESSES["adas"], "30509"]
    server += ["--wait", "poll", "--cpu", str(SERVER_CPU)]
    options = ("--rate", 0, "--cpu", CLIENT_CPU, "--to", f"{ADDRESSES['adas']}:30509")
    alone, flooded, rates = [], [], []
    with (
        field_maker(external=True) as field,
        field.running(field.lab["adas"], server, wrapped=True) as (process, words),
        field.traffic("hmi", 30510, *options) as flood,
    ):
        served_by = Program(process, words)
        assert served_by.line() == "ready\n"
        flood.order("go")
        field.await_path("direct", [(flood, f"{ADDRESSES['adas']}:30509")])
        # Only now: with both processors taken, the controller had next to no time for the flow.
        goes_first(served_by)
        goes_first(flood)
        for _ in range(ROUNDS):
            flood.order("pause")
            time.sleep(0.05)
            alone.append(p99_from_outside(field))
            flood.order("go")
            before, begin = answers(flood), time.monotonic()
            flooded.append(p99_from_outside(field))
            rates.append((answers(flood) - before) / (time.monotonic() - begin))
        assert field.counters(flood)["rx_ring_msgs"] > 0
    ratio = statistics.median(flooded) / statistics.median(alone)
    print(f"p99 alone {alone}, flooded {flooded}, ratio {ratio:.2f}, echoes/s {rates}")
    assert min(rates) > FLOOD, f"no flood: {rates} echoes a second"
    assert ratio <= NOT_WORSE, f"p99 alone {alone}, flooded {flooded}"
