# SPDX-License-Identifier: Apache-2.0
"""Traffic control as the kernel tells of it: encoded by pyroute2, by hand where it does not know.

Few kernels have all of it, so what is planted for real (test_doctor_field.py) is not all there is.
"""

import struct
from typing import Any

import pytest
from doctor_case import sound, told, with_host
from pyroute2.netlink.rtnl.tcmsg import (
    cls_matchall,
    cls_u32,
    sched_netem,
    sched_tbf,
    tcmsg,
)

from ivc.doctor.facts import Control
from ivc.doctor.gather.traffic import filter_controls, qdisc_controls


def message(kind: str, options: Any, parent: int = 0xFFFFFFFF) -> Any:
    """As it comes from the kernel."""
    made = tcmsg()
    made["parent"], made["info"] = parent, 7 << 16
    made["attrs"] = [["TCA_KIND", kind], ["TCA_OPTIONS", options]]
    made.encode()
    read = tcmsg(bytes(made.data))
    read.decode()
    return read


def does(controls: Any) -> list[tuple[str, bool]]:
    return [(one.does, one.loses_all) for one in controls]


@pytest.mark.parametrize(
    ("given", "words", "loses_all"),
    [
        ({"loss": 100}, "loses 100 %", True),
        ({"loss": 10, "duplicate": 1}, "loses 10 %, repeats 1 %", False),
        ({"delay": 50_000}, "delays by 50 ms", False),
        ({"prob_corrupt": 1}, "damages 1 %", False),
        ({"delay": 1000, "prob_reorder": 25}, "reorders 25 %, delays by 1 ms", False),
        ({"rate": "1mbit"}, "limits to 1 Mbit/s", False),
        ({}, "holds packets up", False),
    ],
)
def test_netem_is_told_in_words(given: dict[str, Any], words: str, loses_all: bool) -> None:
    queue = message("netem", sched_netem.get_parameters(given))
    assert does(qdisc_controls(queue, "eth0")) == [(words, loses_all)]


def test_a_rate_is_told() -> None:
    given = {"rate": "2mbit", "latency": "50ms", "burst": 1540}
    queue = message("tbf", sched_tbf.get_parameters(given))
    assert does(qdisc_controls(queue, "eth0")) == [("limits to 2 Mbit/s", False)]


@pytest.mark.parametrize("kind", ["pfifo_fast", "fq_codel", "noqueue", "mq", "clsact"])
def test_what_only_queues_is_left_in_peace(kind: str) -> None:
    assert does(qdisc_controls(message(kind, b""), "eth0")) == []


def u32(*keys: str, **more: Any) -> Any:
    return message("u32", cls_u32.get_parameters({"target": 0, "keys": list(keys), **more}))


ALL = "0x0/0x0+0"
PORT = "0x771a/0xffff+22"
MATCHALL = cls_matchall.get_parameters({"action": "drop"})
MIRROR = {"kind": "mirred", "direction": "egress", "action": "mirror", "ifindex": 1}
REDIRECT = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": 1}
FILTERS = {
    "matchall drop": (message("matchall", MATCHALL), [("drops everything", True)]),
    "u32 drop": (u32(ALL, action="drop"), [("drops everything", True)]),
    "u32 drop a port": (u32(PORT, action="drop"), [("drops what it matches", False)]),
    "u32 accept": (u32(PORT, action="ok"), []),
    "u32 redirect": (u32(PORT, action=REDIRECT), [("sends elsewhere what it matches", False)]),
    "u32 mirror": (u32(PORT, action=MIRROR), []),
    "u32 class": (u32(PORT), []),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_told_by_what_they_do(name: str) -> None:
    one, expected = FILTERS[name]
    assert does(filter_controls(one, "eth0", "ingress")) == expected


def attribute(kind: int, *inside: bytes) -> bytes:
    """One of netlink: length, type, value, and what fills up to four bytes."""
    value = b"".join(inside)
    head = struct.pack("=HH", 4 + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def action(kind: bytes, parameters: bytes) -> bytes:
    return attribute(1, attribute(1, kind + b"\0"), attribute(0x8002, attribute(2, parameters)))


SHOT = action(b"gact", struct.pack("=IIiii", 1, 0, 2, 1, 1))
PIPE = action(b"gact", struct.pack("=IIiii", 1, 0, 3, 1, 1))
POLICE = action(b"police", bytes(56))


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (SHOT, [("drops what it matches", False)]),
        (PIPE, []),
        (POLICE, [("limits the rate of what it matches", False)]),
    ],
    ids=["drop", "pipe", "police"],
)
def test_flower_which_pyroute2_does_not_know(actions: bytes, expected: Any) -> None:
    options = attribute(8, struct.pack(">H", 0x0800)) + attribute(0x8003, actions)
    assert does(filter_controls(message("flower", options), "eth0", "ingress")) == expected


@pytest.mark.parametrize("end", range(0, 64, 3))
def test_options_that_are_cut_off_are_no_trouble(end: int) -> None:
    options = (attribute(8, bytes(2)) + attribute(3, SHOT))[:end]
    list(filter_controls(message("flower", options), "eth0", "ingress"))


def test_how_to_be_rid_of_it_is_a_command() -> None:
    (queue,) = qdisc_controls(message("netem", sched_netem.get_parameters({"loss": 1})), "eth0")
    (one,) = filter_controls(u32(PORT, action="drop"), "eth0", "ingress")
    assert queue.undo == "tc qdisc del dev eth0 root"
    assert one.undo == "tc filter del dev eth0 ingress pref 7"


def test_only_interfaces_on_the_way_count() -> None:
    def case(host: int, link: str) -> set[tuple[str, str]]:
        control = Control(link, "netem", "loses 100 %", True, "tc qdisc del dev eth0 root")
        return told(with_host(sound(), host, controls=(control,)))

    assert case(0, "eth0") == {("error", "traffic-control")}
    assert case(2, "p1") == {("error", "traffic-control")}
    assert case(0, "lo") == case(2, "eth1") == set()
