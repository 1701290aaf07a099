# SPDX-License-Identifier: Apache-2.0
"""What ARXML becomes: one vehicle, whichever way and release of AUTOSAR it is written in."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import arxml_project as vehicle
import pytest
from autosar_data import AutosarModel, AutosarVersion
from autosar_data.abstraction.communication import (
    ProvidedServiceInstance,
    ProvidedServiceInstanceV1,
)

from ivc.network import (
    Client,
    Endpoint,
    Event,
    Eventgroup,
    Protocol,
    ServiceDiscovery,
    ServiceInstance,
)
from ivc.network.arxml import read_arxml
from ivc.network.config import NodeConfig
from ivc.network.values import Report

FILES: list[tuple[Callable[[AutosarVersion], str], AutosarVersion]] = [
    *((vehicle.classic_v1, version) for version in vehicle.V1_VERSIONS),
    *((vehicle.classic_v2, version) for version in vehicle.V2_VERSIONS),
    *((vehicle.adaptive, version) for version in vehicle.ADAPTIVE_VERSIONS),
]
IDS = [f"{make.__name__}-{str(version).split()[-1]}" for make, version in FILES]


def read(folder: Path, *texts: str) -> dict[str, NodeConfig]:
    """The nodes of good files, by name."""
    report = Report()
    files = [
        (vehicle.write(folder, text, f"{number}.arxml"), f"{number}.arxml")
        for number, text in enumerate(texts)
    ]
    configs = read_arxml(files, report)
    assert report.sorted() == ()
    assert configs is not None
    return {config.names[0]: config for config in configs}


@pytest.mark.parametrize(("make", "version"), FILES, ids=IDS)
def test_every_modelling_and_release_is_the_same_vehicle(
    tmp_path: Path, make: Callable[[AutosarVersion], str], version: AutosarVersion
) -> None:
    nodes = read(tmp_path, make(version))
    assert set(nodes) == {"adas", "hmi"}
    (service,) = nodes["adas"].services
    assert service.instance == ServiceInstance(
        service=0x1234,
        instance=0x0001,
        node=None,
        major=1,
        minor=7,
        events=(Event(0x8001),),
        eventgroups=(
            Eventgroup(1, (0x8001,), Endpoint(IPv4Address("224.225.226.233"), 32344), threshold=2),
        ),
    )
    assert [(port.protocol, port.port) for port in service.ports] == [
        (Protocol.UDP, 30509),
        (Protocol.TCP, 30510),
    ]
    assert nodes["hmi"].services == ()


@pytest.mark.parametrize(("make", "version"), FILES, ids=IDS)
def test_every_modelling_and_release_has_the_same_nodes(
    tmp_path: Path, make: Callable[[AutosarVersion], str], version: AutosarVersion
) -> None:
    nodes = read(tmp_path, make(version))
    group = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.245"), 30490))
    for name, address in (("hmi", "10.77.0.1"), ("adas", "10.77.0.2")):
        node = nodes[name].node
        assert node is not None
        assert (node.name, node.address) == (name, IPv4Address(address))
        assert (node.netmask, node.sd) == (IPv4Address("255.255.255.0"), group)


@pytest.mark.parametrize(("make", "version"), FILES, ids=IDS)
def test_consumed_service_is_a_client_with_its_port(
    tmp_path: Path, make: Callable[[AutosarVersion], str], version: AutosarVersion
) -> None:
    node = read(tmp_path, make(version))["hmi"].node
    assert node is not None
    assert node.clients == (Client(0x1234, 0x0001, udp_ports=(40000,)),)


@pytest.mark.parametrize("modelling", ["v1", "v2"])
def test_service_ids_are_those_autosar_data_reads(tmp_path: Path, modelling: str) -> None:
    text = vehicle.MODELLINGS[modelling]()
    model = AutosarModel()
    model.load_buffer(text, "vehicle.arxml")
    kind = ProvidedServiceInstanceV1 if modelling == "v1" else ProvidedServiceInstance
    expected = {
        (kind(element).service_identifier, kind(element).instance_identifier)
        for _, element in model.elements_dfs
        if element.element_name == "PROVIDED-SERVICE-INSTANCE"
    }
    found = read(tmp_path, text)["adas"].services
    assert {(one.instance.service, one.instance.instance) for one in found} == expected


def test_machine_may_be_called_like_its_design(tmp_path: Path) -> None:
    names = read(tmp_path, vehicle.adaptive())["adas"].names
    assert names == ("adas", "adasDesign", "/Vehicle/adasDesign")


def test_ecu_may_be_called_by_its_path(tmp_path: Path) -> None:
    assert read(tmp_path, vehicle.classic_v2())["adas"].names == ("adas", "/Vehicle/adas")


def test_socket_without_connector_is_of_the_ecu_whose_connector_has_its_address(
    tmp_path: Path,
) -> None:
    text = re.sub("<CONNECTOR-REF .*?</CONNECTOR-REF>", "", vehicle.classic_v2())
    text = text.replace(
        "</COMM-CONTROLLER-REF>",
        "</COMM-CONTROLLER-REF><NETWORK-ENDPOINT-REFS><NETWORK-ENDPOINT-REF DEST="
        '"NETWORK-ENDPOINT">/Vehicle/Ethernet/Channel/{}Endpoint</NETWORK-ENDPOINT-REF>'
        "</NETWORK-ENDPOINT-REFS>",
    )
    for name in ("hmi", "adas"):
        text = text.replace("{}", name, 1)
    assert set(read(tmp_path, vehicle.validated(text))) == {"adas", "hmi"}


def test_ecu_with_two_addresses_is_two_nodes(tmp_path: Path) -> None:
    model = vehicle.Vehicle(vehicle.V2_VERSIONS[-1])
    model.service_discovery(
        model.system.create_socket_connection_ipdu_identifier_set("Identifiers", model.package)
    )
    instances = model.system.create_service_instance_collection_set("Instances", model.package)
    second = model.endpoint("second", "10.77.0.3", model.adas)
    for number, endpoint in enumerate((model.adas_endpoint, second), start=1):
        instance = instances.create_provided_service_instance(f"P{number}", 0x1234, number, 1, 0)
        instance.set_local_unicast_address(model.socket(f"S{number}", endpoint, 30509, model.adas))
    nodes = read(tmp_path, model.text())
    assert {name: str(config.unicast) for name, config in nodes.items()} == {
        "adas.adasEndpoint": "10.77.0.2",
        "adas.second": "10.77.0.3",
    }


def test_ecu_without_service_instances_is_no_node(tmp_path: Path) -> None:
    model = vehicle.Vehicle(vehicle.V2_VERSIONS[-1])
    model.service_discovery(
        model.system.create_socket_connection_ipdu_identifier_set("Identifiers", model.package)
    )
    instances = model.system.create_service_instance_collection_set("Instances", model.package)
    instance = instances.create_provided_service_instance("Provided", 0x1234, 1, 1, 0)
    instance.set_local_unicast_address(
        model.socket("Socket", model.adas_endpoint, 30509, model.adas)
    )
    assert set(read(tmp_path, model.text())) == {"adas"}


def test_service_discovery_without_pdus_is_the_multicast_socket_on_its_port(
    tmp_path: Path,
) -> None:
    text = vehicle.classic_v2().replace("4294934784", "1")
    sd = read(tmp_path, text)["adas"].sd
    assert sd.group == Endpoint(IPv4Address("224.224.224.245"), 30490)


def test_all_instances_are_instance_ffff(tmp_path: Path) -> None:
    text = vehicle.classic_v2()
    consumed = text.index("<CONSUMED-SERVICE-INSTANCE>")
    text = text[:consumed] + text[consumed:].replace(
        "<INSTANCE-IDENTIFIER>1<", "<INSTANCE-IDENTIFIER>ALL<"
    )
    node = read(tmp_path, vehicle.validated(text))["hmi"].node
    assert node is not None
    assert node.clients[0].instance == 0xFFFF


@pytest.mark.parametrize("written", ["4660", "0x1234", "0X1234", "0b1001000110100", "011064"])
def test_number_is_written_in_any_base(tmp_path: Path, written: str) -> None:
    text = vehicle.classic_v2().replace("IDENTIFIER>4660<", f"IDENTIFIER>{written}<")
    (service,) = read(tmp_path, vehicle.validated(text))["adas"].services
    assert service.instance.service == 0x1234


# ---- several files ----------------------------------------------------------------------------


def split(text: str, tag: str) -> tuple[str, str]:
    """One file as two: the second has the elements of one kind."""
    head, start, rest = text.partition(f"        <{tag}>")
    body, end, tail = rest.rpartition(f"</{tag}>\n")
    frame = text[: text.index("<ELEMENTS>")] + "<ELEMENTS>\n"
    foot = text[text.rindex("      </ELEMENTS>") :]
    return head + tail, frame + start + body + end + foot


@pytest.mark.parametrize(
    ("modelling", "tag"),
    [
        ("v1", "ECU-INSTANCE"),
        ("v2", "SERVICE-INSTANCE-COLLECTION-SET"),
        ("adaptive", "SOMEIP-SERVICE-INTERFACE-DEPLOYMENT"),
    ],
)
def test_model_may_be_split_over_files(tmp_path: Path, modelling: str, tag: str) -> None:
    text = vehicle.MODELLINGS[modelling]()
    one, two = split(text, tag)
    assert one.count(tag) < text.count(tag) and f"<{tag}>" in two
    services = read(tmp_path, one, two)["adas"].services
    expected = read(tmp_path, text)["adas"].services
    assert [service.instance for service in services] == [s.instance for s in expected]


@pytest.mark.parametrize("modelling", list(vehicle.MODELLINGS))
def test_extracts_that_repeat_each_other_are_one_model(tmp_path: Path, modelling: str) -> None:
    text = vehicle.MODELLINGS[modelling]()
    assert read(tmp_path, text, text) == read(tmp_path, text)


def test_comments_and_foreign_elements_do_not_matter(tmp_path: Path) -> None:
    text = vehicle.classic_v2().replace(
        "<ELEMENTS>",
        "<ELEMENTS><!-- by hand --><APPLICATION-SW-COMPONENT-TYPE><SHORT-NAME>Swc</SHORT-NAME>"
        "</APPLICATION-SW-COMPONENT-TYPE>",
        1,
    )
    assert set(read(tmp_path, text)) == {"adas", "hmi"}


def test_prefix_of_the_namespace_does_not_matter(tmp_path: Path) -> None:
    text = vehicle.classic_v2().replace("<", "<ar:").replace("<ar:/", "</ar:")
    text = text.replace("<ar:?xml", "<?xml").replace("xmlns=", "xmlns:ar=")
    assert set(read(tmp_path, text)) == {"adas", "hmi"}


@pytest.mark.parametrize(("declared", "codec"), [("utf-8", "utf-8-sig"), ("utf-16", "utf-16")])
def test_encoding_of_the_file_does_not_matter(tmp_path: Path, declared: str, codec: str) -> None:
    text = vehicle.classic_v2().replace('encoding="utf-8"', f'encoding="{declared}"', 1)
    path = tmp_path / "vehicle.arxml"
    path.write_bytes(text.encode(codec))
    report = Report()
    configs = read_arxml([(path, "vehicle.arxml")], report)
    assert configs is not None and len(configs) == 2 and report.findings == []
