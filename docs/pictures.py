# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of these pages into docs/pictures: `python docs/pictures.py`.

What is drawn is made up, and so the same each time; a test compares.
"""

import asyncio
import re
import sys
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import cycle
from pathlib import Path
from typing import Any

from ivc.controller.status_sockets import SOCKET_COUNTERS
from ivc.network import (
    Action,
    Domain,
    Endpoint,
    External,
    Mapping,
    Network,
    Node,
    NodeMapping,
    Promote,
    Rule,
    ServiceDiscovery,
    ServiceInstance,
    XenDomain,
)
from ivc.network import Path as FlowPath
from ivc.observe.svg import render_svg
from ivc.observe.top import Top
from ivc.observe.topology import Topology, topology
from ivc.plan import build_plan

FOLDER = Path(__file__).parent / "pictures"

Document = dict[str, Any]

# ---- topologies -------------------------------------------------------------------------------

_SD = ServiceDiscovery(True, Endpoint(IPv4Address("224.224.224.245"), 30490))
_MASK = IPv4Address("255.255.255.0")

_DOMAINS = {
    "cockpit": ("hmi", "cluster", "audio"),
    "driving": ("adas", "camera", "radar", "parking"),
    "body": ("doors", "seats", "climate", "lights"),
}


def two() -> Topology:
    """Two nodes, a domain each."""
    return drawn({"cockpit": ("hmi",), "driving": ("adas",)}, services=2)


def twelve() -> Topology:
    """Some domains, somebody outside, and rules."""
    rules = (
        Rule(1, Action.RELAY, source="hmi", destination="adas"),
        Rule(2, Action.RELAY, source="adas", destination="hmi"),
        Rule(3, Action.DENY, source="audio", destination="radar"),
        Rule(4, Action.NETWORK, source="lights", destination="climate"),
    )
    return drawn(_DOMAINS, *rules, outside=("telematics",), services=3)


def sixty() -> Topology:
    """As many as there are in a car."""
    zones = {f"zone-{n}": tuple(f"ecu-{n}{m}" for m in range(10)) for n in range(1, 7)}
    rules = (
        Rule(1, Action.RELAY, source="ecu-10"),
        Rule(2, Action.DENY, source="ecu-65", destination="ecu-11"),
    )
    return drawn(zones, *rules, outside=("telematics", "tester"), services=1)


def drawn(
    domains: dict[str, tuple[str, ...]],
    *rules: Rule,
    outside: tuple[str, ...] = (),
    services: int,
) -> Topology:
    """A picture of these, each node with one service or up to so many."""
    homes: dict[str, Domain] = {
        name: XenDomain(name=domain) for domain, names in domains.items() for name in names
    }
    homes |= dict.fromkeys(outside, External())
    numbered = dict(zip(homes, range(1, 250), strict=False))
    offered = [
        ServiceInstance(0x1000 + 16 * number + nth, 1, name, _endpoints(number, nth))
        for (name, number), count in zip(numbered.items(), cycle(range(services, 0, -1)))
        for nth in range(count)
    ]
    nodes = [Node(name, _address(number), _MASK, _SD) for name, number in numbered.items()]
    network = Network(tuple(sorted(nodes, key=lambda node: node.name)), tuple(offered))
    mapping = Mapping(tuple(NodeMapping(*home) for home in homes.items()), FlowPath.DIRECT)
    return topology(build_plan(network, replace(mapping, rules=rules, promote=Promote.NEVER)))


def _address(number: int) -> IPv4Address:
    return IPv4Address(f"10.77.0.{number}")


def _endpoints(number: int, nth: int) -> tuple[Endpoint, ...]:
    return (Endpoint(_address(number), 30500 + nth),)


# ---- a controller's status --------------------------------------------------------------------

_FLOWS = (
    ("hmi", "adas", "relay", 1200, 180),
    ("adas", "hmi", "relay", 1150, 240),
    ("camera", "adas", "direct", 61000, 1380),
    ("radar", "adas", "direct", 18500, 640),
    ("adas", "cluster", "direct", 9400, 96),
    ("parking", "camera", "direct", 2100, 72),
    ("adas", "parking", "direct", 480, 210),
    ("doors", "hmi", "direct", 22, 48),
    ("climate", "hmi", "direct", 10, 64),
    ("hmi", "climate", "direct", 3, 40),
    ("seats", "hmi", "direct", 1, 48),
    ("lights", "cluster", "direct", 50, 44),
)
"""From where to where, by what path, messages a second and bytes each."""


def look(seconds: int) -> Document:
    """The status so many seconds after everybody has started."""
    names = [name for names in _DOMAINS.values() for name in names]
    places = {name: (200 + n, f"10.77.0.{n}:30500") for n, name in enumerate(names, start=1)}
    flows = [_flow(n, one, places, seconds) for n, one in enumerate(_FLOWS, start=1)]
    return {
        "controller": {"pid": 171, "clock": float(seconds), "path": "direct"},
        "processes": [{"pid": pid} for pid, _ in places.values()],
        "sockets": [_socket(name, *places[name], seconds) for name in names],
        "flows": flows,
        "relay": {"kinds": []},
    }


def _flow(
    number: int,
    flow: tuple[str, str, str, int, int],
    places: dict[str, tuple[int, str]],
    seconds: int,
) -> Document:
    source, destination, path, rate, size = flow
    written = rate * seconds * (64 + size // 32 * 32)
    ring = {"size": 65536, "written": written, "waiting": min(rate * size // 1500, 49152)}
    counted = {"messages": rate * seconds, "bytes": rate * seconds * size, "dropped_full": 0}
    return {
        "id": number,
        "from": places[source][1],
        "to": places[destination][1],
        "path": path,
        "state": "active",
        "ring_bytes": 73728 * (2 if path == "relay" else 1),
        "rings": [ring],
        **(counted if path == "relay" else {}),
    }


def _socket(name: str, pid: int, local: str, seconds: int) -> Document:
    sent = [(rate, rate * size) for source, _, _, rate, size in _FLOWS if source == name]
    messages, size = (seconds * sum(each) for each in zip((0, 0), *sent, strict=True))
    counters = dict.fromkeys(SOCKET_COUNTERS, 0)
    counters |= {"tx_ring_msgs": messages, "tx_ring_bytes": size, "tx_net_msgs": seconds}
    return {
        "pid": pid,
        "command": name,
        "node": name,
        "socket": 1,
        "protocol": "udp",
        "local": local,
        "peer": None,
        "path": "relay" if name == "hmi" else "direct" if messages else "network",
        "reason": "NONE" if messages else "NO_TRAFFIC",
        "counters": counters,
    }


# ---- pictures ---------------------------------------------------------------------------------


def top(size: tuple[int, int]) -> str:
    """The screen after some looks."""
    looks = iter(look(seconds) for seconds in range(10, 10000))

    async def run() -> str:
        app = Top(lambda: next(looks), 0.05)
        async with app.run_test(size=size) as pilot:
            await pilot.pause(1.0)
            return app.export_screenshot(title="ivc top")

    return _without_fonts(asyncio.run(run()))


def _without_fonts(svg: str) -> str:
    """What it would fetch is left out: the machine's own font is good enough."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "DejaVu Sans Mono")


def small(svg: str) -> str:
    """Without tooltips, and what its many lines have in common told once: it is only looked at."""
    svg = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' data-(?:id|name|path|ends)="[^"]*"', "", svg)
    return re.sub(r'(?:<path class="way \w+" d="[^"]*"></path>\n?)+', _grouped, svg)


def _grouped(lines: re.Match[str]) -> str:
    by_class: dict[str, list[str]] = {}
    for kind, line in re.findall(r'class="(way \w+)" d="([^"]*)"', lines[0]):
        by_class.setdefault(kind, []).append(f'<path d="{line}"/>')
    return "".join(f'<g class="{kind}">{"".join(paths)}</g>\n' for kind, paths in by_class.items())


PICTURES = {
    "topology-2.svg": lambda: small(render_svg(two())),
    "topology-12.svg": lambda: small(render_svg(twelve())),
    "topology-60.svg": lambda: small(render_svg(sixty())),
    "top.svg": lambda: top((100, 22)),
}
"""By file name."""


def main() -> int:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
