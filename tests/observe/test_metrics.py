# SPDX-License-Identifier: Apache-2.0
"""Metrics of a status document, as somebody else's parser reads them."""

import re
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ivc.observe.metrics import FAMILIES, render_metrics

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
LARGEST = (1 << 64) - 1

Labels = dict[str, str]


class EveryCounter(dict[str, int]):
    """All counters there are, all of them 7."""

    def __missing__(self, name: str) -> int:
        return 7


def ring(size: int, waiting: int) -> dict[str, int]:
    return {"size": size, "written": 7000, "waiting": waiting}


def document() -> dict[str, Any]:
    """Two nodes inside and one outside, a process with two sockets, flows, a relay, a fault."""
    node = {"host": 1, "quiesced": False, "flows": 2, "ring_bytes": 8192}
    socket = {"pid": 7, "command": "app", "node": "a", "socket": 1, "protocol": "udp"}
    socket |= {"local": "10.0.0.1:30509", "path": "relay", "reason": "NONE"}
    flow = {"id": 1, "from": "10.0.0.1:30509", "to": "10.0.0.2:40000", "path": "relay"}
    flow |= {"state": "active", "ring_bytes": 4096, "messages": 3, "bytes": 60}
    flow |= {"rings": [ring(1000, 250), ring(1000, 500)]}
    kind = {"from": "a", "to": "b", "service": 0x1234, "method": 0x8001, "client": 0, "type": 2}
    denied = {"from": "b", "to": "a", "service": 0x1234, "method": 1, "messages": 4}
    return {
        "controller": {"pid": 1, "path": "relay"},
        "nodes": [
            {"name": "a", "address": "10.0.0.1", "domain": "vm:a", "inside": True, **node},
            {"name": "b", "address": "10.0.0.2", "domain": "vm:b", "inside": True, **node}
            | {"host": None, "quiesced": True},
            {"name": "t", "address": "10.0.0.9", "domain": "external", "inside": False, **node},
        ],
        "processes": [
            {"pid": 7, "command": "app", "nodes": ["a"], "counters": EveryCounter()},
        ],
        "sockets": [
            {**socket, "counters": EveryCounter(tx_ring_msgs=5, tx_net_bytes=LARGEST)},
            {**socket, "socket": 2, "node": None, "counters": EveryCounter()},
        ],
        "flows": [
            {**flow, "dropped_full": 1, "answered": 2, "unanswered": 0, "unframed": 7},
            {"id": 2, "from": "x", "to": "y", "path": "direct", "state": "active", "ring_bytes": 9}
            | {"rings": []},
        ],
        "faults": [{"id": 1, "effect": "drop", "matched": 9, "acted": 3}],
        "relay": {
            "dropped_full": 1,
            "kinds": [{**kind, "messages": 3, "bytes": 60}, {**kind, "messages": 2, "bytes": 40}],
            "forgotten": {"messages": 100, "bytes": 2000},
            "denied": [{**denied, "passed": False}, {**denied, "messages": 6, "passed": True}],
        },
    }


def read(text: str) -> dict[str, list[tuple[Labels, float]]]:
    """Every sample there is, by name, as another program reads them."""
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def samples(**changed: Any) -> dict[str, list[tuple[Labels, float]]]:
    return read(render_metrics(document() | changed))


def test_every_family_is_there_with_numbers() -> None:
    known = [family.sample_name for family, _ in FAMILIES.values()]
    assert list(samples()) == ["ivc_up", *known]


def test_an_idle_controller_has_metrics_too() -> None:
    relay = {"dropped_full": 0, "kinds": [], "denied": []}
    idle = samples(
        nodes=[],
        processes=[],
        sockets=[],
        flows=[],
        faults=[],
        relay={**relay, "forgotten": {"messages": 0, "bytes": 0}},
    )
    assert idle["ivc_up"] == [({}, 1)]
    assert idle["ivc_processes"] == [({}, 0)]


def test_without_a_controller_nothing_but_that_is_told() -> None:
    assert read(render_metrics(None)) == {"ivc_up": [({}, 0)]}


def test_nodes_inside_say_whether_they_are_there() -> None:
    found = samples()
    assert [(labels["node"], value) for labels, value in found["ivc_node_present"]] == [
        ("a", 1),
        ("b", 0),
    ]
    assert [value for _, value in found["ivc_node_quiesced"]] == [0, 1]


def test_sockets_are_counted_by_path_and_reason() -> None:
    by = {"protocol": "udp", "path": "relay", "reason": "NONE"}
    assert samples()["ivc_sockets"] == [({"node": "a", **by}, 1), (by, 1)]


def test_messages_of_a_socket_are_told_by_way_and_road() -> None:
    found = {
        (labels["socket"], labels["direction"], labels["via"]): value
        for labels, value in samples()["ivc_socket_messages_total"]
    }
    assert len(found) == 8
    assert (found["1", "sent", "ring"], found["1", "sent", "network"]) == (5, 7)


def test_the_largest_number_a_process_may_write_is_a_number() -> None:
    text = render_metrics(document())
    assert f" {LARGEST}\n" in text
    assert max(value for _, value in read(text)["ivc_socket_bytes_total"]) == LARGEST


def test_times_are_seconds() -> None:
    assert samples()["ivc_process_wake_cost_seconds"][0][1] == 7e-9


def test_kinds_with_the_same_labels_are_one_number() -> None:
    """Ways with different services between the same nodes; two lines would be invalid."""
    ((labels, value),) = samples()["ivc_relay_kind_messages_total"]
    assert (labels["service"], labels["type"], value) == ("0x1234", "NOTIFICATION", 5)


def test_what_a_new_plan_had_forgotten_still_counts() -> None:
    found = samples()
    assert found["ivc_relay_messages_total"] == [({}, 105)]
    assert found["ivc_relay_bytes_total"] == [({}, 2100)]


def test_a_type_without_a_name_and_what_is_no_message() -> None:
    kind = dict.fromkeys(("from", "to", "service", "method", "client"))
    numbers = {"messages": 1, "bytes": 1}
    kinds = [{**kind, **numbers, "type": 0x22}, {**kind, **numbers, "type": None}]
    found = samples(relay=document()["relay"] | {"kinds": kinds})
    assert [labels for labels, _ in found["ivc_relay_kind_messages_total"]] == [
        {"type": "0x22"},
        {},
    ]


def test_denied_and_audited_are_apart() -> None:
    found = samples()
    labels = {"from": "b", "to": "a", "service": "0x1234", "method": "0x0001"}
    assert found["ivc_denied_messages_total"] == [(labels, 4)]
    assert found["ivc_audited_messages_total"] == [(labels, 6)]


def test_only_relayed_flows_have_numbers_of_their_own() -> None:
    assert [labels["flow"] for labels, _ in samples()["ivc_flow_relayed_messages_total"]] == ["1"]


def test_a_flow_tells_of_the_ring_that_is_fuller_and_what_went_by_the_first() -> None:
    found = samples()
    assert [value for _, value in found["ivc_flow_fill_ratio"]] == [0.5]
    assert [value for _, value in found["ivc_flow_ring_written_bytes_total"]] == [7000]


def test_a_process_cannot_write_metrics_of_its_own() -> None:
    evil = 'x"} 1\nivc_up 0\n# EOF\n\\'
    process = {"pid": 7, "command": evil, "nodes": [], "counters": EveryCounter()}
    found = samples(processes=[process])
    assert found["ivc_up"] == [({}, 1)]
    labels, _ = found["ivc_process_wakes_total"][0]
    assert labels["command"] == evil.replace("\n", "?")


def test_what_no_text_can_hold_is_replaced() -> None:
    process = {"pid": 7, "command": "\udcff\x00", "nodes": [], "counters": EveryCounter()}
    text = render_metrics(document() | {"processes": [process]})
    assert 'command="??"' in text.encode().decode()


def test_names_and_units_are_as_the_standard_wants_them() -> None:
    for family, _ in FAMILIES.values():
        assert re.fullmatch(r"ivc_[a-z_]+[a-z]", family.name)
        assert not family.name.endswith(("_total", "_count", "_info"))
        assert family.name.endswith(family.unit)
        assert ("bytes" in family.name) is (family.unit == "bytes")
        assert family.help.isascii() and family.help.endswith(".")


def test_the_docs_have_every_metric_with_its_kind_and_labels() -> None:
    rows = re.findall(r"^\| `(ivc_[a-z_]+)` \| (\w+) \| ([^|]*)\|", DOCS.read_text(), re.M)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    expected = {
        family.sample_name: (str(family.kind), family.labels) for family, _ in FAMILIES.values()
    }
    assert told == {"ivc_up": ("gauge", ()), **expected}
