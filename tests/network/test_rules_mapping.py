# SPDX-License-Identifier: Apache-2.0
"""`[[rule]]` in a mapping: how it reads, and every slip that is found."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from network_project import Project

from ivc.errors import Finding, Severity
from ivc.network import Action, Endpoint, Protocol, Rule
from ivc.someip import MessageType, ReturnCode

MIRROR = 'action = "mirror"\ncopy_to = '


def with_rules(project: Project, *rules: str) -> Project:
    project.mapping += "".join(f"[[rule]]\n{rule}\n" for rule in rules)
    return project


def only(project: Project, *rules: str) -> Finding:
    (finding,) = with_rules(project, *rules).findings()
    return finding


def test_every_field(project: Project) -> None:
    rule = (
        'from = "hmi"\nto = "adas"\nservice = 0x1234\ninstance = "0x5678"\nmethod = 0x0421\n'
        'client = 1\ntype = "REQUEST"\nprotocol = "udp"\naction = "deny"\n'
        'answer = "E_UNKNOWN_METHOD"'
    )
    (found,) = with_rules(project, rule).load().mapping.rules
    assert found == Rule(
        number=1,
        action=Action.DENY,
        source="hmi",
        destination="adas",
        service=0x1234,
        instance=0x5678,
        method=0x421,
        client=1,
        type=MessageType.REQUEST,
        protocol=Protocol.UDP,
        answer=ReturnCode.E_UNKNOWN_METHOD,
    )


def test_what_is_left_out_is_any_and_the_order_is_the_files(project: Project) -> None:
    loaded = with_rules(project, 'service = 0xffff\naction = "direct"', 'action = "relay"').load()
    assert loaded.mapping.rules == (
        Rule(1, Action.DIRECT, service=0xFFFF),
        Rule(2, Action.RELAY),
    )
    assert loaded.findings == ()


@pytest.mark.parametrize("address", ["10.77.0.1", "10.77.0.9"], ids=["inside", "external"])
def test_copies_go_to_any_port_of_any_node(project: Project, address: str) -> None:
    project.mapping += '[nodes.tcu]\nexternal = true\naddress = "10.77.0.9"\n'
    loaded = with_rules(project, f'method = 1\n{MIRROR}"{address}:30600"').load()
    copy_to = Endpoint(IPv4Address(address), 30600)
    assert loaded.mapping.rules == (Rule(1, Action.MIRROR, method=1, copy_to=copy_to),)
    assert loaded.findings == ()


def test_copies_go_to_the_trace(project: Project) -> None:
    loaded = with_rules(project, f'method = 1\n{MIRROR}"trace"').load()
    assert loaded.mapping.rules == (Rule(1, Action.MIRROR, method=1, copy_to="trace"),)
    assert loaded.findings == ()


@pytest.mark.parametrize(
    ("rule", "code", "pointer", "words"),
    [
        ('action = "denied"', "bad-action", "/action", "direct | relay | network | deny"),
        ('action = "copy"', "bad-action", "/action", "deny | audit | mirror"),
        ('action = "mirror"', "missing", "/copy_to", 'no "copy_to"'),
        (f'{MIRROR}"10.77.0.1"', "bad-copy", "/copy_to", "ADDRESS:PORT"),
        (f"{MIRROR}30600", "bad-copy", "/copy_to", "ADDRESS:PORT"),
        (f"{MIRROR}[]", "bad-copy", "/copy_to", "ADDRESS:PORT"),
        (f'{MIRROR}"10.77.0.1:30600/tcp"', "bad-copy", "/copy_to", "sent as datagrams"),
        (f'{MIRROR}"hmi:30600"', "bad-address", "/copy_to", "an IPv4 address"),
        (f'{MIRROR}"224.0.0.9:30600"', "bad-address", "/copy_to", "a unicast address"),
        (f'{MIRROR}"10.77.0.1:0"', "bad-port", "/copy_to", "from 1 to 65534"),
        (f'{MIRROR}"10.77.0.1:"', "bad-port", "/copy_to", "from 1 to 65534"),
        (f'{MIRROR}"10.77.0.9:30600"', "copy-node", "/copy_to", "hmi at 10.77.0.1"),
        ('action = "audit"\ncopy_to = "10.77.0.1:1"', "no-copy", "/copy_to", "beside mirror"),
        (f'{MIRROR}"10.77.0.1:1"\nanswer = "E_NOT_OK"', "no-answer", "/answer", "beside deny"),
        ('from = "hmi"', "missing", "/action", 'no "action"'),
        ('from = "hmmi"\naction = "deny"', "rule-node", "/from", 'write "hmi"?'),
        ('to = "van"\naction = "deny"', "rule-node", "/to", "map the node"),
        ('service = 0x10000\naction = "relay"', "bad-id", "/service", "at most 0xffff"),
        ('client = "0X1"\naction = "relay"', "bad-id", "/client", "lower-case 0x"),
        ('type = "request"\naction = "relay"', "bad-message-type", "/type", "REQUEST |"),
        ('type = "ERROR_ACK"\naction = "relay"', "bad-message-type", "/type", "REQUEST |"),
        ('protocol = "sctp"\naction = "relay"', "bad-protocol", "/protocol", "udp | tcp"),
        ('answer = "E_OK"\naction = "deny"', "bad-return-code", "/answer", "E_NOT_OK | "),
        ('answer = "NO"\naction = "deny"', "bad-return-code", "/answer", "E_NOT_OK | "),
        ('answer = "E_NOT_OK"\naction = "relay"', "no-answer", "/answer", "beside deny"),
        (
            'type = "ERROR"\nanswer = "E_NOT_OK"\naction = "deny"',
            "no-answer",
            "/answer",
            "any type or REQUEST",
        ),
        ('instance = 1\naction = "relay"', "instance-alone", "/instance", "add the service"),
        ('method = 1\naction = "network"', "network-by-message", "/action", "leave out method"),
        ('type = "ERROR"\naction = "network"', "network-by-message", "/action", "whole flows"),
        ('service = 0x1243\naction = "relay"', "rule-service", "/service", "0x1234, 0x1235"),
        (
            'service = 0x1234\ninstance = 1\naction = "relay"',
            "rule-service",
            "/instance",
            "those there are: 0x5678",
        ),
    ],
)
def test_a_bad_rule_is_an_error(
    project: Project, rule: str, code: str, pointer: str, words: str
) -> None:
    finding = only(project, 'service = 0x1235\naction = "direct"', rule)
    assert (finding.severity, finding.code) == (Severity.ERROR, code)
    assert finding.pointer == f"/rule/1{pointer}"
    assert words in str(finding)


def test_every_bad_rule_is_told_in_one_run(project: Project) -> None:
    with_rules(project, 'action = "x"', 'from = "y"\naction = "deny"', 'type = "z"')
    codes = [finding.code for finding in project.findings()]
    assert codes == ["bad-action", "rule-node", "missing", "bad-message-type"]


def test_unknown_key_names_the_nearest(project: Project) -> None:
    finding = only(project, 'metod = 1\naction = "relay"')
    assert (finding.severity, finding.code) == (Severity.WARNING, "unknown-key")
    assert finding.fix == 'write "method"?'


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (('action = "direct"', 'service = 0x1234\naction = "deny"'), "rule 1 (direct) matches all"),
        (('from = "hmi"\naction = "relay"', 'from = "hmi"\naction = "deny"'), "rule 1 (relay)"),
        (
            ('service = 0x1234\naction = "relay"', 'service = 0x1234\nmethod = 1\naction = "deny"'),
            "rule 1 (relay) matches all",
        ),
        (
            ('from = "hmi"\nto = "adas"\naction = "relay"', 'from = "hmi"\naction = "direct"'),
            "earlier rules match it all",
        ),
        (('from = "hmi"\nto = "hmi"\naction = "direct"',), "goes nowhere"),
    ],
)
def test_a_rule_that_never_matches_is_doubted(
    project: Project, rules: tuple[str, ...], why: str
) -> None:
    finding = only(project, *rules)
    assert (finding.severity, finding.code) == (Severity.WARNING, "unreachable-rule")
    assert finding.pointer == f"/rule/{len(rules) - 1}"
    assert why in finding.found


def test_a_rule_about_an_external_node_never_matches(project: Project) -> None:
    project.mapping += '[nodes.tcu]\nexternal = true\naddress = "10.77.0.9"\n'
    assert only(project, 'from = "tcu"\naction = "relay"').code == "unreachable-rule"


def test_a_rule_after_narrower_ones_is_not_doubted(project: Project) -> None:
    rules = ('service = 0x1234\nmethod = 1\naction = "deny"', 'service = 0x1234\naction = "relay"')
    assert with_rules(project, *rules).findings() == ()


RULES_FOR_TCP = (
    'action = "relay"',
    'action = "deny"\nanswer = "E_NOT_OK"',
    f'{MIRROR}"10.77.0.1:30600"',
    'method = 1\naction = "direct"',
)


@pytest.mark.parametrize("rule", RULES_FOR_TCP)
def test_rules_may_be_for_tcp(project: Project, rule: str) -> None:
    project.service["reliable"] = "30510"
    assert with_rules(project, f'service = 0x1235\nprotocol = "tcp"\n{rule}').findings() == ()


def test_deny_that_tcp_would_get_around_is_an_error(project: Project) -> None:
    project.service["reliable"] = "30510"
    project.mapping += '[defaults]\npromote = "never"\n'
    finding = only(project, 'service = 0x1235\nmethod = 1\naction = "deny"')
    assert (finding.severity, finding.code) == (Severity.ERROR, "deny-by-tcp")


@pytest.mark.parametrize(
    "rules",
    [
        ('service = 0x1235\nprotocol = "udp"\naction = "deny"',),
        ('service = 0x1234\naction = "deny"',),  # has no TCP
        ('protocol = "tcp"\naction = "network"', 'service = 0x1235\naction = "deny"'),
    ],
)
def test_deny_that_says_what_it_is_about_is_not(project: Project, rules: tuple[str, ...]) -> None:
    project.service["reliable"] = "30510"
    assert with_rules(project, *rules).findings() == ()


def test_network_for_one_of_two_services_at_an_endpoint_is_an_error(project: Project) -> None:
    other: dict[str, Any] = {"service": "0x1236", "instance": "1", "unreliable": "30510"}
    project.hmi["services"].append(other)
    codes = [f.code for f in with_rules(project, 'service = 0x1235\naction = "network"').findings()]
    assert codes == ["shared-endpoint", "network-by-message"]


def test_network_for_a_service_at_its_own_endpoint_is_none(project: Project) -> None:
    assert with_rules(project, 'service = 0x1235\naction = "network"').findings() == ()


def test_the_example_in_the_documentation_is_one(project: Project) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0].replace("gateway", "hmi")
    project.mapping += example
    loaded = project.load()
    assert (len(loaded.mapping.rules), loaded.findings) == (2, ())
