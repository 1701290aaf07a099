# SPDX-License-Identifier: Apache-2.0
"""The neutral model every network description is read into.

Plain frozen values: comparable, hashable, no I/O. Nothing here knows where it was read from.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from uuid import UUID


class Protocol(StrEnum):
    """Transport of an endpoint."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One end of a conversation: address, port (host order) and transport."""

    address: IPv4Address
    port: int
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """An event or field notifier (event id 0x8001 to 0xFFFE by convention)."""

    event: int
    is_field: bool = False
    is_reliable: bool = False


@dataclass(frozen=True, slots=True)
class Eventgroup:
    """Events subscribed to together.

    `multicast` is where they are sent once there are `threshold` subscribers; a threshold of 0
    means never.
    """

    eventgroup: int
    events: tuple[int, ...] = ()
    multicast: Endpoint | None = None
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """A service instance offered by `node`.

    `node` is None where the endpoints lie at an address that belongs to no node. Versions are
    None where the description does not say.
    """

    service: int
    instance: int
    node: str | None
    endpoints: tuple[Endpoint, ...] = ()
    major: int | None = None
    minor: int | None = None
    events: tuple[Event, ...] = ()
    eventgroups: tuple[Eventgroup, ...] = ()

    def __str__(self) -> str:
        return f"0x{self.service:04x}.0x{self.instance:04x}"


@dataclass(frozen=True, slots=True)
class ServiceDiscovery:
    """Service discovery of a node; `group` is its multicast group and port."""

    enabled: bool
    group: Endpoint

    @property
    def port(self) -> int:
        """The port SD uses, for the group and for unicast alike."""
        return self.group.port


@dataclass(frozen=True, slots=True)
class Node:
    """One SOME/IP participant. `sd` is None where no configuration file describes the node."""

    name: str
    address: IPv4Address
    netmask: IPv4Address
    sd: ServiceDiscovery | None


@dataclass(frozen=True, slots=True)
class Network:
    """Everything the configuration files say, sorted: nodes by name, services by id."""

    nodes: tuple[Node, ...]
    services: tuple[ServiceInstance, ...]

    @property
    def strangers(self) -> tuple[ServiceInstance, ...]:
        """Services at addresses that belong to no node; they stay on the network."""
        return tuple(service for service in self.services if service.node is None)


@dataclass(frozen=True, slots=True)
class LocalHost:
    """A Linux host: a named network namespace, or (None) the controller's own."""

    netns: str | None

    def __str__(self) -> str:
        return f"netns:{self.netns}" if self.netns else "local"


@dataclass(frozen=True, slots=True)
class XenDomain:
    """A Xen guest, by exactly one of name, uuid and domain id."""

    name: str | None = None
    uuid: UUID | None = None
    id: int | None = None

    def __str__(self) -> str:
        return f"vm:{self.name or self.uuid or self.id}"


@dataclass(frozen=True, slots=True)
class External:
    """A node outside the hypervisor, on Ethernet."""

    def __str__(self) -> str:
        return "external"


Domain = LocalHost | XenDomain | External
