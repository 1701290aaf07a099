# SPDX-License-Identifier: Apache-2.0
"""Interfaces, addresses, routes and netfilter rules of network namespaces, asked over netlink."""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Final

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ivc.doctor.facts import Host, Link, Route
from ivc.doctor.gather.traffic import gather_controls
from ivc.errors import IvcError
from ivc.ethernet.nftables import Nftables
from ivc.netns import NETNS_DIRECTORY, OWN, inside, path_of

# <linux/if.h>
_IFF_UP: Final = 1 << 0
_IFF_LOOPBACK: Final = 1 << 3
_IFF_MULTICAST: Final = 1 << 12
_IFF_LOWER_UP: Final = 1 << 16
_NO_NSID: Final = 0xFFFFFFFF
_FORWARDING: Final = 3  # BR_STATE_FORWARDING of <linux/if_bridge.h>
_NO_PORT: Final[Mapping[str, Any]] = {}
_OTHERS_MOST: Final = 64
"""How many other namespaces are looked at: each asks for the numbers of all there are."""

_BRIDGE_NETFILTER: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def gather_hosts(
    planned: Collection[str | None], destinations: Sequence[IPv4Address]
) -> tuple[Host, ...]:
    """The hosts of planned nodes with their ways to `destinations`, ours, and all that their wires
    lead to."""
    ids = {name: number for name in (*planned, None, *_names()) if (number := _id(name))}
    names = {number: name for name, number in reversed(ids.items())}
    found: dict[str | None, Host] = {}
    waiting = [*planned, None]
    for name in waiting:
        if name not in found and len(found) < len(planned) + _OTHERS_MOST:
            host = _host(name, ids, destinations if name in planned else (), name in planned)
            found[name] = host
            waiting += [names[link.peer[0]] for link in host.links if link.peer is not None]
    return tuple(found.values())


def _names() -> list[str]:
    with suppress(OSError):
        return sorted(path.name for path in NETNS_DIRECTORY.iterdir())
    return []


def _id(netns: str | None) -> int:
    try:
        return path_of(netns).stat().st_ino
    except OSError:
        return 0


def _host(
    netns: str | None,
    ids: Mapping[str | None, int],
    destinations: Sequence[IPv4Address],
    is_planned: bool,
) -> Host:
    if netns not in ids:
        return Host(netns, problem="no namespace of that name")
    try:
        with inside(netns), IPRoute() as netlink:
            links = _links(netlink, ids)
            routes = {to: _route(netlink, to, links) for to in destinations}
            bridges = any(link.kind == "bridge" for link in links)
            rules, problem = _rules() if is_planned or bridges else ((), "")
            controls = gather_controls(netlink, {link.index: link.name for link in links})
            flags = (_bridge_netfilter(), controls)
            return Host(netns, ids[netns], "", links, routes, rules, problem, *flags)
    except (OSError, NetlinkError) as error:
        return Host(netns, ids[netns], getattr(error, "strerror", None) or str(error))


def _links(netlink: IPRoute, ids: Mapping[str | None, int]) -> tuple[Link, ...]:
    addresses: dict[int, list[IPv4Interface]] = {}
    for found in netlink.get_addr(family=2):
        text = f"{found.get('local') or found.get('address')}/{found['prefixlen']}"
        addresses.setdefault(found["index"], []).append(IPv4Interface(text))
    links = list(netlink.get_links())
    far = any(link.get("link_netnsid") is not None for link in links)
    numbers = _numbers(netlink, ids) if far else {}
    return tuple(_link(link, addresses.get(link["index"], []), numbers) for link in links)


def _link(link: Any, addresses: Sequence[IPv4Interface], numbers: Mapping[int, int]) -> Link:
    flags, kind = link["flags"], link.get(("linkinfo", "kind")) or ""
    port = link.get(("linkinfo", "slave_data")) or _NO_PORT
    return Link(
        link["index"],
        str(link.get("ifname")),
        kind,
        bool(flags & _IFF_UP),
        bool(flags & _IFF_LOWER_UP),
        bool(flags & _IFF_MULTICAST),
        bool(flags & _IFF_LOOPBACK),
        link.get("master") or 0,
        tuple(addresses),
        _peer(link, numbers) if kind == "veth" else None,
        str(link.get("address") or ""),
        int(link.get("mtu") or 0),
        bool(port.get("isolated")),
        port.get("state") in (None, _FORWARDING),
    )


def _peer(link: Any, numbers: Mapping[int, int]) -> tuple[int, int] | None:
    """Without a number of a namespace the other end is in the same one."""
    index, number = link.get("link"), link.get("link_netnsid")
    host = OWN.stat().st_ino if number is None else numbers.get(number)
    return (host, index) if index and host else None


def _numbers(netlink: IPRoute, ids: Mapping[str | None, int]) -> dict[int, int]:
    """Inodes by the numbers this namespace knows others by."""
    found = {}
    for name, inode in ids.items():
        # Our own: this thread may be elsewhere at the moment, the process is where it was.
        path = path_of(name) if name else Path("/proc/self/ns/net")
        with suppress(OSError, NetlinkError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                number = netlink.get_netnsid(fd=fd)["nsid"]
            finally:
                os.close(fd)
            if number not in (None, _NO_NSID):
                found[number] = inode
    return found


def _route(netlink: IPRoute, to: IPv4Address, links: Sequence[Link]) -> Route:
    try:
        found = list(netlink.route("get", dst=str(to)))
    except NetlinkError as error:
        return Route(problem=os.strerror(error.code))
    names = {link.index: link.name for link in links}
    if not found:
        return Route(problem="no answer")
    return Route(names.get(found[0].get("oif"), ""), str(found[0].get("gateway") or ""))


def _rules() -> tuple[tuple[Mapping[str, Any], ...] | None, str]:
    """What libnftables lists; None, and why, if it cannot be asked."""
    try:
        nftables = Nftables()
    except IvcError as error:
        return None, str(error)
    try:
        return tuple(nftables.run({"nftables": [{"list": {"ruleset": None}}]})), ""
    except IvcError as error:
        return None, str(error)
    finally:
        nftables.close()


def _bridge_netfilter() -> bool:
    with suppress(OSError):
        return _BRIDGE_NETFILTER.read_text().strip() == "1"
    return False
