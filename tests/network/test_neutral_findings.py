# SPDX-License-Identifier: Apache-2.0
"""Every slip in a network file is found once, in its place: one row for each way to make one."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from test_schemas import NETWORK

import ivc.network.neutral
from ivc.errors import ConfigError, Finding, Severity
from ivc.network import load

ERROR, WARNING = Severity.ERROR, Severity.WARNING

_MISSING = object()

# kind, severity, pointer, value to write there
CASES: list[tuple[str, Severity, str, Any]] = [
    ("bad-format", ERROR, "/format", "vsomeip"),
    ("bad-format", ERROR, "/format", _MISSING),
    ("bad-version", ERROR, "/version", 2),
    ("bad-version", ERROR, "/version", _MISSING),
    ("no-nodes", ERROR, "/nodes", []),
    ("no-nodes", ERROR, "/nodes", _MISSING),
    ("bad-type", ERROR, "/nodes", "hmi"),
    ("bad-type", ERROR, "/nodes/0", "hmi"),
    ("unknown-key", WARNING, "/node", []),
    ("unknown-key", WARNING, "/nodes/0/adress", "10.77.0.1"),
    ("missing", ERROR, "/nodes/0/name", _MISSING),
    ("missing", ERROR, "/nodes/0/address", _MISSING),
    ("missing", ERROR, "/nodes/0/services/0/instance", _MISSING),
    ("bad-type", ERROR, "/nodes/0/name", 7),
    ("bad-type", ERROR, "/nodes/0/names", "hmi"),
    ("bad-type", ERROR, "/nodes/0/names/1", 7),
    ("bad-type", ERROR, "/nodes/0/kept", []),
    ("bad-type", ERROR, "/nodes/0/kept/logging", {}),
    ("bad-type", ERROR, "/nodes/0/sd", True),
    ("bad-address", ERROR, "/nodes/0/address", "10.77.0.256"),
    ("bad-address", ERROR, "/nodes/0/address", "224.0.0.1"),
    ("bad-netmask", ERROR, "/nodes/0/netmask", "255.0.255.0"),
    ("bad-boolean", ERROR, "/nodes/0/sd/enabled", "true"),
    ("bad-endpoint", ERROR, "/nodes/0/sd/group", "224.224.224.245:30490"),
    ("bad-endpoint", ERROR, "/nodes/0/services/0/endpoints/0", "10.77.0.1:65536/udp"),
    ("bad-endpoint", ERROR, "/nodes/0/services/0/endpoints/0", "10.77.0.2:30510/udp"),
    ("bad-number", ERROR, "/nodes/0/services/0/service", "1234"),
    ("bad-number", ERROR, "/nodes/0/services/0/service", 65536),
    ("bad-number", ERROR, "/nodes/0/services/0/service", -1),
    ("bad-number", ERROR, "/nodes/0/services/0/events/0/event", "0x18001"),
    ("bad-number", ERROR, "/nodes/0/sd/timing/ttl", "3"),
    ("bad-number", ERROR, "/nodes/0/clients/0/udp_ports/0", 0),
    ("bad-range", ERROR, "/nodes/0/clients/0/udp_client", "40010-40000"),
    ("bad-id", ERROR, "/nodes/0/partitions/0/0", "0x1234"),
]
IDS = [f"{case[0]}{case[2].replace('/', '-')}" for case in CASES]


def spoilt(pointer: str, value: Any) -> dict[str, Any]:
    """The good network file with one value exchanged."""
    document = tomllib.loads(tomli_w.dumps(NETWORK))
    *way, last = (int(key) if key.isdecimal() else key for key in pointer.split("/")[1:])
    container: Any = document
    for key in way:
        container = container[key]
    if value is _MISSING:
        del container[last]
    else:
        container[last] = value
    return document


def findings(folder: Path, text: str) -> list[Finding]:
    """All that is said of a network file, but for the service of nobody in it."""
    path = folder / "network.toml"
    path.write_text(text)
    try:
        found = load([path], None).findings
    except ConfigError as error:
        found = error.findings
    return [finding for finding in found if finding.code != "stranger"]


@pytest.mark.parametrize(("code", "severity", "pointer", "value"), CASES, ids=IDS)
def test_slip_is_found_once_and_alone(
    tmp_path: Path, code: str, severity: Severity, pointer: str, value: Any
) -> None:
    (finding,) = findings(tmp_path, tomli_w.dumps(spoilt(pointer, value)))
    assert (finding.code, finding.severity, finding.pointer) == (code, severity, pointer)
    assert finding.file == str(tmp_path / "network.toml") and finding.line > 0
    assert finding.found and finding.expected and finding.fix


def test_good_file_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, tomli_w.dumps(NETWORK)) == []


def test_mapping_given_as_configuration_is_told(tmp_path: Path) -> None:
    found = findings(tmp_path, 'version = 1\n[nodes.hmi]\nhost = "local"\n')
    assert any("--mapping" in finding.fix for finding in found)


def test_all_problems_are_told_in_one_run(tmp_path: Path) -> None:
    document = spoilt("/version", 2)
    document["nodes"][0]["address"] = "x"
    document["nodes"][0]["services"][0]["service"] = "x"
    document["services"][0]["instance"] = "x"
    codes = [finding.code for finding in findings(tmp_path, tomli_w.dumps(document))]
    assert sorted(codes) == ["bad-address", "bad-number", "bad-number", "bad-version"]


def test_finding_has_the_line_of_the_value(tmp_path: Path) -> None:
    text = (
        'format = "ivc-network"\nversion = 1\n\n'
        '[[nodes]]\nname = "hmi"\naddress = "10.77.0.1"\nnetmask = "255.255.255.0"\n\n'
        '[[nodes]]\nname = "adas"\naddress = "10.77.0.2"\nnetmask = "255.255.255.0"\n\n'
        "[[nodes.services]]\nservice = 1\ninstance = 1\n\n"
        "[[nodes.services]]\nservice = 2\ninstance = 70000\n"
    )
    (finding,) = findings(tmp_path, text)
    assert (finding.pointer, finding.line) == ("/nodes/1/services/1/instance", 20)


def test_every_kind_of_finding_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration-import.md").read_text()
    part = text.partition("\n## ARXML\n")[0]
    assert {case[0] for case in CASES} <= set(re.findall(r"`([a-z-]+)`", part))


def test_every_kind_of_finding_has_a_test() -> None:
    """Read the kinds out of the source, so that a new one cannot go without a case."""
    kinds = {"bad-address", "bad-netmask", "unknown-key"}  # of the readers all formats share
    kinds |= {"bad-format", "bad-version"}  # put together
    for file in Path(ivc.network.neutral.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {"report.error", "_wrong"}:
                kinds |= {c.value for c in call.args[1:2] if isinstance(c, ast.Constant)}
    assert kinds == {case[0] for case in CASES}
