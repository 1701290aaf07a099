# SPDX-License-Identifier: Apache-2.0
"""`[ethernet]` of the mapping: the bridge inside nodes are on, and the way out of it.

[ethernet]
bridge = "xenbr0"              # made if it is not there
interface = "eth1"             # leads to the external nodes; becomes a port of the bridge
address = "10.77.0.254/24"     # dom0's own, where dom0 has to route or is a node itself
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Interface, IPv4Network, NetmaskValueError

from ivc.network import fields
from ivc.network.model import Node
from ivc.network.values import Report, Scalar, Table, Value, describe

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_RESERVED = frozenset({"all", "default", "lo"})  # two names of sysctl folders, and no Ethernet


@dataclass(frozen=True, slots=True)
class Ethernet:
    """What of dom0 external nodes are reached by; `address` is dom0's own on the bridge."""

    bridge: str
    interface: str
    address: IPv4Interface | None = None


def read_ethernet(value: Value | None, report: Report) -> Ethernet | None:
    """Read `[ethernet]`; None if there is none or it is beyond use."""
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return None
    known = frozenset({"bridge", "interface", "address"})
    fields.warn_unknown(table, known, "[ethernet]", report)
    bridge = fields.required(table, "bridge", _interface, '"xenbr0"', report)
    interface = fields.required(table, "interface", _interface, '"eth1"', report)
    address = fields.optional(table, "address", _address, report)
    if bridge is None or interface is None or not _differ(table, bridge, interface, report):
        return None
    return Ethernet(bridge, interface, address)


def subnets(nodes: Iterable[Node]) -> tuple[IPv4Network, ...]:
    """The subnets nodes are in, sorted."""
    found = {IPv4Network((int(node.address), str(node.netmask)), strict=False) for node in nodes}
    return tuple(sorted(found))


def distant(external: Iterable[Node], inside: Iterable[Node]) -> tuple[Node, ...]:
    """External nodes that are in the subnet of no inside node: dom0 has to route to them."""
    near = subnets(inside)
    far = (node for node in external if not any(node.address in net for net in near))
    return tuple(far) if near else ()


def _interface(value: Value, report: Report) -> str | None:
    name = value.text if isinstance(value, Scalar) and not value.literal else ""
    if _NAME.fullmatch(name) and name not in _RESERVED:
        return name
    report.error(
        value.place,
        "bad-interface",
        describe(value),
        "the name of a network interface, at most 15 characters",
        "write the name `ip link` shows",
    )
    return None


def _address(value: Value, report: Report) -> IPv4Interface | None:
    found = _parsed(value.text if isinstance(value, Scalar) else "")
    if found is not None:
        return found
    report.error(
        value.place,
        "bad-address",
        describe(value),
        "an IPv4 address with the length of its subnet",
        'write one such as "10.77.0.254/24"',
    )
    return None


def _parsed(written: str) -> IPv4Interface | None:
    """An address one host can have, with its subnet; None for anything else."""
    if not re.fullmatch(r"[0-9.]+/[0-9]{1,2}", written):
        return None
    try:
        found = IPv4Interface(written)
    except (AddressValueError, NetmaskValueError):
        return None
    subnet = found.network
    ends = {subnet.network_address, subnet.broadcast_address} if subnet.prefixlen < 31 else set()
    unusable = found.ip.is_multicast or found.ip.is_unspecified or found.ip in ends
    return None if unusable or int(found.ip) == 2**32 - 1 else found


def _differ(table: Table, bridge: str, interface: str, report: Report) -> bool:
    if bridge != interface:
        return True
    report.error(
        table.items["interface"].place,
        "bad-interface",
        f'"{interface}", the bridge itself',
        "the interface that leads outside",
        "name the physical interface here; it becomes a port of the bridge",
    )
    return False
