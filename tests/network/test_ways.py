# SPDX-License-Identifier: Apache-2.0
"""Rules decide alike by flow and by message, and as a naive reading of the documentation does."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.network import Action, Endpoint, Eventgroup, Path, Protocol, Rule, ServiceInstance
from ivc.network.ways import (
    PATHS,
    SD,
    Offers,
    Way,
    candidates,
    first_match,
    may_answer,
    may_match,
    outlook,
)
from ivc.someip import TP_FLAG, Header, MessageType, ReturnCode

NODES = ("a", "b", "c")
TYPES = [kind for kind in MessageType if "ACK" not in kind.name]
PAIR = Way("a", "b", Protocol.UDP, there=frozenset({(1, 1)}))
CALL = Header(1, 1, 1, message_type=MessageType.REQUEST)

# ---- each action and each field, by hand

FIELDS: list[tuple[dict[str, Any], Way, Header]] = [
    ({"source": "a"}, replace(PAIR, source="c"), CALL),
    ({"destination": "b"}, replace(PAIR, destination="c"), CALL),
    ({"protocol": Protocol.UDP}, replace(PAIR, protocol=Protocol.TCP), CALL),
    ({"service": 1}, PAIR, replace(CALL, service_id=2)),
    ({"service": 1, "instance": 1}, replace(PAIR, there=frozenset({(1, 2)})), CALL),
    ({"method": 1}, PAIR, replace(CALL, method_id=2)),
    ({"client": 1}, PAIR, replace(CALL, client_id=2)),
    ({"type": MessageType.REQUEST}, PAIR, replace(CALL, message_type=MessageType.RESPONSE)),
]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(("match", "way", "header"), FIELDS, ids=[list(f[0])[-1] for f in FIELDS])
def test_every_field_tells_messages_apart(
    action: Action, match: dict[str, Any], way: Way, header: Header
) -> None:
    rule = Rule(1, action, **match)
    assert first_match([rule], PAIR, CALL) is rule
    assert first_match([rule], way, header) is None


@pytest.mark.parametrize("match", [{"service": 1}, {"method": 1}, {"client": 1}, {"type": 0}])
def test_what_is_no_message_has_nodes_and_protocol_only(match: dict[str, Any]) -> None:
    assert first_match([Rule(1, Action.DENY, **match)], PAIR, None) is None
    rule = Rule(1, Action.DENY, source="a", destination="b", protocol=Protocol.UDP)
    assert first_match([rule], PAIR, None) is rule


def test_a_segment_is_of_the_type_of_its_message() -> None:
    rule = Rule(1, Action.DENY, type=MessageType.REQUEST)
    segment = replace(CALL, message_type=MessageType.REQUEST | TP_FLAG)
    assert first_match([rule], PAIR, segment) is rule


@pytest.mark.parametrize(
    ("kind", "instance"),
    [
        (MessageType.REQUEST, 2),
        (MessageType.REQUEST_NO_RETURN, 2),
        (MessageType.RESPONSE, 1),
        (MessageType.ERROR, 1),
        (MessageType.NOTIFICATION, 1),
    ],
)
def test_calls_are_for_the_receivers_instance_and_all_else_comes_from_the_senders(
    kind: MessageType, instance: int
) -> None:
    way = replace(PAIR, here=frozenset({(1, 1)}), there=frozenset({(1, 2)}))
    rules = [Rule(number, Action.RELAY, service=1, instance=number) for number in (1, 2)]
    found = first_match(rules, way, replace(CALL, message_type=kind))
    assert found is not None and found.instance == instance


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_does_not_hide_whose_the_only_instance_is(kind: MessageType) -> None:
    rule = Rule(1, Action.DENY, service=1, instance=1)
    header = replace(CALL, message_type=kind)
    assert first_match([rule], PAIR, header) is rule
    back = Way("b", "a", here=frozenset({(1, 1)}))
    assert first_match([rule], back, header) is rule
    beside = replace(PAIR, here=frozenset({(2, 1)}))  # the other end offers something else
    for way in (beside, replace(beside.back, source="a", destination="b")):
        assert first_match([rule], way, header) is rule


# ---- against a naive reading

fewer = settings(max_examples=settings.default.max_examples // 4)  # rules are slow to draw

ids = st.integers(1, 2)
instances = st.frozensets(st.tuples(ids, ids), max_size=3)
ways = st.builds(
    Way,
    st.sampled_from(NODES),
    st.sampled_from(NODES),
    st.sampled_from(Protocol),
    instances,
    instances,
).filter(lambda way: way.instances)
headers = st.builds(
    Header, ids, ids, ids, message_type=st.sampled_from(TYPES + [kind | TP_FLAG for kind in TYPES])
)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    made = []
    for number in range(1, draw(st.integers(0, 5)) + 1):
        service = draw(maybe(ids))
        made.append(
            Rule(
                number,
                draw(st.sampled_from(Action)),
                draw(maybe(st.sampled_from(NODES))),
                draw(maybe(st.sampled_from(NODES))),
                service,
                draw(maybe(ids)) if service is not None else None,
                draw(maybe(ids)),
                draw(maybe(ids)),
                draw(maybe(st.sampled_from(TYPES))),
                draw(maybe(st.sampled_from(Protocol))),
                draw(maybe(st.just(ReturnCode.E_NOT_OK))),
            )
        )
    return made


def naive(found: list[Rule], way: Way, header: Header | None) -> Rule | None:
    """docs/rules.md, one line a row of its table."""
    for rule in found:
        if rule.source and rule.source != way.source:
            continue
        if rule.destination and rule.destination != way.destination:
            continue
        if rule.protocol and rule.protocol != way.protocol:
            continue
        if header is None:
            if (rule.service, rule.method, rule.client, rule.type) == (None,) * 4:
                return rule
            continue
        if rule.service and (
            rule.service != header.service_id
            or rule.service not in [service for service, _ in way.instances]
        ):
            continue
        if rule.instance:
            there = {i for s, i in way.there if s == rule.service}
            here = {i for s, i in way.here if s == rule.service}
            call = header.message_type & ~TP_FLAG in (0x00, 0x01)
            if rule.instance not in ((there or here) if call else (here or there)):
                continue
        if rule.method and rule.method != header.method_id:
            continue
        if rule.client and rule.client != header.client_id:
            continue
        if rule.type is not None and rule.type != header.message_type & ~TP_FLAG:
            continue
        return rule
    return None


@fewer
@given(rules(), ways, maybe(headers))
def test_the_first_match_is_the_naive_one(
    found: list[Rule], way: Way, header: Header | None
) -> None:
    assert first_match(found, way, header) is naive(found, way, header)


@fewer
@given(rules(), ways, headers, st.sampled_from(Path))
def test_a_flow_goes_where_all_its_messages_go_or_is_looked_into(
    found: list[Rule], way: Way, header: Header, default: Path
) -> None:
    service, _ = sorted(way.instances)[0]
    header = replace(header, service_id=service)
    rule = first_match(found, way, header)
    assert rule is None or rule in candidates(found, way)
    path = PATHS[rule.action] if rule is not None else default
    assert outlook(found, default, way) in {path, Path.RELAY}


@fewer
@given(rules(), ways, st.sampled_from(Path))
def test_a_flow_is_looked_into_only_if_rules_differ(
    found: list[Rule], way: Way, default: Path
) -> None:
    actions = {PATHS[rule.action] for rule in found} | {default}
    assert outlook(found, default, way) in actions | {Path.RELAY}
    if len(actions) == 1 and not any(rule.answer for rule in found):
        assert outlook(found, default, way) is default


def test_the_way_back_of_requests_that_are_answered_is_the_relays() -> None:
    deny = Rule(1, Action.DENY, source="a", service=1, method=1)
    answer = replace(deny, answer=ReturnCode.E_NOT_REACHABLE)
    assert outlook([deny], Path.DIRECT, PAIR.back) is Path.DIRECT
    assert outlook([answer], Path.DIRECT, PAIR.back) is Path.RELAY
    assert outlook([answer], Path.DIRECT, replace(PAIR.back, destination="c")) is Path.DIRECT
    assert outlook([answer], Path.NETWORK, PAIR.back) is Path.NETWORK


def test_a_rule_for_an_instance_has_no_say_where_there_are_others_only() -> None:
    assert not may_match(Rule(1, Action.DENY, service=1, instance=2), PAIR)


def test_no_answer_is_to_be_expected_of_a_rule_behind_one_for_everything() -> None:
    deny = Rule(2, Action.DENY, answer=ReturnCode.E_NOT_REACHABLE)
    assert not may_answer([Rule(1, Action.RELAY, source="a"), deny], PAIR)


def test_what_is_looked_into_for_a_service_may_be_of_another_that_is_not_there() -> None:
    deny = Rule(2, Action.DENY, answer=ReturnCode.E_NOT_REACHABLE)
    assert may_answer([Rule(1, Action.RELAY, service=1), deny], PAIR)
    assert not may_answer([Rule(1, Action.DIRECT, service=1), deny], PAIR)


# ---- where services are


def test_ends_of_a_way_are_where_the_configuration_has_services() -> None:
    at, client = Endpoint(IPv4Address("10.0.0.1"), 1), Endpoint(IPv4Address("10.0.0.2"), 2)
    group = Endpoint(IPv4Address("224.0.0.5"), 3)
    one = ServiceInstance(1, 7, "a", (at,), eventgroups=(Eventgroup(1, (), group, 1),))
    offers = Offers([one], [replace(client, port=9), replace(group, port=9)])
    mine = frozenset({(1, 7)})
    assert offers.way(("a", "b"), at, client) == Way("a", "b", here=mine)
    assert offers.way(("b", "a"), client, at) == Way("b", "a", there=mine)
    assert offers.way(("a", "b"), replace(at, port=5), group) == Way("a", "b", here=mine)
    assert offers.way(("b", "a"), client, group) == Way("b", "a")
    assert offers.way(("b", "a"), replace(client, port=9), replace(group, port=9)).instances == SD
