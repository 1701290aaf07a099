# SPDX-License-Identifier: Apache-2.0
"""Whatever the files hold, the answer is a network or findings: never anything else."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_project import MAPPING

from ivc.errors import ConfigError
from ivc.network import Loaded, load
from ivc.network.jsontext import parse_json
from ivc.network.values import Array, Report, Scalar, Table, Value
from ivc.plan import build_plan

EXAMPLES = int(os.environ.get("IVC_EXAMPLES", "2000"))
common = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

GOOD = {"unicast": "10.77.0.1", "services": []}

# Words that mean something somewhere, so that rubbish gets past the first check.
WORDS = [
    "unicast netmask prefix services service instance unreliable reliable port multicast address",
    "events event eventgroups eventgroup threshold service-discovery enable protocol applications",
    "name version defaults path fallback rings sd event bulk nodes hmi host vm external uuid id",
    "ring major minor is_field",
]
TEXTS = [
    "10.77.0.1", "10.77.0.2", "224.1.1.1", "255.255.255.0", "0x1234", "1234", "30509", "0x7735",
    "true", "local", "netns:a", "64KiB", "direct", "none", "", "hmi", "\ud800", "\n",
]  # fmt: skip
keys = st.sampled_from(" ".join(WORDS).split()) | st.text(max_size=5)
scalars = (
    st.sampled_from(TEXTS) | st.integers() | st.booleans() | st.none() | st.floats() | st.text()
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=25,
)


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


@common
@given(config=st.binary(max_size=200))
def test_any_bytes_as_configuration(folder: Path, config: bytes) -> None:
    outcome(folder, config, MAPPING.encode(), "mapping.toml")


@common
@given(mapping=st.binary(max_size=200) | st.text("[]{}=.\"'# \nabn1", max_size=60).map(str.encode))
def test_any_bytes_as_mapping(folder: Path, mapping: bytes) -> None:
    outcome(folder, json.dumps(GOOD).encode(), mapping, "mapping.toml")


@common
@given(config=st.dictionaries(keys, trees, max_size=6))
def test_any_json_as_configuration(folder: Path, config: dict[str, Any]) -> None:
    text = json.dumps({**GOOD, **config})
    outcome(folder, text.encode(), b'{"version":1,"nodes":{"hmi":{"host":"local"}}}', "m.json")


@common
@given(service=st.dictionaries(keys, trees, max_size=8))
def test_any_json_as_service(folder: Path, service: dict[str, Any]) -> None:
    good = {"service": "0x1111", "instance": "1", **service}
    text = json.dumps({**GOOD, "services": [good]})
    outcome(folder, text.encode(), b'{"version":1,"nodes":{"hmi":{"host":"local"}}}', "m.json")


@common
@given(mapping=st.dictionaries(keys, trees, max_size=6), node=trees)
def test_any_json_as_mapping(folder: Path, mapping: dict[str, Any], node: Any) -> None:
    text = json.dumps({"version": 1, "nodes": {"hmi": node}, **mapping})
    outcome(folder, json.dumps(GOOD).encode(), text.encode(), "m.json")


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


@common
@given(value=trees)
def test_json_reads_as_the_standard_parser_does(value: Any) -> None:
    with contextlib.suppress(ValueError):  # NaN and Infinity are not JSON
        text = json.dumps(value, allow_nan=False)
        report = Report()
        parsed = parse_json(text, "x.json", report)
        assert parsed is not None and report.findings == []
        assert plain(parsed) == as_text(json.loads(text))


@common
@given(text=st.text('[]{}",:0123.eE+-truefalsn \\u/', max_size=40))
def test_json_refuses_what_the_standard_parser_refuses(text: str) -> None:
    report = Report()
    parsed = parse_json(text, "x.json", report)
    try:
        json.loads(text)
    except ValueError:
        assert parsed is None and report.has_errors
    else:
        assert parsed is not None or "NaN" in text
