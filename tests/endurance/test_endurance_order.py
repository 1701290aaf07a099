# SPDX-License-Identifier: Apache-2.0
"""Flows come and go while service discovery and numbered traffic run: nobody notices."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from endurance_field import (
    ADDRESSES,
    FULL,
    GROUP,
    SEED,
    Field,
    FieldMaker,
    Program,
    Traffic,
    assert_whole,
    size,
)

RATE = 2000
REST_S = 0.3
SD_PEER = str(Path(__file__).with_name("sd_peer.py"))
SD_GROUP = "224.224.224.245:30490"


@dataclass(slots=True)
class Crowd:
    """Numbered traffic both ways, by unicast and multicast, and service discovery on both hosts."""

    adas: Traffic
    hmi: Traffic
    members: tuple[Traffic, ...]
    discoveries: tuple[Program, ...]
    ways: Sequence[tuple[Program, str]]

    def rest(self) -> None:
        """Stop sending and let everything arrive."""
        for each in (self.adas, self.hmi):
            each.order("pause")
        time.sleep(REST_S)

    def assert_whole(self) -> int:
        """Nobody missed anything. Returns how many datagrams were sent."""
        count = assert_whole(self.adas, self.hmi) + assert_whole(self.hmi, self.adas)
        for member in self.members:
            count += assert_whole(self.adas, member, 1) + assert_whole(self.hmi, member, 1)
        for program in self.discoveries:
            seen = program.ask("report")
            assert (seen["reboots"], seen["jumps"]) == (0, []), seen
            assert min(seen["multicast"], seen["unicast"]) > 10, seen
        return count


@contextmanager
def crowd(field: Field, *options: object) -> Iterator[Crowd]:
    """Everybody at work on direct, relayed or no flows, as the mapping says."""
    group, port = GROUP.split(":")
    with ExitStack() as stack:

        def traffic(host: str, port: int, to: str) -> Traffic:
            more = ("--rate", RATE, "--to", to, "--to", GROUP, *options)
            return stack.enter_context(field.traffic(host, port, *more))

        def member(host: str, bind: str) -> Traffic:
            more = ("--join", group, *options)
            return stack.enter_context(field.traffic(host, int(port), *more, bind=bind))

        def discovery(host: str, own: int, wanted: int) -> Program:
            command = (SD_PEER, ADDRESSES[host], str(own), str(wanted))
            return stack.enter_context(field.python(host, *command))

        members = member("adas", group), member("hmi", "0.0.0.0")
        adas = traffic("adas", 30509, f"{ADDRESSES['hmi']}:30510")
        hmi = traffic("hmi", 30510, f"{ADDRESSES['adas']}:30509")
        discoveries = discovery("adas", 30511, 30512), discovery("hmi", 30512, 30511)
        ways: list[tuple[Program, str]] = [(adas, hmi.address), (hmi, adas.address)]
        ways += [(adas, GROUP), (hmi, GROUP)]
        for program in discoveries:
            assert program.line() == "found\n"
            ways.append((program, SD_GROUP))
        for each in (adas, hmi):
            each.order("go")
        yield Crowd(adas, hmi, members, discoveries, ways)


def cycle(field: Field, ways: Sequence[tuple[Program, str]], paths: Sequence[str]) -> None:
    """Give all these ways one path after the other, each taken up before the next."""
    for path in paths:
        field.replan(path)
        field.await_path(path, ways)


def plans(count: int) -> Iterator[tuple[str, ...]]:
    """Ways to take every flow away and give it back, by seed; it ends on the first path."""
    choose = random.Random(SEED).choice
    for _ in range(count):
        yield choose(
            [("network", "direct"), ("network", "relay", "direct"), ("relay", "network", "direct")]
        )


WAITS = ["poll", "block", "epoll", "epoll-et"]


@pytest.mark.parametrize("wait", WAITS if FULL else WAITS[:1])
def test_a_thousand_direct_flows_come_and_go_unnoticed(field: Field, wait: str) -> None:
    with crowd(field, "--wait", wait) as everybody:
        for _ in range(size(25, 1000)):
            cycle(field, everybody.ways, ("network", "direct"))
        everybody.rest()
        everybody.assert_whole()


@pytest.mark.parametrize("wait", WAITS if FULL else WAITS[3:])
def test_every_change_of_path_goes_unnoticed(field_maker: FieldMaker, wait: str) -> None:
    """Datagrams beyond half a ring, which go by the kernel always, keep their place too."""
    options = ("--wait", wait, "--large", 50, "--rate", RATE // 2)
    with field_maker(ring="64KiB") as field, crowd(field, *options) as everybody:
        for plan in plans(size(15, 334)):
            cycle(field, everybody.ways, plan)
        everybody.rest()
        everybody.assert_whole()


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_what_no_ring_takes_keeps_its_place(field_maker: FieldMaker, path: str) -> None:
    """Every 20th datagram goes by the kernel, between those that go by the ring."""
    options = ("--wait", "epoll-et", "--large", 20, "--rate", RATE // 2)
    with field_maker(path=path, ring="64KiB") as field, crowd(field, *options) as everybody:
        field.await_path(path, everybody.ways)
        time.sleep(size(2, 20))
        everybody.rest()
        everybody.assert_whole()


def test_changes_go_unnoticed_with_doorbells_like_event_channels(field_maker: FieldMaker) -> None:
    with field_maker(bell="channel") as field, crowd(field, "--wait", "epoll") as everybody:
        for plan in plans(size(10, 100)):
            cycle(field, everybody.ways, plan)
        everybody.rest()
        everybody.assert_whole()


STACKS = [("opensomeip", "pysomeip"), ("pysomeip", "opensomeip")]


@pytest.mark.parametrize(("server", "client"), STACKS)
def test_unmodified_stacks_do_not_notice_either(field: Field, server: str, client: str) -> None:
    """Calls, answers, events and discovery of two third-party stacks, each in both parts."""

    def peer(host: str, stack: str, part: str) -> AbstractContextManager[Program]:
        options = ("--address", ADDRESSES[host], "--count", str(size(5000, 200_000)))
        return field.python(host, "-m", f"ivc.lab.peers.{stack}_{part}", *options)

    with peer("adas", server, "server") as serves, peer("hmi", client, "client") as calls:
        ways = [(calls, f"{ADDRESSES['adas']}:30509"), (serves, f"{ADDRESSES['hmi']}:30519")]
        field.await_path("direct", ways)
        changes = 0
        for plan in plans(10_000):
            if calls.has_line():
                break
            cycle(field, ways, plan)
            changes += 1
        reports = [json.loads(calls.line())]
        calls.end()  # first: its answer to the end of the service may hang opensomeip
        serves.end()
        reports.append(json.loads(serves.line()))
        for each in reports:
            counts = {name: each[name] for name in ("twice", "out_of_order", "lost", "events_lost")}
            assert set(counts.values()) == {0}, json.dumps(each)
            assert each["reboots_detected"] in (0, None), each  # opensomeip does not tell
        assert changes >= size(3, 100), "the calls were over before anything changed"
