# SPDX-License-Identifier: Apache-2.0
"""A plan to look at: JSON for programs, tables for people. Same plan, same bytes."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivc.network.model import ServiceInstance
    from ivc.network.rules import Rule
    from ivc.plan import Plan, PlannedNode, PlannedPair, PlannedWay
    from ivc.plan_guests import PlannedGuest


def to_json(plan: "Plan") -> str:
    """The whole plan; sizes in bytes, ids as hex text."""
    document = {
        "version": 1,
        "path": plan.path.value,
        "promote": plan.promote.value,
        "rings": {
            "sd": 1 << plan.rings.sd,
            "event": 1 << plan.rings.event,
            "bulk": 1 << plan.rings.bulk,
            "stream": 1 << plan.rings.stream,
        },
        "nodes": [_node(node) for node in plan.nodes],
        "services": [_service(service) for service in plan.services],
        "endpoints": [
            {
                "endpoint": str(known.endpoint),
                "node": known.node,
                "sd": known.is_sd,
                "services": list(known.services),
            }
            for known in plan.endpoints
        ],
        "groups": [
            {"group": str(group.endpoint), "sd": group.is_sd, "services": list(group.services)}
            for group in plan.groups
        ],
        "pairs": [_pair(pair) for pair in plan.pairs],
        "rules": [_rule(rule) for rule in plan.rules],
        "ways": [_way(way) for way in plan.ways],
        "guests": [_guest(guest) for guest in plan.guests],
    }
    return json.dumps(document, indent=2) + "\n"


def _node(node: "PlannedNode") -> dict[str, Any]:
    return {
        "id": node.id,
        "name": node.name,
        "address": str(node.address),
        "domain": str(node.domain),
        "ring": 1 << node.ring if node.ring is not None else None,
        "loopback": node.loopback,
    }


def _service(service: "ServiceInstance") -> dict[str, Any]:
    return {
        "service": f"0x{service.service:04x}",
        "instance": f"0x{service.instance:04x}",
        "major": service.major,
        "minor": service.minor,
        "node": service.node,
        "endpoints": [str(endpoint) for endpoint in service.endpoints],
        "events": [
            {"event": f"0x{event.event:04x}", "field": event.is_field, "tcp": event.is_reliable}
            for event in service.events
        ],
        "eventgroups": [
            {
                "eventgroup": f"0x{group.eventgroup:04x}",
                "events": [f"0x{event:04x}" for event in group.events],
                "multicast": str(group.multicast) if group.multicast else None,
                "threshold": group.threshold,
            }
            for group in service.eventgroups
        ],
    }


def _pair(pair: "PlannedPair") -> dict[str, Any]:
    return {
        "nodes": [pair.a, pair.b],
        "path": pair.path.value,
        "reason": pair.reason.name,
        "services": list(pair.services),
        "ring": 1 << pair.order,
        "sd_ring": 1 << pair.sd_order,
        "flows": pair.flows,
        "memory": pair.memory,
    }


def _rule(rule: "Rule") -> dict[str, Any]:
    ids = {key: getattr(rule, key) for key in ("service", "instance", "method", "client")}
    return {
        "rule": rule.number,
        "from": rule.source,
        "to": rule.destination,
        **{key: None if value is None else f"0x{value:04x}" for key, value in ids.items()},
        "type": rule.type.name if rule.type is not None else None,
        "protocol": rule.protocol,
        "action": rule.action.value,
        "answer": rule.answer.name if rule.answer is not None else None,
        "copy_to": str(rule.copy_to) if rule.copy_to is not None else None,
    }


def _way(way: "PlannedWay") -> dict[str, Any]:
    return {
        "from": way.source,
        "to": way.destination,
        "protocol": way.protocol.value,
        "services": list(way.services),
        "path": way.path.value,
        "reason": way.reason.name,
        "rules": list(way.rules),
    }


def _guest(guest: "PlannedGuest") -> dict[str, Any]:
    return {
        "domain": guest.domain,
        "nodes": list(guest.nodes),
        "pages": guest.need.pages,
        "pages_limit": guest.limits.pages,
        "ports": guest.need.ports,
        "ports_limit": guest.limits.ports,
        "rings": {name: order and 1 << order for name, order in guest.orders},
        "remarks": list(guest.remarks),
    }


def render_table(plan: "Plan") -> str:
    """Nodes, services, groups and pairs, one table each; rules and the ways they have a say in,
    and guests of Xen, where there are any."""
    guests = _table(
        ("guest", "nodes", "pages", "ports", "remarks"),
        [_guest_row(guest) for guest in plan.guests],
    )
    return "\n".join(
        (
            _table(("node", "name", "address", "runs on"), _node_rows(plan)),
            _table(("service", "node", "endpoints", "events", "groups"), _service_rows(plan)),
            _table(("multicast group", "used by"), _group_rows(plan)),
            _table(
                ("pair", "path", "reason", "services", "ring", "flows", "memory at most"),
                [_pair_row(pair) for pair in plan.pairs],
            ),
            *([_rules_table(plan), _ways_table(plan)] if plan.rules else []),
            *([guests] if plan.guests else []),
        )
    )


def _node_rows(plan: "Plan") -> list[tuple[str, ...]]:
    return [(str(node.id), node.name, str(node.address), str(node.domain)) for node in plan.nodes]


def _service_rows(plan: "Plan") -> list[tuple[str, ...]]:
    return [
        (
            str(service),
            service.node or "(no node)",
            " ".join(map(str, service.endpoints)) or "-",
            str(len(service.events)),
            str(len(service.eventgroups)),
        )
        for service in plan.services
    ]


def _group_rows(plan: "Plan") -> list[tuple[str, ...]]:
    return [
        (str(group.endpoint), "service discovery" if group.is_sd else " ".join(group.services))
        for group in plan.groups
    ]


def _pair_row(pair: "PlannedPair") -> tuple[str, ...]:
    return (
        f"{pair.a} - {pair.b}",
        pair.path.value,
        pair.reason.name,
        str(len(pair.services)),
        _size(1 << pair.order),
        str(pair.flows),
        _size(pair.memory),
    )


def _rules_table(plan: "Plan") -> str:
    rows = []
    for rule in plan.rules:
        *matched, action, answer, copy_to = _rule(rule).values()
        words = ", ".join(filter(None, (action, answer, copy_to)))
        rows.append([*(str(cell or "any") for cell in matched), words])
    head = ("rule", "from", "to", "service", "instance", "method", "client", "type", "protocol")
    return _table((*head, "action"), rows)


def _ways_table(plan: "Plan") -> str:
    rows = [
        (
            f"{way.source} > {way.destination}",
            way.protocol.value,
            " ".join(way.services) or "-",
            way.path.value,
            way.reason.name,
            " ".join(map(str, way.rules)),
        )
        for way in plan.ways
    ]
    return _table(("way", "protocol", "services", "path", "reason", "by rules"), rows)


def _guest_row(guest: "PlannedGuest") -> tuple[str, ...]:
    return (
        guest.domain,
        " ".join(guest.nodes),
        f"{guest.need.pages} of {guest.limits.pages}",
        f"{guest.need.ports} of {guest.limits.ports}",
        "; ".join(guest.remarks) or "-",
    )


def _size(size: int) -> str:
    """Bytes as people write them; exact for the sizes of rings."""
    if size >= 1 << 20:
        return f"{size / (1 << 20):.4g} MiB"
    return f"{size / (1 << 10):.4g} KiB"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
