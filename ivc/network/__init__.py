# SPDX-License-Identifier: Apache-2.0
"""SOME/IP network configuration and mapping, read into one neutral model."""

from ivc.network.load import Loaded, load
from ivc.network.mapping import Mapping, NodeMapping, Path, Rings
from ivc.network.model import (
    Domain,
    Endpoint,
    Event,
    Eventgroup,
    External,
    LocalHost,
    Network,
    Node,
    Protocol,
    ServiceDiscovery,
    ServiceInstance,
    XenDomain,
)

__all__ = [
    "Domain",
    "Endpoint",
    "Event",
    "Eventgroup",
    "External",
    "Loaded",
    "LocalHost",
    "Mapping",
    "Network",
    "Node",
    "NodeMapping",
    "Path",
    "Protocol",
    "Rings",
    "ServiceDiscovery",
    "ServiceInstance",
    "XenDomain",
    "load",
]
