# SPDX-License-Identifier: Apache-2.0
"""Every slip in ARXML is found once, at its element: one row for each way to make one."""

import ast
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import arxml_project as vehicle
import pytest

import ivc.network.arxml
from ivc.errors import Finding, Severity
from ivc.network.arxml import read_arxml
from ivc.network.values import Report

ERROR, WARNING = Severity.ERROR, Severity.WARNING

Spoil = Callable[[str], str]

CHANNEL = "/Vehicle/Ethernet/Channel"
PROVIDED = "/Vehicle/Instances/Provided"
OLD_PROVIDED = f"{CHANNEL}/AdasUdp/AdasUdp_AE/Provided"


@cache
def good(modelling: str) -> str:
    return vehicle.MODELLINGS[modelling]()


def edit(name: str, old: str, new: str) -> Spoil:
    """Exchange text, the first time it comes after the element called `name` begins."""

    def spoil(text: str) -> str:
        at = text.index(f"<SHORT-NAME>{name}</SHORT-NAME>")
        changed = re.sub(old, new, text[at:], count=1, flags=re.DOTALL)
        assert changed != text[at:]
        return text[:at] + changed

    return spoil


def drop(name: str, tag: str) -> Spoil:
    """Take the first element with this tag out of the element called `name`."""
    return edit(name, rf"<{tag}[ >].*?</{tag}>", "")


def value(name: str, tag: str, new: str) -> Spoil:
    """Give the first element with this tag in the element called `name` another value."""
    return edit(name, rf"(<{tag}(?: [^>]*)?>)[^<]*", rf"\g<1>{new}")


def both(*steps: Spoil) -> Spoil:
    def spoil(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return spoil


def twice(name: str, tag: str, rename: str) -> Spoil:
    """Repeat the element called `name`, under another name."""
    pattern = rf"<{tag}>\s*<SHORT-NAME>{name}</SHORT-NAME>.*?</{tag}>"

    def spoil(text: str) -> str:
        match = re.search(pattern, text, re.DOTALL)
        assert match is not None
        again = match[0].replace(f">{name}<", f">{rename}<", 1)
        return text[: match.end()] + again + text[match.end() :]

    return spoil


# kind, severity, path, modelling, how to provoke it
CASES: list[tuple[str, Severity, str, str, Spoil]] = [
    # the file
    ("syntax", ERROR, "", "v2", lambda text: text.replace("</AUTOSAR>", "")),
    ("syntax", ERROR, "/Vehicle", "v2", lambda text: text.replace("</SYSTEM>", "</SYSTEN>")),
    ("syntax", ERROR, "", "v2", lambda text: ""),
    ("syntax", ERROR, "/Vehicle", "v2", lambda text: text[:-60]),
    ("syntax", ERROR, PROVIDED, "v2", value("Provided", "SERVICE-IDENTIFIER", "&id;")),
    ("syntax", ERROR, "", "v2", lambda text: text.replace("utf-8", "utf-99")),
    ("doctype", ERROR, "", "v2", lambda text: text.replace("<AUTOSAR", "<!DOCTYPE x><AUTOSAR", 1)),
    ("not-autosar", ERROR, "", "v2", lambda text: text.replace("schema/r4.0", "3.2.1")),
    ("not-autosar", ERROR, "", "v2", lambda text: "<fx:FIBEX xmlns:fx='http://x'/>"),
    ("not-autosar", ERROR, "", "v2", lambda text: "<html/>"),
    ("too-deep", ERROR, "", "v2", lambda text: text.replace("<AR-PACKAGES>", "<A>" * 200)),
    (
        "no-services",
        ERROR,
        "",
        "v2",
        both(drop("Instances", "SERVICE-INSTANCES"), drop("Instances", "SHORT-NAME")),
    ),
    (
        "duplicate-path",
        ERROR,
        PROVIDED,
        "v2",
        twice("Provided", "PROVIDED-SERVICE-INSTANCE", "Provided"),
    ),
    # addresses
    (
        "bad-address",
        ERROR,
        f"{CHANNEL}/adasEndpoint",
        "v2",
        value("adasEndpoint", "IPV-4-ADDRESS", "10.77.0.256"),
    ),
    (
        "bad-address",
        ERROR,
        f"{CHANNEL}/adasEndpoint",
        "v2",
        value("adasEndpoint", "IPV-4-ADDRESS", "224.0.0.9"),
    ),
    (
        "bad-netmask",
        ERROR,
        f"{CHANNEL}/hmiEndpoint",
        "v1",
        value("hmiEndpoint", "NETWORK-MASK", "255.0.255.0"),
    ),
    (
        "no-address",
        WARNING,
        f"{CHANNEL}/hmiEndpoint",
        "v2",
        drop("hmiEndpoint", "IPV-4-CONFIGURATION"),
    ),
    (
        "no-address",
        WARNING,
        f"{CHANNEL}/hmiEndpoint",
        "adaptive",
        edit(
            "hmiEndpoint",
            "<IPV-4-CONFIGURATION>.*?</IPV-4-CONFIGURATION>",
            "<IPV-6-CONFIGURATION><IPV-6-ADDRESS>fd00::1</IPV-6-ADDRESS></IPV-6-CONFIGURATION>",
        ),
    ),
    (
        "no-address",
        ERROR,
        "/Vehicle/adasDesign/Connector",
        "adaptive",
        drop("adasDesign", "UNICAST-NETWORK-ENDPOINT-REFS"),
    ),
    # ports
    (
        "no-port",
        ERROR,
        f"{CHANNEL}/AdasUdp/AdasUdp_AE",
        "v2",
        drop("AdasUdp_AE", "TP-CONFIGURATION"),
    ),
    (
        "no-port",
        ERROR,
        "/Vehicle/adasMapping",
        "adaptive",
        both(drop("adasMapping", "UDP-PORT-REF"), drop("adasMapping", "TCP-PORT-REF")),
    ),
    (
        "dynamic-port",
        ERROR,
        f"{CHANNEL}/AdasUdp/AdasUdp_AE",
        "v1",
        value("AdasUdp", "PORT-NUMBER", "0"),
    ),
    (
        "dynamic-port",
        ERROR,
        f"{CHANNEL}/AdasUdp/AdasUdp_AE",
        "v2",
        edit(
            "AdasUdp",
            "<PORT-NUMBER>.*?</PORT-NUMBER>",
            "<DYNAMICALLY-ASSIGNED>true</DYNAMICALLY-ASSIGNED>",
        ),
    ),
    (
        "bad-number",
        ERROR,
        f"{CHANNEL}/AdasUdp/AdasUdp_AE",
        "v2",
        value("AdasUdp", "PORT-NUMBER", "65536"),
    ),
    # ids
    ("bad-number", ERROR, PROVIDED, "v2", value("Provided", "SERVICE-IDENTIFIER", "70000")),
    ("bad-number", ERROR, PROVIDED, "v2", value("Provided", "INSTANCE-IDENTIFIER", "-1")),
    ("bad-number", ERROR, OLD_PROVIDED, "v1", value("Provided", "INSTANCE-IDENTIFIER", "09")),
    ("bad-number", ERROR, PROVIDED, "v2", value("Provided", "MAJOR-VERSION", "256")),
    (
        "bad-number",
        ERROR,
        f"{PROVIDED}/Handler",
        "v2",
        value("Handler", "EVENT-GROUP-IDENTIFIER", "one"),
    ),
    (
        "bad-number",
        ERROR,
        "/Vehicle/Identifiers/Identifier",
        "v2",
        value("Identifier", "HEADER-ID", "0x1123480011"),
    ),
    (
        "bad-number",
        ERROR,
        "/Vehicle/Deployment/Event",
        "adaptive",
        value("Event", "EVENT-ID", "0x18001"),
    ),
    ("missing", ERROR, PROVIDED, "v2", drop("Provided", "SERVICE-IDENTIFIER")),
    ("missing", ERROR, PROVIDED, "v2", drop("Provided", "INSTANCE-IDENTIFIER")),
    ("missing", ERROR, "/Vehicle/Deployment", "adaptive", drop("Group", "SERVICE-INTERFACE-ID")),
    ("missing", ERROR, "/Vehicle/Provided", "adaptive", drop("Provided", "SERVICE-INSTANCE-ID")),
    (
        "missing",
        ERROR,
        "/Vehicle/Provided",
        "adaptive",
        drop("Provided", "SERVICE-INTERFACE-DEPLOYMENT-REF"),
    ),
    (
        "missing",
        ERROR,
        "/Vehicle/adasMapping",
        "adaptive",
        drop("adasMapping", "COMMUNICATION-CONNECTOR-REF"),
    ),
    (
        "missing",
        ERROR,
        f"{CHANNEL}/AdasUdp/AdasUdp_AE",
        "v2",
        drop("AdasUdp_AE", "NETWORK-ENDPOINT-REF"),
    ),
    (
        "duplicate-service",
        WARNING,
        "/Vehicle/Instances/Again",
        "v2",
        twice("Provided", "PROVIDED-SERVICE-INSTANCE", "Again"),
    ),
    # references
    (
        "bad-reference",
        ERROR,
        f"{PROVIDED}/Handler",
        "v2",
        value("Handler", "APPLICATION-ENDPOINT-REF", "/Vehicle/Nowhere"),
    ),
    (
        "bad-reference",
        ERROR,
        PROVIDED,
        "v2",
        edit("Provided", f"{CHANNEL}/AdasUdp/AdasUdp_AE", f"{CHANNEL}/AdasUdp"),
    ),
    (
        "bad-reference",
        ERROR,
        f"{CHANNEL}/AdasUdp",
        "v1",
        value("AdasUdp", "CONNECTOR-REF", "/Vehicle/adas/Gone"),
    ),
    (
        "bad-reference",
        WARNING,
        f"{CHANNEL}/HmiUdp/HmiUdp_AE/Consumed",
        "v1",
        value("Consumed", "PROVIDED-SERVICE-INSTANCE-REF", "/Vehicle/Gone"),
    ),
    (
        "bad-reference",
        ERROR,
        "/Vehicle/Deployment/Group",
        "adaptive",
        value("Group", "EVENT-REF", "/Vehicle/Deployment/Gone"),
    ),
    (
        "bad-reference",
        ERROR,
        "/Vehicle/Provided/Group",
        "adaptive",
        value("Provided", "EVENT-GROUP-REF", "/Vehicle/Deployment/Gone"),
    ),
    (
        "bad-reference",
        ERROR,
        "/Vehicle/adasMapping",
        "adaptive",
        value("adasMapping", "SERVICE-INSTANCE-REF", "/Vehicle/Gone"),
    ),
    (
        "no-endpoint",
        WARNING,
        PROVIDED,
        "v2",
        drop("Provided", "LOCAL-UNICAST-ADDRESSS"),
    ),
    (
        "no-ecu",
        ERROR,
        f"{CHANNEL}/AdasUdp",
        "v2",
        drop("AdasUdp", "CONNECTOR-REF"),
    ),
    # service discovery and eventgroups
    (
        "no-sd",
        WARNING,
        "/Vehicle/hmiDesign",
        "adaptive",
        drop("hmiDesign", "SERVICE-DISCOVERY-CONFIGS"),
    ),
    (
        "bad-multicast",
        ERROR,
        f"{CHANNEL}/SdEndpoint",
        "adaptive",
        value("SdEndpoint", "IPV-4-ADDRESS", "10.77.0.99"),
    ),
    (
        "no-eventgroup-id",
        WARNING,
        f"{PROVIDED}/Handler",
        "v2",
        drop("Handler", "EVENT-GROUP-IDENTIFIER"),
    ),
    (
        "unused-multicast",
        WARNING,
        f"{PROVIDED}/Handler",
        "v2",
        drop("Handler", "MULTICAST-THRESHOLD"),
    ),
]
IDS = [f"{case[0]}-{case[2].rpartition('/')[2]}-{case[3]}" for case in CASES]


def findings(folder: Path, *texts: str) -> tuple[Finding, ...]:
    report = Report()
    files = [
        (vehicle.write(folder, text, f"{number}.arxml"), f"{number}.arxml")
        for number, text in enumerate(texts)
    ]
    read_arxml(files, report)
    return report.sorted()


@pytest.mark.parametrize(("code", "severity", "path", "modelling", "spoil"), CASES, ids=IDS)
def test_slip_is_found_once_and_alone(
    tmp_path: Path, code: str, severity: Severity, path: str, modelling: str, spoil: Spoil
) -> None:
    found = findings(tmp_path, spoil(good(modelling)))
    assert [(f.code, f.severity, f.pointer) for f in found] == [(code, severity, path)]
    (finding,) = found
    assert finding.file == "0.arxml" and finding.line > 0 and finding.column > 0
    assert finding.found and finding.expected and finding.fix


@pytest.mark.parametrize("modelling", list(vehicle.MODELLINGS))
def test_good_files_have_no_findings(tmp_path: Path, modelling: str) -> None:
    assert findings(tmp_path, good(modelling)) == ()


def test_finding_has_the_line_of_the_element(tmp_path: Path) -> None:
    text = value("Provided", "SERVICE-IDENTIFIER", "70000")(good("v2"))
    (finding,) = findings(tmp_path, text)
    assert "<SERVICE-IDENTIFIER>70000<" in text.splitlines()[finding.line - 1]
    assert finding.found == 'SERVICE-IDENTIFIER "70000"'


def test_all_problems_are_told_in_one_run(tmp_path: Path) -> None:
    spoil = both(
        value("Provided", "SERVICE-IDENTIFIER", "70000"),
        value("AdasUdp", "PORT-NUMBER", "65536"),
        value("hmiEndpoint", "IPV-4-ADDRESS", "10.77.0"),
        drop("Handler", "MULTICAST-THRESHOLD"),
    )
    codes = sorted(finding.code for finding in findings(tmp_path, spoil(good("v2"))))
    assert codes == ["bad-address", "bad-number", "bad-number", "unused-multicast"]


def test_files_that_disagree_are_told(tmp_path: Path) -> None:
    other = value("Provided", "SERVICE-IDENTIFIER", "4661")(good("v2"))
    (finding,) = findings(tmp_path, good("v2"), other)
    assert (finding.code, finding.file, finding.pointer) == (
        "second-definition",
        "1.arxml",
        PROVIDED,
    )
    assert "0.arxml" in finding.expected


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    report = Report()
    assert read_arxml([(tmp_path / "gone.arxml", "gone.arxml")], report) is None
    (finding,) = report.sorted()
    assert (finding.code, finding.file) == ("unreadable", "gone.arxml")


def test_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.arxml")
    report = Report()
    assert read_arxml([(tmp_path / "pipe.arxml", "pipe.arxml")], report) is None
    assert [finding.code for finding in report.sorted()] == ["unreadable"]


def test_every_kind_of_finding_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration-import.md").read_text()
    part = text.partition("\n## ARXML\n")[2]
    assert {case[0] for case in CASES} <= set(re.findall(r"`([a-z-]+)`", part))


def test_every_kind_of_finding_has_a_test() -> None:
    """Read the kinds out of the source, so that a new one cannot go without a case."""
    elsewhere = {"second-definition", "too-large", "unreadable"}
    kinds = {"bad-address", "bad-netmask"}  # of the readers that all formats share
    for file in Path(ivc.network.arxml.__file__).parent.glob("*.py"):
        kinds |= set(_kinds(ast.parse(file.read_text())))
    assert kinds == {case[0] for case in CASES} | elsewhere


def _kinds(tree: ast.AST) -> Iterable[str]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            name = ast.unparse(call.func).lstrip("self._")
            if name.startswith(("report.", "note")) or name.endswith("Refused"):
                for argument in call.args[:2]:
                    if isinstance(argument, ast.Constant) and re.fullmatch(
                        "[a-z]+(-[a-z]+)*", str(argument.value)
                    ):
                        yield argument.value
