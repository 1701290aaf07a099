# SPDX-License-Identifier: Apache-2.0
"""What rules make of flows: which go direct, which are looked into, and what a plan shows."""

import json
from dataclasses import replace

import pytest
from test_plan import ADAS, CAM, EVENTS, HMI, NETWORK, SD_GROUP, TCU, mapping, service, tcp, udp

from ivc.network import (
    Action,
    Endpoint,
    External,
    LocalHost,
    Network,
    Path,
    Promote,
    Protocol,
    Rule,
)
from ivc.plan import Decision, MatchKind, Plan, build_plan
from ivc.reasons import Reason
from ivc.someip import Header, MessageType, ReturnCode

CALL, ANSWER = (udp(HMI, 40000), udp(ADAS, 30509)), (udp(ADAS, 30509), udp(HMI, 40000))
DISCOVERY = (udp(HMI, 30490), udp(ADAS, 30490))


def planned(*rules: Rule, path: Path = Path.DIRECT, network: Network = NETWORK) -> Plan:
    return build_plan(network, replace(mapping(path), rules=rules, promote=Promote.LAZY))


def path(plan: Plan, ends: tuple[Endpoint, Endpoint]) -> Path:
    return plan.decide(*ends).path


def test_a_rule_for_nodes_is_for_one_way_only() -> None:
    plan = planned(Rule(1, Action.NETWORK, source="hmi", destination="adas"))
    assert plan.decide(*CALL) == Decision(Path.NETWORK, Reason.RULE)
    assert path(plan, ANSWER) is Path.DIRECT
    assert path(plan, DISCOVERY) is Path.NETWORK


@pytest.mark.parametrize("action", Action)
def test_a_rule_for_a_service_is_for_flows_of_its_endpoint(action: Action) -> None:
    plan = planned(Rule(1, action, service=0x1234))
    looked_into = {Action.DENY: Path.DENIED, Action.AUDIT: Path.RELAY, Action.MIRROR: Path.RELAY}
    expected = looked_into.get(action) or Path(action.value)
    assert path(plan, CALL) is path(plan, ANSWER) is expected
    assert path(plan, DISCOVERY) is Path.DIRECT
    assert path(plan, (udp(CAM, 40000), udp(HMI, 30510))) is Path.DIRECT


@pytest.mark.parametrize(
    "rule",
    [
        Rule(1, Action.DENY, service=0x1234, method=1),
        Rule(1, Action.DENY, method=1),
        Rule(1, Action.DENY, client=1),
        Rule(1, Action.RELAY, type=MessageType.REQUEST),
        Rule(1, Action.DENY, service=0x1234, instance=1, method=1, protocol=Protocol.UDP),
    ],
)
def test_what_messages_differ_in_is_looked_at(rule: Rule) -> None:
    assert planned(rule).decide(*CALL) == Decision(Path.RELAY, Reason.NONE, 16)


def test_a_flow_whose_messages_all_may_go_direct_is_direct() -> None:
    rules = (Rule(1, Action.DIRECT, method=1), Rule(2, Action.DIRECT, type=MessageType.ERROR))
    assert path(planned(*rules), CALL) is Path.DIRECT
    assert path(planned(*rules, path=Path.RELAY), CALL) is Path.RELAY


def test_a_rule_that_cannot_be_the_first_to_match_costs_nothing() -> None:
    shadow = Rule(2, Action.DENY, service=0x1234, method=1)
    assert path(planned(Rule(1, Action.DIRECT, service=0x1234), shadow), CALL) is Path.DIRECT
    assert path(planned(Rule(1, Action.DIRECT, method=1), shadow), CALL) is Path.DIRECT
    assert path(planned(Rule(1, Action.DENY, service=0x1235, method=1)), CALL) is Path.DIRECT
    assert path(planned(Rule(1, Action.DENY, service=0x1234, method=1)), DISCOVERY) is Path.DIRECT


def test_all_but_some_messages_on_the_network_is_looked_at_too() -> None:
    rules = (Rule(1, Action.DENY, service=0x1234, method=1), Rule(2, Action.NETWORK))
    assert path(planned(*rules), CALL) is Path.RELAY
    assert path(planned(*rules), DISCOVERY) is Path.NETWORK


def test_services_at_one_endpoint_are_told_apart_by_message() -> None:
    both = (*NETWORK.services, service(0x1238, "adas", udp(ADAS, 30509)))
    network = replace(NETWORK, services=both)
    plan = planned(Rule(1, Action.DENY, service=0x1238), network=network)
    assert path(plan, CALL) is Path.RELAY


def test_each_member_of_a_group_has_a_way_of_its_own() -> None:
    plan = planned(Rule(1, Action.DENY, destination="hmi"), Rule(2, Action.RELAY, service=0x1234))
    members = [udp(last, 0).address for last in (HMI, CAM)]
    found = [plan.decide(udp(ADAS, 30509), EVENTS, member).path for member in members]
    assert found == [Path.DENIED, Path.RELAY]
    assert plan.decide(udp(ADAS, 30490), SD_GROUP, members[0]).path is Path.DENIED
    assert plan.decide(udp(ADAS, 30490), SD_GROUP).path is Path.DIRECT  # cam's


def test_outside_stays_outside_whatever_rules_say() -> None:
    plan = planned(Rule(1, Action.DIRECT))
    assert plan.decide(udp(HMI, 30510), udp(TCU, 30511)).reason is Reason.EXTERNAL
    assert plan.decide(udp(HMI, 40000), udp(ADAS, 40001)).reason is Reason.NOT_PLANNED


@pytest.mark.parametrize(
    ("rule", "decision"),
    [
        (Rule(1, Action.NETWORK, source="hmi"), Decision(Path.NETWORK, Reason.RULE)),
        (Rule(1, Action.NETWORK, destination="hmi"), Decision(Path.NETWORK, Reason.RULE)),
        (Rule(1, Action.DENY, protocol=Protocol.UDP), Decision(Path.DIRECT, Reason.NONE, 16)),
        (Rule(1, Action.DIRECT, method=1), Decision(Path.DIRECT, Reason.NONE, 16)),
    ],
)
def test_a_connection_is_direct_if_both_ways_are(rule: Rule, decision: Decision) -> None:
    ends = (tcp(HMI, 40000), tcp(ADAS, 30509))
    assert planned(rule).decide(*ends) == planned(rule).decide(*reversed(ends)) == decision


def on_hosts(plan: Plan) -> Plan:
    """The same without guests of Xen."""
    nodes = [
        node if isinstance(node.domain, External) else replace(node, domain=LocalHost(node.name))
        for node in plan.nodes
    ]
    return replace(plan, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        (Rule(1, Action.NETWORK, source="hmi"), Path.NETWORK),
        (Rule(1, Action.RELAY, source="hmi"), Path.RELAY),
        (Rule(1, Action.DENY, method=1, destination="hmi"), Path.RELAY),
        (Rule(1, Action.DENY, source="hmi"), Path.RELAY),  # and the other way?
        (Rule(1, Action.DENY), Path.DENIED),
        (Rule(1, Action.DENY, protocol=Protocol.UDP), Path.DIRECT),
    ],
)
@pytest.mark.parametrize("guests", [False, True], ids=["hosts", "guests"])
def test_a_connection_is_relayed_if_one_way_has_to_be_looked_into(
    rule: Rule, path: Path, guests: bool
) -> None:
    plan = planned(rule) if guests else on_hosts(planned(rule))
    ends = (tcp(HMI, 40000), tcp(ADAS, 30509))
    decision = plan.decide(*ends)
    assert decision == plan.decide(*reversed(ends))
    assert decision.path is path
    order = plan.rings.event if guests else plan.rings.stream
    assert decision.order == (0 if path is Path.NETWORK else order)


@pytest.mark.parametrize("rules", [(), (Rule(1, Action.DENY, method=1),)])
def test_connections_to_be_looked_into_are_promoted_at_once(rules: tuple[Rule, ...]) -> None:
    entries = on_hosts(planned(*rules)).match_entries()
    assert [entry.eager for entry in entries if entry.kind is MatchKind.STREAM] == [bool(rules)]


def test_faults_do_not_make_a_connection_relayed() -> None:
    fault = Rule(1, Action.RELAY, protocol=Protocol.UDP)
    plan = replace(on_hosts(planned()), faults=(fault,))
    assert plan.decide(tcp(HMI, 40000), tcp(ADAS, 30509)).path is Path.DIRECT


def test_wrappers_leave_connections_alone_that_no_rule_lets_on_rings() -> None:
    def streams(*rules: Rule) -> int:
        entries = planned(*rules).match_entries()
        return sum(entry.kind is MatchKind.STREAM for entry in entries)

    assert streams() == streams(Rule(1, Action.NETWORK, source="hmi")) == 1  # cam may
    assert streams(Rule(1, Action.NETWORK, service=0x1234)) == 0
    assert streams(Rule(1, Action.DIRECT, service=0x1234), Rule(2, Action.NETWORK)) == 1


def test_a_message_goes_by_the_first_rule_that_matches_or_the_default() -> None:
    plan = planned(Rule(1, Action.DENY, method=1), Rule(2, Action.RELAY), path=Path.NETWORK)
    way = plan.way(*CALL)
    assert plan.judge(way, Header(0x1234, 1)) == (Action.DENY, None)
    assert plan.judge(way, Header(0x1234, 2)) == (Action.RELAY, None)
    assert plan.judge(None, Header(0x1234, 1)) == (Action.NETWORK, None)
    assert planned(path=Path.DENIED).judge(way, None) == (Action.DENY, None)


def test_only_what_a_rule_may_deny_with_an_answer_may_be_answered() -> None:
    deny = Rule(1, Action.DENY, method=1, answer=ReturnCode.E_NOT_READY)
    plan = planned(deny)
    assert plan.judge(plan.way(*CALL), Header(0x1234, 1)) == (Action.DENY, deny.answer)
    assert plan.answers(*CALL)
    assert not planned(replace(deny, answer=None)).answers(*CALL)
    assert not plan.answers(udp(99, 1), CALL[1])


def test_a_mirrored_message_goes_by_no_later_rule_and_its_copy_where_its_own_says() -> None:
    copies = [udp(HMI, 30600), udp(CAM, 30600)]
    mirrors = [Rule(n, Action.MIRROR, method=n, copy_to=to) for n, to in enumerate(copies, 1)]
    plan = planned(*mirrors, Rule(3, Action.DENY))
    way = plan.way(*CALL)
    assert [plan.judge(way, Header(0x1234, n)) for n in (1, 2)] == [
        (Action.MIRROR, to) for to in copies
    ]
    assert plan.judge(way, Header(0x1234, 3)) == (Action.DENY, None)


def test_pairs_say_what_all_their_flows_do_and_count_hops() -> None:
    plan = planned(Rule(1, Action.DENY, source="hmi", destination="adas"))
    free, denied = planned().pairs[1], plan.pairs[1]
    assert (denied.path, denied.flows) == (Path.DIRECT, free.flows)
    one_way = 2 * (4096 + 16384 + 4096) + 2 * (4096 + 65536 + 4096)  # discovery; two services
    assert denied.memory == free.memory + one_way
    assert planned(Rule(1, Action.NETWORK)).pairs[1].path is Path.NETWORK


def test_plan_shows_rules_and_where_they_have_a_say() -> None:
    plan = planned(
        Rule(1, Action.DENY, source="hmi", service=0x1234, method=1, protocol=Protocol.UDP),
        Rule(2, Action.RELAY, source="hmi", service=0x1234),
    )
    document = json.loads(plan.to_json())
    assert document["rules"][0] == {
        "rule": 1,
        "from": "hmi",
        "to": None,
        "service": "0x1234",
        "instance": None,
        "method": "0x0001",
        "client": None,
        "type": None,
        "protocol": "udp",
        "action": "deny",
        "answer": None,
        "copy_to": None,
    }
    assert [(way["from"], way["to"], way["protocol"]) for way in document["ways"]] == [
        ("hmi", "adas", "tcp"),
        ("hmi", "adas", "udp"),
    ]
    assert [(way["path"], way["reason"], way["rules"]) for way in document["ways"]] == [
        ("relay", "NONE", [2]),
        ("relay", "NONE", [1, 2]),
    ]
    lines = [line.split() for line in plan.render_table().splitlines()]
    assert ["1", "hmi", "any", "0x1234", "any", "0x0001", "any", "any", "udp", "deny"] in lines
    assert ["hmi", ">", "adas", "udp", "0x1234.0x0001", "relay", "NONE", "1", "2"] in lines


def test_plan_shows_where_copies_go() -> None:
    plan = planned(Rule(1, Action.MIRROR, method=1, copy_to=udp(CAM, 30600)))
    (rule,) = json.loads(plan.to_json())["rules"]
    assert rule["copy_to"] == str(udp(CAM, 30600))
    assert f"mirror, {udp(CAM, 30600)}" in plan.render_table()


def test_plans_differ_by_their_rules() -> None:
    assert planned(Rule(1, Action.DENY, method=1)) != planned(Rule(1, Action.DENY, method=2))
