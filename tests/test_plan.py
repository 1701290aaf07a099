# SPDX-License-Identifier: Apache-2.0
"""The plan: what it decides, that it is a pure value, and what it tells others."""

import gc
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest

from ivc.errors import PlanError
from ivc.network import (
    Domain,
    Endpoint,
    Eventgroup,
    External,
    LocalHost,
    Mapping,
    Network,
    Node,
    NodeMapping,
    Path,
    Promote,
    Protocol,
    Rings,
    ServiceDiscovery,
    ServiceInstance,
    XenDomain,
)
from ivc.plan import Decision, MatchEntry, MatchKind, Plan, build_plan
from ivc.reasons import Reason

MASK = IPv4Address("255.255.255.0")
SD_GROUP = Endpoint(IPv4Address("224.224.224.245"), 30490)
SD = ServiceDiscovery(True, SD_GROUP)
EVENTS = Endpoint(IPv4Address("224.225.226.233"), 32344)


def udp(last: int, port: int) -> Endpoint:
    """An endpoint at 10.77.0.`last`."""
    return Endpoint(IPv4Address(f"10.77.0.{last}"), port)


def tcp(last: int, port: int) -> Endpoint:
    return replace(udp(last, port), protocol=Protocol.TCP)


def node(name: str, last: int, sd: ServiceDiscovery | None = SD) -> Node:
    return Node(name, IPv4Address(f"10.77.0.{last}"), MASK, sd)


def service(number: int, name: str | None, *ends: Endpoint, group: bool = False) -> ServiceInstance:
    groups = (Eventgroup(1, (0x8001,), EVENTS, 1),) if group else ()
    return ServiceInstance(number, 1, name, ends, eventgroups=groups)


T = TypeVar("T")

HMI, ADAS, CAM, TCU, WEB = 1, 2, 3, 9, 99

NETWORK = Network(
    nodes=(node("adas", ADAS), node("cam", CAM, None), node("hmi", HMI), node("tcu", TCU)),
    services=(
        service(0x1234, "adas", udp(ADAS, 30509), tcp(ADAS, 30509), group=True),
        service(0x1235, "hmi", udp(HMI, 30510)),
        service(0x1236, "tcu", udp(TCU, 30511)),
        service(0x1237, None, udp(WEB, 30512)),
    ),
)

DOMAINS: dict[str, Domain] = {
    "adas": XenDomain(name="domu-adas"),
    "cam": LocalHost(None),
    "hmi": LocalHost("ivc-hmi"),
    "tcu": External(),
}


def mapping(path: Path = Path.DIRECT, **rings: int) -> Mapping:
    nodes = (NodeMapping(name, domain, ring=rings.get(name)) for name, domain in DOMAINS.items())
    return Mapping(tuple(nodes), path)


PLAN = build_plan(NETWORK, mapping())

RING = Decision(Path.DIRECT, Reason.NONE, 16)
SD_RING = Decision(Path.DIRECT, Reason.NONE, 14)
STREAM_RING = Decision(Path.DIRECT, Reason.NONE, 18)


def kernel(reason: Reason) -> Decision:
    return Decision(Path.NETWORK, reason, 0)


@pytest.mark.parametrize(
    ("source", "destination", "decision"),
    [
        # a client's own port to a service, the answer, and one service to the other
        (udp(HMI, 40000), udp(ADAS, 30509), RING),
        (udp(ADAS, 30509), udp(HMI, 40000), RING),
        (udp(HMI, 30510), udp(ADAS, 30509), RING),
        # service discovery, unicast and multicast
        (udp(HMI, 30490), udp(ADAS, 30490), SD_RING),
        (udp(HMI, 30490), SD_GROUP, SD_RING),
        # a node nobody describes uses the others' SD port
        (udp(CAM, 30490), udp(ADAS, 41000), SD_RING),
        # a service that sends to an SD port (some stacks subscribe with it): not SD's small ring
        (udp(ADAS, 30509), udp(HMI, 30490), RING),
        # events by multicast, also from a port that is not configured
        (udp(ADAS, 30509), EVENTS, RING),
        (udp(HMI, 40000), EVENTS, RING),
        # neither end is known
        (udp(HMI, 40000), udp(ADAS, 40001), kernel(Reason.NOT_PLANNED)),
        (udp(HMI, 30509), udp(ADAS, 30510), kernel(Reason.NOT_PLANNED)),
        # a group, or the port of one, that nobody planned
        (udp(HMI, 30490), replace(SD_GROUP, port=30491), kernel(Reason.NOT_PLANNED)),
        (
            udp(HMI, 30490),
            Endpoint(IPv4Address("255.255.255.255"), 30490),
            kernel(Reason.NOT_PLANNED),
        ),
        # the same node
        (udp(HMI, 40000), udp(HMI, 30510), kernel(Reason.SAME_NODE)),
        (
            udp(HMI, 40000),
            Endpoint(IPv4Address("127.0.0.1"), 30510),
            kernel(Reason.SAME_NODE),
        ),
        # outside: an external node, the address of a stranger, anything else
        (udp(HMI, 30510), udp(TCU, 30511), kernel(Reason.EXTERNAL)),
        (udp(TCU, 30511), udp(HMI, 30510), kernel(Reason.EXTERNAL)),
        (udp(TCU, 30490), SD_GROUP, kernel(Reason.EXTERNAL)),
        (udp(HMI, 30510), udp(WEB, 30512), kernel(Reason.EXTERNAL)),
        (udp(HMI, 30510), Endpoint(IPv4Address("192.0.2.1"), 53), kernel(Reason.EXTERNAL)),
        # a source that is no node's
        (udp(WEB, 30512), udp(HMI, 30510), kernel(Reason.NO_NODE)),
        (Endpoint(IPv4Address("0.0.0.0"), 30490), SD_GROUP, kernel(Reason.NO_NODE)),
        # TCP stays where it is unless the mapping promotes it
        (tcp(HMI, 40000), tcp(ADAS, 30509), kernel(Reason.NOT_UDP)),
    ],
)
def test_decision(source: Endpoint, destination: Endpoint, decision: Decision) -> None:
    assert PLAN.decide(source, destination) == decision


@pytest.mark.parametrize(
    ("source", "destination", "decision"),
    [
        (tcp(HMI, 40000), tcp(ADAS, 30509), RING),
        (tcp(ADAS, 30509), tcp(HMI, 40000), RING),
        # a port that is a service's by UDP only, or nobody's
        (tcp(HMI, 30510), tcp(ADAS, 40001), kernel(Reason.NOT_PLANNED)),
        (tcp(HMI, 40000), tcp(ADAS, 30490), kernel(Reason.NOT_PLANNED)),
        (tcp(HMI, 40000), tcp(HMI, 30510), kernel(Reason.SAME_NODE)),
        (tcp(ADAS, 30509), tcp(TCU, 40000), kernel(Reason.EXTERNAL)),
    ],
)
def test_decision_for_promoted_tcp(
    source: Endpoint, destination: Endpoint, decision: Decision
) -> None:
    plan = build_plan(NETWORK, replace(mapping(), promote=Promote.LAZY))
    assert plan.decide(source, destination) == decision


@pytest.mark.parametrize(
    ("domain", "ring", "order"),
    [
        (LocalHost("ivc-adas"), None, 19),
        (LocalHost("ivc-adas"), 15, 15),
        (XenDomain(name="domu-adas"), None, 16),
        (XenDomain(name="domu-adas"), 15, 15),
    ],
)
def test_tcp_has_rings_of_its_own_size_but_on_xen(
    domain: Domain, ring: int | None, order: int
) -> None:
    local = {name: LocalHost(f"ivc-{name}") for name in ("hmi", "adas", "cam", "tcu")}
    nodes = tuple(
        NodeMapping(name, domain if name == "adas" else local[name], ring=ring) for name in local
    )
    given = Mapping(nodes, rings=Rings(stream=19), promote=Promote.LAZY)
    decision = build_plan(NETWORK, given).decide(tcp(HMI, 40000), tcp(ADAS, 30509))
    assert decision == Decision(Path.DIRECT, Reason.NONE, order)


@pytest.mark.parametrize(
    ("domain", "promote"),
    [(LocalHost("ivc-adas"), Promote.LAZY), (XenDomain(name="domu-adas"), Promote.NEVER)],
    ids=["Linux hosts", "a VM among them"],
)
def test_tcp_the_mapping_says_nothing_of(domain: Domain, promote: Promote) -> None:
    nodes = (NodeMapping(name, domain if name == "adas" else DOMAINS[name]) for name in DOMAINS)
    assert build_plan(NETWORK, Mapping(tuple(nodes))).promote is promote


@pytest.mark.parametrize("promote", Promote)
def test_wrappers_hear_of_tcp_endpoints_only_if_it_is_promoted(promote: Promote) -> None:
    plan = build_plan(NETWORK, replace(mapping(), promote=promote))
    streams = [entry for entry in plan.match_entries() if entry.kind is MatchKind.STREAM]
    eager = promote is Promote.EAGER
    expected = MatchEntry(MatchKind.STREAM, udp(ADAS, 0).address, 30509, eager=eager)
    assert streams == ([] if promote is Promote.NEVER else [expected])


def loopback(path: Path = Path.DIRECT, promote: Promote = Promote.EAGER) -> Plan:
    """The plan with hmi's own traffic on rings."""
    given = mapping(path)
    nodes = tuple(replace(entry, loopback=entry.name == "hmi") for entry in given.nodes)
    return build_plan(NETWORK, replace(given, nodes=nodes, promote=promote))


@pytest.mark.parametrize("path", [Path.DIRECT, Path.RELAY, Path.DENIED])
@pytest.mark.parametrize(("make", "ring"), [(udp, RING), (tcp, STREAM_RING)], ids=["udp", "tcp"])
def test_what_a_loopback_node_sends_itself_is_direct_at_any_port(
    path: Path, make: Callable[[int, int], Endpoint], ring: Decision
) -> None:
    plan = loopback(path)
    assert plan.decide(make(HMI, 40000), make(HMI, 40001)) == ring


def test_loopback_makes_no_other_port_of_its_node_a_planned_one() -> None:
    plan = loopback()
    for make in (udp, tcp):
        found = plan.decide(make(ADAS, 40000), make(HMI, 40001))
        assert found == kernel(Reason.NOT_PLANNED)


def test_loopback_of_one_node_is_not_that_of_another() -> None:
    found = loopback().decide(udp(ADAS, 40000), udp(ADAS, 40001))
    assert found == kernel(Reason.SAME_NODE)


def test_loopback_is_off_where_all_is_left_to_the_network() -> None:
    plan = loopback(Path.NETWORK)
    assert plan.decide(udp(HMI, 40000), udp(HMI, 40001)) == kernel(Reason.RULE)


@pytest.mark.parametrize("promote", Promote)
def test_wrappers_hear_of_loopback(promote: Promote) -> None:
    entries = loopback(promote=promote).match_entries()
    hmi = udp(HMI, 0).address
    assert [one.address for one in entries if one.loopback] == [hmi]
    streams = [one for one in entries if one.kind is MatchKind.STREAM and one.port == 0]
    expected = MatchEntry(MatchKind.STREAM, hmi, eager=promote is Promote.EAGER)
    assert streams == ([] if promote is Promote.NEVER else [expected])


@pytest.mark.parametrize(
    ("path", "decision"),
    [
        (Path.DIRECT, RING),
        (Path.RELAY, Decision(Path.RELAY, Reason.NONE, 16)),
        (Path.NETWORK, Decision(Path.NETWORK, Reason.RULE, 0)),
        (Path.DENIED, Decision(Path.DENIED, Reason.DENIED, 16)),  # to whom drops and counts it
    ],
)
def test_mapping_rules_the_path(path: Path, decision: Decision) -> None:
    plan = build_plan(NETWORK, mapping(path))
    assert plan.decide(udp(HMI, 40000), udp(ADAS, 30509)) == decision
    assert plan.decide(udp(ADAS, 30509), EVENTS) == decision


def test_rule_does_not_hide_a_nearer_reason() -> None:
    plan = build_plan(NETWORK, mapping(Path.NETWORK))
    assert plan.decide(udp(HMI, 30510), udp(TCU, 30511)) == kernel(Reason.EXTERNAL)


def test_larger_ring_of_the_two_nodes_counts() -> None:
    plan = build_plan(NETWORK, mapping(hmi=20, adas=18))
    assert plan.decide(udp(HMI, 40000), udp(ADAS, 30509)).order == 20
    assert plan.decide(udp(CAM, 40000), udp(ADAS, 30509)).order == 18


def test_ring_of_a_node_may_be_smaller_than_its_class() -> None:
    plan = build_plan(NETWORK, mapping(hmi=13))
    assert plan.decide(udp(HMI, 40000), udp(ADAS, 30509)).order == 13


def test_ring_of_a_node_is_not_for_service_discovery() -> None:
    plan = build_plan(NETWORK, mapping(hmi=20))
    assert plan.decide(udp(HMI, 30490), SD_GROUP).order == 14


def test_ring_of_the_sender_counts_for_a_group() -> None:
    plan = build_plan(NETWORK, mapping(adas=20))
    assert plan.decide(udp(ADAS, 30509), EVENTS).order == 20


def test_service_discovery_switched_off_is_not_planned() -> None:
    off = ServiceDiscovery(False, SD_GROUP)
    network = Network((node("adas", ADAS, off), node("hmi", HMI, off)), ())
    plan = build_plan(network, mapping())
    assert plan.decide(udp(HMI, 30490), udp(ADAS, 30490)) == kernel(Reason.NOT_PLANNED)
    assert plan.decide(udp(HMI, 30490), SD_GROUP) == kernel(Reason.NOT_PLANNED)


def test_nodes_are_numbered_by_name() -> None:
    assert [(node.id, node.name) for node in PLAN.nodes] == [
        (1, "adas"),
        (2, "cam"),
        (3, "hmi"),
        (4, "tcu"),
    ]


def test_every_two_nodes_inside_are_a_pair() -> None:
    pairs = [(pair.a, pair.b) for pair in PLAN.pairs]
    assert pairs == [("adas", "cam"), ("adas", "hmi"), ("cam", "hmi")]


def test_pair_counts_its_worst_case() -> None:
    pair = PLAN.pairs[1]
    sd = 4 * (4096 + 16384 + 4096)  # group and unicast, both ways
    events = 5 * (4096 + 65536 + 4096)  # two services both ways, one eventgroup
    assert (pair.services, pair.flows) == (("0x1234.0x0001@adas", "0x1235.0x0001@hmi"), 9)
    assert pair.memory == sd + events


@pytest.mark.parametrize("path", [Path.RELAY, Path.DENIED])
def test_pair_through_the_controller_takes_twice_the_memory(path: Path) -> None:
    relayed = build_plan(NETWORK, mapping(path)).pairs[1]
    assert relayed.memory == 2 * PLAN.pairs[1].memory


def test_pair_off_rings_takes_nothing() -> None:
    pair = build_plan(NETWORK, mapping(Path.NETWORK)).pairs[1]
    assert (pair.flows, pair.memory) == (0, 0)


def test_match_entries() -> None:
    assert PLAN.match_entries() == (
        MatchEntry(MatchKind.NODE, udp(ADAS, 0).address, 0, 1, DOMAINS["adas"]),
        MatchEntry(MatchKind.NODE, udp(CAM, 0).address, 0, 2, DOMAINS["cam"]),
        MatchEntry(MatchKind.NODE, udp(HMI, 0).address, 0, 3, DOMAINS["hmi"]),
        MatchEntry(MatchKind.EXTERNAL, udp(TCU, 0).address),
        MatchEntry(MatchKind.GROUP, SD_GROUP.address, 30490),
        MatchEntry(MatchKind.GROUP, EVENTS.address, 32344),
        MatchEntry(MatchKind.EXTERNAL, udp(WEB, 0).address),
    )


def test_node_without_mapping_is_an_error() -> None:
    with pytest.raises(PlanError, match="van"):
        build_plan(Network((node("van", 7),), ()), mapping())


def test_same_input_gives_an_equal_plan() -> None:
    again = build_plan(NETWORK, mapping())
    assert again == PLAN and hash(again) == hash(PLAN)


def test_other_input_gives_another_plan() -> None:
    assert build_plan(NETWORK, replace(mapping(), rings=Rings(event=17))) != PLAN


def shuffled(seed: int) -> Plan:
    """The same plan from nodes, services and entries in another order."""
    pick = random.Random(seed)

    def mix(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(pick.sample(values, len(values)))

    network = Network(mix(NETWORK.nodes), NETWORK.services)
    return build_plan(network, replace(mapping(), nodes=mix(mapping().nodes)))


@pytest.mark.parametrize("seed", range(20))
def test_order_of_input_does_not_show_in_the_bytes(seed: int) -> None:
    plan = shuffled(seed)
    assert plan.to_json() == PLAN.to_json()
    assert plan.render_table() == PLAN.render_table()


def test_json_has_everything_a_program_needs() -> None:
    document = json.loads(PLAN.to_json())
    assert document["nodes"][0]["domain"] == "vm:domu-adas"
    assert document["rings"] == {
        "sd": 16384,
        "event": 65536,
        "bulk": 1048576,
        "stream": 262144,
    }
    assert document["services"][0]["endpoints"] == ["10.77.0.2:30509/udp", "10.77.0.2:30509/tcp"]
    assert document["pairs"][1]["nodes"] == ["adas", "hmi"]


def test_table_has_a_line_for_each_node_service_group_and_pair() -> None:
    lines = PLAN.render_table().splitlines()
    parts = (PLAN.nodes, PLAN.services, PLAN.groups, PLAN.pairs)
    assert len(lines) == sum(len(part) + 1 for part in parts) + len(parts) - 1


def test_64_nodes_with_2000_services_plan_within_a_second() -> None:
    nodes = tuple(node(f"n{number:02}", number) for number in range(64))
    services = tuple(
        service(number, f"n{number % 64:02}", udp(number % 64, 31000 + number))
        for number in range(1, 2001)
    )
    entries = tuple(NodeMapping(entry.name, LocalHost(None)) for entry in nodes)
    network, everyone = Network(nodes, services), Mapping(entries)

    def taken() -> float:
        start = time.process_time()
        plan = build_plan(network, everyone)
        plan.to_json()
        plan.render_table()
        end = time.process_time()
        assert len(plan.pairs) == 64 * 63 // 2
        return end - start

    gc.freeze()  # thousands of tests leave a heap behind; no user's collector walks that
    try:
        # The best of three: what else the machine does meanwhile is not ours.
        assert min(taken() for _ in range(3)) < 1.0
    finally:
        gc.unfreeze()
