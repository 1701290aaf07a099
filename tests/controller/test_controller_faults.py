# SPDX-License-Identifier: Apache-2.0
"""Faults in a running controller: the relay is there for them, they do the same again, and go."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from controller_lab import REQUEST, Lab, running_lab, with_flow
from fakewrapper import FakeWrapper

from ivc.cli import main
from ivc.controller.client import add_fault, clear_faults, list_faults
from ivc.controller.errors import OrderFailed
from ivc.controller.fault_words import WHATS
from ivc.controller.faults import TIME_MOST_NS
from ivc.controller.statusview import render_status
from ivc.shm.errors import RingFull
from ivc.shm.relay import FAULTS_MAX, What

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
CALLS = {"from": "a", "service": 0x1234}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with running_lab(tmp_path) as lab:
        yield lab


def numbered(number: int) -> bytes:
    """A request whose session is a number."""
    return REQUEST[:10] + number.to_bytes(2, "big") + REQUEST[12:]


def call(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    return with_flow(lab, CLIENT, SERVER)


def paths(lab: Lab) -> list[str]:
    return [flow["path"] for flow in lab.status()["flows"]]


def lost(folder: Path, seed: int, count: int = 200) -> list[int]:
    """Numbers that do not arrive at a controller begun anew."""
    folder.mkdir()
    with running_lab(folder) as lab:
        fault = {"match": CALLS, "effect": "drop", "chance": 0.1, "seed": seed}
        add_fault(lab.run_dir, fault)
        client, server = call(lab)
        for number in range(count):
            client.send(SERVER, numbered(number))
        lab.await_status(lambda _: list_faults(lab.run_dir)["faults"][0]["matched"] == count)
        acted = list_faults(lab.run_dir)["faults"][0]["acted"]
        arrived = [server.receive(1)[1] for _ in range(count - acted)]
        assert not server.has(1)
        return [number for number in range(count) if numbered(number) not in arrived]


def test_the_same_seed_loses_the_same_messages_twice(tmp_path: Path) -> None:
    once, again, other = (
        lost(tmp_path / name, seed) for name, seed in zip("abc", (7, 7, 8), strict=True)
    )
    assert once
    assert again == once
    assert other != once


def test_a_flow_is_relayed_while_there_is_a_fault(lab: Lab) -> None:
    add_fault(lab.run_dir, {"match": CALLS, "effect": "drop", "chance": 1.0})
    call(lab)
    assert paths(lab) == ["relay"]
    assert clear_faults(lab.run_dir)["faults"][0]["id"] == 1
    lab.await_status(lambda _: paths(lab) != ["relay"])
    assert list_faults(lab.run_dir)["faults"] == []


def delayed(lab: Lab, count: int = 30) -> tuple[FakeWrapper, FakeWrapper]:
    """More than a ring of calls, all of them held back for an hour."""
    add_fault(lab.run_dir, {"match": CALLS, "effect": "delay", "delay": TIME_MOST_NS})
    client, server = call(lab)
    for number in range(count):
        client.until(partial(fits, client, large(number)), "room in the ring")
    lab.await_status(lambda _: list_faults(lab.run_dir)["faults"][0]["acted"] == count)
    assert not server.has(1)
    return client, server


def large(number: int) -> bytes:
    """As `numbered`, of 10,000 bytes."""
    return REQUEST[:4] + (9_992).to_bytes(4, "big") + numbered(number)[8:16] + bytes(9_984)


def fits(client: FakeWrapper, payload: bytes) -> bool:
    try:
        return client.send(SERVER, payload) == 1
    except RingFull:
        return False


def numbers_taken(server: FakeWrapper, count: int) -> list[int]:
    """Sessions of what arrives, until there are so many."""
    taken: list[int] = []
    end = time.monotonic() + 1
    while len(taken) < count and time.monotonic() < end:
        found = server.take(1)
        if found is not None:
            taken.append(int.from_bytes(found[1][10:12], "big"))
    return taken


def test_what_is_held_arrives_in_order_when_the_fault_is_cleared(lab: Lab) -> None:
    client, server = delayed(lab)
    clear_faults(lab.run_dir)
    client.read()  # the flow is to be direct again: the sender lets go
    assert numbers_taken(server, 30) == list(range(30))
    assert lab.status()["relay"]["dropped_full"] == 0


def test_what_is_held_arrives_when_its_sender_has_closed_its_socket(lab: Lab) -> None:
    client, server = delayed(lab)
    client.unbind(1)
    assert numbers_taken(server, 30) == list(range(30))
    assert lab.status()["relay"]["dropped_full"] == 0


def test_what_is_held_for_a_receiver_that_reads_nothing_is_counted_soon(lab: Lab) -> None:
    client, server = delayed(lab)
    start = time.monotonic()
    client.unbind(1)
    dropped = lab.status()["relay"]["dropped_full"]
    assert time.monotonic() - start < 1
    assert numbers_taken(server, 30 - dropped) == list(range(30 - dropped))
    assert 0 < dropped < 30


def test_a_fault_of_others_leaves_a_flow_direct(lab: Lab) -> None:
    add_fault(lab.run_dir, {"match": {"from": "c"}, "effect": "drop", "chance": 1.0})
    call(lab)
    assert paths(lab) == ["direct"]


def test_only_the_method_it_names_suffers(lab: Lab) -> None:
    match = CALLS | {"method": 0x0666}
    add_fault(lab.run_dir, {"match": match, "effect": "drop", "chance": 1.0})
    client, server = call(lab)
    client.send(SERVER, REQUEST[:2] + b"\x06\x66" + REQUEST[4:])
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST
    (fault,) = list_faults(lab.run_dir)["faults"]
    assert (fault["matched"], fault["acted"], fault["seed"]) == (1, 1, 1)


def test_a_cut_goes_by_itself(lab: Lab) -> None:
    add_fault(lab.run_dir, {"match": CALLS, "effect": "cut", "time": 100_000_000})
    status = lab.status()
    assert [fault["effect"] for fault in status["faults"]] == ["cut"]
    assert "\nfault 1: cut " in render_status(status)
    lab.await_status(lambda status: status["faults"] == list_faults(lab.run_dir)["faults"] == [])


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"match": {"from": "nobody"}, "effect": "drop", "chance": 0.5}, "no node nobody"),
        ({"effect": "drop", "chance": 1.5}, "found 1.5"),
        ({"effect": "drop"}, "chance"),
        ({"effect": "drop-nth", "number": 0}, "found 0"),
        ({"effect": "delay", "delay": -1}, "found -1"),
        ({"effect": "explode"}, "effect"),
        ({"effect": "corrupt", "chance": 1.0, "what": "soul"}, "soul"),
        ({"match": {"instance": 1}, "effect": "drop", "chance": 1.0}, "service"),
        ({"match": {"method": 0x10000}, "effect": "drop", "chance": 1.0}, "65536"),
        ({"match": {"type": "SHOUT"}, "effect": "drop", "chance": 1.0}, "SHOUT"),
        ({"match": {"service": 0x9999}, "effect": "cut", "time": 1}, "0x9999.*of 0x1234, 0xffff"),
        (
            {"match": {"service": 0x1234, "instance": 2}, "effect": "cut", "time": 1},
            "instance: found 0x0002.*of 0x0001",
        ),
        ({"match": {"from": "a", "to": "a"}, "effect": "drop", "chance": 1.0}, "to: found a, the"),
        ({"match": {"servce": 1}, "effect": "drop", "chance": 1.0}, "match: found servce"),
        ({"effect": "cut"}, "time .ns.: found None, expected 1"),
        ({"effect": "cut", "time": 0}, "time .ns.: found 0, expected 1"),
        ({"effect": "delay"}, "delay .ns.: found None"),
        ({"effect": "delay", "delay": 0}, "delay .ns.: found 0"),
        ({"effect": "drop", "chance": 1.0, "id": 7}, "found id, expected one of match, effect"),
        ({"effect": "drop", "chance": 1.0, "what": "bit"}, "found what"),
    ],
)
def test_what_is_no_fault_is_refused_and_says_why(
    lab: Lab, fault: dict[str, Any], word: str
) -> None:
    with pytest.raises(OrderFailed, match=word):
        add_fault(lab.run_dir, fault)
    assert list_faults(lab.run_dir)["faults"] == []


def test_there_is_a_most_and_no_fault_too_many(lab: Lab) -> None:
    for _ in range(FAULTS_MAX):
        add_fault(lab.run_dir, {"match": {"from": "c"}, "effect": "rate", "number": 1})
    with pytest.raises(OrderFailed, match="no more at a time"):
        add_fault(lab.run_dir, {"effect": "rate", "number": 1})
    clear_faults(lab.run_dir, 5)
    add_fault(lab.run_dir, {"effect": "rate", "number": 1})
    with pytest.raises(OrderFailed, match="there is no fault 5"):
        clear_faults(lab.run_dir, 5)


def test_the_command_line_adds_lists_and_clears(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--run-dir", str(lab.run_dir)]
    add = ["fault", "add", "--from", "a", "--service", "0x1234", "--delay", "20ms"]
    assert main([*add, "--jitter", "500us", "--seed", "7", *where]) == 0
    (fault,) = list_faults(lab.run_dir)["faults"]
    assert fault == {
        "id": 1,
        "match": CALLS,
        "effect": "delay",
        "delay": 20_000_000,
        "jitter": 500_000,
        "seed": 7,
        "matched": 0,
        "acted": 0,
    }
    assert "TCP" in capsys.readouterr().out
    assert main(["fault", "list", *where]) == 0
    line = "1: delay seed 7 delay 20ms jitter 0.5ms; from a service 0x1234; matched 0, acted 0\n"
    assert capsys.readouterr().out == line
    assert main(["fault", "clear", "1", *where]) == 0
    assert list_faults(lab.run_dir)["faults"] == []


def test_what_can_be_damaged_is_what_the_loop_can_damage() -> None:
    assert list(WHATS) == [what.name.lower() for what in What]
