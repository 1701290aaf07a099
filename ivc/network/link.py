# SPDX-License-Identifier: Apache-2.0
"""Bring node configurations and mapping together into one network, and check what lies between.

A configuration belongs to the mapping entry that has, in this order: the name of its folder, of
its file, of one of its applications, or its unicast address.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ivc.network.mapping import Mapping, NodeMapping
from ivc.network.model import Endpoint, Network, Node, Protocol, ServiceInstance
from ivc.network.values import Place, Report, Table, Value, quote
from ivc.network.vsomeip import DEFAULT_NETMASK, NodeConfig, ServiceConfig


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A mapping and the document it was read from; `complete` if nothing was left out."""

    mapping: Mapping
    document: Value

    def declares(self, name: str) -> bool:
        """Whether there is an entry `name`, be it good or bad."""
        nodes = self.document.get("nodes") if isinstance(self.document, Table) else None
        return isinstance(nodes, Table) and name in nodes.items

    def place(self, name: str) -> Place:
        """Where the entry `name` stands."""
        nodes = self.document.get("nodes") if isinstance(self.document, Table) else None
        entry = nodes.get(name) if isinstance(nodes, Table) else None
        return entry.place if entry is not None else self.document.place


@dataclass(frozen=True, slots=True)
class _Offer:
    """A service instance, where it was written, and by whose file."""

    instance: ServiceInstance
    config: ServiceConfig
    author: str


def link(
    configs: Sequence[NodeConfig], mapping: MappingFile, complete: bool, report: Report
) -> Network:
    """Build the network. `complete` is False if some file could not be read: then a mapping entry
    without configuration is no finding."""
    named = _name_configs(configs, mapping, report)
    nodes = [_described(name, config) for name, config in named if config.unicast is not None]
    _check_addresses_agree(named, mapping, report)
    _check_addresses_differ(named, mapping, report)
    names = {name for name, _ in named}
    for entry in mapping.mapping.nodes:
        if entry.name not in names:
            nodes.extend(_undescribed(entry, mapping, complete, report))
    offers = _offers(named, {node.address: node.name for node in nodes})
    _check_offers(offers, {name: config for name, config in named}, report)
    _check_common_settings(named, report)
    services = {_key(offer.instance): offer.instance for offer in reversed(offers)}
    return Network(
        tuple(sorted(nodes, key=lambda node: node.name)),
        tuple(services[key] for key in sorted(services)),
    )


def _key(instance: ServiceInstance) -> tuple[int, int, str, tuple[Endpoint, ...]]:
    """Identity and sort key: one instance of one node, whoever wrote it down."""
    known = instance.endpoints if instance.node is None else ()
    return (instance.service, instance.instance, instance.node or "", known)


# ---- names and addresses ----------------------------------------------------------------------


def _name_configs(
    configs: Sequence[NodeConfig], mapping: MappingFile, report: Report
) -> list[tuple[str, NodeConfig]]:
    named: dict[str, NodeConfig] = {}
    for config in configs:
        name = _name(config, mapping)
        if name in named:
            report.error(
                config.place,
                "same-node",
                f"a second description of node {quote(name)}",
                f"one (the first is {named[name].place.file})",
                "put files of one node into one folder, or give the nodes different file names",
            )
            continue
        named[name] = config
        if not mapping.declares(name):
            _report_unmapped(name, config, mapping, report)
    return list(named.items())


def _name(config: NodeConfig, mapping: MappingFile) -> str:
    for name in config.names:
        if mapping.declares(name):
            return name
    for entry in mapping.mapping.nodes:
        if entry.address is not None and entry.address == config.unicast:
            return entry.name
    return config.names[0]


def _report_unmapped(name: str, config: NodeConfig, mapping: MappingFile, report: Report) -> None:
    known = ", ".join(entry.name for entry in mapping.mapping.nodes) or "none"
    report.error(
        config.place,
        "unmapped-node",
        f"node {quote(name)}, which {mapping.document.place.file} does not map",
        f"an entry for it (there are: {quote(known)[1:-1]})",
        f"add [nodes.{quote(name)}] with host, vm or external = true, or call the file or an "
        "application as the entry is called",
    )


def _described(name: str, config: NodeConfig) -> Node:
    assert config.unicast is not None
    return Node(name, config.unicast, config.netmask, config.sd)


def _undescribed(
    entry: NodeMapping, mapping: MappingFile, complete: bool, report: Report
) -> Iterable[Node]:
    if entry.address is not None:
        yield Node(entry.name, entry.address, DEFAULT_NETMASK, None)
    elif complete:
        report.error(
            mapping.place(entry.name),
            "unknown-node",
            f"node {quote(entry.name)}, which no configuration file describes",
            "a configuration file, or an address here",
            'name its file on the command line, or write address = "ADDRESS"',
        )


def _check_addresses_agree(
    named: Sequence[tuple[str, NodeConfig]], mapping: MappingFile, report: Report
) -> None:
    for name, config in named:
        entry = mapping.mapping.node(name)
        if entry is None or entry.address is None or config.unicast in {None, entry.address}:
            continue
        report.error(
            mapping.place(name).at("address"),
            "address-mismatch",
            f'"{entry.address}"',
            f'"{config.unicast}", as in {config.unicast_place.file}',
            "make the two agree, or leave the address out here",
        )


def _check_addresses_differ(
    named: Sequence[tuple[str, NodeConfig]], mapping: MappingFile, report: Report
) -> None:
    placed = [
        (config.unicast, name, config.unicast_place)
        for name, config in named
        if config.unicast is not None
    ]
    described = {name for name, _ in named}
    placed += [
        (entry.address, entry.name, mapping.place(entry.name).at("address"))
        for entry in mapping.mapping.nodes
        if entry.address is not None and entry.name not in described
    ]
    owners: dict[IPv4Address, str] = {}
    for address, name, place in placed:
        owner = owners.setdefault(address, name)
        if owner != name:
            report.error(
                place,
                "duplicate-address",
                f'"{address}", the address of node {quote(owner)} too',
                "one address for each node",
                "change one; if both files are of one node, put them into one folder",
            )


# ---- services ---------------------------------------------------------------------------------


def _offers(
    named: Sequence[tuple[str, NodeConfig]], owners: dict[IPv4Address, str]
) -> list[_Offer]:
    """All services, those a node describes itself first."""
    offers = [
        _Offer(_instance(service, address, owners), service, name)
        for name, config in named
        for service in config.services
        if (address := service.unicast or config.unicast) is not None
    ]
    return sorted(offers, key=lambda offer: offer.instance.node != offer.author)


def _instance(
    service: ServiceConfig, address: IPv4Address, owners: dict[IPv4Address, str]
) -> ServiceInstance:
    return ServiceInstance(
        service=service.service,
        instance=service.instance,
        node=owners.get(address),
        endpoints=tuple(Endpoint(address, port.port, port.protocol) for port in service.ports),
        major=service.major,
        minor=service.minor,
        events=service.events,
        eventgroups=service.eventgroups,
    )


def _check_offers(offers: Sequence[_Offer], configs: dict[str, NodeConfig], report: Report) -> None:
    first: dict[tuple[int, int, str, tuple[Endpoint, ...]], _Offer] = {}
    distinct: list[_Offer] = []
    for offer in offers:
        known = first.setdefault(_key(offer.instance), offer)
        if known is offer:
            distinct.append(offer)
            _check_remote(offer, configs, report)
        else:
            _check_same(offer, known, report)
    _check_offered_once(distinct, report)
    _check_endpoints(distinct, configs, report)


def _check_remote(offer: _Offer, configs: dict[str, NodeConfig], report: Report) -> None:
    """A service placed on another node that is the first to be heard of it."""
    node = offer.instance.node
    if node is None:
        report.warning(
            offer.config.place.at("unicast"),
            "stranger",
            f'service {offer.instance} at "{offer.config.unicast}", which is no node\'s address',
            "the address of a mapped node",
            "map that node (external = true if it is on Ethernet); its traffic stays there",
        )
    elif node != offer.author and node in configs:
        report.warning(
            offer.config.place,
            "not-offered",
            f"service {offer.instance} of node {quote(node)}",
            f"a service that {configs[node].place.file} configures",
            "correct the address, or add the service there",
        )


def _check_same(offer: _Offer, known: _Offer, report: Report) -> None:
    """The same instance of the same node written down twice."""
    mine, theirs = set(offer.instance.endpoints), set(known.instance.endpoints)
    if mine <= theirs:
        return
    report.warning(
        offer.config.place,
        "remote-mismatch",
        f"service {offer.instance} at {', '.join(map(str, sorted(mine)))}",
        f"{', '.join(map(str, sorted(theirs))) or 'no port'}, as in {known.config.place.file}",
        "make the ports agree; the node's own file counts",
    )


def _check_offered_once(offers: Sequence[_Offer], report: Report) -> None:
    first: dict[tuple[int, int], _Offer] = {}
    for offer in offers:
        known = first.setdefault((offer.instance.service, offer.instance.instance), offer)
        if known is not offer:
            report.warning(
                offer.config.place,
                "offered-twice",
                f"service {offer.instance}, which node {quote(str(known.instance.node))} offers",
                "each instance offered by one node",
                "give one of them another instance id; clients cannot tell the two apart",
            )


def _check_endpoints(
    offers: Sequence[_Offer], configs: dict[str, NodeConfig], report: Report
) -> None:
    users: dict[Endpoint, _Offer] = {}
    for offer in offers:
        for endpoint, port in zip(offer.instance.endpoints, offer.config.ports, strict=True):
            other = users.setdefault(endpoint, offer)
            if other is not offer:
                _report_shared(endpoint, offer, other, port.place, report)
            config = configs.get(offer.instance.node or "")
            if config is not None and _is_sd(endpoint, config):
                report.error(
                    port.place,
                    "port-of-sd",
                    f'"{endpoint.port}", the port of service discovery',
                    "a port of the service's own",
                    "choose another port",
                )


def _is_sd(endpoint: Endpoint, config: NodeConfig) -> bool:
    return (
        config.sd.enabled and endpoint.protocol is Protocol.UDP and endpoint.port == config.sd.port
    )


def _report_shared(
    endpoint: Endpoint, offer: _Offer, other: _Offer, place: Place, report: Report
) -> None:
    found = f"{endpoint}, the endpoint of service {other.instance} too"
    if offer.instance.service == other.instance.service:
        report.error(
            place,
            "instances-share-port",
            found,
            "a port of its own for each instance of a service",
            "choose another port; a message does not name the instance",
        )
    else:
        report.warning(
            place,
            "shared-endpoint",
            found,
            "one service for each endpoint",
            "choose another port if this is not meant; both services share their rings",
        )


# ---- settings all nodes must share ------------------------------------------------------------


def _check_common_settings(named: Sequence[tuple[str, NodeConfig]], report: Report) -> None:
    if not named:
        return
    first_name, first = named[0]
    for _, config in named[1:]:
        if config.sd.enabled and first.sd.enabled and config.sd.group != first.sd.group:
            report.warning(
                config.sd_place,
                "sd-mismatch",
                f"service discovery on {config.sd.group}",
                f"{first.sd.group}, as node {quote(first_name)} has it",
                "use one group and port everywhere; these nodes never find each other",
            )
        if None not in {config.unicast, first.unicast} and _subnet(config) != _subnet(first):
            report.warning(
                config.unicast_place,
                "other-subnet",
                f"{_subnet(config)}",
                f"{_subnet(first)}, the subnet of node {quote(first_name)}",
                "check unicast and netmask; vsomeip drops multicast from other subnets",
            )


def _subnet(config: NodeConfig) -> IPv4Network:
    return IPv4Network((int(config.unicast or 0), str(config.netmask)), strict=False)
