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

Spoil = Callable[[str], str]
Slip = Callable[[str, str], str]
"""What a slip makes of a file's text; the second argument is the element it is in."""

CHANNEL = "/Vehicle/Ethernet/Channel"
ADAS_SOCKET = f"{CHANNEL}/AdasUdp"
ADAS_UDP = f"{ADAS_SOCKET}/AdasUdp_AE"
PROVIDED = "/Vehicle/Instances/Provided"
HANDLER = f"{PROVIDED}/Handler"
IPV6 = "<IPV-6-CONFIGURATION><IPV-6-ADDRESS>fd00::1</IPV-6-ADDRESS></IPV-6-CONFIGURATION>"


@cache
def good(modelling: str) -> str:
    return vehicle.MODELLINGS[modelling]()


def edit(old: str, new: str, of: str = "") -> Slip:
    """Exchange text, the first time it comes after the element (or the one called `of`) begins."""

    def slip(text: str, element: str) -> str:
        at = text.index(f"<SHORT-NAME>{of or element}</SHORT-NAME>")
        changed = re.sub(old, new, text[at:], count=1, flags=re.DOTALL)
        assert changed != text[at:]
        return text[:at] + changed

    return slip


def drop(tag: str, of: str = "") -> Slip:
    """Take the first element with this tag out of it."""
    return edit(rf"<{tag}[ >].*?</{tag}>", "", of)


def value(tag: str, new: str, of: str = "") -> Slip:
    """Give the first element with this tag in it another value."""
    return edit(rf"(<{tag}(?: [^>]*)?>)[^<]*", rf"\g<1>{new}", of)


def both(*slips: Slip) -> Slip:
    def slip(text: str, element: str) -> str:
        for each in slips:
            text = each(text, element)
        return text

    return slip


def twice(name: str, tag: str, rename: str) -> Slip:
    """Repeat the element called `name`, under another name."""
    pattern = rf"<{tag}>\s*<SHORT-NAME>{name}</SHORT-NAME>.*?</{tag}>"

    def slip(text: str, element: str) -> str:
        match = re.search(pattern, text, re.DOTALL)
        assert match is not None
        again = match[0].replace(f">{name}<", f">{rename}<", 1)
        return text[: match.end()] + again + text[match.end() :]

    return slip


def file(old: str, new: str) -> Slip:
    """Exchange text wherever it is."""
    return lambda text, element: text.replace(old, new)


# kind, path, modelling, how to provoke it: in the last element of the path unless told
ERRORS: list[tuple[str, str, str, Slip]] = [
    # the file
    ("syntax", "", "v2", file("</AUTOSAR>", "")),
    ("syntax", "/Vehicle", "v2", file("</SYSTEM>", "</SYSTEN>")),
    ("syntax", "", "v2", lambda text, element: ""),
    ("syntax", "/Vehicle", "v2", lambda text, element: text[:-60]),
    ("syntax", PROVIDED, "v2", value("SERVICE-IDENTIFIER", "&id;")),
    ("syntax", "", "v2", file("utf-8", "utf-99")),
    ("doctype", "", "v2", file("<AUTOSAR", "<!DOCTYPE x><AUTOSAR")),
    ("not-autosar", "", "v2", file("schema/r4.0", "3.2.1")),
    ("not-autosar", "", "v2", lambda text, element: "<fx:FIBEX xmlns:fx='http://x'/>"),
    ("not-autosar", "", "v2", lambda text, element: "<html/>"),
    ("too-deep", "", "v2", file("<AR-PACKAGES>", "<A>" * 200)),
    (
        "no-services",
        "",
        "v2",
        both(drop("SERVICE-INSTANCES", of="Instances"), drop("SHORT-NAME", of="Instances")),
    ),
    ("duplicate-path", PROVIDED, "v2", twice("Provided", "PROVIDED-SERVICE-INSTANCE", "Provided")),
    # addresses
    ("bad-address", f"{CHANNEL}/adasEndpoint", "v2", value("IPV-4-ADDRESS", "10.77.0.256")),
    ("bad-address", f"{CHANNEL}/adasEndpoint", "v2", value("IPV-4-ADDRESS", "224.0.0.9")),
    ("bad-netmask", f"{CHANNEL}/hmiEndpoint", "v1", value("NETWORK-MASK", "255.0.255.0")),
    (
        "no-address",
        "/Vehicle/adasDesign/Connector",
        "adaptive",
        drop("UNICAST-NETWORK-ENDPOINT-REFS", of="adasDesign"),
    ),
    # ports
    ("no-port", ADAS_UDP, "v2", drop("TP-CONFIGURATION")),
    (
        "no-port",
        "/Vehicle/adasMapping",
        "adaptive",
        both(drop("UDP-PORT-REF"), drop("TCP-PORT-REF")),
    ),
    ("dynamic-port", ADAS_UDP, "v1", value("PORT-NUMBER", "0", of="AdasUdp")),
    (
        "dynamic-port",
        ADAS_UDP,
        "v2",
        edit(
            "<PORT-NUMBER>.*?</PORT-NUMBER>",
            "<DYNAMICALLY-ASSIGNED>true</DYNAMICALLY-ASSIGNED>",
            of="AdasUdp",
        ),
    ),
    ("bad-number", ADAS_UDP, "v2", value("PORT-NUMBER", "65536", of="AdasUdp")),
    # ids
    ("bad-number", PROVIDED, "v2", value("SERVICE-IDENTIFIER", "70000")),
    ("bad-number", PROVIDED, "v2", value("INSTANCE-IDENTIFIER", "-1")),
    ("bad-number", f"{ADAS_UDP}/Provided", "v1", value("INSTANCE-IDENTIFIER", "09")),
    ("bad-number", PROVIDED, "v2", value("MAJOR-VERSION", "256")),
    ("bad-number", HANDLER, "v2", value("EVENT-GROUP-IDENTIFIER", "one")),
    ("bad-number", "/Vehicle/Identifiers/Identifier", "v2", value("HEADER-ID", "0x1123480011")),
    ("bad-number", "/Vehicle/Deployment/Event", "adaptive", value("EVENT-ID", "0x18001")),
    ("missing", PROVIDED, "v2", drop("SERVICE-IDENTIFIER")),
    ("missing", PROVIDED, "v2", drop("INSTANCE-IDENTIFIER")),
    ("missing", "/Vehicle/Deployment", "adaptive", drop("SERVICE-INTERFACE-ID", of="Group")),
    ("missing", "/Vehicle/Provided", "adaptive", drop("SERVICE-INSTANCE-ID")),
    ("missing", "/Vehicle/Provided", "adaptive", drop("SERVICE-INTERFACE-DEPLOYMENT-REF")),
    ("missing", "/Vehicle/adasMapping", "adaptive", drop("COMMUNICATION-CONNECTOR-REF")),
    ("missing", ADAS_UDP, "v2", drop("NETWORK-ENDPOINT-REF")),
    # references
    ("bad-reference", HANDLER, "v2", value("APPLICATION-ENDPOINT-REF", "/Vehicle/Nowhere")),
    ("bad-reference", PROVIDED, "v2", edit(ADAS_UDP, ADAS_SOCKET)),
    ("bad-reference", ADAS_SOCKET, "v1", value("CONNECTOR-REF", "/Vehicle/adas/Gone")),
    (
        "bad-reference",
        "/Vehicle/Deployment/Group",
        "adaptive",
        value("EVENT-REF", "/Vehicle/Deployment/Gone"),
    ),
    (
        "bad-reference",
        "/Vehicle/Provided/Group",
        "adaptive",
        value("EVENT-GROUP-REF", "/Vehicle/Deployment/Gone", of="Provided"),
    ),
    (
        "bad-reference",
        "/Vehicle/adasMapping",
        "adaptive",
        value("SERVICE-INSTANCE-REF", "/Vehicle/Gone"),
    ),
    ("no-ecu", ADAS_SOCKET, "v2", drop("CONNECTOR-REF")),
    # service discovery
    ("bad-multicast", f"{CHANNEL}/SdEndpoint", "adaptive", value("IPV-4-ADDRESS", "10.77.0.99")),
]

WARNINGS: list[tuple[str, str, str, Slip]] = [
    ("no-address", f"{CHANNEL}/hmiEndpoint", "v2", drop("IPV-4-CONFIGURATION")),
    (
        "no-address",
        f"{CHANNEL}/hmiEndpoint",
        "adaptive",
        edit("<IPV-4-CONFIGURATION>.*?</IPV-4-CONFIGURATION>", IPV6),
    ),
    (
        "duplicate-service",
        "/Vehicle/Instances/Again",
        "v2",
        twice("Provided", "PROVIDED-SERVICE-INSTANCE", "Again"),
    ),
    (
        "bad-reference",
        f"{CHANNEL}/HmiUdp/HmiUdp_AE/Consumed",
        "v1",
        value("PROVIDED-SERVICE-INSTANCE-REF", "/Vehicle/Gone"),
    ),
    ("no-endpoint", PROVIDED, "v2", drop("LOCAL-UNICAST-ADDRESSS")),
    ("no-sd", "/Vehicle/hmiDesign", "adaptive", drop("SERVICE-DISCOVERY-CONFIGS")),
    ("no-eventgroup-id", HANDLER, "v2", drop("EVENT-GROUP-IDENTIFIER")),
    ("unused-multicast", HANDLER, "v2", drop("MULTICAST-THRESHOLD")),
]


def spoil(path: str, slip: Slip) -> Spoil:
    """The slip in the last element of a path."""
    return lambda text: slip(text, path.rpartition("/")[2])


CASES = [
    (code, severity, path, modelling, spoil(path, slip))
    for severity, rows in ((Severity.ERROR, ERRORS), (Severity.WARNING, WARNINGS))
    for code, path, modelling, slip in rows
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
    text = value("SERVICE-IDENTIFIER", "70000")(good("v2"), "Provided")
    (finding,) = findings(tmp_path, text)
    assert "<SERVICE-IDENTIFIER>70000<" in text.splitlines()[finding.line - 1]
    assert finding.found == 'SERVICE-IDENTIFIER "70000"'


def test_all_problems_are_told_in_one_run(tmp_path: Path) -> None:
    slips = both(
        value("SERVICE-IDENTIFIER", "70000", of="Provided"),
        value("PORT-NUMBER", "65536", of="AdasUdp"),
        value("IPV-4-ADDRESS", "10.77.0", of="hmiEndpoint"),
        drop("MULTICAST-THRESHOLD", of="Handler"),
    )
    codes = sorted(finding.code for finding in findings(tmp_path, slips(good("v2"), "")))
    assert codes == ["bad-address", "bad-number", "bad-number", "unused-multicast"]


def test_files_that_disagree_are_told(tmp_path: Path) -> None:
    other = value("SERVICE-IDENTIFIER", "4661")(good("v2"), "Provided")
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
