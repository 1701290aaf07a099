# SPDX-License-Identifier: Apache-2.0
"""What rules do to planned packets, in the JSON of libnftables-json(5)."""

from dataclasses import replace
from typing import Any

import pytest
from doctor_case import changed, sound, told, with_host
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.doctor.case import Case
from ivc.doctor.facts import Xen
from ivc.doctor.netfilter import Ruleset
from ivc.doctor.packets import received
from ivc.network.model import External, XenDomain

UDP = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}}
STRANGE = {"xt": {"type": "match", "name": "u32"}}


def port(right: Any, op: str = "==") -> dict[str, Any]:
    left = {"payload": {"protocol": "udp", "field": "dport"}}
    return {"match": {"op": op, "left": left, "right": right}}


def source(right: Any, op: str = "==") -> dict[str, Any]:
    left = {"payload": {"protocol": "ip", "field": "saddr"}}
    return {"match": {"op": op, "left": left, "right": right}}


def rule(*expr: dict[str, Any], chain: str = "c", handle: int = 7) -> dict[str, Any]:
    own = {"family": "inet", "table": "f", "chain": chain, "handle": handle}
    return {"rule": {**own, "expr": list(expr)}}


def chain(name: str = "c", hook: str = "input", policy: str = "accept") -> dict[str, Any]:
    own = {"family": "inet", "table": "f", "name": name}
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy}
    return {"chain": {**own, **(base if hook else {})}}


def case_of(*listed: dict[str, Any]) -> Case:
    return with_host(sound(), 0, rules=listed)


ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}
CERTAIN = {("error", "netfilter")}
PERHAPS = {("warning", "netfilter")}

SEEN = {
    "drop all": ([chain(), rule(DROP)], CERTAIN),
    "drop the port": ([chain(), rule(port(30490), DROP)], CERTAIN),
    "reject the port": ([chain(), rule(port(30490), {"reject": None})], CERTAIN),
    "reject with its words": (
        [chain(), rule(port(30490), {"reject": {"type": "icmp", "expr": "host-prohibited"}})],
        CERTAIN,
    ),
    "of a shape unknown": ([chain(policy="drop"), rule({"match": {"left": 1}}, ACCEPT)], PERHAPS),
    "another port": ([chain(), rule(port(53), DROP)], set()),
    "all but another port": ([chain(), rule(port(53, "!="), DROP)], CERTAIN),
    "in a set": ([chain(), rule(port({"set": [53, {"range": [30000, 31000]}]}), DROP)], CERTAIN),
    "in a named set": (
        [
            chain(),
            {"set": {"family": "inet", "table": "f", "name": "s", "elem": [53, 30490]}},
            rule(port("@s"), DROP),
        ],
        CERTAIN,
    ),
    "in no named set": (
        [chain(), {"set": {"family": "inet", "table": "f", "name": "s"}}, rule(port("@s"), DROP)],
        set(),
    ),
    "from the subnet": (
        [chain(), rule(source({"prefix": {"addr": "10.77.0.0", "len": 24}}), DROP)],
        CERTAIN,
    ),
    "from another subnet": (
        [chain(), rule(source({"prefix": {"addr": "10.78.0.0", "len": 24}}), DROP)],
        set(),
    ),
    "accepted before": ([chain(), rule(UDP, ACCEPT), rule(DROP)], set()),
    "perhaps accepted before": ([chain(), rule(STRANGE, ACCEPT), rule(DROP)], PERHAPS),
    "perhaps dropped": ([chain(), rule(STRANGE, DROP)], PERHAPS),
    "policy": ([chain(policy="drop")], CERTAIN),
    "policy, and accepted": ([chain(policy="drop"), rule(UDP, ACCEPT)], set()),
    "in a chain jumped to": (
        [chain(), chain("d", ""), rule({"jump": {"target": "d"}}), rule(DROP, chain="d")],
        CERTAIN,
    ),
    "after a return": (
        [
            chain(),
            chain("d", ""),
            rule({"jump": {"target": "d"}}),
            rule({"return": None}, chain="d"),
            rule(DROP, chain="d"),
        ],
        set(),
    ),
    "endless jumps": (
        [chain(), chain("d", ""), *[rule({"jump": {"target": "d"}}, chain=c) for c in "cd"]],
        set(),
    ),
    "by a map": (
        [
            chain(),
            rule({"vmap": {"key": port(0)["match"]["left"], "data": {"set": [[30490, DROP]]}}}),
        ],
        CERTAIN,
    ),
    "by another's hook": ([chain(hook="forward"), rule(DROP)], set()),
    "of an invalid connection": (
        [
            chain(),
            rule(
                {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}}, DROP
            ),
        ],
        set(),
    ),
    "counted": ([chain(), rule({"counter": {"packets": 1}}, {"log": None})], set()),
}


@pytest.mark.parametrize("rules", SEEN)
def test_rules_are_read_as_the_kernel_does(rules: str) -> None:
    listed, found = SEEN[rules]
    assert told(case_of(*listed)) == found


def test_our_own_table_is_not_in_the_way() -> None:
    own = {"family": "bridge", "table": "ivc"}
    base = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    ours = {"chain": {**own, "name": "c", **base}}
    assert told(with_host(sound(), 2, rules=(ours,))) == set()
    other = {"chain": {**own, "table": "other", "name": "c", **base}}
    assert told(with_host(sound(), 2, rules=(other,))) == CERTAIN


_values = st.one_of(
    st.none(),
    st.integers(0, 65535),
    st.text(max_size=4),
    st.just("@s"),
    st.builds(lambda v: {"set": v}, st.lists(st.integers(0, 65535), max_size=3)),
    st.builds(lambda a, b: {"range": [a, b]}, st.integers(0, 65535), st.integers(0, 65535)),
    st.builds(lambda v: {"concat": [v]}, st.integers()),
)
_matches = st.builds(port, _values, st.sampled_from(["==", "!=", "<", "in"])) | st.builds(
    source, _values
)
_verdicts = st.sampled_from(
    [DROP, ACCEPT, {"return": None}, {"jump": {"target": "d"}}, {"goto": {"target": "c"}}, STRANGE]
)
_rules = st.builds(
    lambda matches, verdict, where: rule(*matches, verdict, chain=where),
    st.lists(_matches | st.just(STRANGE), max_size=3),
    _verdicts,
    st.sampled_from("cd"),
)


@settings(max_examples=200)
@given(before=st.lists(_rules, max_size=6))
def test_what_is_certain_is_not_after_an_end_that_is_certain(before: list[dict[str, Any]]) -> None:
    """Whatever rules are there, an accept of all before them leaves nothing to drop."""
    case = case_of(chain(), chain("d", ""), rule(ACCEPT), *before)
    assert told(case) == set()


@settings(max_examples=200)
@given(after=st.lists(_rules, max_size=6))
def test_a_drop_of_all_is_certain_whatever_follows(after: list[dict[str, Any]]) -> None:
    case = case_of(chain(), chain("d", ""), rule(DROP), *after)
    place = next(case.in_focus())
    ruleset = Ruleset(case.facts.hosts[0].rules or ())
    for packet in received(case, place):
        found = list(ruleset.drops(packet, ("input",), ("inet",)))
        assert [(one.handle, one.certain) for one in found] == [(7, True)]


@pytest.mark.parametrize(
    ("bridge_netfilter", "found"), [(True, CERTAIN), (False, set())], ids=["on", "off"]
)
def test_forwarding_rules_are_met_on_a_bridge_only_where_it_asks_for_them(
    bridge_netfilter: bool, found: set[tuple[str, str]]
) -> None:
    """As where Docker has set FORWARD to drop."""
    rules = (chain(hook="forward", policy="drop"),)
    case = with_host(sound(), 2, rules=rules, bridge_netfilter=bridge_netfilter)
    assert told(case) == found


def test_bridge_of_guests_out_of_sight_is_dom0s() -> None:
    own = {"family": "bridge", "table": "f", "name": "c"}
    base = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    rules = ({"chain": {**own, **base}},)
    case = sound(domain=XenDomain("a"))
    dom0 = replace(sound().facts.hosts[2], netns=None, rules=rules)
    case = replace(case, facts=replace(case.facts, hosts=(dom0,)))
    assert told(changed(case, machine={"xen": Xen.DOM0})) == CERTAIN


def test_what_two_nodes_outside_send_each_other_is_none_of_ours() -> None:
    rules = (chain(hook="forward"), rule(DROP))
    hosts = (replace(sound().facts.hosts[2], netns=None, rules=rules, bridge_netfilter=True),)
    case = sound(domain=External())
    assert told(replace(case, facts=replace(case.facts, hosts=hosts))) == set()
