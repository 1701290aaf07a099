# SPDX-License-Identifier: Apache-2.0
"""A network as a network file."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from ivc.network.model import Network, Node, ServiceInstance
from ivc.network.neutral import shape
from ivc.network.neutral.read import FORMAT, NAMES, VERSION

_HEAD = "# Written by ivc import. Times are milliseconds; what is left out has its default.\n"


def write_network(network: Network, names: Mapping[str, tuple[str, ...]]) -> str:
    """The network as TOML; `names` are all names a mapping may call a node by, by its own name.

    Same network, same text; `ivc.network.load` makes the same network of it.
    """
    return _HEAD + tomli_w.dumps(network_document(network, names))


def network_document(network: Network, names: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The network as plain values, for TOML or JSON."""
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if network.strangers:
        document["services"] = _services(network.strangers)
    document["nodes"] = [_node(node, names.get(node.name, ()), network) for node in network.nodes]
    return document


def _node(node: Node, names: tuple[str, ...], network: Network) -> dict[str, Any]:
    written: dict[str, Any] = {"name": node.name}
    known = tuple(dict.fromkeys(names))
    if known not in {(), (node.name,)}:
        written["names"] = NAMES.write(known)
    written |= shape.record(Node).write(node)
    own = [service for service in network.services if service.node == node.name]
    if own:
        written["services"] = _services(own)
    return written


def _services(services: Any) -> list[dict[str, Any]]:
    return [shape.record(ServiceInstance).write(service) for service in services]
