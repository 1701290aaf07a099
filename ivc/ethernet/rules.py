# SPDX-License-Identifier: Apache-2.0
"""The table `ivc` of the family `bridge`, as libnftables lists it in JSON.

    set inside { node addresses inside }
    set routed { the same and dom0's own }                   only where dom0 routes
    chain outside-in (prerouting)
        iif INTERFACE  ip saddr NODE        drop             for each node inside
        iif INTERFACE  arp saddr ip NODE    drop             for each node inside
        iif INTERFACE  a second VLAN tag behind the first               drop
        iif INTERFACE  to the bridge itself, ip daddr not in routed     drop
    chain inside-out (postrouting)
        oif INTERFACE  ip saddr in inside, ip daddr in inside           drop

A node inside cannot be played from outside, neither by its address nor by answering for it. What
has both ends inside stays inside, also while the bridge does not know (or was made to believe
wrongly) where a MAC address is. What cannot be told by a frame alone is nobody's business here:
everything else passes, multicast above all.

One object is one JSON text, in the form in which the kernel's own listing comes back, without
handles and counts: so the wanted table and the actual one compare as values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

TABLE: Final = {"family": "bridge", "name": "ivc"}
_IN_TABLE: Final = {"family": "bridge", "table": "ivc"}
_BEFORE_OTHERS: Final = -300  # "dstnat": what is spoofed is nobody else's to look at
_LONGEST_COMMENT: Final = 120  # bytes; nftables has room for a few more
_KEPT: Final = ("set", "chain", "rule")

Table = tuple[str, ...]
"""Sets, chains and rules in this order, each as JSON text; empty: no table."""


def build_table(
    interface: str,
    inside: Sequence[tuple[str, IPv4Address]],
    router: IPv4Address | None,
) -> Table:
    """The table for nodes inside (name, address); `router` is dom0's address where it routes."""
    if not inside:
        return ()
    addresses = [address for _, address in inside]
    objects = [_set("inside", addresses)]
    objects += [_set("routed", [*addresses, router])] if router is not None else []
    objects += [_chain("outside-in", "prerouting"), _chain("inside-out", "postrouting")]
    for name, address in inside:
        objects.append(_spoofed(interface, "ip", "saddr", f"node {name}", address))
        objects.append(_spoofed(interface, "arp", "saddr ip", f"ARP of node {name}", address))
    objects += [_nested(interface, protocol) for protocol in ("8021q", "8021ad")]
    objects += [_not_ours(interface)] if router is not None else []
    objects.append(_stays_inside(interface))
    return canonical(objects)


def canonical(objects: Iterable[Mapping[str, Any]]) -> Table:
    """What a listing holds of the table, without handles and counts; sets, chains, rules."""
    found: dict[str, list[str]] = {kind: [] for kind in _KEPT}
    for wrapped in objects:
        for kind, thing in wrapped.items():
            if kind in found:
                found[kind].append(json.dumps({kind: _bare(thing)}, sort_keys=True))
    return tuple(text for kind in _KEPT for text in found[kind])


def commands(table: Table) -> dict[str, Any]:
    """One transaction that puts `table` in the place of whatever table there is."""
    begin: list[Any] = [{"add": {"table": TABLE}}, {"delete": {"table": TABLE}}]
    added = [{"add": json.loads(text)} for text in table]
    return {"nftables": [*begin, *([{"add": {"table": TABLE}}, *added] if table else [])]}


def _bare(thing: Mapping[str, Any]) -> dict[str, Any]:
    bare = {key: value for key, value in thing.items() if key != "handle"}
    if "expr" in bare:
        bare["expr"] = [{"counter": None} if "counter" in e else e for e in bare["expr"]]
    if "elem" in bare:
        bare["elem"] = sorted(bare["elem"], key=str)
    return bare


def _set(name: str, addresses: Iterable[IPv4Address]) -> dict[str, Any]:
    elements = sorted({str(address) for address in addresses})
    return {"set": {**_IN_TABLE, "name": name, "type": "ipv4_addr", "elem": elements}}


def _chain(name: str, hook: str) -> dict[str, Any]:
    hooked = {"type": "filter", "hook": hook, "prio": _BEFORE_OTHERS, "policy": "accept"}
    return {"chain": {**_IN_TABLE, "name": name, **hooked}}


def _rule(chain: str, comment: str, *matches: dict[str, Any]) -> dict[str, Any]:
    expr = [*matches, {"counter": None}, {"drop": None}]
    return {"rule": {**_IN_TABLE, "chain": chain, "comment": comment, "expr": expr}}


def _match(left: dict[str, Any], right: str, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def _meta(key: str, right: str) -> dict[str, Any]:
    return _match({"meta": {"key": key}}, right)


def _field(protocol: str, field: str, right: str, op: str = "==") -> dict[str, Any]:
    return _match({"payload": {"protocol": protocol, "field": field}}, right, op)


def _spoofed(
    interface: str, protocol: str, field: str, comment: str, address: IPv4Address
) -> dict[str, Any]:
    return _rule(
        "outside-in",
        comment.encode()[:_LONGEST_COMMENT].decode(errors="ignore"),
        _meta("iifname", interface),
        _field(protocol, field, str(address)),
    )


def _nested(interface: str, protocol: str) -> dict[str, Any]:
    """The kernel takes the first tag off before it looks at rules, a guest's takes off all that
    name no VLAN: behind a second one an address would not be seen here, but there."""
    matches = _meta("iifname", interface), _meta("protocol", protocol)
    return _rule("outside-in", "nested VLAN tags", *matches)


def _not_ours(interface: str) -> dict[str, Any]:
    """dom0 routes for the nodes, not into whatever else it is connected to."""
    return _rule(
        "outside-in",
        "no way on",
        _meta("iifname", interface),
        _meta("pkttype", "host"),
        _field("ip", "daddr", "@routed", "!="),
    )


def _stays_inside(interface: str) -> dict[str, Any]:
    return _rule(
        "inside-out",
        "both ends inside",
        _meta("oifname", interface),
        _field("ip", "saddr", "@inside"),
        _field("ip", "daddr", "@inside"),
    )
