# SPDX-License-Identifier: Apache-2.0
"""What a plan wants of dom0, and the table of nftables it comes with."""

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ivc.ethernet.facts import Fact, Kind
from ivc.ethernet.rules import canonical, commands
from ivc.ethernet.wanted import NOTHING, Wanted, wanted
from ivc.network import load
from ivc.plan import build_plan

ETHERNET = '[ethernet]\nbridge = "xenbr0"\ninterface = "eth1"\n'
GROUP = "224.224.224.245"

Make = Callable[..., Wanted]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """What a mapping of hmi 10.77.0.1, adas 10.77.0.2 and a third node wants."""

    def made(third: str = "10.77.0.9", ethernet: str = ETHERNET, hmi: str = 'vm = "hmi"') -> Wanted:
        for name, address in (("hmi", "10.77.0.1"), ("adas", "10.77.0.2")):
            sd = {"enable": "true", "multicast": GROUP, "port": "30490"}
            node = {"unicast": address, "netmask": "255.255.255.0", "service-discovery": sd}
            (tmp_path / f"{name}.json").write_text(json.dumps(node))
        adas = 'vm = "adas"' if "vm" in hmi else 'host = "netns:adas"'
        nodes = f"[nodes.hmi]\n{hmi}\n[nodes.adas]\n{adas}\n"
        tcu = f'[nodes.tcu]\nexternal = true\naddress = "{third}"\n' if third else ""
        (tmp_path / "mapping.toml").write_text(f"version = 1\n{nodes}{tcu}{ethernet}")
        files = [tmp_path / "hmi.json", tmp_path / "adas.json"]
        loaded = load(files, tmp_path / "mapping.toml")
        return wanted(loaded.network, build_plan(loaded.network, loaded.mapping), loaded.mapping)

    return made


BASIS = {
    Fact(Kind.BRIDGE, "xenbr0"),
    Fact(Kind.FLOOD, "xenbr0"),
    Fact(Kind.MEMBER, "eth1", "xenbr0"),
    Fact(Kind.UP, "xenbr0"),
    Fact(Kind.UP, "eth1"),
}


def rules(want: Wanted) -> list[dict[str, Any]]:
    return [json.loads(text)["rule"] for text in want.rules if text.startswith('{"rule"')]


def test_nodes_of_one_subnet_need_a_bridge_and_no_routes(make: Make) -> None:
    assert set(make().facts) == BASIS


def test_nothing_is_wanted_without_external_nodes(make: Make) -> None:
    assert make(third="") == NOTHING


def test_nothing_is_wanted_without_a_way_outside(make: Make) -> None:
    assert make(ethernet="") == NOTHING


def test_same_plan_wants_the_same(make: Make) -> None:
    assert make() == make()


def test_address_of_dom0_alone_makes_it_no_router(make: Make) -> None:
    want = make(ethernet=ETHERNET + 'address = "10.77.0.254/24"\n')
    assert set(want.facts) - BASIS == {Fact(Kind.ADDRESS, "xenbr0", "10.77.0.254/24")}
    assert want.rules == make().rules


def test_node_in_another_subnet_is_routed_to(make: Make) -> None:
    want = make("10.78.0.9", ETHERNET + 'address = "10.77.0.254/24"\n')
    assert set(want.facts) - BASIS == {
        Fact(Kind.ADDRESS, "xenbr0", "10.77.0.254/24"),
        Fact(Kind.FORWARD, "xenbr0"),
        Fact(Kind.ROUTE, "xenbr0", "10.78.0.9/32"),
    }


def test_router_in_the_outer_subnet_knows_the_way_inside(make: Make) -> None:
    want = make("10.78.0.9", ETHERNET + 'address = "10.78.0.254/24"\n')
    assert {f.value for f in want.facts if f.kind is Kind.ROUTE} == {"10.77.0.0/24"}


def test_node_in_dom0_sends_to_groups_by_the_bridge(make: Make) -> None:
    want = make(hmi='host = "local"', ethernet=ETHERNET + 'address = "10.77.0.1/24"\n')
    assert {f.value for f in want.facts if f.kind is Kind.ROUTE} == {f"{GROUP}/32"}


def test_every_rule_names_its_node(make: Make) -> None:
    comments = [rule["comment"] for rule in rules(make())]
    nodes = ["node adas", "ARP of node adas", "node hmi", "ARP of node hmi"]
    assert comments == [*nodes, "nested VLAN tags", "nested VLAN tags", "both ends inside"]


def test_router_lets_nobody_further(make: Make) -> None:
    want = make("10.78.0.9", ETHERNET + 'address = "10.77.0.254/24"\n')
    assert rules(want)[-2]["comment"] == "no way on"
    routed = next(json.loads(text)["set"] for text in want.rules if '"routed"' in text)
    assert set(map(IPv4Address, routed["elem"])) == {
        IPv4Address(address) for address in ("10.77.0.1", "10.77.0.2", "10.77.0.254")
    }


def test_rules_are_about_the_interface_only(make: Make) -> None:
    """What crosses the bridge between guests meets no rule of ours."""
    for rule in rules(make()):
        first = rule["expr"][0]["match"]
        assert first["left"]["meta"]["key"] in {"iifname", "oifname"} and first["right"] == "eth1"


def test_listing_compares_without_handles_counts_and_order_of_elements(make: Make) -> None:
    want = make()
    listed = [json.loads(text) for text in want.rules]
    for number, wrapped in enumerate(listed):
        ((kind, thing),) = wrapped.items()
        thing["handle"] = number
        if kind == "rule":
            expr = thing["expr"]
            thing["expr"] = [
                {"counter": {"packets": 3, "bytes": 99}} if "counter" in e else e for e in expr
            ]
        if kind == "set":
            thing["elem"].reverse()
    listed.insert(0, {"metainfo": {"version": "1.0.6"}})
    listed.insert(1, {"table": {"family": "bridge", "name": "ivc", "handle": 1}})
    assert canonical(listed) == want.rules


def test_transaction_replaces_the_table_whatever_it_was(make: Make) -> None:
    verbs = [next(iter(command.items())) for command in commands(make().rules)["nftables"]]
    assert [(verb, *what) for verb, what in verbs[:3]] == [
        ("add", "table"),
        ("delete", "table"),
        ("add", "table"),
    ]
    assert {verb for verb, _ in verbs[3:]} == {"add"}


def test_no_table_is_left_where_nothing_is_wanted() -> None:
    assert [next(iter(command)) for command in commands(())["nftables"]] == ["add", "delete"]
