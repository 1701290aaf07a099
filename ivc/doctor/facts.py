# SPDX-License-Identifier: Apache-2.0
"""Facts about a machine, as plain values: gathered by `ivc.doctor.gather`, judged by
`ivc.doctor.judge`.

Where something could not be looked at, `problem` says why, in the words of the system.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from ivc.doctor.elf import Elf


class Xen(StrEnum):
    """What this machine is to Xen."""

    NONE = "none"
    GUEST = "guest"
    DOM0 = "dom0"


@dataclass(frozen=True, slots=True)
class Device:
    """A device node; `problem` empty: it can be opened."""

    path: str
    there: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` is what is available, in bytes; `grants` what gntalloc allows, in pages; `served`
    whether a guest finds a controller in XenStore, None where that was not to be asked."""

    cpus: int = 4
    memory: int | None = None
    page: int = 4096
    xen: Xen = Xen.NONE
    devices: tuple[Device, ...] = ()
    grants: int | None = None
    served: bool | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """What programs started from here inherit.

    `descriptors` is the soft limit, None for unlimited; `blocked` are needed system calls that a
    filter keeps from us, `spin` is IVC_SPIN_US.
    """

    uid: int = 0
    descriptors: int | None = 65536
    cpus: int = 4
    seccomp: bool = False
    blocked: tuple[str, ...] = ()
    spin: str | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """The wrapper: `abi` as it says itself once preloaded; `by_name` if the loader finds it."""

    path: str = ""
    problem: str = ""
    abi: int | None = None
    elf: Elf | None = None
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node as the controller knows it."""

    name: str
    address: str
    domain: str
    quiesced: bool = False


@dataclass(frozen=True, slots=True)
class Controller:
    """What the controller of a run directory says; `match_abi` is that of its match table."""

    where: str
    problem: str = ""
    is_forbidden: bool = False
    version: str | None = None
    ring_abi: int | None = None
    match_abi: int | None = None
    path: str = "direct"
    nodes: tuple[KnownNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """The program to be run: `path` is where it was found, `interpreters` whom its first line
    calls, `elf` what the kernel executes in the end."""

    name: str
    path: str = ""
    problem: str = ""
    interpreters: tuple[str, ...] = ()
    elf: Elf | None = None
    set_uid: int | None = None
    set_gid: int | None = None
    capabilities: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `peer` is the other end of a veth: host's id and index there, None if it is
    no veth or the other end is not in sight. A bridge's port may be `isolated` from others that
    are, or not `forwarding` (yet)."""

    index: int
    name: str
    kind: str = ""
    up: bool = True
    carrier: bool = True
    multicast: bool = True
    loopback: bool = False
    master: int = 0
    addresses: tuple[IPv4Interface, ...] = ()
    peer: tuple[int, int] | None = None
    mac: str = ""
    mtu: int = 1500
    isolated: bool = False
    forwarding: bool = True


@dataclass(frozen=True, slots=True)
class Control:
    """Something of traffic control that does more than queue: at which interface, its kind as `tc`
    calls it, what it does in words, whether that lets nothing pass, and how to be rid of it."""

    link: str
    kind: str
    does: str
    loses_all: bool
    undo: str


@dataclass(frozen=True, slots=True)
class Route:
    """How a host would send to an address: by `link`, through a gateway or not."""

    link: str = ""
    gateway: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace: None is this process's own. `id` is its inode.

    `rules` is what libnftables lists; None if it could not be asked, and `rules_problem` why.
    """

    netns: str | None
    id: int = 0
    problem: str = ""
    links: tuple[Link, ...] = ()
    routes: Mapping[IPv4Address, Route] = field(default_factory=dict)
    rules: tuple[Mapping[str, Any], ...] | None = ()
    rules_problem: str = ""
    bridge_netfilter: bool = False
    controls: tuple[Control, ...] = ()

    def __str__(self) -> str:
        return f"netns {self.netns}" if self.netns else "this host"

    @property
    def enter(self) -> str:
        """What to write before a command that is meant for it."""
        return f"ip netns exec {self.netns} " if self.netns else ""

    def link(self, index: int) -> Link | None:
        """The interface with this number."""
        return next((link for link in self.links if link.index == index), None)

    def holder(self, address: IPv4Address) -> tuple[Link, IPv4Interface] | None:
        """The interface that has an address, and how it is written there."""
        for link in self.links:
            for own in link.addresses:
                if own.ip == address or (link.loopback and address in own.network):
                    return link, own
        return None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was gathered. `hosts` are those of planned nodes first, then what else there is."""

    machine: Machine
    process: Process
    library: Library
    controller: Controller | None = None
    program: Program | None = None
    hosts: tuple[Host, ...] = ()

    def host(self, netns: str | None) -> Host | None:
        """The host of that name."""
        return next((host for host in self.hosts if host.netns == netns), None)
