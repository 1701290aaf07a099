# SPDX-License-Identifier: Apache-2.0
"""The mapping: which node runs where, and how its traffic may travel.

    version = 1
    [defaults]
    path = "direct"            # direct | relay | network | denied
    fallback = "network"
    promote = "lazy"           # TCP on rings: never | lazy | eager; with VMs never unless said
    [rings]                    # bytes of records per class
    sd = "16KiB"
    [nodes.hmi]
    host = "netns:ivc-hmi"     # or "local"; or vm = "domu-hmi"; or external = true
    [nodes.self]
    host = "local"
    address = "127.0.0.1"
    loopback = true            # what its programs send each other, at any port
    [nodes.tcu]
    vm = "domu-tcu"
    pages = 4096               # what the guest's kernel may grant; 1024 unless set otherwise there
    ports = 1023               # event channels the guest may have
    [ethernet]                 # see ivc.network.ethernet
    bridge = "xenbr0"
    interface = "eth1"
    [[rule]]                   # see ivc.network.rules
    service = 0x1234
    action = "relay"

JSON with the same schema is accepted too.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TypeVar
from uuid import UUID

from ivc.network import fields
from ivc.network.ethernet import Ethernet, read_ethernet
from ivc.network.limits import LIMITS, Share
from ivc.network.model import Domain, External, LocalHost, XenDomain
from ivc.network.rules import Rule, read_rules
from ivc.network.values import Report, Scalar, Table, Value, describe, quote

# Bounds of core/layout.h, as powers of two: 4 KiB to 64 MiB of records.
ORDER_MIN = 12
ORDER_MAX = 26

_SIZE = re.compile(r"([0-9]{1,12})\s*(|B|KiB|MiB)")
_UNITS = {"": 0, "B": 0, "KiB": 10, "MiB": 20}
_NETNS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_VM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,127}")


class Path(StrEnum):
    """How the payload of a flow travels."""

    DIRECT = "direct"
    RELAY = "relay"
    NETWORK = "network"
    DENIED = "denied"


class Promote(StrEnum):
    """When TCP connections go over rings: not, once they have lived a while, or at once."""

    NEVER = "never"
    LAZY = "lazy"
    EAGER = "eager"


Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Rings:
    """Ring sizes per class, as log2 of the bytes of records. `stream` is for TCP on Linux hosts."""

    sd: int = 14
    event: int = 16
    bulk: int = 20
    stream: int = 18


@dataclass(frozen=True, slots=True)
class NodeMapping:
    """One `[nodes.NAME]`.

    `address` is what the mapping says it is; `ring` overrides the order of rings to and from the
    node, service discovery excepted. `limits` is what a Xen guest's kernel has for rings.
    `loopback`: what programs there send each other at its address goes over rings too, at any port.
    """

    name: str
    domain: Domain
    address: IPv4Address | None = None
    ring: int | None = None
    limits: Share | None = None
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """The whole mapping, nodes sorted by name. `path` is the default for inside pairs.

    `promote` is for TCP, None if the mapping does not say; `ethernet` for what external nodes need
    in dom0; the first of `rules` that matches overrides `path`.
    """

    nodes: tuple[NodeMapping, ...]
    path: Path = Path.DIRECT
    rings: Rings = field(default_factory=Rings)
    promote: Promote | None = None
    ethernet: Ethernet | None = None
    rules: tuple[Rule, ...] = ()

    def node(self, name: str) -> NodeMapping | None:
        """The entry called `name`, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def promotion(self) -> Promote:
        """What is said of TCP; else never with guests of Xen, whose pages are scarce."""
        guests = any(isinstance(node.domain, XenDomain) for node in self.nodes)
        return self.promote or (Promote.NEVER if guests else Promote.LAZY)


def read_mapping(document: Value, report: Report) -> Mapping | None:
    """Read a mapping; None if it is beyond use. Entries with errors are left out, and noted."""
    root = fields.table(document, report)
    if root is None:
        return None
    known = frozenset({"version", "defaults", "rings", "nodes", "ethernet", "rule"})
    fields.warn_unknown(root, known, "a mapping", report)
    _check_version(root, report)
    rings = _rings(root.get("rings"), report)
    path, promote = _defaults(root.get("defaults"), report)
    ethernet = read_ethernet(root.get("ethernet"), report)
    rules = read_rules(root.get("rule"), _names(root), report)
    return Mapping(_nodes(root, rings, report), path, rings, promote, ethernet, rules)


def _names(root: Table) -> Collection[str]:
    """The nodes, good or bad: a rule may name them all."""
    nodes = root.get("nodes")
    return nodes.items if isinstance(nodes, Table) else ()


def _check_version(root: Table, report: Report) -> None:
    value = root.get("version")
    if isinstance(value, Scalar) and value.text == "1":
        return
    place = root.place.at("version") if value is None else value.place
    found = "no version" if value is None else describe(value)
    report.error(place, "bad-version", found, "version = 1", "write version = 1 at the top")


def _defaults(value: Value | None, report: Report) -> tuple[Path, Promote | None]:
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return Path.DIRECT, None
    fields.warn_unknown(table, frozenset({"path", "fallback", "promote"}), "[defaults]", report)
    _check_fallback(table.get("fallback"), report)
    path = _choice(table.get("path"), Path.DIRECT, "bad-path", report)
    promote = table.get("promote")
    if promote is None:
        return path, None
    return path, _choice(promote, Promote.NEVER, "bad-promote", report)


def _choice(value: Value | None, default: Choice, kind: str, report: Report) -> Choice:
    """One of the names `default` is one of; what is no such name is noted as of `kind`."""
    if value is None:
        return default
    names = type(default)
    try:
        return names(value.text if isinstance(value, Scalar) else "")
    except ValueError:
        expected = " | ".join(names)
        report.error(value.place, kind, describe(value), expected, "write one of these")
        return default


def _check_fallback(value: Value | None, report: Report) -> None:
    if value is None or (isinstance(value, Scalar) and value.text == "network"):
        return
    fix = 'write fallback = "network"'
    if isinstance(value, Scalar) and value.text == "none":
        fix += '; "none" (no network to fall back to) is not available on Linux hosts yet'
    report.error(value.place, "bad-fallback", describe(value), '"network"', fix)


def _rings(value: Value | None, report: Report) -> Rings:
    table = fields.table(value, report) if value is not None else None
    if table is None:
        return Rings()
    names = ("sd", "event", "bulk", "stream")
    fields.warn_unknown(table, frozenset(names), "[rings]", report)
    orders = {name: _order(table.get(name), report) for name in names}
    return Rings(**{name: order for name, order in orders.items() if order is not None})


def _order(value: Value | None, report: Report) -> int | None:
    """log2 of a size such as "64KiB", or of a plain number of bytes."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value.text) if isinstance(value, Scalar) else None
    size = int(match[1]) << _UNITS[match[2]] if match else 0
    if size & (size - 1) == 0 and 1 << ORDER_MIN <= size <= 1 << ORDER_MAX:
        return size.bit_length() - 1
    report.error(
        value.place,
        "bad-size",
        describe(value),
        "a power of two from 4KiB to 64MiB",
        'write a size such as "64KiB"',
    )
    return None


def _nodes(root: Table, rings: Rings, report: Report) -> tuple[NodeMapping, ...]:
    value = root.get("nodes")
    if value is None:
        report.error(
            root.place.at("nodes"), "no-nodes", "no nodes", "[nodes.NAME]", "map at least one node"
        )
        return ()
    table = fields.table(value, report)
    if table is None:
        return ()
    read = (_node(name, item, rings, report) for name, item in table.items.items())
    nodes = sorted((node for node in read if node is not None), key=lambda node: node.name)
    _check_together(nodes, table, report)
    return tuple(nodes)


def _check_together(nodes: Sequence[NodeMapping], table: Table, report: Report) -> None:
    """Guests and hosts do not mix, and a guest has one kernel, however many nodes it is."""
    guests: dict[Domain, NodeMapping] = {}
    for node in nodes:
        if isinstance(node.domain, XenDomain):
            first = guests.setdefault(node.domain, node)
            if first.limits != node.limits:
                report.error(
                    table.items[node.name].place,
                    "bad-limit",
                    f"other limits than node {first.name} has, which is on {node.domain} too",
                    "one guest, one number of pages and ports",
                    "write the same pages and ports for both",
                )
    for node in nodes:
        if guests and isinstance(node.domain, LocalHost):
            report.error(
                table.items[node.name].place,
                "mixed-platforms",
                f"a node on a Linux host ({node.domain}), and others in guests of Xen",
                "guests and external nodes only",
                "write vm, or external = true for what runs in dom0 or on Ethernet; a controller "
                "of its own serves the hosts of one machine",
            )


def _node(name: str, value: Value, rings: Rings, report: Report) -> NodeMapping | None:
    table = fields.table(value, report)
    if table is None or not check_name(name, value, report):
        return None
    known = frozenset({"host", "vm", "external", "address", "ring", "pages", "ports", "loopback"})
    fields.warn_unknown(table, known, f"[nodes.{name}]", report)
    domain = _domain(name, table, report)
    at = table.get("address")
    address = fields.unicast(at, report) if at is not None else None
    ring = _node_ring(table.get("ring"), rings, report)
    limits = _limits(domain, table, report)
    loopback = _loopback(domain, table.get("loopback"), report)
    return NodeMapping(name, domain, address, ring, limits, loopback) if domain else None


def _loopback(domain: Domain | None, value: Value | None, report: Report) -> bool:
    written = value.text if isinstance(value, Scalar) else ""
    if value is None or written == "false":
        return False
    if domain is None or (written == "true" and isinstance(domain, LocalHost)):
        return True
    report.error(
        value.place,
        "bad-loopback",
        describe(value),
        "true or false, in a node with host = ...",
        "remove it, or write it at the node of a Linux host",
    )
    return False


def _limits(domain: Domain | None, table: Table, report: Report) -> Share | None:
    pages = _limit(domain, table.get("pages"), LIMITS.pages, report)
    ports = _limit(domain, table.get("ports"), LIMITS.ports, report)
    return Share(pages, ports) if isinstance(domain, XenDomain) else None


def _limit(domain: Domain | None, value: Value | None, default: int, report: Report) -> int:
    if value is None:
        return default
    written = value.text if isinstance(value, Scalar) else ""
    if isinstance(domain, XenDomain) and re.fullmatch(r"[1-9][0-9]{0,6}", written):
        return int(written)
    report.error(
        value.place,
        "bad-limit",
        describe(value),
        "a number of 1 to 7 digits, in a node with vm = ...",
        f"write what the guest's kernel allows; it is {default} unless set otherwise",
    )
    return default


def check_name(name: str, value: Value, report: Report) -> bool:
    """Whether `name` can name a node: it is printed in tables and typed on command lines."""
    if name and len(name) <= 64 and name.isprintable() and not name.isspace():
        return True
    report.error(
        value.place, "bad-name", quote(name), "a printable name of 1 to 64 characters", "rename it"
    )
    return False


def _node_ring(value: Value | None, rings: Rings, report: Report) -> int | None:
    if isinstance(value, Scalar) and value.text in {"event", "bulk"}:
        return rings.event if value.text == "event" else rings.bulk
    return _order(value, report)


def _domain(name: str, table: Table, report: Report) -> Domain | None:
    given = [key for key in ("host", "vm", "external") if key in table.items]
    if given == ["host"]:
        return _host(table.items["host"], report)
    if given == ["vm"]:
        return _vm(table.items["vm"], report)
    if given == ["external"]:
        return _external(table.items["external"], report)
    report.error(
        table.place,
        "bad-domain",
        " and ".join(given) if given else f'nothing that says where "{name}" runs',
        "exactly one of host, vm, external",
        'write host = "netns:NAME", vm = "NAME" or external = true',
    )
    return None


def _host(value: Value, report: Report) -> LocalHost | None:
    written = value.text if isinstance(value, Scalar) else ""
    if written == "local":
        return LocalHost(None)
    kind, _, netns = written.partition(":")
    if kind == "netns" and _NETNS.fullmatch(netns):
        return LocalHost(netns)
    report.error(
        value.place,
        "bad-domain",
        describe(value),
        '"local" or "netns:NAME"',
        "NAME is what `ip netns list` shows",
    )
    return None


def _vm(value: Value, report: Report) -> XenDomain | None:
    domain: XenDomain | None = None
    if isinstance(value, Scalar) and not value.literal and _VM.fullmatch(value.text):
        domain = XenDomain(name=value.text)
    elif isinstance(value, Table) and len(value.items) == 1:
        domain = _vm_by_key(value)
    if domain is None:
        report.error(
            value.place,
            "bad-domain",
            describe(value),
            "a domain name, { uuid = ... } or { id = ... }",
            'write vm = "NAME" as `xl list` shows it',
        )
    return domain


def _vm_by_key(table: Table) -> XenDomain | None:
    ((key, value),) = table.items.items()
    written = value.text if isinstance(value, Scalar) else ""
    if key == "id" and re.fullmatch(r"[0-9]{1,5}", written) and int(written) < 0x7FF0:
        return XenDomain(id=int(written))
    if key == "uuid":
        try:
            return XenDomain(uuid=UUID(written))
        except ValueError:
            return None
    return None


def _external(value: Value, report: Report) -> External | None:
    if isinstance(value, Scalar) and value.text == "true":
        return External()
    report.error(
        value.place, "bad-domain", describe(value), "external = true", "or write host or vm instead"
    )
    return None
