# SPDX-License-Identifier: Apache-2.0
"""Files nobody could mean: each gets one clear finding, hides no other, and starts nothing."""

import json
from pathlib import Path

import pytest
from network_project import Project
from test_findings import CASES, ERROR

from ivc.controller.service import Service, Settings
from ivc.errors import ConfigError


def codes(project: Project) -> list[str]:
    return [finding.code for finding in project.findings()]


def test_there_are_enough_kinds_of_slips() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", [case for case in CASES if case[1] is ERROR], ids=lambda c: c[0])
def test_controller_starts_nothing_on_a_bad_configuration(
    project: Project, case: tuple[object, object, object, object]
) -> None:
    case[3](project)  # type: ignore[operator]
    paths, mapping = project.write()
    run_dir = project.folder / "run"
    with pytest.raises(ConfigError):
        Service(Settings(paths, mapping, run_dir))
    assert not run_dir.exists()


@pytest.mark.parametrize("part", range(1, 20))
def test_truncated_file(project: Project, part: int) -> None:
    text = json.dumps(project.hmi, indent=1)
    project.texts["hmi.json"] = text[: len(text) * part // 20]
    assert codes(project) == ["syntax"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_wrong_encoding(project: Project, encoding: str) -> None:
    project.hmi["device"] = "fünf"
    text = json.dumps(project.hmi, ensure_ascii=False)
    project.texts["hmi.json"] = text.encode(encoding)
    assert codes(project) in (["unreadable"], ["syntax"])


def test_byte_order_mark_is_no_slip(project: Project) -> None:
    project.texts["hmi.json"] = json.dumps(project.hmi).encode("utf-8-sig")
    assert codes(project) == []


@pytest.mark.parametrize(
    "text",
    ["", " \n", "\0", "null", '"hmi"', "[]", "{}{}", "{" * 500, '{"a":' * 500, "NaN", "// hmi\n{}"],
)
def test_no_configuration_at_all(project: Project, text: str) -> None:
    project.texts["hmi.json"] = text
    assert codes(project) in (["syntax"], ["bad-type"])


def test_huge_file_is_not_read(project: Project) -> None:
    paths, _ = project.write()
    with (project.folder / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    (finding,) = project.findings([*paths, project.folder / "huge.json"])
    assert (finding.code, finding.found) == ("unreadable", f"{1 << 40} bytes")


def test_huge_number_and_huge_text(project: Project) -> None:
    project.service["unreliable"] = "9" * 1_000_000
    project.hmi["x" * 1_000_000] = "y"
    findings = project.findings()
    assert sorted(finding.code for finding in findings) == ["bad-port", "unknown-key"]
    assert all(len(finding.found) < 100 for finding in findings)


def test_ten_thousand_slips_are_ten_thousand_findings(project: Project) -> None:
    entry = {"instance": "1", "unreliable": "0x772e"}
    project.hmi["services"] = [{"service": n, **entry} for n in range(1, 10_001)]
    assert codes(project) == ["hex-port"] * 10_000


def test_folder_that_holds_itself(project: Project) -> None:
    folder = project.folder / "hmi"
    folder.mkdir()
    project.texts["hmi/a.json"] = json.dumps(project.hmi)
    (folder / "loop").symlink_to(folder)
    (folder / "loop.json").symlink_to(folder)
    project.write()
    assert project.findings([folder, project.folder / "adas.json"]) == ()


def test_folder_that_is_a_link_to_itself(project: Project) -> None:
    loop = project.folder / "loop"
    loop.symlink_to(loop)
    project.write()
    findings = project.findings([loop, project.folder / "adas.json"])
    assert [finding.code for finding in findings] == ["unreadable"]


def test_links_in_a_circle(project: Project) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        (project.folder / f"{here}.json").symlink_to(f"{there}.json")
    findings = project.findings([project.folder / "a.json", project.folder / "adas.json"])
    assert [finding.code for finding in findings] == ["unreadable"]


def test_same_file_twice(project: Project) -> None:
    paths, _ = project.write()
    findings = project.findings([*paths, paths[0]])
    assert [finding.code for finding in findings] == ["same-node"]


def test_device_file(project: Project) -> None:
    project.write()
    findings = project.findings([Path("/dev/zero"), project.folder / "adas.json"])
    assert [finding.code for finding in findings] == ["unreadable"]


def test_every_slip_of_a_file_is_told_at_once(project: Project) -> None:
    """The errors of many cases in one file: none lost behind another."""
    project.hmi.update(
        {
            "unicast": "10.77.0",
            "netmask": "255.0.255.0",
            "service-discovery": {"port": "0x771a", "ttl": "0", "enable": "yes"},
            "clients": [{"reliable": "1"}],
            "npdu-default-timings": {},
            "servces": [],
        }
    )
    project.service.update(service="12ab", unreliable="0x772e", events=[{}], eventgroups={})
    expected = [
        *("bad-address", "bad-boolean", "bad-id", "bad-netmask", "bad-number", "bad-type"),
        *("bad-type", "hex-port", "hex-port", "missing", "npdu-defaults", "unknown-key"),
    ]
    assert sorted(codes(project)) == expected
