# SPDX-License-Identifier: Apache-2.0
"""Seeded faults, as programs on rings feel them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endurance_field import ADDRESSES, Field, Program

from ivc.controller.client import add_fault, clear_faults, list_faults

PEER = str(Path(__file__).with_name("fault_peer.py"))
WARM, METHOD = 1, 2
THERE = f"{ADDRESSES['adas']}:30509"


@contextmanager
def caller(field: Field) -> Iterator[Program]:
    """Calls a server; direct flows both ways so far."""
    server = (ADDRESSES["adas"], "30509")
    with (
        field.python("adas", PEER, *server) as serves,
        field.python("hmi", PEER, ADDRESSES["hmi"], "30510", *server) as calls,
    ):
        assert serves.line() == calls.line() == "ready\n"
        await_path(field, calls, "direct")
        yield calls


def await_path(field: Field, calls: Program, path: str) -> None:
    """Calls that no fault is about, until they go that way; each must be answered.

    A flow's first messages go by the kernel, also once the status tells of it: so some more.
    """
    there = False
    for _ in range(100):
        assert calls.ask(f"{WARM} 20")["lost"] == []
        before, there = there, field.path(calls, THERE) == path
        if before and there:
            return
    raise AssertionError(f"not {path}: {field.flows()}")


def suffer(field: Field, calls: Program, count: int, **effect: Any) -> dict[str, Any]:
    """What becomes of calls under a fault of their requests; it is cleared afterwards."""
    match = {"from": "hmi", "to": "adas", "method": METHOD}
    add_fault(field.run_dir, {"match": match, **effect})
    await_path(field, calls, "relay")
    seen = calls.ask(f"{METHOD} {count}")
    (fault,) = list_faults(field.run_dir)["faults"]
    assert fault["matched"] == count
    clear_faults(field.run_dir)
    await_path(field, calls, "direct")
    return seen


def test_the_same_seed_takes_the_same_calls_from_a_program_twice(field: Field) -> None:
    with caller(field) as calls:
        once, again, other = (
            suffer(field, calls, 150, effect="drop", chance=0.1, seed=seed)["lost"]
            for seed in (7, 7, 8)
        )
    assert 3 < len(once) < 40
    assert again == once
    assert other != once


def test_a_delay_is_felt_and_gone_when_it_is_cleared(field: Field) -> None:
    with caller(field) as calls:
        late = suffer(field, calls, 20, effect="delay", delay=20_000_000)
        after = calls.ask(f"{METHOD} 20")
    assert late["lost"] == after["lost"] == []
    assert 0.020 <= late["median"] < 0.2
    assert after["median"] < 0.010
