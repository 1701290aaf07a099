# SPDX-License-Identifier: Apache-2.0
"""Bring node configurations and mapping together into one network.

A configuration belongs to the mapping entry that has, in this order: the name of its folder, of
its file, of one of its applications, or its unicast address. What does not fit together is found
by `ivc.network.lint`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from ivc.network.config import DEFAULT_NETMASK, NodeConfig, ServiceConfig
from ivc.network.mapping import Mapping as NodeMappings
from ivc.network.mapping import NodeMapping
from ivc.network.model import Endpoint, LocalHost, Network, Node, ServiceInstance
from ivc.network.values import Place, Report, Table, Value, quote


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A mapping and the document it was read from; `implied` if nobody wrote it."""

    mapping: NodeMappings
    document: Value
    implied: bool = False

    def declares(self, name: str) -> bool:
        """Whether there is an entry `name`, be it good or bad."""
        nodes = self.document.get("nodes") if isinstance(self.document, Table) else None
        return isinstance(nodes, Table) and name in nodes.items

    def place(self, name: str) -> Place:
        """Where the entry `name` stands."""
        nodes = self.document.get("nodes") if isinstance(self.document, Table) else None
        entry = nodes.get(name) if isinstance(nodes, Table) else None
        return entry.place if entry is not None else self.document.place


def implied_mapping(configs: Sequence[NodeConfig]) -> MappingFile:
    """Where nobody has written a mapping: every node is on this host, called by the first of its
    names that no other node has too."""
    count = Counter(name for config in configs for name in set(config.names))
    names = sorted({next((n for n in c.names if count[n] == 1), c.names[0]) for c in configs})
    nodes = tuple(NodeMapping(name, LocalHost(None)) for name in names)
    nowhere = Place("")
    entries: dict[str, Value] = {name: Table({}, nowhere) for name in names}
    document = Table({"nodes": Table(entries, nowhere)}, nowhere)
    return MappingFile(NodeMappings(nodes), document, implied=True)


@dataclass(frozen=True, slots=True)
class Offer:
    """A service instance, where it was written, and by whose file."""

    instance: ServiceInstance
    config: ServiceConfig
    author: str

    @property
    def key(self) -> tuple[int, int, str, tuple[Endpoint, ...]]:
        """Identity and sort key: one instance of one node, whoever wrote it down."""
        known = self.instance.endpoints if self.instance.node is None else ()
        return (self.instance.service, self.instance.instance, self.instance.node or "", known)


@dataclass(frozen=True, slots=True)
class Linked:
    """A network and what it was made of: configurations by node, offers (a node's own first)."""

    network: Network
    configs: Mapping[str, NodeConfig]
    offers: tuple[Offer, ...]
    mapping: MappingFile


def link(
    configs: Sequence[NodeConfig], mapping: MappingFile, complete: bool, report: Report
) -> Linked:
    """Build the network. `complete` is False if some file could not be read: then a mapping entry
    without configuration is no finding."""
    named = _name_configs(configs, mapping, report)
    nodes = [
        replace(config.node, name=name) for name, config in named.items() if config.node is not None
    ]
    for entry in mapping.mapping.nodes:
        if entry.name not in named:
            nodes.extend(_undescribed(entry, mapping, complete, report))
    offers = _offers(named, {node.address: node.name for node in nodes})
    services = {offer.key: offer.instance for offer in reversed(offers)}
    network = Network(
        tuple(sorted(nodes, key=lambda node: node.name)),
        tuple(services[key] for key in sorted(services)),
    )
    return Linked(network, named, offers, mapping)


# ---- names and addresses ----------------------------------------------------------------------


def _name_configs(
    configs: Sequence[NodeConfig], mapping: MappingFile, report: Report
) -> dict[str, NodeConfig]:
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
        if not mapping.declares(name) and not report.blames(mapping.document.place.at("nodes")):
            _report_unmapped(name, config, mapping, report)
    return named


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


# ---- services ---------------------------------------------------------------------------------


def _offers(
    named: Mapping[str, NodeConfig], owners: Mapping[IPv4Address, str]
) -> tuple[Offer, ...]:
    """All services, those a node describes itself first."""
    offers = [
        Offer(_instance(service, address, owners), service, name)
        for name, config in named.items()
        for service in config.services
        if (address := service.unicast or config.unicast) is not None
    ]
    return tuple(sorted(offers, key=lambda offer: offer.instance.node != offer.author))


def _instance(
    service: ServiceConfig, address: IPv4Address, owners: Mapping[IPv4Address, str]
) -> ServiceInstance:
    return replace(
        service.instance,
        node=owners.get(address),
        endpoints=tuple(Endpoint(address, port.port, port.protocol) for port in service.ports),
    )
