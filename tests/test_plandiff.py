# SPDX-License-Identifier: Apache-2.0
"""The difference of two plans: everything that came, went or changed, and nothing else."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import NETWORK, PLAN, mapping

from ivc.network import Action, Network, Path, Rings, Rule
from ivc.plan import Plan, build_plan
from ivc.plandiff import difference


def document(plan: Plan) -> Any:
    return json.loads(plan.to_json())


def test_a_plan_does_not_differ_from_itself() -> None:
    assert difference(document(PLAN), document(PLAN)) == []


def test_what_comes_and_what_goes() -> None:
    less = build_plan(Network(NETWORK.nodes, NETWORK.services[1:]), mapping())
    gone = [line for line in difference(document(PLAN), document(less)) if line[0] == "-"]
    assert gone == [
        "- service 0x1234 0x0001 adas",
        "- endpoint 10.77.0.2:30509/tcp adas",
        "- endpoint 10.77.0.2:30509/udp adas",
        "- group 224.225.226.233:32344/udp",
    ]
    come = [line for line in difference(document(less), document(PLAN)) if line[0] == "+"]
    assert sorted(line[2:] for line in come) == sorted(line[2:] for line in gone)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (replace(mapping(), path=Path.RELAY), "~ plan: path direct -> relay"),
        (replace(mapping(), rings=Rings(event=17)), "~ pair adas,hmi: ring 65536 -> 131072"),
        (replace(mapping(), rules=(Rule(1, Action.DIRECT),)), "+ rule 1"),
    ],
)
def test_what_changes_is_told_with_before_and_after(changed: Any, line: str) -> None:
    assert line in difference(document(PLAN), document(build_plan(NETWORK, changed)))


rules = st.lists(
    st.tuples(st.sampled_from(Action), st.none() | st.sampled_from(["adas", "hmi"])), max_size=3
)


def with_rules(drawn: list[tuple[Action, str | None]]) -> Plan:
    numbered = enumerate(drawn, start=1)
    made = tuple(Rule(number, action, source) for number, (action, source) in numbered)
    return build_plan(NETWORK, replace(mapping(), rules=made))


@settings(max_examples=100)
@given(rules, rules)
def test_plans_differ_if_and_only_if_there_is_a_line(
    one: list[tuple[Action, str | None]], other: list[tuple[Action, str | None]]
) -> None:
    old, new = with_rules(one), with_rules(other)
    assert bool(difference(document(old), document(new))) == (old != new)
