# SPDX-License-Identifier: Apache-2.0
"""Addresses and ports: what Classic and Adaptive descriptions have in common.

NETWORK-ENDPOINT        an address and its netmask
APPLICATION-ENDPOINT    a port of it (AP-APPLICATION-ENDPOINT in Adaptive manifests)
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from ivc.network import fields
from ivc.network.arxml import values
from ivc.network.arxml.element import Element
from ivc.network.config import Port
from ivc.network.model import Endpoint, Protocol
from ivc.network.values import Place, Report, quote

_TRANSPORTS: Final = (("UDP-TP", Protocol.UDP), ("TCP-TP", Protocol.TCP))


@dataclass(frozen=True, slots=True)
class Interface:
    """The IPv4 address of a network endpoint; `netmask` is None where it does not say."""

    name: str
    address: IPv4Address
    netmask: IPv4Address | None
    place: Place


@dataclass(frozen=True, slots=True)
class Transport:
    """Protocol and port of an application endpoint; port None is chosen at run time."""

    protocol: Protocol
    port: int | None
    place: Place


def interface(network_endpoint: Element, report: Report) -> Interface | None:
    """The address of a network endpoint: the first IPv4 one."""
    found = network_endpoint.one(
        "NETWORK-ENDPOINT-ADDRESSES", "IPV-4-CONFIGURATION", "IPV-4-ADDRESS"
    )
    if found is None:
        _note_no_address(network_endpoint, report)
        return None
    address = values.address(found, report)
    mask = network_endpoint.one("NETWORK-ENDPOINT-ADDRESSES", "IPV-4-CONFIGURATION", "NETWORK-MASK")
    netmask = fields.netmask(values.scalar(mask), report) if mask is not None else None
    if address is None:
        return None
    return Interface(network_endpoint.name, address, netmask, found.place)


def _note_no_address(network_endpoint: Element, report: Report) -> None:
    """A warning: what has no address beforehand stays on the network, the rest can be planned."""
    has_ipv6 = network_endpoint.one("NETWORK-ENDPOINT-ADDRESSES", "IPV-6-CONFIGURATION") is not None
    report.warning(
        network_endpoint.place,
        "no-address",
        f"a NETWORK-ENDPOINT with {'IPv6 only' if has_ipv6 else 'no fixed address'}",
        "an IPV-4-CONFIGURATION with IPV-4-ADDRESS",
        "add an IPv4 address; what is at this endpoint is left out"
        + (" (IPv6 is not supported yet)" if has_ipv6 else ""),
    )


def transport(application_endpoint: Element, report: Report) -> Transport | None:
    """Protocol and port of an application endpoint."""
    for tag, protocol in _TRANSPORTS:
        found = application_endpoint.one("TP-CONFIGURATION", tag)
        if found is None:
            continue
        port = found.one(f"{tag}-PORT", "PORT-NUMBER")
        if port is None or port.text in {"0", ""}:
            return Transport(protocol, None, found.place)
        number = values.port(port, report)
        return Transport(protocol, number, port.place) if number is not None else None
    report.error(
        application_endpoint.place,
        "no-port",
        f"an {application_endpoint.tag} without UDP-TP or TCP-TP",
        "a TP-CONFIGURATION with one of them",
        "add the port its services use",
    )
    return None


def fixed_port(transport: Transport, of: Element, report: Report) -> Port | None:
    """The port of an offered service, which must be known beforehand."""
    if transport.port is not None:
        return Port(transport.protocol, transport.port, transport.place)
    report.error(
        transport.place,
        "dynamic-port",
        f"a port chosen at run time, for {of.tag} {quote(of.name)}",
        "a PORT-NUMBER from 1 to 65535",
        "give the endpoint of an offered service a fixed port",
    )
    return None


def group(address: IPv4Address | None, port: int | None) -> Endpoint | None:
    """A multicast group, if this is one."""
    if address is None or port is None or not address.is_multicast:
        return None
    return Endpoint(address, port)


def multicast(address: IPv4Address, port: int, place: Place, report: Report) -> Endpoint | None:
    """A multicast group; an address that is none is noted."""
    found = group(address, port)
    if found is None:
        report.error(
            place,
            "bad-multicast",
            f'"{address}"',
            "a multicast address, 224.0.0.0 to 239.255.255.255",
            "write a group such as 224.224.224.245",
        )
    return found
