# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schemas say what the loaders say, of good files and of bad ones."""

import json
import tomllib
from collections.abc import Callable
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

import arxml_project as vehicle
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from network_project import Project
from neutral_strategies import networks

from ivc.cli import main
from ivc.network import Network
from ivc.network.jsontext import parse_json
from ivc.network.mapping import read_mapping
from ivc.network.neutral import network_document, network_schema, read_network
from ivc.network.values import Report, Table

SCHEMAS = {
    name: json.loads(
        resources.files("ivc.network").joinpath("schemas", f"{name}.schema.json").read_text()
    )
    for name in ("mapping", "network")
}
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
ROOT = Path(__file__).parent.parent.parent


def conforms(name: str, document: Any) -> bool:
    """Whether the schema takes a document."""
    return VALIDATORS[name].is_valid(document)


def findings(name: str, document: Any) -> set[str]:
    """What the loader says of a document, errors and warnings alike: an unknown key is one."""
    report = Report()
    parsed = parse_json(json.dumps(document), f"{name}.json", report)
    assert isinstance(parsed, Table)
    if name == "mapping":
        read_mapping(parsed, report)
    else:
        read_network(parsed, report)
    return {finding.code for finding in report.findings}


HOSTS: dict[str, Any] = {
    "version": 1,
    "defaults": {"path": "relay", "fallback": "network"},
    "rings": {"sd": "16KiB", "event": 65536, "bulk": "1 MiB"},
    "nodes": {
        "hmi": {"host": "netns:ivc-hmi", "ring": "bulk"},
        "adas": {"host": "local", "address": "10.77.0.2"},
        "tcu": {"external": True, "address": "10.77.0.9"},
    },
    "rule": [
        {"from": "hmi", "to": "adas", "service": 4660, "instance": "0x0001", "action": "network"},
        {"method": "0x0421", "client": 1, "type": "REQUEST", "protocol": "udp", "action": "deny"},
        {"method": 2, "type": "REQUEST", "answer": "E_NOT_REACHABLE", "action": "deny"},
        {"method": 3, "action": "mirror", "copy_to": "10.77.0.9:30600"},
        {"protocol": "tcp", "action": "direct"},
    ],
}
GUESTS: dict[str, Any] = {
    "version": 1,
    "nodes": {
        "adas": {"vm": "domu-adas", "pages": 4096, "ports": 1023},
        "gateway": {"vm": {"id": 3}, "ring": "4MiB"},
        "camera": {"vm": {"uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}},
        "tcu": {"external": True, "address": "10.77.0.9"},
    },
    "ethernet": {"bridge": "xenbr0", "interface": "eth1", "address": "10.77.0.254/24"},
}
NETWORK: dict[str, Any] = {
    "format": "ivc-network",
    "version": 1,
    "nodes": [
        {
            "name": "hmi",
            "names": ["hmi", "dashboard"],
            "address": "10.77.0.1",
            "netmask": "255.255.255.0",
            "sd": {
                "enabled": True,
                "group": "224.224.224.245:30490/udp",
                "timing": {
                    "ttl": 3,
                    "ttl_factor_offers": [{"service": "0x1234", "instance": 1, "factor": 2}],
                },
            },
            "clients": [{"service": "0x1234", "udp_ports": [40000], "udp_client": "40000-40010"}],
            "partitions": [["0x1234.0x0001"]],
            "kept": {"logging": "{}"},
            "services": [
                {
                    "service": "0x1235",
                    "instance": 1,
                    "endpoints": ["10.77.0.1:30510/udp", "10.77.0.1:30511/tcp"],
                    "events": [{"event": "0x8001", "is_field": True}],
                    "eventgroups": [
                        {
                            "eventgroup": 1,
                            "events": ["0x8001"],
                            "multicast": "224.1.1.1:32344/udp",
                            "threshold": 2,
                        }
                    ],
                }
            ],
        }
    ],
    "services": [{"service": "0x1236", "instance": 1, "endpoints": ["10.77.0.99:30512/udp"]}],
}
GOOD = [("mapping", HOSTS), ("mapping", GUESTS), ("network", NETWORK)]
IDS = ["hosts", "guests", "network"]

# What no schema can say: the loader alone finds it.
BEYOND = {"bad-netmask", "bad-address", "bad-range", "bad-endpoint", "bad-name", "rule-node"}

RUBBISH: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 0.5, 255, 65536, 70000, 2**40),
    *(
        "",
        "x",
        "0",
        "1",
        "3",
        "true",
        "0x1234",
        "0X12",
        "0x12345",
        "1234",
        "10.77.0.1",
        "10.77.0.256",
    ),
    *("10.77.0.1:30509", "10.77.0.1:0", "10.77.0.1:65535", "10.77.0.256:1", ":1", "mirror"),
    *("10.77.0.1:0/udp", "10.77.0.1:30509/udp", "10.77.0.1:30509/sctp", "224.1.1.1:65536/udp"),
    *("1-2", "0-1", "70000", "0x1.0x2", "1.2", "local", "netns:a", "netns:../a", "direct", "fast"),
    *("10.77.0.1/24", "10.77.0.1/33", "sixteen-letters-", "a/b", "all", "lo"),
    *("64KiB", "3KiB", "2KiB", "128MiB", "65536", "65536 B", "network", "none", "event", "bulk"),
    *(
        [],
        [1],
        ["x"],
        [[]],
        [{}],
        {},
        {"id": 0},
        {"id": "32751"},
        {"id": "32752"},
        {"uuid": "1"},
        {"id": 1, "x": 2},
    ),
]


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in list(members):
        found.append((document, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize(("name", "good"), GOOD, ids=IDS)
def test_good_document_conforms_and_loads(name: str, good: dict[str, Any]) -> None:
    assert conforms(name, good)
    assert findings(name, good) == set()


@pytest.mark.parametrize(("name", "good"), GOOD, ids=IDS)
def test_any_member_left_out(name: str, good: dict[str, Any]) -> None:
    """A member is required by both, or by neither."""
    for number in range(len(places(good))):
        document = deepcopy(good)
        container, key = places(document)[number]
        del container[key]
        found = findings(name, document) - BEYOND
        assert conforms(name, document) == (not found), (key, found)


@pytest.mark.parametrize(("name", "good"), GOOD, ids=IDS)
def test_any_member_added(name: str, good: dict[str, Any]) -> None:
    """A key that no loader knows is in no schema either."""
    for number in range(len(places(good))):
        document = deepcopy(good)
        container, key = places(document)[number]
        if isinstance(container[key], dict) and key not in {"nodes", "kept"}:
            container[key]["colour"] = "red"
            assert not conforms(name, document), key
            assert findings(name, document), key


@pytest.mark.parametrize(("name", "good"), GOOD, ids=IDS)
def test_any_member_replaced_by_rubbish(name: str, good: dict[str, Any]) -> None:
    """Schema and loader agree on every value, in every place."""
    for number in range(len(places(good))):
        for rubbish in RUBBISH:
            document = deepcopy(good)
            container, key = places(document)[number]
            container[key] = deepcopy(rubbish)
            found = findings(name, document)
            if conforms(name, document):
                assert found <= BEYOND, (key, rubbish, found)
            else:
                assert found, (key, rubbish)


@settings(max_examples=settings.default.max_examples // 10)  # networks are slow to draw
@given(network=networks())
def test_every_network_file_conforms(network: Network) -> None:
    assert conforms("network", network_document(network, {}))


@pytest.mark.parametrize("make", list(vehicle.MODELLINGS.values()), ids=list(vehicle.MODELLINGS))
def test_import_of_arxml_conforms(tmp_path: Path, make: Callable[[], str]) -> None:
    output = tmp_path / "network.toml"
    assert main(["import", str(vehicle.write(tmp_path, make())), "-o", str(output)]) == 0
    assert conforms("network", tomllib.loads(output.read_text()))


def test_import_of_vsomeip_conforms(project: Project) -> None:
    paths, _ = project.write()
    output = project.folder / "network.toml"
    assert main(["import", *map(str, paths), "-o", str(output)]) == 0
    assert conforms("network", tomllib.loads(output.read_text()))


def test_example_mapping_conforms() -> None:
    assert conforms("mapping", tomllib.loads((ROOT / "examples" / "mapping.toml").read_text()))


def test_network_file_in_the_documentation_is_one() -> None:
    text = (ROOT / "docs" / "configuration-import.md").read_text()
    document = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    assert conforms("network", document)
    assert findings("network", document) == set()


def test_published_network_schema_is_that_of_the_model() -> None:
    assert SCHEMAS["network"] == network_schema()


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_schema_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMAS[name]
