# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at any instant: the rest goes on, a restart re-attaches, nothing is left behind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from dataclasses import field as member

import pytest
from endurance_field import (
    ADDRESSES,
    SEED,
    Field,
    FieldMaker,
    Footprint,
    Program,
    Stream,
    Traffic,
    assert_whole,
    size,
    wait_until,
)

RATE = 2000
KILLS = size(12, 100)
INSTANT_S = 0.15
"""Kills fall into this long after everything is attached: start-up, switch and steady state."""
MEMORY_KIB = 1024
"""What a survivor's own memory may grow by."""


@dataclass(slots=True)
class Company:
    """Client and server talk to each other; two bystanders on the same hosts do too."""

    field: Field
    rest: ExitStack
    mortal: dict[str, Traffic] = member(default_factory=dict)
    bystanders: tuple[Traffic, Traffic] | None = None
    _lives: dict[str, ExitStack] = member(default_factory=dict)

    def start(self, role: str) -> Traffic:
        """Start the client or the server (again), already sending."""
        host, port, to = {
            "server": ("adas", 30509, f"{ADDRESSES['hmi']}:30510"),
            "client": ("hmi", 30510, f"{ADDRESSES['adas']}:30509"),
        }[role]
        life = self._lives[role] = self.rest.enter_context(ExitStack())
        made = life.enter_context(self.field.traffic(host, port, "--rate", RATE, "--to", to))
        made.order("go")
        self.mortal[role] = made
        return made

    def kill(self, role: str) -> None:
        """SIGKILL, and gone."""
        self.mortal.pop(role).kill()
        self._lives.pop(role).close()

    def ways(self) -> list[tuple[Program, str]]:
        """All that shall be on rings."""
        assert self.bystanders is not None
        pairs = [(self.mortal["server"], self.mortal["client"]), self.bystanders]
        return [way for a, b in pairs for way in ((a, b.address), (b, a.address))]

    def attached(self, path: str) -> None:
        """Wait until everything is on rings, and flows there."""
        self.field.await_path(path, self.ways())
        server, client = self.mortal["server"], self.mortal["client"]
        for receiver, sender in ((server, client), (client, server)):
            receiver.await_arrivals(f"anything from {sender.address}", sender)

    def spoiled(self) -> list[Stream]:
        """Streams with anything twice, out of order or damaged, at whoever lives."""
        return [
            stream
            for program in self.mortal.values()
            for stream in program.streams().values()
            if stream.spoiled != (0, 0, 0)
        ]

    def pause(self) -> None:
        for program in (*self.mortal.values(), *(self.bystanders or ())):
            program.order("pause")
        time.sleep(0.3)


@contextmanager
def company(field: Field, path: str) -> Iterator[Company]:
    """Everybody attached and talking."""
    with ExitStack() as rest:
        made = Company(field, rest)
        to_hmi, to_adas = f"{ADDRESSES['hmi']}:30512", f"{ADDRESSES['adas']}:30511"
        made.bystanders = (
            rest.enter_context(field.traffic("adas", 30511, "--rate", RATE, "--to", to_hmi)),
            rest.enter_context(field.traffic("hmi", 30512, "--rate", RATE, "--to", to_adas)),
        )
        made.start("server")
        made.start("client")
        for each in made.bystanders:
            each.order("go")
        made.attached(path)
        yield made


def kill_controller(everybody: Company) -> None:
    everybody.field.kill_controller()
    for program in (*everybody.mortal.values(), *(everybody.bystanders or ())):
        program.await_arrivals("life without a controller")
    everybody.field.start_controller()


def kill_and_restart(role: str) -> Callable[[Company], None]:
    def act(everybody: Company) -> None:
        everybody.kill(role)
        everybody.start(role)

    return act


ACTS = {
    "controller": kill_controller,
    "client": kill_and_restart("client"),
    "server": kill_and_restart("server"),
}


def kill_often(everybody: Company, path: str, victim: str, kills: int) -> None:
    """Kill one after the other at random instants; each time everything must attach again."""
    instants = random.Random(f"{SEED} {victim}")
    for _ in range(kills):
        time.sleep(instants.random() * INSTANT_S)
        ACTS[victim](everybody)
        everybody.attached(path)


def footprints(everybody: Company) -> dict[str, Footprint]:
    """Of everybody who is still who he was."""
    assert everybody.bystanders is not None
    programs: dict[str, Program] = {**everybody.mortal}
    programs |= {program.address: program for program in everybody.bystanders}
    found = {name: Footprint.of(program.pid) for name, program in programs.items()}
    assert everybody.field.controller is not None
    found["controller"] = Footprint.of(everybody.field.controller.pid)
    return found


def assert_no_leak(before: dict[str, Footprint], after: dict[str, Footprint]) -> None:
    assert before.keys() == after.keys()
    for name, now in after.items():
        was = before[name]
        held = (now.descriptors, now.regions, now.threads)
        assert held == (was.descriptors, was.regions, was.threads), f"{name}: {was} -> {now}"
        assert now.memory < was.memory + MEMORY_KIB, f"{name}: {was} -> {now}"


def settled(everybody: Company, before: dict[str, Footprint]) -> dict[str, Footprint]:
    """The footprints, given time to let go of what the last kill left."""

    def same() -> bool:
        now = footprints(everybody)
        return all(
            (now[name].descriptors, now[name].regions) == (was.descriptors, was.regions)
            for name, was in before.items()
        )

    with suppress(AssertionError):  # the comparison says what differs
        wait_until(same, "settled", 5.0)
    return footprints(everybody)


def survive(field: Field, path: str, victim: str, kills: int) -> None:
    """Kill and look at everything that could have suffered."""
    with company(field, path) as everybody:
        kill_often(everybody, path, victim, 2)  # the first ones fill caches
        before, processes = settled(everybody, {}), field.pids()
        files = sorted(entry.name for entry in field.run_dir.iterdir())
        kill_often(everybody, path, victim, kills)
        assert_no_leak(before, settled(everybody, before))
        assert len(field.pids()) == len(processes)
        assert sorted(entry.name for entry in field.run_dir.iterdir()) == files
        everybody.pause()
        assert everybody.bystanders is not None
        if path == "direct":
            one, other = everybody.bystanders
            assert assert_whole(one, other) + assert_whole(other, one) > kills
            assert everybody.spoiled() == []


@pytest.mark.parametrize("victim", ACTS)
def test_killed_at_any_instant_the_rest_goes_on(field: Field, victim: str) -> None:
    survive(field, "direct", victim, KILLS)


@pytest.mark.parametrize("victim", ACTS)
def test_killed_behind_a_relay_the_rest_goes_on(field_maker: FieldMaker, victim: str) -> None:
    with field_maker(path="relay") as field:
        survive(field, "relay", victim, size(2, 25))


def test_killed_with_doorbells_like_event_channels(field_maker: FieldMaker) -> None:
    with field_maker(bell="channel") as field:
        for victim in ACTS:
            survive(field, "direct", victim, size(1, 15))


def test_a_process_that_only_sends_is_attached_again_too(field: Field) -> None:
    """It never waits for anything, so nothing but its own sending can tell it of the restart."""
    to = f"{ADDRESSES['hmi']}:30510"
    with (
        field.traffic("hmi", 30510) as receiver,
        field.traffic("adas", 30509, "--deaf", "--rate", RATE, "--to", to) as sender,
    ):
        sender.order("go")
        for _ in range(size(2, 20)):
            field.await_path("direct", [(sender, to)])
            field.kill_controller()
            receiver.await_arrivals("life without a controller", sender)
            field.start_controller()
        field.await_path("direct", [(sender, to)])
        sender.order("pause")
        time.sleep(0.3)
        assert_whole(sender, receiver)
