# SPDX-License-Identifier: Apache-2.0
"""`[ethernet]` of the mapping: what is read, and each slip with where, found, expected, fix."""

from ipaddress import IPv4Interface

import pytest
from network_project import Project

from ivc.errors import Finding
from ivc.network.ethernet import Ethernet

TCU = '[nodes.tcu]\nexternal = true\naddress = "{}"\n'
ETHERNET = '[ethernet]\nbridge = "xenbr0"\ninterface = "eth1"\n'


@pytest.fixture
def outside(project: Project) -> Project:
    """The project with an external node, in the subnet of the others, and a way to it."""
    project.mapping += TCU.format("10.77.0.9") + ETHERNET
    return project


def only(project: Project) -> Finding:
    (finding,) = project.findings()
    return finding


def test_bridge_and_interface_are_enough(outside: Project) -> None:
    assert outside.load().mapping.ethernet == Ethernet("xenbr0", "eth1")


def test_address_is_read_with_its_subnet(outside: Project) -> None:
    outside.mapping += 'address = "10.77.0.254/24"\n'
    ethernet = outside.load().mapping.ethernet
    assert ethernet is not None and ethernet.address == IPv4Interface("10.77.0.254/24")


def test_without_the_table_there_is_no_way(project: Project) -> None:
    assert project.load().mapping.ethernet is None


@pytest.mark.parametrize("key", ["bridge", "interface"])
def test_both_names_are_needed(outside: Project, key: str) -> None:
    value = "xenbr0" if key == "bridge" else "eth1"
    outside.mapping = outside.mapping.replace(f'{key} = "{value}"\n', "")
    finding = only(outside)
    assert (finding.code, finding.pointer) == ("missing", f"/ethernet/{key}")


@pytest.mark.parametrize(
    "name", ['"a/b"', '"sixteen-letters-"', '""', "7", '"all"', '"lo"', '"-r"']
)
def test_no_name_of_an_interface(outside: Project, name: str) -> None:
    outside.mapping = outside.mapping.replace('"eth1"', name)
    finding = only(outside)
    assert (finding.code, finding.pointer) == ("bad-interface", "/ethernet/interface")
    assert finding.line and finding.fix == "write the name `ip link` shows"


@pytest.mark.parametrize(
    "address",
    [
        "10.77.0.254",
        "10.77.0.0/24",
        "10.77.0.255/24",
        "224.0.0.1/24",
        "10.77.0.254/33",
        "fe80::1/64",
        "10.77.0.254/255.255.255.0",
    ],
)
def test_no_address_a_host_can_have(outside: Project, address: str) -> None:
    outside.mapping += f'address = "{address}"\n'
    finding = only(outside)
    assert (finding.code, finding.pointer) == ("bad-address", "/ethernet/address")


@pytest.mark.parametrize("address", ["10.77.0.0/31", "10.77.0.254/32"])
def test_small_subnets_have_no_ends(outside: Project, address: str) -> None:
    outside.mapping += f'address = "{address}"\n'
    assert outside.findings() == ()


def test_unknown_key_is_told(outside: Project) -> None:
    outside.mapping += 'interfaces = "eth2"\n'
    finding = only(outside)
    assert (finding.code, finding.fix) == ("unknown-key", 'write "interface"?')


def test_node_in_another_subnet_needs_dom0_as_router(project: Project) -> None:
    project.mapping += TCU.format("10.78.0.9") + ETHERNET
    finding = next(f for f in project.findings() if f.severity == "error")
    assert (finding.code, finding.pointer) == ("no-router", "/ethernet/address")
    project.mapping += 'address = "10.77.0.254/24"\n'
    assert {f.code for f in project.findings()} == {"other-subnet"}  # vsomeip minds


def test_address_of_a_node_in_dom0_is_dom0s(outside: Project) -> None:
    outside.mapping += 'address = "10.77.0.1/24"\n'
    assert outside.findings() == ()
