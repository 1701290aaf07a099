# SPDX-License-Identifier: Apache-2.0
"""A receiver that stops reading, and a process that writes rubbish over its own shared memory."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from endurance_field import (
    ADDRESSES,
    GROUP,
    PATIENCE_S,
    SEED,
    Field,
    FieldMaker,
    Program,
    Traffic,
    assert_whole,
    balance,
    size,
    wait_until,
)

RATE = 2000
STALL_S = 1.0
PATHS = ["direct", "relay"]


@pytest.mark.parametrize("path", PATHS)
def test_a_receiver_that_stops_costs_only_what_does_not_fit(
    field_maker: FieldMaker, path: str
) -> None:
    """The newest are dropped and counted; whoever else the sender serves notices nothing."""
    to = ("--to", f"{ADDRESSES['adas']}:30509", "--to", f"{ADDRESSES['adas']}:30511")
    with (
        field_maker(path=path, ring="64KiB") as field,
        field.traffic("adas", 30509) as stopped,
        field.traffic("adas", 30511) as other,
        field.traffic("hmi", 30510, "--rate", RATE, *to) as sender,
    ):
        sender.order("go")
        field.await_path(path, [(sender, stopped.address), (sender, other.address)])
        time.sleep(0.2)
        stopped.process.send_signal(signal.SIGSTOP)
        before, seen = sender.sent(), other.received()
        time.sleep(STALL_S)
        pace = (sender.sent()[0] - before[0]) / STALL_S
        progress = other.received() - seen
        stopped.process.send_signal(signal.SIGCONT)
        at = balance(sender, stopped).stream.received
        wait_until(lambda: balance(sender, stopped).stream.received > at + RATE / 10, "going on")
        sender.order("pause")
        time.sleep(0.3)
        assert pace > RATE / 2, "the sender was held up"
        assert progress > RATE * STALL_S / 2, "the other receiver was held up"
        assert_whole(sender, other, 1)
        found = balance(sender, stopped)
        assert found.stream.spoiled == (0, 0, 0), stopped.said()
        assert found.lost > 0, "the ring was large enough for everything: nothing was tried"
        assert found.lost == dropped(field, sender), found
        assert field.path(sender, stopped.address) == path


def dropped(field: Field, sender: Program) -> int:
    """What the sender's wrapper and the relay say they had no room for."""
    status = field.status()
    assert status is not None
    return field.counters(sender)["tx_full"] + int(status["relay"]["dropped_full"])


@pytest.mark.parametrize("path", PATHS)
def test_rubbish_in_shared_memory_costs_only_its_author_the_rings(
    field_maker: FieldMaker, path: str
) -> None:
    """A process spoils everything it may write: its rings' records, and its own control pages."""
    seeds = random.Random(SEED)
    hostile_to = f"{ADDRESSES['adas']}:30509"
    with (
        field_maker(path=path, ring="64KiB") as field,
        field.traffic("adas", 30509, "--to", f"{ADDRESSES['hmi']}:30510") as peer,
        field.traffic("adas", 30511, "--to", f"{ADDRESSES['hmi']}:30512") as bystander,
        field.traffic("hmi", 30512, "--to", f"{ADDRESSES['adas']}:30511") as friend,
    ):
        for each in (peer, bystander, friend):
            each.order("go")
        for _ in range(size(3, 50)):
            with field.traffic("hmi", 30510, "--to", hostile_to) as hostile:
                hostile.order("go")
                field.await_path(path, [(hostile, peer.address), (peer, hostile.address)])
                spoil(field, hostile, peer, seeds.randrange(1 << 31))
        for each in (peer, bystander, friend):
            assert each.alive()
            each.order("pause")
        time.sleep(0.3)
        assert_whole(bystander, friend)
        assert_whole(friend, bystander)


LATE_S = 0.3
"""Longer than the wrapper waits for a relay (RELAY_SETTLE_NS)."""


@contextmanager
def stopped_controller(field: Field) -> Iterator[None]:
    """The controller does nothing for longer than anybody waits for it."""
    assert field.controller is not None
    field.controller.send_signal(signal.SIGSTOP)
    yield
    time.sleep(LATE_S)
    field.controller.send_signal(signal.SIGCONT)


@contextmanager
def two_ways(field: Field, rate: int) -> Iterator[list[Traffic]]:
    """Two programs that send to each other."""
    adas, hmi = (f"{ADDRESSES[name]}:{port}" for name, port in (("adas", 30509), ("hmi", 30510)))
    with (
        field.traffic("adas", 30509, "--rate", rate, "--to", hmi) as one,
        field.traffic("hmi", 30510, "--rate", rate, "--to", adas) as other,
    ):
        for each in (one, other):
            each.order("go")
        yield [one, other]
        for each in (one, other):
            each.order("pause")
        for sender, receiver in ((one, other), (other, one)):
            await_the_rest(sender, receiver)
            assert_whole(sender, receiver)


def await_the_rest(sender: Traffic, receiver: Traffic) -> None:
    """A relay may have much to catch up with; what is lost does not come however long one waits."""
    deadline = time.monotonic() + PATIENCE_S
    while balance(sender, receiver).lost and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_relay_that_stops_at_the_first_record_costs_only_time(field_maker: FieldMaker) -> None:
    """The first record is the fence, whose second copy must not come before it."""
    with field_maker(path="network") as field, two_ways(field, rate=20) as (adas, hmi):
        for _ in range(size(2, 40)):
            field.replan("relay")
            field.await_path("relay", [(adas, hmi.address), (hmi, adas.address)])
            with stopped_controller(field):  # before the next datagrams, 50 ms apart
                pass
            adas.await_arrivals("going on", hmi)
            field.replan("network")
            field.await_path("network", [(adas, hmi.address), (hmi, adas.address)])


def test_a_relay_that_stops_at_a_groups_first_record_costs_only_time(
    field_maker: FieldMaker,
) -> None:
    group, port = GROUP.split(":")
    with (
        field_maker(path="network") as field,
        field.traffic("adas", int(port), "--join", group, bind=group) as member,
        field.traffic("hmi", 30510, "--rate", 20, "--to", GROUP) as sender,
    ):
        sender.order("go")
        for _ in range(size(2, 40)):
            field.replan("relay")
            field.await_path("relay", [(sender, GROUP)])
            with stopped_controller(field):  # before the next datagram
                pass
            member.await_arrivals("going on", sender)
            field.replan("network")
            field.await_path("network", [(sender, GROUP)])
        sender.order("pause")
        await_the_rest(sender, member)
        assert_whole(sender, member)


def test_a_controller_that_stops_in_a_change_of_paths_costs_only_time(
    field_maker: FieldMaker,
) -> None:
    choose = random.Random(SEED)
    with field_maker(path="relay", ring="1MiB") as field, two_ways(field, rate=RATE) as (adas, hmi):
        for _ in range(size(6, 200)):
            path = choose.choice(("relay", "network", "direct"))
            field.replan(path)
            time.sleep(choose.uniform(0, 0.03))
            with stopped_controller(field):
                pass
            field.await_path(path, [(adas, hmi.address), (hmi, adas.address)])


def spoil(field: Field, hostile: Traffic, peer: Traffic, seed: int) -> None:
    """Scribble, and see that both ends go on by the network."""
    assert hostile.ask(f"scribble {seed}")["regions"] == 3  # two of rings, and the statistics
    for sender, receiver in ((hostile, peer), (peer, hostile)):
        field.await_path("network", [(sender, receiver.address)])
        receiver.await_arrivals(f"{sender.address} by the network after seed {seed}", sender)
