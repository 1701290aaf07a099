# SPDX-License-Identifier: Apache-2.0
"""Every slip is found: one row for each kind of finding and each way to provoke it."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_project import MAPPING, Project

import ivc.network
from ivc.errors import Severity

ERROR, WARNING = Severity.ERROR, Severity.WARNING

Spoil = Callable[[Project], object]


def hmi(**keys: Any) -> Spoil:
    return lambda project: project.hmi.update(keys)


def service(**keys: Any) -> Spoil:
    return lambda project: project.service.update(keys)


def eventgroup(**keys: Any) -> Spoil:
    return service(eventgroups=[{"eventgroup": "0x0001", **keys}])


def events(*entries: dict[str, Any]) -> Spoil:
    return service(events=list(entries))


def client(**keys: Any) -> Spoil:
    return hmi(clients=[keys])


def e2e(**keys: Any) -> Spoil:
    good = {"service_id": "0x1235", "event_id": "0x8001", "variant": "checker", "profile": "P04"}
    return hmi(e2e={"e2e_enabled": "true", "protected": [{**good, **keys}]})


def tcp_group(project: Project) -> None:
    """A multicast group of a service that has only a TCP port."""
    project.service["reliable"] = project.service.pop("unreliable")
    project.service["eventgroups"] = [{"eventgroup": "1", "multicast": GROUP, "threshold": "1"}]


def sd(**keys: Any) -> Spoil:
    return lambda project: project.hmi["service-discovery"].update(keys)


def more(entry: dict[str, Any], to: str = "hmi") -> Spoil:
    return lambda project: getattr(project, to)["services"].append(entry)


def mapping(text: str) -> Spoil:
    return lambda project: setattr(project, "mapping", text)


def mapped(old: str, new: str) -> Spoil:
    return mapping(MAPPING.replace(old, new))


def guests(hmi: str, adas: str) -> Spoil:
    """What stands below each node."""
    return mapping(f"version = 1\n[nodes.hmi]\n{hmi}\n[nodes.adas]\n{adas}\n")


def third(text: str | bytes, name: str = "third.json") -> Spoil:
    return lambda project: project.texts.update({name: text})


def third_node(name: str = "third.json") -> Spoil:
    """A good node the mapping knows nothing of."""
    return lambda project: project.texts.update(
        {name: json.dumps({**project.hmi, "unicast": "10.77.0.3", "services": []})}
    )


def without(key: str) -> Spoil:
    return lambda project: project.hmi.pop(key)


GROUP = {"address": "224.225.226.233", "port": "32344"}
LOCAL = 'host = "local"'
EXTRA = "\n[nodes.tcu]\nexternal = true\n"
WAY = '[ethernet]\nbridge = "xenbr0"\ninterface = "eth1"\n'
OUTSIDE = MAPPING + EXTRA + 'address = "10.77.0.9"\n' + WAY

# Kinds with a test of their own, below, in test_files.py, test_ethernet_mapping.py and
# test_rules_mapping.py.
ELSEWHERE = {
    "second-definition",
    "empty-folder",
    "no-configuration",
    "gone-configuration",
    "no-router",
    "bad-action",
    "bad-message-type",
    "bad-protocol",
    "rule-node",
    "rule-service",
    "instance-alone",
    "bad-return-code",
    "no-answer",
    "no-copy",
    "bad-copy",
    "copy-node",
    "network-by-message",
    "deny-by-tcp",
    "unreachable-rule",
}

# kind, severity, pointer, how to provoke it
CASES: list[tuple[str, Severity, str, Spoil]] = [
    # files
    ("unreadable", ERROR, "", third(b'{ "unicast" : "\xff" }')),
    ("syntax", ERROR, "", third('{ "unicast" : "10.77.0.3", }')),
    ("syntax", ERROR, "", third("{ // comment\n}")),
    ("syntax", ERROR, "", third('{ "unicast" : "10.77.0.3" } more')),
    ("syntax", ERROR, "", third('{ "unicast" : "10.77')),
    ("syntax", ERROR, "", third("{ 'unicast' : 1 }")),
    ("syntax", ERROR, "", third('{ "a" 1 }')),
    ("syntax", ERROR, "", third('{ "a" : [ 1 2 ] }')),
    ("syntax", ERROR, "", third("")),
    ("syntax", ERROR, "", third("[" * 100_000)),
    ("syntax", ERROR, "", mapping("version = 1\nnodes = \n")),
    ("syntax", ERROR, "", mapping("version = 1\nnodes = " + "[" * 100_000)),
    ("syntax", ERROR, "", mapping("version = 1\nid = " + "1" * 5_000)),
    ("repeated-key", WARNING, "/device", lambda p: p.repeat("hmi", "device", "eth0")),
    ("bad-type", ERROR, "", third("[]")),
    # node
    ("no-unicast", ERROR, "/unicast", without("unicast")),
    ("bad-address", ERROR, "/unicast", hmi(unicast="10.77.0")),
    ("bad-address", ERROR, "/unicast", hmi(unicast="fe80::1")),
    ("bad-address", ERROR, "/unicast", hmi(unicast="224.0.0.1")),
    ("bad-address", ERROR, "/unicast", hmi(unicast="0.0.0.0")),
    ("bad-netmask", ERROR, "/netmask", hmi(netmask="255.0.255.0")),
    ("bad-type", ERROR, "/netmask", hmi(netmask={})),
    ("bad-netmask", ERROR, "/prefix", lambda p: p.hmi.update(prefix=p.hmi.pop("netmask"))),
    ("unknown-key", WARNING, "/servces", hmi(servces=[])),
    ("unknown-key", WARNING, "/Unicast", hmi(Unicast="10.77.0.1")),
    ("ignored-key", WARNING, "/multicast", hmi(multicast="224.224.224.245")),
    ("ignored-key", WARNING, "/servicegroups/0", hmi(servicegroups=[{"services": []}])),
    ("npdu-defaults", WARNING, "/npdu-default-timings", without("npdu-default-timings")),
    ("npdu-defaults", WARNING, "/npdu-default-timings", hmi(**{"npdu-default-timings": {}})),
    ("bad-type", ERROR, "/services", hmi(services="0x1235")),
    ("bad-type", ERROR, "/services/0", hmi(services=["0x1235"])),
    # service discovery
    ("bad-multicast", ERROR, "/service-discovery/multicast", sd(multicast="10.77.0.5")),
    ("hex-port", ERROR, "/service-discovery/port", sd(port="0x771a")),
    ("bad-sd-protocol", ERROR, "/service-discovery/protocol", sd(protocol="tcp")),
    ("bad-boolean", WARNING, "/service-discovery/enable", sd(enable="True")),
    ("unknown-key", WARNING, "/service-discovery/enabled", sd(enabled="true")),
    ("bad-number", WARNING, "/service-discovery/ttl", sd(ttl="0")),
    ("bad-number", WARNING, "/service-discovery/ttl", sd(ttl="0xFFFFFF")),
    ("bad-number", WARNING, "/service-discovery/repetitions_max", sd(repetitions_max="256")),
    ("bad-state", WARNING, "/service-discovery/initial_state", sd(initial_state="suspend")),
    ("bad-delays", WARNING, "/service-discovery/initial_delay_min", sd(initial_delay_min="3001")),
    ("short-ttl", WARNING, "/service-discovery/ttl", sd(ttl="1")),
    ("ignored-key", WARNING, "/service-discovery/offer_watchdog_time", sd(offer_watchdog_time="4")),
    (
        "missing",
        ERROR,
        "/service-discovery/ttl_factor_offers/0/ttl_factor",
        sd(ttl_factor_offers=[{"service": "0x1234", "instance": "1"}]),
    ),
    ("sd-mismatch", WARNING, "/service-discovery", sd(port="30491")),
    ("sd-mismatch", WARNING, "/service-discovery", sd(multicast="224.224.224.246")),
    # service
    ("missing", ERROR, "/services/0/instance", lambda p: p.service.pop("instance")),
    ("bad-id", ERROR, "/services/0/service", service(service="0X1235")),
    ("bad-id", ERROR, "/services/0/service", service(service="12ab")),
    ("bad-id", ERROR, "/services/0/service", service(service="0x12345")),
    ("bad-id", ERROR, "/services/0/service", service(service="65536")),
    ("decimal-id", WARNING, "/services/0/service", service(service="1234")),
    ("hex-port", ERROR, "/services/0/unreliable", service(unreliable="0x772E")),
    ("hex-port", ERROR, "/services/0/reliable/port", service(reliable={"port": "0x772E"})),
    ("missing", ERROR, "/services/0/reliable/port", service(reliable={})),
    ("bad-port", ERROR, "/services/0/reliable", service(reliable="0")),
    ("bad-port", ERROR, "/services/0/reliable", service(reliable=65535)),
    ("bad-type", ERROR, "/services/0/unreliable", service(unreliable={"port": "30510"})),
    ("bad-port", ERROR, "/services/0/reliable", service(reliable=True)),
    ("ignored-multicast", WARNING, "/services/0/multicast", service(multicast="224.1.1.1")),
    ("bad-id", ERROR, "/services/0/major", service(major="256")),
    (
        "duplicate-service",
        WARNING,
        "/services/1",
        more({"service": "0x1235", "instance": "0x0001", "unreliable": "30511"}),
    ),
    (
        "shared-endpoint",
        WARNING,
        "/services/1/unreliable",
        more({"service": "0x1236", "instance": "0x0001", "unreliable": "30510"}),
    ),
    (
        "instances-share-port",
        ERROR,
        "/services/1/unreliable",
        more({"service": "0x1235", "instance": "0x0002", "unreliable": "30510"}),
    ),
    ("port-of-sd", ERROR, "/services/0/unreliable", service(unreliable="30490")),
    (
        "offered-twice",
        WARNING,
        "/services/1",
        more({"service": "0x1235", "instance": "0x0001", "unreliable": "30511"}, to="adas"),
    ),
    (
        "stranger",
        WARNING,
        "/services/0/unicast",
        service(unicast="10.77.0.99"),
    ),
    ("not-offered", WARNING, "/services/0", service(unicast="10.77.0.2")),
    (
        "remote-mismatch",
        WARNING,
        "/services/1",
        more(
            {
                "service": "0x1234",
                "instance": "0x5678",
                "unicast": "10.77.0.2",
                "unreliable": "30999",
            }
        ),
    ),
    # events
    ("missing", ERROR, "/services/0/events/0/event", service(events=[{}])),
    ("bad-type", ERROR, "/services/0/eventgroups/0/events", eventgroup(events="0x8001")),
    ("bad-id", ERROR, "/services/0/eventgroups/0/events/0", eventgroup(events=["8001h"])),
    ("bad-number", WARNING, "/services/0/eventgroups/0/threshold", eventgroup(threshold="many")),
    (
        "unused-multicast",
        WARNING,
        "/services/0/eventgroups/0/threshold",
        eventgroup(multicast={"address": "224.1.1.1", "port": "32344"}),
    ),
    (
        "missing",
        ERROR,
        "/services/0/eventgroups/0/multicast/port",
        eventgroup(multicast={"address": "224.1.1.1"}, threshold="1"),
    ),
    (
        "first-event-only",
        WARNING,
        "/services/0/eventgroups/0/events/1",
        eventgroup(events=["0x8001", "0x8002"]),
    ),
    (
        "group-without-eventgroup",
        ERROR,
        "/services/0/eventgroups/0/eventgroup",
        service(eventgroups=[{"multicast": GROUP, "threshold": "1"}]),
    ),
    (
        "bad-multicast",
        ERROR,
        "/services/0/eventgroups/0/multicast/address",
        eventgroup(multicast={"address": "10.1.1.1", "port": "32344"}, threshold="1"),
    ),
    (
        "hex-port",
        ERROR,
        "/services/0/eventgroups/0/multicast/port",
        eventgroup(multicast={"address": "224.1.1.1", "port": "0x7e58"}, threshold="1"),
    ),
    ("bad-number", WARNING, "/services/0/eventgroups/0/threshold", eventgroup(threshold="256")),
    ("multicast-without-udp", WARNING, "/services/0/eventgroups/0/multicast", tcp_group),
    (
        "ignored-key",
        WARNING,
        "/services/0/eventgroups/0/is_multicast",
        eventgroup(is_multicast="true"),
    ),
    (
        "ignored-key",
        WARNING,
        "/services/0/events/0/update-cycle",
        events({"event": "0x8001", "update-cycle": "2000"}),
    ),
    (
        "duplicate-event",
        WARNING,
        "/services/0/events/1",
        events({"event": "0x8001"}, {"event": "32769"}),
    ),
    (
        "duplicate-eventgroup",
        WARNING,
        "/services/0/eventgroups/1",
        service(eventgroups=[{"eventgroup": "1"}, {"eventgroup": "0x0001"}]),
    ),
    ("reserved-id", WARNING, "/services/0/events/0/event", events({"event": "0"})),
    (
        "reserved-id",
        WARNING,
        "/services/0/eventgroups/0/eventgroup",
        service(eventgroups=[{"eventgroup": "0"}]),
    ),
    ("reserved-id", WARNING, "/services/0/instance", service(instance="0xffff")),
    (
        "event-without-port",
        WARNING,
        "/services/0/events/0/is_reliable",
        events({"event": "0x8001", "is_reliable": "true"}),
    ),
    (
        "bad-boolean",
        WARNING,
        "/services/0/events/0/is_field",
        events({"event": "0x8001", "is_field": "yes"}),
    ),
    (
        "bad-number",
        WARNING,
        "/services/0/events/0/cycle",
        events({"event": "0x8001", "cycle": "0x10"}),
    ),
    # segmentation and debouncing
    (
        "bad-segment",
        WARNING,
        "/services/0/someip-tp/service-to-client/0/max-segment-length",
        service(
            **{
                "someip-tp": {
                    "service-to-client": [{"method": "0x8001", "max-segment-length": "1400"}]
                }
            }
        ),
    ),
    (
        "missing",
        ERROR,
        "/services/0/someip-tp/client-to-service/0/method",
        service(**{"someip-tp": {"client-to-service": [{"separation-time": "10"}]}}),
    ),
    (
        "unknown-key",
        WARNING,
        "/services/0/someip-tp/server-to-client",
        service(**{"someip-tp": {"server-to-client": []}}),
    ),
    (
        "bad-type",
        ERROR,
        "/services/0/someip-tp/client-to-service",
        service(**{"someip-tp": {"client-to-service": "0x0001"}}),
    ),
    (
        "bad-id",
        ERROR,
        "/services/0/debounce-times/requests/method1",
        service(**{"debounce-times": {"requests": {"method1": {"debounce-time": "1"}}}}),
    ),
    (
        "unknown-key",
        WARNING,
        "/services/0/debounce-times/responses/0x1001/max-retention-time",
        service(**{"debounce-times": {"responses": {"0x1001": {"max-retention-time": "1"}}}}),
    ),
    (
        "npdu-defaults",
        WARNING,
        "/npdu-default-timings",
        lambda p: p.hmi["npdu-default-timings"].pop("debounce-time-response"),
    ),
    (
        "bad-number",
        WARNING,
        "/npdu-default-timings/debounce-time-request",
        lambda p: p.hmi["npdu-default-timings"].update({"debounce-time-request": "none"}),
    ),
    # clients
    ("bad-type", ERROR, "/clients/0/reliable", client(reliable="41234")),
    ("bad-port", ERROR, "/clients/0/unreliable/1", client(unreliable=["0x9c40", "65535"])),
    (
        "bad-range",
        ERROR,
        "/clients/0/unreliable_client_ports",
        client(unreliable_client_ports={"first": "30499", "last": "30491"}),
    ),
    (
        "missing",
        ERROR,
        "/clients/0/reliable_remote_ports/last",
        client(reliable_remote_ports={"first": "30501"}),
    ),
    ("unknown-key", WARNING, "/clients/0/unreliable_ports", client(unreliable_ports=[])),
    # routing and applications
    ("missing", ERROR, "/routing/host", hmi(routing={"guests": {}})),
    (
        "bad-address",
        ERROR,
        "/routing/host/unicast",
        hmi(routing={"host": {"name": "hmi", "unicast": "eth0"}}),
    ),
    (
        "bad-port",
        ERROR,
        "/routing/host/port",
        hmi(routing={"host": {"name": "hmi", "port": "auto"}}),
    ),
    (
        "missing",
        ERROR,
        "/routing/guests/ports/0/uid",
        hmi(routing={"host": {"name": "hmi"}, "guests": {"ports": [{"gid": "1", "ranges": []}]}}),
    ),
    (
        "bad-range",
        ERROR,
        "/routing/guests/ports/0/ranges/0",
        hmi(
            routing={
                "host": {"name": "hmi"},
                "guests": {
                    "ports": [{"uid": "1", "gid": "1", "ranges": [{"first": "2", "last": "1"}]}]
                },
            }
        ),
    ),
    (
        "ignored-range",
        WARNING,
        "/routing/guests/ports/0",
        hmi(
            routing={
                "host": {"name": "hmi"},
                "guests": {"ports": [{"first": "1026", "last": "65535"}]},
            }
        ),
    ),
    ("missing", ERROR, "/applications/0/name", hmi(applications=[{"id": "0x1001"}])),
    (
        "duplicate-application",
        WARNING,
        "/applications/1",
        hmi(applications=[{"name": "hmi"}, {"name": "hmi"}]),
    ),
    (
        "duplicate-client-id",
        WARNING,
        "/applications/1/id",
        hmi(applications=[{"name": "a", "id": "0x1001"}, {"name": "b", "id": 4097}]),
    ),
    ("bad-type", ERROR, "/device", hmi(device=["eth0"])),
    # sizes, security, protection
    (
        "bad-number",
        WARNING,
        "/max-payload-size-reliable",
        hmi(**{"max-payload-size-reliable": "1k"}),
    ),
    (
        "missing",
        ERROR,
        "/payload-sizes/0/ports/0/max-payload-size",
        hmi(**{"payload-sizes": [{"unicast": "10.77.0.1", "ports": [{"port": "30510"}]}]}),
    ),
    (
        "unknown-key",
        WARNING,
        "/security/check-credentials",
        hmi(security={"check-credentials": "true"}),
    ),
    (
        "allow-and-deny",
        WARNING,
        "/security/policies/0",
        hmi(security={"policies": [{"allow": [], "deny": []}]}),
    ),
    ("bad-type", ERROR, "/partitions/0", hmi(partitions=[{"service": "1", "instance": "1"}])),
    (
        "missing",
        ERROR,
        "/secure-services/0/instance",
        hmi(**{"secure-services": [{"service": "1"}]}),
    ),
    ("bad-address", ERROR, "/acceptances/0/address", hmi(acceptances=[{"address": "10.3"}])),
    (
        "bad-port-type",
        WARNING,
        "/acceptances/0/reliable/0/type",
        hmi(acceptances=[{"address": "10.3.0.10", "reliable": [{"type": "secured"}]}]),
    ),
    ("bad-e2e", WARNING, "/e2e/protected/0/variant", e2e(variant="protect")),
    ("bad-e2e", WARNING, "/e2e/protected/0/profile", e2e(profile="P4")),
    ("unknown-key", WARNING, "/e2e/protected/0/crc-offset", e2e(**{"crc-offset": "64"})),
    (
        "bad-id",
        ERROR,
        "/internal_services/0/first",
        hmi(internal_services=[{"first": "any", "last": "0xFEFF"}]),
    ),
    (
        "bad-range",
        ERROR,
        "/internal_services/0",
        hmi(internal_services=[{"first": "0xFF00", "last": "0xFE00"}]),
    ),
    ("unknown-key", WARNING, "/logging/levle", hmi(logging={"levle": "debug"})),
    # mapping
    ("bad-version", ERROR, "/version", mapped("version = 1", "version = 2")),
    ("bad-version", ERROR, "/version", mapped("version = 1", "")),
    ("no-nodes", ERROR, "/nodes", mapping("version = 1")),
    ("unknown-key", WARNING, "/nodes/hmi/colour", mapped(LOCAL, LOCAL + '\ncolour = "red"')),
    ("bad-path", ERROR, "/defaults/path", mapping(MAPPING + '[defaults]\npath = "fast"')),
    (
        "bad-promote",
        ERROR,
        "/defaults/promote",
        mapping(MAPPING + '[defaults]\npromote = "soon"'),
    ),
    (
        "bad-fallback",
        ERROR,
        "/defaults/fallback",
        mapping(MAPPING + '[defaults]\nfallback = "none"'),
    ),
    ("bad-size", ERROR, "/rings/sd", mapping(MAPPING + '[rings]\nsd = "3KiB"')),
    ("bad-size", ERROR, "/rings/sd", mapping(MAPPING + '[rings]\nsd = "2KiB"')),
    ("bad-size", ERROR, "/rings/bulk", mapping(MAPPING + '[rings]\nbulk = "128MiB"')),
    ("bad-size", ERROR, "/nodes/hmi/ring", mapped(LOCAL, LOCAL + "\nring = true")),
    ("bad-domain", ERROR, "/nodes/hmi", mapped(LOCAL, "")),
    ("bad-domain", ERROR, "/nodes/hmi", mapped(LOCAL, LOCAL + "\nexternal = true")),
    ("bad-domain", ERROR, "/nodes/hmi/host", mapped(LOCAL, 'host = "netns:../x"')),
    ("bad-domain", ERROR, "/nodes/hmi/vm", mapped(LOCAL, "vm = { id = 40000 }")),
    ("bad-domain", ERROR, "/nodes/hmi/vm", mapped(LOCAL, 'vm = { uuid = "1" }')),
    ("bad-domain", ERROR, "/nodes/hmi/external", mapped(LOCAL, "external = false")),
    ("mixed-platforms", ERROR, "/nodes/hmi", guests(LOCAL, 'vm = "adas"')),
    ("bad-limit", ERROR, "/nodes/hmi/pages", mapped(LOCAL, LOCAL + "\npages = 2048")),
    ("bad-limit", ERROR, "/nodes/hmi/ports", guests('vm = "hmi"\nports = 0', 'vm = "adas"')),
    ("bad-loopback", ERROR, "/nodes/hmi/loopback", mapped(LOCAL, LOCAL + '\nloopback = "on"')),
    ("bad-loopback", ERROR, "/nodes/hmi/loopback", guests('vm = "a"\nloopback = true', 'vm = "b"')),
    ("bad-limit", ERROR, "/nodes/hmi", guests('vm = "one"', 'vm = "one"\npages = 2')),
    ("bad-interface", ERROR, "/ethernet/bridge", mapping(OUTSIDE.replace("xenbr0", "a/b"))),
    ("bad-interface", ERROR, "/ethernet/interface", mapping(OUTSIDE.replace("eth1", "xenbr0"))),
    ("missing", ERROR, "/ethernet/interface", mapping(OUTSIDE.replace("interface", "_"))),
    ("bad-address", ERROR, "/ethernet/address", mapping(OUTSIDE + 'address = "10.77.0.254"')),
    (
        "duplicate-address",
        ERROR,
        "/ethernet/address",
        mapping(OUTSIDE + 'address = "10.77.0.2/24"'),
    ),
    ("unused-ethernet", WARNING, "/ethernet", mapping(MAPPING + WAY)),
    ("bad-name", ERROR, "/nodes/", mapping(MAPPING + '[nodes.""]\nhost = "local"')),
    # mapping against configuration
    ("unmapped-node", ERROR, "", third_node()),
    ("unknown-node", ERROR, "/nodes/tcu", mapping(MAPPING + EXTRA)),
    (
        "address-mismatch",
        ERROR,
        "/nodes/hmi/address",
        mapped(LOCAL, LOCAL + '\naddress = "10.77.0.7"'),
    ),
    ("duplicate-address", ERROR, "/unicast", hmi(unicast="10.77.0.2")),
    (
        "duplicate-address",
        ERROR,
        "/nodes/tcu/address",
        mapping(MAPPING + EXTRA + 'address = "10.77.0.2"'),
    ),
    ("other-subnet", WARNING, "/unicast", hmi(unicast="10.78.0.1")),
    ("other-subnet", WARNING, "/unicast", hmi(netmask="255.255.0.0")),
    (
        "other-subnet",
        WARNING,
        "/nodes/tcu/address",
        mapping(MAPPING + EXTRA + 'address = "10.78.0.2"'),
    ),
    ("same-node", ERROR, "", third_node("other/hmi.json")),
]


@pytest.mark.parametrize(
    ("code", "severity", "pointer", "spoil"), CASES, ids=[case[0] for case in CASES]
)
def test_slip_is_found(
    project: Project, code: str, severity: Severity, pointer: str, spoil: Spoil
) -> None:
    spoil(project)
    found = [(f.code, f.severity, f.pointer) for f in project.findings()]
    assert found == [(code, severity, pointer)]


@pytest.mark.parametrize(("code", "spoil"), [(case[0], case[3]) for case in CASES])
def test_finding_says_file_found_expected_and_fix(
    project: Project, code: str, spoil: Spoil
) -> None:
    spoil(project)
    for finding in project.findings():
        assert finding.file.startswith(str(project.folder))
        assert finding.found and finding.expected and finding.fix
        assert str(finding).isascii()


def test_good_files_have_no_findings(project: Project) -> None:
    assert project.findings() == ()


def test_second_definition_in_a_folder(project: Project) -> None:
    project.texts = {
        "hmi/a.json": '{ "unicast" : "10.77.0.1", "netmask" : "255.255.255.0" }',
        "hmi/b.json": '{ "netmask" : "255.255.0.0" }',
    }
    project.write()
    findings = project.findings([project.folder / "hmi", project.folder / "adas.json"])
    assert ("second-definition", "/netmask") in [(f.code, f.pointer) for f in findings]


def test_empty_folder(project: Project) -> None:
    (project.folder / "hmi").mkdir()
    findings = project.findings([project.folder / "hmi", project.folder / "adas.json"])
    assert [f.code for f in findings] == ["empty-folder"]


@pytest.mark.parametrize("name", ["gone.json", "fifo\0.json"])
def test_file_that_cannot_be_opened(project: Project, name: str) -> None:
    findings = project.findings([project.folder / name, project.folder / "adas.json"])
    assert [f.code for f in findings] == ["unreadable"]


def test_link_to_itself_in_a_folder(project: Project) -> None:
    (project.folder / "loop.json").symlink_to("loop.json")
    assert [f.code for f in project.findings([project.folder])] == ["unreadable"]


def test_every_kind_of_finding_has_a_test() -> None:
    """Read the kinds out of the source, so that a new one cannot go without a case."""
    kinds = {"repeated-key", "syntax", "bad-e2e", "bad-port-type"}  # told by helpers
    kinds |= {"bad-path", "bad-promote", "bad-action", "bad-message-type", "bad-protocol"}
    kinds |= {"bad-return-code"}
    for file in Path(ivc.network.__file__).parent.rglob("*.py"):
        if file.parent.name in {"arxml", "neutral"}:  # which have tables of their own
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("report."):
                kinds |= {c.value for c in call.args[1:2] if isinstance(c, ast.Constant)}
    assert kinds == {case[0] for case in CASES} | ELSEWHERE


def test_every_kind_of_finding_is_documented_with_its_severity() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| `")]
    documented = {(kind, row[1]) for row in rows for kind in re.findall(r"`([a-z0-9-]+)`", row[0])}
    assert {(case[0], case[1].value) for case in CASES} <= documented
    assert {kind for kind, _ in documented} >= ELSEWHERE


def test_all_problems_are_told_in_one_run(project: Project) -> None:
    project.texts["third.json"] = "{"
    project.service["unreliable"] = "0x7735"
    project.adas["unicast"] = "10.77.0.999"
    project.mapping = MAPPING.replace("version = 1", "version = 3")
    codes = {finding.code for finding in project.findings()}
    assert codes == {"syntax", "hex-port", "bad-address", "bad-version"}


def test_syntax_error_has_line_and_column(project: Project) -> None:
    project.texts["third.json"] = '{\n  "unicast" : "10.77.0.3",\n}\n'
    (finding,) = project.findings()
    assert (finding.line, finding.column, finding.found) == (3, 1, '"}"')


def test_toml_syntax_error_has_line_and_column(project: Project) -> None:
    project.mapping = "version = 1\n[nodes.hmi\n"
    (finding,) = project.findings()
    assert (finding.line, finding.column) == (2, 11)


def test_finding_has_the_line_of_the_value(project: Project) -> None:
    project.texts["hmi.json"] = (
        '{ "unicast" : "10.77.0.1",\n  "service-discovery" : {\n'
        '    "multicast" : "224.224.224.245",\n    "port" : "x" } }'
    )
    (finding,) = (f for f in project.findings() if f.code == "bad-port")
    assert (finding.line, finding.column) == (4, 14)


def test_finding_in_the_mapping_has_its_line(project: Project) -> None:
    project.mapping = MAPPING + "\n[rings]\n# small\nsd = 7\n"
    (finding,) = project.findings()
    assert (finding.line, finding.pointer) == (9, "/rings/sd")


def test_unreadable_file_does_not_make_its_node_unknown(project: Project) -> None:
    project.texts["hmi.json"] = "{"
    assert [finding.code for finding in project.findings()] == ["syntax"]


def test_key_spelt_almost_right_is_named(project: Project) -> None:
    project.hmi["servces"] = []
    (finding,) = project.findings()
    assert finding.fix == 'write "services"?'
