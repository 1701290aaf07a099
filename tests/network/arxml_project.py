# SPDX-License-Identifier: Apache-2.0
"""ARXML files of a small vehicle, made and validated by `autosar-data`.

Always the same vehicle, in three modellings: `adas` (10.77.0.2) offers 0x1234.0x0001 by UDP and
TCP, with event 0x8001 in eventgroup 1, by multicast from two subscribers on; `hmi` (10.77.0.1)
uses it from UDP port 40000.
"""

from collections.abc import Callable
from pathlib import Path

from autosar_data import AutosarModel, AutosarVersion, Element
from autosar_data.abstraction import AutosarModelAbstraction, EcuInstance, System, SystemCategory
from autosar_data.abstraction.communication import (
    CommonServiceDiscoveryConfig,
    EthernetPhysicalChannel,
    EventGroupControlType,
    GeneralPurposePduCategory,
    IPv4AddressSource,
    NetworkEndpoint,
    NetworkEndpointAddress,
    PduCollectionTrigger,
    SdConfig,
    SocketAddress,
    SocketAddressType,
    TpConfig,
)

SERVICE, INSTANCE, EVENT, EVENTGROUP = 0x1234, 0x0001, 0x8001, 1
HEADER = SERVICE << 16 | EVENT

V1_VERSIONS = [
    AutosarVersion.AUTOSAR_4_2_1,
    AutosarVersion.AUTOSAR_4_2_2,
    AutosarVersion.AUTOSAR_4_3_0,
    AutosarVersion.AUTOSAR_00046,
]
V2_VERSIONS = [AutosarVersion.AUTOSAR_00048, AutosarVersion.AUTOSAR_00051, AutosarVersion.LATEST]
ADAPTIVE_VERSIONS = [AutosarVersion.AUTOSAR_00046, *V2_VERSIONS]


class Vehicle:
    """A network of two ECUs, to which services are added; addresses as in the module's text."""

    def __init__(self, version: AutosarVersion) -> None:
        self.abstraction = AutosarModelAbstraction.create("vehicle.arxml", version=version)
        self.package = self.abstraction.get_or_create_package("/Vehicle")
        self.system: System = self.package.create_system("System", SystemCategory.SystemDescription)
        cluster = self.system.create_ethernet_cluster("Ethernet", self.package)
        self.channel: EthernetPhysicalChannel = cluster.create_physical_channel("Channel")
        self.hmi, self.hmi_endpoint = self._ecu("hmi", "10.77.0.1")
        self.adas, self.adas_endpoint = self._ecu("adas", "10.77.0.2")

    def _ecu(self, name: str, address: str) -> tuple[EcuInstance, NetworkEndpoint]:
        ecu = self.system.create_ecu_instance(name, self.package)
        controller = ecu.create_ethernet_communication_controller(f"{name}Controller")
        controller.connect_physical_channel(f"{name}Connector", self.channel)
        return ecu, self.endpoint(f"{name}Endpoint", address, ecu)

    def endpoint(self, name: str, address: str, ecu: EcuInstance | None = None) -> NetworkEndpoint:
        """A network endpoint."""
        return self.channel.create_network_endpoint(
            name,
            NetworkEndpointAddress.IPv4(
                address=address,
                address_source=IPv4AddressSource.Fixed,
                network_mask=None if address[:3] == "224" else "255.255.255.0",
            ),
            ecu=ecu,
        )

    def socket(
        self, name: str, endpoint: NetworkEndpoint, port: int, ecu: EcuInstance, tcp: bool = False
    ) -> SocketAddress:
        """A unicast socket of an ECU."""
        kind = TpConfig.TcpTp if tcp else TpConfig.UdpTp
        return self.channel.create_socket_address(
            name, endpoint, kind(port_number=port), SocketAddressType.Unicast(ecu)
        )

    def group(self, name: str, address: str, port: int) -> SocketAddress:
        """A multicast socket both ECUs are members of."""
        return self.channel.create_socket_address(
            name,
            self.endpoint(f"{name}Endpoint", address),
            TpConfig.UdpTp(port_number=port),
            SocketAddressType.Multicast([self.hmi, self.adas]),
        )

    def pdu(self, name: str) -> object:
        """A PDU that stands for a message."""
        return self.system.create_general_purpose_pdu(
            name, self.package, 20, GeneralPurposePduCategory.Sd
        )

    def service_discovery(self, identifiers: object | None = None) -> None:
        """SD of both ECUs, on 224.224.224.245:30490."""
        anybody = self.endpoint("Anybody", "ANY")
        remote = self.channel.create_socket_address(
            "SdRemote", anybody, TpConfig.UdpTp(port_number=0), SocketAddressType.Unicast(None)
        )
        common = CommonServiceDiscoveryConfig(
            multicast_rx_socket=self.group("SdGroup", "224.224.224.245", 30490),
            multicast_rx_pdu=self.pdu("SdMulticast"),
            remote_socket=remote,
            prefer_static_socket_connections=identifiers is not None,
            ipdu_identifier_set=identifiers,
        )
        for ecu, endpoint in ((self.hmi, self.hmi_endpoint), (self.adas, self.adas_endpoint)):
            name = ecu.name
            unicast = self.socket(f"{name}Sd", endpoint, 30490, ecu)
            self.channel.configure_service_discovery_for_ecu(
                ecu, unicast, self.pdu(f"{name}SdIn"), self.pdu(f"{name}SdOut"), common
            )

    def text(self) -> str:
        """The file, which must be valid."""
        (text,) = self.abstraction.model.serialize_files().values()
        return validated(text)


def validated(text: str) -> str:
    """The text, if autosar-data takes it without a warning and its references lead somewhere."""
    model = AutosarModel()
    _, warnings = model.load_buffer(text, "vehicle.arxml", strict=True)
    assert warnings == []
    assert model.check_references() == []
    return text


def classic_v1(version: AutosarVersion = V1_VERSIONS[-1]) -> str:
    """Service instances in application endpoints, as up to AUTOSAR 4.4."""
    vehicle = Vehicle(version)
    vehicle.service_discovery()
    udp = vehicle.socket("AdasUdp", vehicle.adas_endpoint, 30509, vehicle.adas)
    tcp = vehicle.socket("AdasTcp", vehicle.adas_endpoint, 30510, vehicle.adas, tcp=True)
    client = vehicle.socket("HmiUdp", vehicle.hmi_endpoint, 40000, vehicle.hmi)
    provided = udp.create_provided_service_instance("Provided", SERVICE, INSTANCE)
    provided.set_sd_server_config(_sd_config())
    tcp.create_provided_service_instance("ProvidedTcp", SERVICE, INSTANCE)
    handler = provided.create_event_handler("Handler")
    consumed = client.create_consumed_service_instance("Consumed", provided)
    group = consumed.create_consumed_event_group("Group", EVENTGROUP, handler)
    routing = vehicle.system.create_so_ad_routing_group("Routing", vehicle.package)
    handler.add_routing_group(routing)
    bundle = vehicle.channel.create_socket_connection_bundle("Bundle", udp)
    connection = bundle.create_bundled_connection(client)
    pdu, _ = connection.create_socket_connection_ipdu_identifier(
        vehicle.pdu("Notification"), HEADER, collection_trigger=PduCollectionTrigger.Always
    )
    pdu.add_routing_group(routing)
    multicast = vehicle.group("EventGroup", "224.225.226.233", 32344)
    refer(group.element, "APPLICATION-ENDPOINT-REF", application_endpoint(multicast))
    put(handler.element, "MULTICAST-THRESHOLD", 2)
    return vehicle.text()


def _sd_config() -> SdConfig:
    return SdConfig(
        service_major_version=1,
        service_minor_version=7,
        initial_delay_max_value=0.1,
        initial_delay_min_value=0.0,
        initial_repetitions_max=3,
        request_response_delay_max_value=0.1,
        request_response_delay_min_value=0.0,
        ttl=3,
    )


def classic_v2(version: AutosarVersion = V2_VERSIONS[-1]) -> str:
    """Service instances in a collection set, as from AUTOSAR 4.5 on."""
    vehicle = Vehicle(version)
    identifiers = vehicle.system.create_socket_connection_ipdu_identifier_set(
        "Identifiers", vehicle.package
    )
    vehicle.service_discovery(identifiers)
    instances = vehicle.system.create_service_instance_collection_set("Instances", vehicle.package)
    provided = instances.create_provided_service_instance("Provided", SERVICE, INSTANCE, 1, 7)
    for name, port, tcp in (("AdasUdp", 30509, False), ("AdasTcp", 30510, True)):
        provided.set_local_unicast_address(
            vehicle.socket(name, vehicle.adas_endpoint, port, vehicle.adas, tcp)
        )
    handler = provided.create_event_handler("Handler", EVENTGROUP)
    routing = handler.create_pdu_activation_routing_group(
        "Routing", EventGroupControlType.ActivationUnicast
    )
    routing.add_ipdu_identifier_udp(
        identifiers.create_socon_ipdu_identifier(
            "Identifier", vehicle.pdu("Notification"), vehicle.channel, header_id=HEADER
        )
    )
    multicast = vehicle.group("EventGroup", "224.225.226.233", 32344)
    addresses = handler.element.create_sub_element("EVENT-MULTICAST-ADDRESSS")
    refer(
        addresses.create_sub_element("APPLICATION-ENDPOINT-REF-CONDITIONAL"),
        "APPLICATION-ENDPOINT-REF",
        application_endpoint(multicast),
    )
    put(handler.element, "MULTICAST-THRESHOLD", 2)
    consumed = instances.create_consumed_service_instance("Consumed", SERVICE, INSTANCE, 1, "ANY")
    consumed.set_local_unicast_address(
        vehicle.socket("HmiUdp", vehicle.hmi_endpoint, 40000, vehicle.hmi)
    )
    return vehicle.text()


def adaptive(version: AutosarVersion = ADAPTIVE_VERSIONS[-1]) -> str:
    """Manifests of two Adaptive machines."""
    return _Manifests(version).text()


class _Manifests:
    """Manifests, whose elements have other names and places in each of three generations."""

    def __init__(self, version: AutosarVersion) -> None:
        self.version = version
        self.model = AutosarModel()
        self.file = self.model.create_file("vehicle.arxml", version)
        packages = self.model.root_element.create_sub_element("AR-PACKAGES")
        package = packages.create_named_sub_element("AR-PACKAGE", "Vehicle")
        self.elements = package.create_sub_element("ELEMENTS")
        channel = nest(
            self.elements.create_named_sub_element("ETHERNET-CLUSTER", "Ethernet"),
            "ETHERNET-CLUSTER-VARIANTS/ETHERNET-CLUSTER-CONDITIONAL/PHYSICAL-CHANNELS",
        ).create_named_sub_element("ETHERNET-PHYSICAL-CHANNEL", "Channel")
        self.endpoints = channel.create_sub_element("NETWORK-ENDPOINTS")
        self.sd = self.endpoint("SdEndpoint", "224.224.224.245")
        self.deployment = self._deployment()
        self.machine("hmi", "10.77.0.1", {"UDP": 40000}, self._required("Required"))
        self.machine("adas", "10.77.0.2", {"UDP": 30509, "TCP": 30510}, self._provided("Provided"))

    def endpoint(self, name: str, address: str) -> Element:
        endpoint = self.endpoints.create_named_sub_element("NETWORK-ENDPOINT", name)
        config = nest(endpoint, "NETWORK-ENDPOINT-ADDRESSES/IPV-4-CONFIGURATION")
        put(config, "IPV-4-ADDRESS", address)
        if not address.startswith("224"):
            put(config, "NETWORK-MASK", "255.255.255.0")
        return endpoint

    def machine(self, name: str, address: str, ports: dict[str, int], instance: Element) -> None:
        design = self.elements.create_named_sub_element("MACHINE-DESIGN", f"{name}Design")
        machine = self.elements.create_named_sub_element("MACHINE", name)
        refer(machine, "MACHINE-DESIGN-REF", design)
        connector = design.create_sub_element("COMMUNICATION-CONNECTORS").create_named_sub_element(
            "ETHERNET-COMMUNICATION-CONNECTOR", "Connector"
        )
        endpoint = self.endpoint(f"{name}Endpoint", address)
        if self.version < AutosarVersion.AUTOSAR_00051:
            refer(connector, "UNICAST-NETWORK-ENDPOINT-REF", endpoint)
        else:
            references = connector.create_sub_element("UNICAST-NETWORK-ENDPOINT-REFS")
            refer(references, "UNICAST-NETWORK-ENDPOINT-REF", endpoint)
        self._service_discovery(design)
        mapping = self.elements.create_named_sub_element(
            "SOMEIP-SERVICE-INSTANCE-TO-MACHINE-MAPPING", f"{name}Mapping"
        )
        refer(mapping, "COMMUNICATION-CONNECTOR-REF", connector)
        refer(mapping.create_sub_element("SERVICE-INSTANCE-REFS"), "SERVICE-INSTANCE-REF", instance)
        for protocol, port in ports.items():
            self._port(mapping, connector, protocol, port)
        if self.version == AutosarVersion.AUTOSAR_00046 and "TCP" in ports:
            put(mapping, "EVENT-MULTICAST-UDP-PORT", 32344)
            put(mapping, "IPV-4-MULTICAST-IP-ADDRESS", "224.225.226.233")

    def _port(self, mapping: Element, connector: Element, protocol: str, port: int) -> None:
        if self.version < AutosarVersion.AUTOSAR_00051:
            put(mapping, f"{protocol}-PORT", port)
            return
        endpoints = connector.get_or_create_sub_element("AP-APPLICATION-ENDPOINTS")
        endpoint = endpoints.create_named_sub_element("AP-APPLICATION-ENDPOINT", protocol)
        put(
            nest(endpoint, f"TP-CONFIGURATION/{protocol}-TP/{protocol}-TP-PORT"),
            "PORT-NUMBER",
            port,
        )
        refer(mapping, f"{protocol}-PORT-REF", endpoint)

    def _service_discovery(self, design: Element) -> None:
        old = self.version < AutosarVersion.AUTOSAR_00051
        configs = "SERVICE-DISCOVER-CONFIGS" if old else "SERVICE-DISCOVERY-CONFIGS"
        config = nest(design, f"{configs}/SOMEIP-SERVICE-DISCOVERY")
        refer(config, "MULTICAST-SD-IP-ADDRESS-REF", self.sd)
        put(config, "SOMEIP-SERVICE-DISCOVERY-PORT", 30490)

    def _deployment(self) -> Element:
        deployment = self.elements.create_named_sub_element(
            "SOMEIP-SERVICE-INTERFACE-DEPLOYMENT", "Deployment"
        )
        event = deployment.create_sub_element("EVENT-DEPLOYMENTS").create_named_sub_element(
            "SOMEIP-EVENT-DEPLOYMENT", "Event"
        )
        put(event, "EVENT-ID", EVENT)
        put(event, "TRANSPORT-PROTOCOL", "UDP")
        group = deployment.create_sub_element("EVENT-GROUPS").create_named_sub_element(
            "SOMEIP-EVENT-GROUP", "Group"
        )
        put(group, "EVENT-GROUP-ID", EVENTGROUP)
        refer(group.create_sub_element("EVENT-REFS"), "EVENT-REF", event)
        put(deployment, "SERVICE-INTERFACE-ID", SERVICE)
        version = deployment.create_sub_element("SERVICE-INTERFACE-VERSION")
        put(version, "MAJOR-VERSION", 1)
        put(version, "MINOR-VERSION", 7)
        return deployment

    def _instance(self, kind: str, name: str) -> Element:
        instance = self.elements.create_named_sub_element(kind, name)
        old = self.version == AutosarVersion.AUTOSAR_00046
        reference = "SERVICE-INTERFACE-REF" if old else "SERVICE-INTERFACE-DEPLOYMENT-REF"
        refer(instance, reference, self.deployment)
        return instance

    def _required(self, name: str) -> Element:
        instance = self._instance("REQUIRED-SOMEIP-SERVICE-INSTANCE", name)
        put(instance, "REQUIRED-SERVICE-INSTANCE-ID", str(INSTANCE))
        return instance

    def _provided(self, name: str) -> Element:
        instance = self._instance("PROVIDED-SOMEIP-SERVICE-INSTANCE", name)
        put(instance, "SERVICE-INSTANCE-ID", INSTANCE)
        group = instance.create_sub_element("PROVIDED-EVENT-GROUPS").create_named_sub_element(
            "SOMEIP-PROVIDED-EVENT-GROUP", "Group"
        )
        target = self.deployment.get_sub_element("EVENT-GROUPS").get_named_sub_element("Group")
        refer(group, "EVENT-GROUP-REF", target)
        put(group, "MULTICAST-THRESHOLD", 2)
        if self.version > AutosarVersion.AUTOSAR_00046:
            put(group, "EVENT-MULTICAST-UDP-PORT", 32344)
            put(group, "IPV-4-MULTICAST-IP-ADDRESS", "224.225.226.233")
        return instance

    def text(self) -> str:
        return validated(self.file.serialize())


MODELLINGS: dict[str, Callable[[], str]] = {
    "v1": classic_v1,
    "v2": classic_v2,
    "adaptive": adaptive,
}


def nest(element: Element, tags: str) -> Element:
    """Make elements one in another; returns the innermost."""
    for tag in tags.split("/"):
        element = element.get_or_create_sub_element(tag)
    return element


def put(element: Element, tag: str, value: int | str) -> None:
    """Give an element a leaf."""
    element.create_sub_element(tag).character_data = value


def refer(element: Element, tag: str, target: Element) -> None:
    """Give an element a reference."""
    element.get_or_create_sub_element(tag).reference_target = target


def application_endpoint(socket: SocketAddress) -> Element:
    """The application endpoint of a socket."""
    return socket.element.get_sub_element("APPLICATION-ENDPOINT")


def write(folder: Path, text: str, name: str = "vehicle.arxml") -> Path:
    """Write a file; returns its path."""
    path = folder / name
    path.write_text(text)
    return path
