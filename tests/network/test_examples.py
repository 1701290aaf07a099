# SPDX-License-Identifier: Apache-2.0
"""Files as projects have them: everything is understood, and every finding is true.

The constructs are those of vsomeip's own examples and documentation, written anew. Two of its
examples really carry slips vsomeip is silent about; these, and nothing else, are told.
"""

from ipaddress import IPv4Address
from pathlib import Path

from ivc.network import (
    Acceptance,
    Application,
    Client,
    Debounce,
    E2eProtection,
    Endpoint,
    Event,
    Eventgroup,
    GuestPorts,
    InternalServices,
    Loaded,
    Node,
    NpduTimings,
    PayloadLimits,
    PortPayload,
    PortRange,
    Protocol,
    Routing,
    Security,
    Segmentation,
    ServiceInstance,
    ServiceRef,
    TtlFactor,
    load,
)

EXAMPLES = Path(__file__).parent / "examples"


def example(*names: str) -> Loaded:
    return load([EXAMPLES / name for name in names], None, {})


def findings(loaded: Loaded) -> list[tuple[str, str]]:
    return [(finding.code, finding.pointer) for finding in loaded.findings]


def head_unit() -> tuple[Node, ServiceInstance]:
    network = example("head-unit").network
    return network.nodes[0], network.services[0]


def test_udp_example_has_the_slips_of_its_model_and_no_other() -> None:
    assert findings(example("udp/door-panel.json", "udp/window-lifter.json")) == [
        ("npdu-defaults", "/npdu-default-timings"),
        ("ignored-key", "/services/0/events/0/update-cycle"),
        ("unused-multicast", "/services/0/eventgroups/1/threshold"),
        ("first-event-only", "/services/0/eventgroups/1/events/1"),
        ("shared-endpoint", "/services/1/unreliable"),
        ("ignored-multicast", "/services/1/multicast"),
    ]


def test_tcp_example_is_without_findings() -> None:
    assert findings(example("tcp/map-server.json", "tcp/display.json")) == []


def test_example_without_service_discovery_is_without_findings() -> None:
    assert findings(example("static/brake.json", "static/cluster.json")) == []


def test_folder_with_every_section_is_without_findings() -> None:
    assert findings(example("head-unit")) == []


# ---- what is understood -----------------------------------------------------------------------


def test_node_of_the_tcp_example() -> None:
    node = example("tcp/map-server.json").network.nodes[0]
    assert (node.name, node.address) == ("map-server", IPv4Address("10.20.0.1"))
    assert node.netmask == IPv4Address("255.255.0.0")
    assert (node.device, node.network) == ("eth0", "map-server")
    assert node.applications == (Application("map-server", 0x3101), Application("tile-cache"))
    assert node.routing == Routing("map-server")
    assert node.npdu == NpduTimings(0, 0, 0, 0)
    assert node.sd is not None and node.sd.timing.initial_state == "resumed"


def test_both_forms_of_reliable_and_other_protocols() -> None:
    services = example("tcp/map-server.json").network.services
    assert [(service.magic_cookies, service.protocol) for service in services] == [
        (True, "someip"),
        (False, "someip"),
        (False, "hsfz"),
    ]
    address = IPv4Address("10.20.0.1")
    assert services[0].endpoints == (
        Endpoint(address, 43000),
        Endpoint(address, 43000, Protocol.TCP),
    )
    assert services[2].endpoints == (Endpoint(address, 6801, Protocol.TCP),)


def test_clients_with_ports_and_with_ranges() -> None:
    remote, local = PortRange(43000, 43099), PortRange(43200, 43299)
    assert example("tcp/display.json").network.nodes[0].clients == (
        Client(0x3101, 1, tcp_ports=(43101, 43102)),
        Client(udp_remote=remote, tcp_remote=remote, udp_client=local, tcp_client=local),
    )
    (client,) = example("udp/door-panel.json").network.nodes[0].clients
    assert client.udp_ports == (42000, 42001)


def test_remote_service_with_segmentation_and_debouncing() -> None:
    (service,) = example("static/cluster.json").network.services
    assert service.node is None
    assert service.endpoints == (Endpoint(IPv4Address("192.168.7.1"), 44000),)
    assert service.tp_requests == (Segmentation(0x1001), Segmentation(0x12, 1376, 20))
    assert service.debounce_requests == (Debounce(0x1001, 20, 200), Debounce(66, 40, 5))


def test_events_of_a_service() -> None:
    _, service = head_unit()
    assert service.events == (
        Event(0x8003, is_reliable=True),
        Event(0x800B, cycle=100, change_resets_cycle=True, update_on_change=False),
    )
    group = Endpoint(IPv4Address("239.192.30.6"), 30506)
    assert service.eventgroups == (Eventgroup(6, (0x800B,), group, 1),)
    assert service.tp_responses == (Segmentation(0x106), Segmentation(1))


def test_routing_host_and_guests() -> None:
    node, _ = head_unit()
    address = IPv4Address("10.30.3.1")
    assert node.routing == Routing(
        host="router",
        uid=1000,
        gid=1000,
        address=address,
        port=31000,
        guest_address=address,
        guest_ports=(
            GuestPorts(8205, 8205, (PortRange(10000, 10019),)),
            GuestPorts(None, None, (PortRange(1026, 65535),)),
        ),
    )


def test_service_discovery_timing() -> None:
    node, _ = head_unit()
    assert node.sd is not None
    assert node.sd.timing.ttl_factor_offers == (TtlFactor(0x5001, 1, 5),)
    assert node.sd.timing.max_remote_subscribers == 8
    node = example("udp/window-lifter.json").network.nodes[0]
    assert node.sd is not None
    timing = node.sd.timing
    assert (timing.initial_delay_min, timing.initial_delay_max) == (10, 100)
    assert (timing.repetitions_base_delay, timing.repetitions_max) == (200, 3)
    assert (timing.ttl, timing.cyclic_offer_delay) == (3, 2000)
    assert timing.request_response_delay == 1500


def test_sizes() -> None:
    node, _ = head_unit()
    port = PortPayload(IPv4Address("10.30.3.1"), 30506, 614400)
    assert node.payload == PayloadLimits(52428800, 52428800, 5000, (port,))


def test_protection() -> None:
    node, _ = head_unit()
    assert node.security == Security(enforced=True, remote_clients=False, policies=2)
    assert node.secure_services == (ServiceRef(0x5002, 1),)
    assert node.partitions == ((ServiceRef(0x100B, 1), ServiceRef(0x3056, 1)),)
    assert node.acceptances == (
        Acceptance(
            IPv4Address("10.30.3.10"),
            paths=("/run/ipsec/10.30.3.10",),
            tcp_optional=(PortRange(30501, 30501),),
            tcp_secure=(PortRange(32501, 32599),),
        ),
    )
    assert node.e2e_enabled
    assert node.e2e[1] == E2eProtection(
        0x5001, 0x8001, "checker", "P04", (("crc_offset", "64"), ("data_id", "0xFF"))
    )


def test_internal_services() -> None:
    node, _ = head_unit()
    assert node.internal_services == (
        InternalServices(ServiceRef(0xF700, 0), ServiceRef(0xFEFF, 0xFFFF)),
        InternalServices(ServiceRef(0xB04C, 1), ServiceRef(0xB04C, 1)),
    )


def test_what_nobody_needs_is_kept_as_text() -> None:
    node, _ = head_unit()
    kept = dict(node.kept)
    assert kept["diagnosis"] == '"0x63"'
    assert kept["dispatching"] == '{"max_dispatchers": "8", "max_dispatch_time": "200"}'
    assert '"gid": "any"' in kept["security"]
    assert {"tracing", "network-options", "suppress_missing_event_logs"} <= kept.keys()
    assert "services" not in kept and "_comment" not in kept
