# SPDX-License-Identifier: Apache-2.0
"""Whatever the files hold, the answer is a network or findings: never anything else."""

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.errors import ConfigError
from ivc.network import Loaded, load
from ivc.network.jsontext import parse_json
from ivc.network.values import Array, Report, Scalar, Table, Value
from ivc.plan import build_plan

EXAMPLES = Path(__file__).parent / "examples"


def everything() -> dict[str, Any]:
    """One document with every section that is looked into, and a service of another node."""
    document: dict[str, Any] = {}
    for file in sorted((EXAMPLES / "head-unit").glob("*.json")):
        document.update(json.loads(file.read_text()))
    for key in ("tracing", "suppress_missing_event_logs", "security-update-whitelist"):
        del document[key]
    others = json.loads((EXAMPLES / "static" / "cluster.json").read_text())["services"]
    clients = json.loads((EXAMPLES / "tcp" / "display.json").read_text())["clients"]
    services = [*document["services"], {**others[0], "unicast": "10.77.0.2"}]
    return {**document, "unicast": "10.77.0.1", "services": services, "clients": clients}


GOOD = everything()
GOOD_MAPPING = {
    "version": 1,
    "defaults": {"path": "direct", "fallback": "network"},
    "rings": {"sd": "16KiB", "event": 65536},
    "nodes": {
        "hmi": {"vm": "hmi", "pages": 2048, "ports": 500, "ring": "bulk"},
        "adas": {"vm": {"id": 3}, "address": "10.77.0.2"},
    },
}

TEXTS = [
    *("10.77.0.1", "10.77.0.2", "224.1.1.1", "0x1235", "1234", "30490", "0x7735", "true", "none"),
    *("local", "netns:a", "64KiB", "hmi", "", "\ud800", "\n", "9" * 5000),
]
scalars = st.sampled_from(TEXTS) | st.integers() | st.booleans() | st.none() | st.text(max_size=8)
rubbish = scalars | st.sampled_from([{}, [], [[]], [{}], {"port": {}}, {"": ""}])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in list(members):
        found.append((document, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@st.composite
def spoilt(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """A good document with up to three members replaced by rubbish, moved or left out."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(document) or [({}, "")]))
        if isinstance(container, dict) and draw(st.booleans()):
            moved = container.pop(key, None)
            if draw(st.booleans()):
                container[draw(st.text(max_size=3))] = moved
        else:
            container[key] = copy.deepcopy(draw(rubbish))
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def outcome(folder: Path, config: bytes, mapping: bytes, name: str) -> Loaded | None:
    """Load and plan; None if there were findings that forbid it."""
    (folder / "hmi.json").write_bytes(config)
    (folder / name).write_bytes(mapping)
    try:
        loaded = load([folder / "hmi.json"], folder / name)
    except ConfigError as error:
        assert error.findings
        str(error).encode("utf-8")
        return None
    build_plan(loaded.network, loaded.mapping).to_json().encode("ascii")
    return loaded


fewer = settings(max_examples=settings.default.max_examples // 3)  # each writes and loads files

texts = st.text("[]{}=.\"'# \nabn1", max_size=40).map(str.encode)


@fewer
@given(config=st.binary(max_size=100) | texts, mapping=st.binary(max_size=100) | texts)
def test_any_bytes(folder: Path, config: bytes, mapping: bytes) -> None:
    outcome(folder, config, mapping, "mapping.toml")


@fewer
@given(config=spoilt(GOOD), mapping=spoilt(GOOD_MAPPING))
def test_good_files_spoilt_here_and_there(folder: Path, config: bytes, mapping: bytes) -> None:
    outcome(folder, config, mapping, "mapping.json")


def test_files_to_be_spoilt_are_good(folder: Path) -> None:
    config, mapping = json.dumps(GOOD).encode(), json.dumps(GOOD_MAPPING).encode()
    assert outcome(folder, config, mapping, "mapping.json") is not None


def plain(value: Value) -> Any:
    """A tree back as plain values, scalars by their text."""
    match value:
        case Table(items):
            return {key: plain(item) for key, item in items.items()}
        case Array(items):
            return [plain(item) for item in items]
        case Scalar(text):
            return text


def as_text(value: Any) -> Any:
    match value:
        case dict():
            return {key: as_text(item) for key, item in value.items()}
        case list():
            return [as_text(item) for item in value]
        case str():
            return value
        case _:
            return json.dumps(value)


@given(value=trees)
def test_json_reads_as_the_standard_parser_does(value: Any) -> None:
    text = json.dumps(value)
    report = Report()
    parsed = parse_json(text, "x.json", report)
    assert parsed is not None and report.findings == []
    assert plain(parsed) == as_text(json.loads(text))


@given(text=st.text('[]{}",:0123.eE+-truefalsn \\u/', max_size=40))
def test_json_refuses_what_the_standard_parser_refuses(text: str) -> None:
    report = Report()
    parsed = parse_json(text, "x.json", report)
    try:
        json.loads(text)
    except ValueError:
        assert parsed is None and report.has_errors
    else:
        assert parsed is not None
