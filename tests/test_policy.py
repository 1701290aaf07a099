# SPDX-License-Identifier: Apache-2.0
"""`ivc plan --emit-policy`: an allow-list of what the configuration knows, and no more."""

import json
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ivc import policy
from ivc.cli import main
from ivc.network import Action, Endpoint, Loaded, load
from ivc.network import Path as FlowPath
from ivc.plan import Plan, build_plan
from ivc.someip import Header, MessageType

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = [EXAMPLES / "hmi.json", EXAMPLES / "adas.json"]
MAPPING = EXAMPLES / "mapping.toml"
MODES = pytest.mark.parametrize("mode", policy.MODES)


def emitted(mode: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Loaded:
    """The examples with the policy behind their mapping, read again."""
    options = ["plan", *map(str, FILES), "--mapping", str(MAPPING), "--emit-policy", mode]
    assert main(options) == 0
    file = folder / "mapping.toml"
    file.write_text(MAPPING.read_text() + capsys.readouterr().out)
    return load(FILES, file)


@pytest.fixture(params=policy.MODES)
def strict(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[Plan, Action]:
    """A plan with a policy, and what that does with what it does not know."""
    loaded = emitted(request.param, tmp_path, capsys)
    return build_plan(loaded.network, loaded.mapping), policy.MODES[request.param]


def ends(plan: Plan) -> tuple[Endpoint, Endpoint, int]:
    """A client of the first service, its endpoint, and its id."""
    service = plan.services[0]
    there = next(end for end in service.endpoints if end.protocol.value == "udp")
    other = next(node.address for node in plan.nodes if node.name != service.node)
    return Endpoint(other, 40000), there, service.service


@MODES
def test_the_mapping_is_without_new_findings(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emitted(mode, tmp_path, capsys).findings == load(FILES, MAPPING).findings


@MODES
def test_toml_and_json_say_the_same(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = emitted(mode, tmp_path, capsys).mapping.rules
    options = ["plan", "--json", *map(str, FILES), "--mapping", str(MAPPING)]
    assert main([*options, "--emit-policy", mode]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["action"] for each in document["rule"]] == [rule.action for rule in rules]
    assert rules[-1].action is policy.MODES[mode]


def test_calls_answers_and_events_of_a_service_pass(strict: tuple[Plan, Action]) -> None:
    plan, _ = strict
    client, server, service = ends(plan)
    there, back = plan.way(client, server), plan.way(server, client)
    for kind, way in (
        (MessageType.REQUEST, there),
        (MessageType.REQUEST_NO_RETURN, there),
        (MessageType.RESPONSE, back),
        (MessageType.ERROR, back),
        (MessageType.NOTIFICATION, back),
    ):
        assert plan.judge(way, Header(service, 1, message_type=kind))[0] is Action.RELAY


def test_all_else_on_the_same_flow_does_not(strict: tuple[Plan, Action]) -> None:
    plan, last = strict
    client, server, service = ends(plan)
    assert plan.decide(client, server).path is FlowPath.RELAY  # so it is looked into
    way = plan.way(client, server)
    assert plan.judge(way, Header(0x7777, 1))[0] is last
    assert plan.judge(way, None)[0] is last
    stranger = next(each.service for each in plan.services if each.service != service)
    assert plan.judge(way, Header(stranger, 1))[0] is last


def test_service_discovery_stays_direct(strict: tuple[Plan, Action]) -> None:
    plan, _ = strict
    one, other = (Endpoint(node.address, 30490) for node in plan.nodes[:2])
    assert plan.decide(one, other).path is FlowPath.DIRECT
    group = Endpoint(IPv4Address("224.224.224.245"), 30490)
    assert plan.decide(one, group).path is FlowPath.DIRECT


def test_a_policy_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["plan", *map(str, FILES), "--mapping", str(MAPPING), "--diff"]
    with pytest.raises(SystemExit) as exit_:
        main([*options, "--emit-policy", "audit"])
    assert exit_.value.code == 2
