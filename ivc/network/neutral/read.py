# SPDX-License-Identifier: Apache-2.0
"""A network file to nodes, as `ivc.network.link` takes them."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from ivc.network import fields
from ivc.network.config import NodeConfig, Port, ServiceConfig
from ivc.network.model import Endpoint, Node, ServiceDiscovery, ServiceInstance
from ivc.network.neutral import shape
from ivc.network.neutral.kinds import Sequence, Text
from ivc.network.values import Array, Report, Scalar, Table, describe

FORMAT: Final = "ivc-network"
VERSION: Final = 1

TOP_KEYS: Final = frozenset({"format", "version", "nodes", "services"})
NODE_KEYS: Final = frozenset({"names", "services"})
NAMES: Final = Sequence(Text())

_NOWHERE: Final = IPv4Address("0.0.0.0")
_NO_SD: Final = ServiceDiscovery(False, Endpoint(IPv4Address("224.224.224.0"), 30490))


def is_network(path: Path, document: Table) -> bool:
    """Whether a file is a network file: TOML, or JSON that says so."""
    return path.suffix == ".toml" or "format" in document.items


def read_network(document: Table, report: Report) -> list[NodeConfig]:
    """The nodes of a network file. What is wrong is noted, and left out."""
    fields.warn_unknown(document, TOP_KEYS, "a network file", report)
    _check_header(document, report)
    written = document.get("nodes")
    tables = fields.tables(written, report)
    nodes = [node for table in tables if (node := _node(table, report)) is not None]
    strangers = tuple(_services(document, None, report))
    if written is None or written == Array((), written.place):
        report.error(
            document.place.at("nodes"), "no-nodes", "no nodes", "[[nodes]]", "add a [[nodes]]"
        )
    if strangers and nodes:  # whose file they are in does not matter: they are nobody's
        nodes[0] = replace(nodes[0], services=(*nodes[0].services, *strangers))
    return nodes


def _check_header(document: Table, report: Report) -> None:
    for key, expected in (("format", FORMAT), ("version", str(VERSION))):
        value = document.get(key)
        is_text = key == "format"
        if isinstance(value, Scalar) and (value.text, value.literal) == (expected, not is_text):
            continue
        written = f'"{expected}"' if is_text else expected
        report.error(
            document.place.at(key) if value is None else value.place,
            f"bad-{key}",
            f"no {key}" if value is None else describe(value),
            f"{key} = {written}",
            f"write {key} = {written} at the top; a mapping goes with --mapping",
        )


def _node(table: Table, report: Report) -> NodeConfig | None:
    names = table.get("names")
    aliases = NAMES.read(names, report) if names is not None else ()
    own = {key: value for key, value in table.items.items() if key not in NODE_KEYS}
    node: Node | None = shape.record(Node).read(replace(table, items=own), report)
    address = node.address if node is not None else None
    services = tuple(_services(table, address, report))
    if node is None or aliases is None:
        return None
    sd, unicast = table.get("sd"), table.get("address")
    return NodeConfig(
        names=tuple(dict.fromkeys((*aliases, node.name))),
        place=table.place,
        node=node,
        unicast_place=unicast.place if unicast is not None else table.place,
        sd=node.sd or _NO_SD,
        sd_place=sd.place if sd is not None else table.place.at("sd"),
        services=services,
    )


def _services(table: Table, node: IPv4Address | None, report: Report) -> list[ServiceConfig]:
    """The services of a node at this address, or of nobody."""
    tables = fields.tables(table.get("services"), report)
    found = (_service(service, node, report) for service in tables)
    return [service for service in found if service is not None]


def _service(table: Table, node: IPv4Address | None, report: Report) -> ServiceConfig | None:
    instance: ServiceInstance | None = shape.record(ServiceInstance).read(table, report)
    if instance is None:
        return None
    endpoints = table.get("endpoints")
    places = [item.place for item in endpoints.items] if isinstance(endpoints, Array) else []
    addresses = {endpoint.address for endpoint in instance.endpoints} or {node or _NOWHERE}
    if len(addresses) > 1:
        report.error(
            places[0],
            "bad-endpoint",
            " and ".join(map(str, sorted(addresses))),
            "one address for all endpoints of a service",
            "write one service for each address",
        )
        return None
    (address,) = addresses
    return ServiceConfig(
        place=table.place,
        instance=replace(instance, endpoints=()),
        unicast=None if address == node else address,
        ports=tuple(
            Port(endpoint.protocol, endpoint.port, place)
            for endpoint, place in zip(instance.endpoints, places, strict=True)
        ),
    )
