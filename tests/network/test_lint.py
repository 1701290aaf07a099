# SPDX-License-Identifier: Apache-2.0
"""What vsomeip passes over in silence: each trap, where it is, what it does, and the way out."""

import json

import pytest
from network_project import MAPPING, Project

from ivc.errors import Finding


def only(project: Project) -> Finding:
    (finding,) = project.findings()
    return finding


def told(finding: Finding) -> tuple[str, int, str]:
    """File, line and pointer."""
    return finding.file.rpartition("/")[2], finding.line, finding.pointer


def test_hex_port_is_no_port(project: Project) -> None:
    project.service["unreliable"] = "0x772E"
    finding = only(project)
    assert told(finding) == ("hmi.json", 7, "/services/0/unreliable")
    assert finding.found == '"0x772E", a hexadecimal port'
    assert finding.expected == "a decimal port from 1 to 65534"
    assert finding.fix == 'write "30510"; vsomeip reads ports as decimal and would open none'


def test_port_65535_is_no_port(project: Project) -> None:
    project.service["unreliable"] = "65535"
    assert only(project).code == "bad-port"


def test_udp_port_in_an_object_is_no_port(project: Project) -> None:
    project.service["unreliable"] = {"port": "30510"}
    assert only(project).code == "bad-type"


def test_second_definition_of_a_service_is_ignored(project: Project) -> None:
    project.hmi["services"].append({"service": "4661", "instance": "1", "unreliable": "30599"})
    finding = next(f for f in project.findings() if f.code == "duplicate-service")
    assert told(finding) == ("hmi.json", 9, "/services/1")
    assert finding.expected.endswith("hmi.json:4)")
    assert "vsomeip ignores the second" in finding.fix


def test_four_digits_are_decimal(project: Project) -> None:
    project.service["service"] = "1234"
    finding = only(project)
    assert finding.found == '"1234", which is decimal 1234 = 0x04d2'
    assert finding.fix == 'write "0x1234" if you mean hex, "0x04d2" if you mean decimal'


def test_decimal_without_quotes_is_not_doubted(project: Project) -> None:
    project.service["service"] = 1234
    assert project.findings() == ()


def test_only_the_first_event_of_an_eventgroup_is_read(project: Project) -> None:
    events = ["0x8001", "0x8002", "0x8003"]
    project.service["eventgroups"] = [{"eventgroup": "1", "events": events}]
    finding = only(project)
    assert (finding.code, finding.pointer) == (
        "first-event-only",
        "/services/0/eventgroups/0/events/1",
    )
    assert finding.found == "2 more events in an eventgroup"
    assert "offer_event()" in finding.fix


def test_multicast_of_a_service_is_ignored(project: Project) -> None:
    project.service["multicast"] = {"address": "224.225.226.233", "port": "32344"}
    finding = only(project)
    assert (finding.code, finding.pointer) == ("ignored-multicast", "/services/0/multicast")
    assert finding.fix.startswith("move it into the eventgroup")


def test_multicast_group_without_eventgroup(project: Project) -> None:
    group = {"address": "224.225.226.233", "port": "32344"}
    project.service["eventgroups"] = [{"multicast": group, "threshold": "1"}]
    finding = only(project)
    assert finding.code == "group-without-eventgroup"
    assert "vsomeip drops the whole entry" in finding.fix


@pytest.mark.parametrize("timings", [None, {}, {"debounce-time-request": "0"}])
def test_default_npdu_timings_add_10_ms(project: Project, timings: dict[str, str] | None) -> None:
    project.hmi.pop("npdu-default-timings")
    if timings is not None:
        project.hmi["npdu-default-timings"] = timings
    finding = only(project)
    assert (finding.code, finding.pointer) == ("npdu-defaults", "/npdu-default-timings")
    assert "10 ms" in finding.fix and "debounce-time-response" in finding.fix


def test_npdu_timings_somebody_chose_are_his_own(project: Project) -> None:
    project.hmi["npdu-default-timings"] = dict.fromkeys(project.hmi["npdu-default-timings"], "7")
    assert project.findings() == ()


def test_address_outside_the_netmask(project: Project) -> None:
    project.adas["netmask"] = project.hmi["netmask"] = "255.255.255.252"
    project.adas["unicast"] = "10.77.0.9"
    finding = only(project)
    assert (finding.code, finding.pointer) == ("other-subnet", "/unicast")
    assert "vsomeip drops multicast" in finding.fix


def test_of_many_nodes_the_one_outside_is_named(project: Project) -> None:
    for number in range(3, 10):
        node = {**project.hmi, "unicast": f"10.77.0.{number}", "services": []}
        project.texts[f"n{number}.json"] = json.dumps(node)
        project.mapping += f'[nodes.n{number}]\nhost = "netns:n{number}"\n'
    project.adas["unicast"] = "10.99.0.2"
    assert told(only(project)) == ("adas.json", 2, "/unicast")


def test_two_nodes_with_one_address(project: Project) -> None:
    project.texts["van.json"] = json.dumps({**project.hmi, "services": []})
    project.mapping += '[nodes.van]\nhost = "netns:van"\n'
    finding = only(project)
    assert (finding.code, finding.pointer) == ("duplicate-address", "/unicast")
    assert finding.found == '"10.77.0.1", the address of node "hmi" too'


def test_two_services_on_one_endpoint(project: Project) -> None:
    project.hmi["services"].append({"service": "0x2000", "instance": "1", "unreliable": "30510"})
    finding = only(project)
    assert (finding.code, finding.pointer) == ("shared-endpoint", "/services/1/unreliable")
    assert finding.found == "10.77.0.1:30510/udp, the endpoint of service 0x1235.0x0001 too"


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("servces", "services"), ("net-mask", "netmask"), ("service-discover", "service-discovery")],
)
def test_unknown_key_with_the_nearest_known_one(project: Project, key: str, nearest: str) -> None:
    project.hmi[key] = {}
    finding = only(project)
    assert (finding.code, finding.pointer) == ("unknown-key", f"/{key}")
    assert finding.fix == f'write "{nearest}"?'


def test_unknown_key_that_is_near_to_none(project: Project) -> None:
    project.hmi["xyzzy"] = {}
    assert only(project).fix == "remove it, or check its spelling; it is ignored"


@pytest.mark.parametrize("key", ["_comment", "//", "$schema"])
def test_comment_is_no_unknown_key(project: Project, key: str) -> None:
    project.hmi[key] = project.service[key] = "as agreed with the supplier"
    assert project.findings() == ()


def test_node_without_mapping(project: Project) -> None:
    project.mapping = MAPPING.partition("[nodes.adas]")[0]
    finding = only(project)
    assert (finding.code, told(finding)) == ("unmapped-node", ("adas.json", 1, ""))
    assert finding.expected == "an entry for it (there are: hmi)"


def test_mapping_without_node(project: Project) -> None:
    project.mapping += '[nodes.van]\nhost = "netns:van"\n'
    finding = only(project)
    assert (finding.code, told(finding)) == ("unknown-node", ("mapping.toml", 6, "/nodes/van"))


def test_bare_range_of_guest_ports_is_ignored(project: Project) -> None:
    ports = [{"first": "1026", "last": "65535"}]
    project.hmi["routing"] = {"host": {"name": "hmi"}, "guests": {"ports": ports}}
    finding = only(project)
    assert (finding.code, finding.pointer) == ("ignored-range", "/routing/guests/ports/0")


def test_hex_number_is_zero(project: Project) -> None:
    project.hmi["service-discovery"]["cyclic_offer_delay"] = "0x3e8"
    finding = only(project)
    assert finding.fix == 'write "1000"; vsomeip takes it for "0"'


def test_first_of_equal_keys_counts_at_the_top_and_the_last_in_a_service(project: Project) -> None:
    text = json.dumps(project.hmi)
    text = text.replace('"unreliable"', '"unreliable": "30555", "unreliable"')
    text = text.replace('"unicast"', '"unicast": "10.77.0.7", "unicast"')
    project.texts["hmi.json"] = text
    assert [finding.code for finding in project.findings()] == ["repeated-key"] * 2
    (endpoint,) = project.load().network.services[1].endpoints
    assert str(endpoint) == "10.77.0.7:30510/udp"
