# SPDX-License-Identifier: Apache-2.0
"""Two nodes inside, one outside, each with a service: all six directions at once, UDP and TCP.

Everybody finds everybody once, whatever is between two guests stays inside and is on rings, and
what comes from or goes to the ECU outside crosses the wire, once.

Where the nodes are, in namespaces or on Xen, is the tests' matter: they start `six_ways_peer.py`
in each and `six_ways_capture.py` in dom0, fill in `Seen`, and inherit the tests from `SixWays`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from six_ways_peer import CALLS, EVENTS, GROUP, SD_PORT

PEER = Path(__file__).parent / "six_ways_peer.py"
CAPTURE = Path(__file__).parent / "six_ways_capture.py"
SERVICES = {"hmi": "1001", "adas": "1002", "tcu": "1003"}
INSIDE = ("hmi", "adas")
_PORTS = {name: 30500 + number for number, name in enumerate(INSIDE, start=1)}


class Frame(NamedTuple):
    """One IPv4 packet; the payload is what is behind the IP header."""

    source: str
    destination: str
    payload: bytes


class Seen(NamedTuple):
    """What there is to judge by."""

    addresses: Mapping[str, str]
    calls: dict[str, dict[str, int]]
    reports: dict[str, Any]
    frames: dict[str, list[Frame]]
    """by the node whose interface of dom0 it is; tcu's is the wire"""
    status: dict[str, Any]
    """the controller's; empty without one"""

    @property
    def wire(self) -> list[Frame]:
        return self.frames["tcu"]

    @property
    def guests(self) -> set[str]:
        """Their addresses."""
        return {self.addresses[name] for name in INSIDE}


class Peer(Protocol):
    """A program, wherever it runs."""

    def say(self, line: str) -> None:
        """Write a line to its input."""

    def answer(self) -> str:
        """The next line it prints; waits for it."""


def node_file(name: str, address: str) -> str:
    """The vsomeip file of a node inside, which offers one service."""
    port = str(_PORTS[name])
    node = {
        "unicast": address,
        "netmask": "255.255.255.0",
        "services": [
            {
                "service": f"0x{SERVICES[name]}",
                "instance": "0x0001",
                "unreliable": port,
                "reliable": port,
            }
        ],
        "service-discovery": {"enable": "true", "multicast": GROUP, "port": str(SD_PORT)},
    }
    return json.dumps(node)


def peer_arguments(name: str, address: str) -> list[str]:
    """What a node's program is started with."""
    others = [number for other, number in SERVICES.items() if other != name]
    return [name, address, SERVICES[name], *others]


def talk(peers: Mapping[str, Peer]) -> tuple[dict[str, Any], dict[str, Any]]:
    """All call and notify all; what each counted, and what each has heard in the end."""
    assert [peer.answer() for peer in peers.values()] == ["ready\n"] * len(peers)
    return _order(peers, "go"), _order(peers, "report")


def _order(peers: Mapping[str, Peer], what: str) -> dict[str, Any]:
    """Give all an order at once; what each answers."""
    for peer in peers.values():
        peer.say(what)
    return {name: json.loads(peer.answer()) for name, peer in peers.items()}


def captured(said: str, interfaces: Mapping[str, str]) -> dict[str, list[Frame]]:
    """What the capturing program has taken down, by the node an interface leads to."""
    taken = json.loads(said)
    assert taken["dropped"] == 0
    return {
        name: [_frame(bytes.fromhex(one)) for one in taken["frames"][interface]]
        for name, interface in interfaces.items()
    }


def _frame(ethernet: bytes) -> Frame:
    source, destination = (str(IPv4Address(ethernet[at : at + 4])) for at in (26, 30))
    return Frame(source, destination, ethernet[34:])


def marks(frames: list[Frame], kind: str) -> Iterator[tuple[str, str, str]]:
    """Source, destination and text of what the peers have sent: `udp`, `tcp` or `event`."""
    pattern = re.compile(rb"\w+>(?:\w+:)?%b:\d+\." % kind.encode())
    for frame in frames:
        for text in pattern.findall(frame.payload):
            yield frame.source, frame.destination, text.decode()


def calls_between(
    addresses: Mapping[str, str], kind: str, one: str, other: str
) -> Iterator[tuple[str, str, str]]:
    """Marks of all calls of two nodes at each other, and of the answers."""
    for asking, asked in ((one, other), (other, one)):
        there, back = addresses[asking], addresses[asked]
        for number in range(CALLS):
            text = f"{asking}>{SERVICES[asked]}:{kind}:{number}."
            yield there, back, text
            yield back, there, text


def events_between(
    addresses: Mapping[str, str], one: str, other: str
) -> Iterator[tuple[str, str, str]]:
    """Marks of all events of two nodes for each other."""
    for source, target in ((one, other), (other, one)):
        for number in range(EVENTS):
            yield addresses[source], addresses[target], f"{source}>event:{number}."


class SixWays:
    """What holds with rings and without, in namespaces and on Xen."""

    def test_everybody_finds_everybody_once(self, seen: Seen) -> None:
        for name, report in seen.reports.items():
            others = sorted(f"{SERVICES[o]}@{seen.addresses[o]}" for o in SERVICES if o != name)
            assert (report["found"], report["lost"]) == (others, [])
            assert report["subscribers"] == 2

    def test_no_discovery_message_is_lost_or_comes_twice(self, seen: Seen) -> None:
        for name, report in seen.reports.items():
            assert (report["jumps"], report["reboots"]) == ([], 0)
            assert set(report["heard"]) >= {seen.addresses[o] for o in SERVICES if o != name}

    def test_every_call_is_answered_once_in_all_six_directions(self, seen: Seen) -> None:
        for name, calls in seen.calls.items():
            others = [SERVICES[other] for other in SERVICES if other != name]
            assert calls == {f"{o} {kind}": CALLS for o in others for kind in ("UDP", "TCP")}

    def test_every_event_comes_once_in_order_in_all_six_directions(self, seen: Seen) -> None:
        for name, report in seen.reports.items():
            assert report["events"] == {
                seen.addresses[o]: [f"{o}>event:{n}." for n in range(EVENTS)]
                for o in SERVICES
                if o != name
            }

    def test_nothing_between_guests_is_on_the_wire(self, seen: Seen) -> None:
        assert not [f for f in seen.wire if {f.source, f.destination} <= seen.guests]
        for one, other in itertools.permutations(INSIDE):
            mark = f"{one}>{SERVICES[other]}:".encode()
            assert not [frame for frame in seen.wire if mark in frame.payload]

    def test_what_is_for_outside_or_from_there_crosses_the_wire_once(self, seen: Seen) -> None:
        """Each datagram and each event, with its answer."""
        expected = Counter[tuple[str, str, str]]()
        for guest in INSIDE:
            expected.update(calls_between(seen.addresses, "udp", guest, "tcu"))
            expected.update(events_between(seen.addresses, guest, "tcu"))
        assert Counter((*marks(seen.wire, "udp"), *marks(seen.wire, "event"))) == expected

    def test_connections_with_the_ecu_outside_cross_the_wire(self, seen: Seen) -> None:
        """All they carry; how often is TCP's own affair."""
        expected = {
            mark for guest in INSIDE for mark in calls_between(seen.addresses, "tcp", guest, "tcu")
        }
        assert set(marks(seen.wire, "tcp")) == expected

    def test_offers_cross_the_wire_once(self, seen: Seen) -> None:
        for name, address in seen.addresses.items():
            sessions = [
                int.from_bytes(frame.payload[18:20], "big")  # behind 8 bytes of UDP
                for frame in seen.wire
                if (frame.source, frame.destination) == (address, GROUP)
                and frame.payload[8:12] == b"\xff\xff\x81\x00"
            ]
            assert len(sessions) > 2 and len(set(sessions)) == len(sessions), name


def payload_between_guests(seen: Seen, kind: str) -> list[tuple[str, str, str]]:
    """What of it crosses hmi's interface in dom0, as it does without IVC."""
    crossed = marks(seen.frames["hmi"], kind)
    return [mark for mark in crossed if {mark[0], mark[1]} <= seen.guests]


def _numbers(seen: Seen, kind: str, source: str, target: str, text: str) -> list[int]:
    """Of one node's messages to the other which ones cross, in order."""
    ends = (seen.addresses[source], seen.addresses[target])
    crossed = payload_between_guests(seen, kind)
    return [
        int(mark.rpartition(":")[2].rstrip("."))
        for *way, mark in crossed
        if tuple(way) == ends and mark.startswith(text)
    ]


class OnRings:
    """What holds where the guests' programs are under the wrapper."""

    def test_the_ecu_outside_is_on_no_ring_and_both_guests_are(self, seen: Seen) -> None:
        flows = seen.status["flows"]
        ends = {flow[end].partition(":")[0] for flow in flows for end in ("from", "to")}
        assert seen.guests <= ends <= {*seen.guests, GROUP}

    @pytest.mark.parametrize("node", INSIDE)
    def test_a_server_answers_the_guest_by_ring_and_the_outside_by_network(
        self, seen: Seen, node: str
    ) -> None:
        (counters,) = (
            sock["counters"]
            for sock in seen.status["sockets"]
            if sock["local"].endswith(f":{_PORTS[node]}") and sock["protocol"] == "udp"
        )
        # To the other guest by ring but for the first few, to the ECU outside by the network.
        assert counters["tx_ring_msgs"] > (CALLS + EVENTS) // 2
        assert counters["tx_net_msgs"] >= CALLS + EVENTS

    @pytest.mark.parametrize("kind", ["udp", "tcp"])
    @pytest.mark.parametrize(("asking", "asked"), [INSIDE, INSIDE[::-1]])
    def test_only_the_first_calls_between_guests_cross_their_interfaces(
        self, seen: Seen, asking: str, asked: str, kind: str
    ) -> None:
        text = f"{asking}>{SERVICES[asked]}:"
        for way in ((asking, asked), (asked, asking)):
            crossed = _numbers(seen, kind, *way, text)
            assert crossed == list(range(len(crossed))) and len(crossed) < CALLS // 2, way

    @pytest.mark.parametrize(("source", "target"), [INSIDE, INSIDE[::-1]])
    def test_only_the_first_events_between_guests_cross_their_interfaces(
        self, seen: Seen, source: str, target: str
    ) -> None:
        crossed = _numbers(seen, "event", source, target, f"{source}>")
        assert crossed == list(range(len(crossed))) and len(crossed) < EVENTS // 2
