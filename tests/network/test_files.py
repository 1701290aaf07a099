# SPDX-License-Identifier: Apache-2.0
"""Which files make a node, in which order: the rules of vsomeip's folders and variables."""

import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ivc.errors import ConfigError, Finding
from ivc.network import Loaded, load
from ivc.network.files import environment_source, reading_order
from ivc.network.values import Report


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of our own."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def write(path: Path, **keys: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(keys))
    return path


def node(path: Path, last: int) -> Path:
    """A file that is a node by itself, told from others by its address."""
    return write(path, unicast=f"10.77.0.{last}", services=[])


def loaded(**environ: str) -> Loaded:
    return load([], None, environ)


def last(**environ: str) -> int:
    """Whose file was read: the last number of the node's address."""
    return int(loaded(**environ).network.nodes[0].address) & 0xFF


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings} - {"npdu-defaults"}


# ---- folders ----------------------------------------------------------------------------------


def test_mandatory_files_come_first_each_kind_by_name() -> None:
    names = ["z.json", "vsomeip_std.json", "a.json", "vsomeip_app.json"]
    assert reading_order(names, {}) == ["vsomeip_app.json", "vsomeip_std.json", "a.json", "z.json"]


def test_mandatory_files_can_be_named_otherwise() -> None:
    environ = {"VSOMEIP_MANDATORY_CONFIGURATION_FILES": "z.json, b.json"}
    names = ["a.json", "b.json", "vsomeip_std.json", "z.json"]
    assert reading_order(names, environ) == ["b.json", "z.json", "a.json", "vsomeip_std.json"]


def test_load_reads_folders_in_the_order_of_the_environment(here: Path) -> None:
    write(here / "hmi" / "a.json", unicast="10.77.0.1", netmask="255.255.0.0")
    write(here / "hmi" / "z.json", netmask="255.0.0.0")
    environ = {"VSOMEIP_MANDATORY_CONFIGURATION_FILES": "z.json"}
    (found,) = load([here / "hmi"], None, environ).network.nodes
    assert found.netmask == IPv4Address("255.0.0.0")


def test_suffix_may_be_in_capitals_and_other_files_are_passed_over(here: Path) -> None:
    node(here / "hmi" / "NODE.JSON", 1)
    (here / "hmi" / "notes.txt").write_text("not JSON")
    (here / "hmi" / "old.json").mkdir()
    assert codes(load([here / "hmi"], None, {}).findings) == set()


def test_settings_of_one_section_may_be_spread_over_files(here: Path) -> None:
    sd = {"port": "30491", "ttl": "5"}
    write(here / "hmi" / "a.json", unicast="10.77.0.1", **{"service-discovery": {"ttl": "3"}})
    write(here / "hmi" / "b.json", **{"service-discovery": sd})
    result = load([here / "hmi"], None, {})
    found = result.network.nodes[0].sd
    assert found is not None and (found.port, found.timing.ttl) == (30491, 3)
    assert codes(result.findings) == {"second-definition"}


def test_netmask_and_prefix_are_one_setting(here: Path) -> None:
    write(here / "hmi" / "a.json", unicast="10.77.0.1", prefix="16")
    write(here / "hmi" / "b.json", netmask="255.255.255.0")
    result = load([here / "hmi"], None, {})
    assert result.network.nodes[0].netmask == IPv4Address("255.255.0.0")
    assert codes(result.findings) == {"second-definition"}


# ---- what vsomeip would read here -------------------------------------------------------------


def test_file_in_the_working_directory(here: Path) -> None:
    node(here / "vsomeip.json", 1)
    assert last() == 1


def test_folder_in_the_working_directory(here: Path) -> None:
    node(here / "vsomeip" / "a.json", 2)
    assert last() == 2


def test_folder_and_file_are_one_node_and_the_folder_comes_first(here: Path) -> None:
    write(here / "vsomeip" / "a.json", netmask="255.255.0.0")
    write(here / "vsomeip.json", unicast="10.77.0.1", netmask="255.0.0.0")
    (found,) = loaded().network.nodes
    assert (found.address, found.netmask) == (IPv4Address("10.77.0.1"), IPv4Address("255.255.0.0"))


def test_variable_counts_more_than_the_working_directory(here: Path) -> None:
    node(here / "vsomeip.json", 1)
    assert last(VSOMEIP_CONFIGURATION=str(node(here / "other.json", 3))) == 3


def test_variable_may_name_a_folder(here: Path) -> None:
    node(here / "etc" / "a.json", 4)
    assert last(VSOMEIP_CONFIGURATION=str(here / "etc")) == 4


def test_variable_of_the_application_counts_most(here: Path) -> None:
    environ = {
        "VSOMEIP_APPLICATION_NAME": "hmi",
        "VSOMEIP_CONFIGURATION": str(node(here / "all.json", 5)),
        "VSOMEIP_CONFIGURATION_hmi": str(node(here / "mine.json", 6)),
    }
    assert last(**environ) == 6


def test_variable_that_names_nothing_is_told_and_passed_over(here: Path) -> None:
    node(here / "vsomeip.json", 1)
    result = loaded(VSOMEIP_CONFIGURATION="gone.json")
    assert codes(result.findings) == {"gone-configuration"}
    assert int(result.network.nodes[0].address) & 0xFF == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_system_wide_configuration_is_the_last_resort(here: Path, kind: str) -> None:
    name = "vsomeip.json" if kind == "file" else "vsomeip/a.json"
    path = node(here / "etc" / name, 7)
    report = Report()
    assert environment_source({}, report, here / "etc").files == (path,)
    own = node(here / name, 1).relative_to(here)
    assert environment_source({}, report, here / "etc").files == (own,)
    assert report.findings == []


def test_no_configuration_anywhere(here: Path) -> None:
    report = Report()
    assert environment_source({}, report, here / "etc").files == ()
    assert [finding.code for finding in report.findings] == ["no-configuration"]


# ---- without a mapping ------------------------------------------------------------------------


def test_without_a_mapping_nodes_are_called_like_their_files(here: Path) -> None:
    paths = [node(here / "hmi.json", 1), node(here / "adas.json", 2)]
    result = load(paths, None, {})
    assert [node.name for node in result.network.nodes] == ["adas", "hmi"]
    assert [entry.name for entry in result.mapping.nodes] == ["adas", "hmi"]


def test_without_a_mapping_slips_between_nodes_are_found(here: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load([node(here / "hmi.json", 1), node(here / "adas.json", 1)], None, {})
    assert codes(error.value.findings) == {"duplicate-address"}


def test_without_a_mapping_nobody_is_a_stranger(here: Path) -> None:
    service = {"service": "0x1000", "instance": "1", "unicast": "10.77.0.9", "unreliable": "30509"}
    path = write(here / "hmi.json", unicast="10.77.0.1", services=[service])
    assert codes(load([path], None, {}).findings) == set()
