# SPDX-License-Identifier: Apache-2.0
"""The network file: whatever was understood is written down, and reads back as the same plan."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import arxml_project as vehicle
import pytest
from hypothesis import given, settings
from network_project import MAPPING, Project
from neutral_strategies import networks

from ivc.cli import main
from ivc.network import Endpoint, Loaded, Network, load
from ivc.network.jsontext import parse_json
from ivc.network.neutral import network_document, read_network, write_network
from ivc.network.tomltext import parse_toml
from ivc.network.values import Report, Table, Value
from ivc.plan import build_plan

# ---- by way of the command line ---------------------------------------------------------------


def imported(folder: Path, paths: Iterable[Path], suffix: str = ".toml") -> Path:
    """The network file that `ivc import` makes of these files."""
    output = folder / f"network{suffix}"
    assert main(["import", *map(str, paths), "-o", str(output)]) == 0
    return output


def plan_text(loaded: Loaded) -> str:
    return build_plan(loaded.network, loaded.mapping).to_json()


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_vsomeip_files_give_the_same_plan(project: Project, suffix: str) -> None:
    expected = project.load()
    paths, mapping = project.write()
    loaded = load([imported(project.folder, paths, suffix)], mapping)
    assert loaded.network == expected.network
    assert plan_text(loaded) == plan_text(expected)


@pytest.mark.parametrize("modelling", list(vehicle.MODELLINGS))
def test_arxml_gives_the_same_plan(project: Project, modelling: str) -> None:
    _, mapping = project.write()
    path = vehicle.write(project.folder, vehicle.MODELLINGS[modelling]())
    expected = load([path], mapping)
    loaded = load([imported(project.folder, [path])], mapping)
    assert loaded.network == expected.network
    assert plan_text(loaded) == plan_text(expected)


def test_all_modellings_of_a_vehicle_are_one_plan(project: Project) -> None:
    _, mapping = project.write()
    plans = {
        plan_text(load([vehicle.write(project.folder, make())], mapping))
        for make in vehicle.MODELLINGS.values()
    }
    assert len(plans) == 1


def test_node_keeps_all_names_a_mapping_may_call_it_by(project: Project) -> None:
    project.hmi["applications"] = [{"name": "dashboard"}]
    project.mapping = MAPPING.replace("hmi", "dashboard")
    expected = project.load()
    paths, mapping = project.write()
    assert load([imported(project.folder, paths)], mapping).network == expected.network


def test_stranger_stays_a_stranger(project: Project) -> None:
    project.service["unicast"] = "10.77.0.99"
    expected = project.load()
    paths, mapping = project.write()
    loaded = load([imported(project.folder, paths)], mapping)
    assert loaded.network == expected.network
    assert len(loaded.network.strangers) == 1


def test_network_file_and_other_files_are_one_network(project: Project) -> None:
    expected = project.load()
    paths, mapping = project.write()
    hmi = imported(project.folder, [paths[0]])
    assert load([hmi, paths[1]], mapping).network == expected.network


def test_arxml_and_other_files_are_one_network(project: Project) -> None:
    paths, mapping = project.write()
    text = vehicle.classic_v2()
    start = text.index("            <CONSUMED-SERVICE-INSTANCE>")
    end = text.index("</CONSUMED-SERVICE-INSTANCE>") + len("</CONSUMED-SERVICE-INSTANCE>")
    adas = vehicle.write(project.folder, text[:start] + text[end:])
    loaded = load([paths[0], adas], mapping)
    assert [node.name for node in loaded.network.nodes] == ["adas", "hmi"]


@pytest.mark.parametrize("name", ["vehicle.arxml", "VEHICLE.ARXML", "vehicle.xml", "vehicle"])
def test_arxml_is_known_by_name_or_content(project: Project, name: str) -> None:
    _, mapping = project.write()
    path = vehicle.write(project.folder, vehicle.classic_v1(), name)
    assert len(load([path], mapping).network.nodes) == 2


def test_folder_of_arxml_files_is_one_model(project: Project) -> None:
    _, mapping = project.write()
    (project.folder / "model").mkdir()
    for name in ("a.arxml", "b.arxml"):
        vehicle.write(project.folder / "model", vehicle.classic_v1(), name)
    assert len(load([project.folder / "model"], mapping).network.nodes) == 2


def test_same_files_are_the_same_bytes(project: Project) -> None:
    paths, _ = project.write()
    texts = {imported(project.folder, order).read_text() for order in (paths, paths[::-1])}
    assert len(texts) == 1


def test_import_of_an_import_is_the_same_bytes(project: Project) -> None:
    paths, _ = project.write()
    first = imported(project.folder, paths)
    text = first.read_text()
    assert imported(project.folder, [first]).read_text() == text


def test_files_of_the_same_name_have_different_nodes(project: Project) -> None:
    project.texts = {}
    for name, node in (("hmi", project.hmi), ("adas", project.adas)):
        node["applications"] = [{"name": name}]
        project.texts[f"{name}/vsomeip.json"] = json.dumps(node)
    project.write()
    paths = [project.folder / name / "vsomeip.json" for name in ("hmi", "adas")]
    loaded = load([imported(project.folder, paths)], None)
    assert [node.name for node in loaded.network.nodes] == ["adas", "hmi"]


def test_import_without_output_goes_to_standard_output(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, _ = project.write()
    text = imported(project.folder, paths).read_text()
    capsys.readouterr()
    assert main(["import", *map(str, paths)]) == 0
    out, err = capsys.readouterr()
    assert out == text
    assert err.endswith("2 nodes, 2 services, 2 endpoints\n")


def test_bad_configuration_is_not_imported(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.service["unreliable"] = "0x7735"
    paths, _ = project.write()
    output = project.folder / "network.toml"
    assert main(["import", *map(str, paths), "-o", str(output)]) == 3
    assert "[hex-port]" in capsys.readouterr().err
    assert not output.exists()


def test_output_that_cannot_be_written_is_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, _ = project.write()
    output = project.folder / "gone" / "network.toml"
    assert main(["import", *map(str, paths), "-o", str(output)]) == 1
    err = capsys.readouterr().err
    assert "cannot write" in err and "Traceback" not in err


# ---- the whole model --------------------------------------------------------------------------


def read(document: Value | None) -> Network:
    """The network of a good document, without the help of `link`."""
    assert isinstance(document, Table)
    report = Report()
    configs = read_network(document, report)
    assert report.findings == []
    nodes = [config.node for config in configs]
    services = [
        replace(
            service.instance,
            node=config.names[0],
            endpoints=tuple(
                Endpoint(config.node.address, port.port, port.protocol) for port in service.ports
            ),
        )
        for config in configs
        if config.node is not None
        for service in config.services
        if service.unicast is None
    ]
    services.sort(key=lambda service: (service.service, service.instance, service.node or ""))
    return Network(tuple(node for node in nodes if node is not None), tuple(services))


@settings(max_examples=settings.default.max_examples // 10)  # networks are slow to draw
@given(network=networks())
def test_every_network_reads_back(network: Network) -> None:
    report = Report()
    toml = parse_toml(write_network(network, {}), "network.toml", report)
    text = json.dumps(network_document(network, {}))
    assert read(toml) == network
    assert read(parse_json(text, "network.json", report)) == network
    assert report.findings == []
