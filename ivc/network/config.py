# SPDX-License-Identifier: Apache-2.0
"""What the files of one node say, with the places where they say it.

Every reader of a network description makes these; `ivc.network.link` makes a network of them and
`ivc.network.lint` looks for what does not fit.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address

from ivc.network.model import Node, Protocol, ServiceDiscovery, ServiceInstance
from ivc.network.values import Place

DEFAULT_NETMASK = IPv4Address("255.255.255.0")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service and where it was written."""

    protocol: Protocol
    port: int
    place: Place


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One service instance as written down.

    `instance` lacks node and endpoints: these follow from `unicast` (None: the node whose file it
    is) and `ports`.
    """

    place: Place
    instance: ServiceInstance
    unicast: IPv4Address | None
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the documents of one node say.

    `names` are those a mapping may call it by: of its folder and files, then of applications.
    `node` bears the first of them; it is None where the documents give no usable address.
    """

    names: tuple[str, ...]
    place: Place
    node: Node | None
    unicast_place: Place
    sd: ServiceDiscovery
    sd_place: Place
    services: tuple[ServiceConfig, ...]

    @property
    def unicast(self) -> IPv4Address | None:
        """The node's address."""
        return self.node.address if self.node is not None else None
