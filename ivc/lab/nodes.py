# SPDX-License-Identifier: Apache-2.0
"""A laboratory made of somebody's own files: a host for each node, a controller, programs on them.

The mapping says where nodes run for good (namespaces, domains of Xen); here each such place becomes
a network namespace of the laboratory's, and nodes outside get one too. One more host is outside:
it hears what service discovery says.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from typing import Any, Final

from ivc.controller.client import read_status
from ivc.controller.launch import find_library
from ivc.lab.control import JsonObject, controller_of, wrapper_environment
from ivc.lab.hosts import Host, Lab, LabError
from ivc.lab.offers import Listener, Offer
from ivc.lab.program import Program, until
from ivc.lab.wire import Counts, WireCounter
from ivc.network import External, Loaded, Node, load

OUTSIDE: Final = "ivc-outside"
"""The host that hears service discovery; no node may be called so."""

_PLACES: Final = ("host", "vm", "pages", "ports")
_LISTENS: Final = "0A"
"""State of a socket in /proc/net/tcp."""


class Way(StrEnum):
    """How nodes inside are to talk."""

    NATIVE = "native"
    """neither controller nor wrapper"""
    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Messages:
    """Sent and received by a node's sockets that are open now; `paths` are theirs."""

    ring: int
    network: int
    paths: frozenset[str]


class NodeLab:
    """Hosts of the nodes of `configs` and `mapping`, for the time of a `with` block.

    Raises `ConfigError` if something is wrong with the files, `LabError` for what cannot be made,
    or does not come to pass.
    """

    def __init__(self, configs: Sequence[Path], mapping: Path | None, way: Way) -> None:
        self.way = way
        self._configs = configs
        self._loaded = load(configs, mapping)
        self._document = _read_mapping(mapping)
        self._inside = {
            node.name
            for node in self._loaded.mapping.nodes
            if not isinstance(node.domain, External)
        }
        self._host_of = _hosts(self._loaded, mapping is not None)
        self._stack = contextlib.ExitStack()
        self._listeners: list[Listener] = []
        self._programs: list[Program] = []

    def __enter__(self) -> NodeLab:
        with contextlib.ExitStack() as stack:
            self._lab = stack.enter_context(Lab(self._members()))
            if self._lab.bridge is None:
                raise LabError("network namespaces are needed, and cannot be made here")
            for node in self._loaded.network.nodes:
                _add_address(self.host(node.name), node)
            groups = {node.sd.group for node in self._loaded.network.nodes if node.sd is not None}
            for group in sorted(groups, key=str):
                self._listeners.append(Listener(self._lab[OUTSIDE], group))
                stack.callback(self._listeners[-1].close)
            ports = [str(host.port) for host in self._lab.hosts]
            self._wire = stack.enter_context(WireCounter(self._lab.bridge, ports))
            self._environment = self._start_controller(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._stack.close()

    # ---- what a test does ---------------------------------------------------

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all."""
        return tuple(self._host_of)

    @property
    def folder(self) -> Path:
        """An empty folder, removed at the end."""
        return self._lab.directory

    def host(self, node: str) -> Host:
        """Where a node runs: `host(NODE).run("ip", "link")`."""
        if node not in self._host_of:
            raise LabError(f"no node {node}; there are {', '.join(self._host_of)}")
        return self._lab[self._host_of[node]]

    def start(
        self, node: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Program:
        """Start a program of a node, under the wrapper if the node is inside, unless natively."""
        wrapper = self._environment if node in self._inside else {}
        name = f"{node}-{len(self._programs)}"
        program = Program(self.host(node), name, argv, {**wrapper, **(env or {})}, self.folder)
        self._programs.append(program)
        self._stack.callback(program.stop)
        return program

    def offers(self) -> list[Offer]:
        """All that has been heard of offers and their ends, by groups, in order."""
        for listener in self._listeners:
            listener.listen()
        return [offer for listener in self._listeners for offer in listener.heard]

    def wait_for_service(
        self, service: int, instance: int | None = None, timeout: float = 10.0
    ) -> Offer:
        """Until a service is offered, and a socket is bound where the offer says."""
        offer = until(
            lambda: next(filter(self._is_there, self._offered(service, instance)), None), timeout
        )
        if offer is None:
            which = f"0x{service:04x}"
            which += "" if instance is None else f", instance 0x{instance:04x}"
            heard = "; ".join(
                f"{one.source} offers {', '.join(one.endpoints)}, where nobody is bound"
                for one in self._offered(service, instance)
            )
            what = f"service {which} not there within {timeout:g} s: {heard or 'no offer of it'}"
            raise LabError(f"{what}\n{self.words()}")
        return offer

    def status(self) -> JsonObject:
        """What `ivc status --json` says. There is none natively."""
        if self.way is Way.NATIVE:
            raise LabError("natively there is no controller to ask; wire() counts without one")
        return read_status(self.folder)

    def messages(self, node: str) -> Messages:
        """What the wrapper has counted; natively nothing is by ring, and the rest is unknown."""
        if self.way is Way.NATIVE:
            return Messages(0, 0, frozenset())
        sockets = [one for one in self.status()["sockets"] if one["node"] == node]
        ring, network = (
            sum(one["counters"][f"{way}_{by}_msgs"] for one in sockets for way in ("tx", "rx"))
            for by in ("ring", "net")
        )
        return Messages(ring, network, frozenset(one["path"] for one in sockets))

    def wait_for_way(self, node: str, messages: int = 1, timeout: float = 10.0) -> None:
        """Until so many messages of a node went the way this laboratory is about.

        Natively: so many packets have crossed the wires.
        """
        if not until(lambda: self._went(node) >= messages, timeout):
            raise LabError(
                f"{self._went(node)} messages of node {node} went {self.way} within {timeout:g} s, "
                f"expected {messages}: {self.messages(node)}\n{self.words()}"
            )

    def wire(self) -> Counts:
        """What has crossed the bridge so far, whoever sent it; counted without IVC."""
        return self._wire.read()

    def words(self) -> str:
        """What programs and controller have said, for whoever looks for a cause."""
        controller = self.folder / "controller.stderr"
        said = [controller.read_text(errors="replace").strip()] if controller.exists() else []
        return "\n".join([*said, *map(str, self._programs)])

    # ---- parts --------------------------------------------------------------

    def _members(self) -> dict[str, str]:
        """Addresses by host; a place with several nodes is made with the first one's."""
        members: dict[str, str] = {}
        for node in self._loaded.network.nodes:
            members.setdefault(self._host_of[node.name], str(_interface(node)))
        return {**members, OUTSIDE: str(self._outside())}

    def _outside(self) -> IPv4Interface:
        """An address nobody has, in the subnet of the first node that hears service discovery."""
        nodes = self._loaded.network.nodes
        first = next((node for node in nodes if node.sd is not None), nodes[0])
        subnet = _interface(first).network
        taken = {node.address for node in nodes}
        for number in range(int(subnet.broadcast_address) - 1, int(subnet.network_address), -1):
            if IPv4Address(number) not in taken:
                return IPv4Interface(f"{IPv4Address(number)}/{subnet.prefixlen}")
        raise LabError(f"{subnet} is full: there is no address for the laboratory's own listener")

    def _start_controller(self, stack: contextlib.ExitStack) -> dict[str, str]:
        """The environment of programs under the wrapper."""
        if self.way is Way.NATIVE:
            return {}
        mapping = self.folder / "mapping.json"
        mapping.write_text(json.dumps(self._mapping()))
        configs = [str(path.absolute()) for path in self._configs]
        arguments = [*configs, "--mapping", str(mapping), "--path", self.way.value]
        stack.enter_context(controller_of(self._lab, self.folder, arguments))
        return wrapper_environment(find_library(os.environ), self.folder)

    def _mapping(self) -> JsonObject:
        """The user's, with our namespaces in place of his domains."""
        written = self._document.get("nodes", {})
        nodes = {name: dict(written.get(name, {})) for name in self._host_of}
        for name in self._inside:
            kept = {key: value for key, value in nodes[name].items() if key not in _PLACES}
            nodes[name] = kept | {"host": f"netns:{self.host(name).netns}"}
        nodes[OUTSIDE] = {"external": True, "address": str(self._lab[OUTSIDE].address.ip)}
        return {"version": 1, **self._document, "nodes": nodes}

    def _offered(self, service: int, instance: int | None) -> list[Offer]:
        """Now, by whomever."""
        return [
            offer
            for listener in self._listeners
            for offer in listener.current()
            if offer.service == service and instance in (None, offer.instance)
        ]

    def _is_there(self, offer: Offer) -> bool:
        """Whether a socket is bound at every endpoint it names."""
        return all(map(self._is_bound, offer.endpoints))

    def _is_bound(self, endpoint: str) -> bool:
        kind, _, where = endpoint.partition(" ")
        text, _, port = where.rpartition(":")
        nodes = self._loaded.network.nodes
        node = next((node for node in nodes if node.address == ip_address(text)), None)
        if node is None:
            return True  # of nobody we could ask
        table = self.host(node.name).run("cat", f"/proc/net/{kind}").splitlines()[1:]
        return any(_bound_there(line.split(), node.address, int(port), kind) for line in table)

    def _went(self, node: str) -> int:
        if self.way is Way.NATIVE:
            return self.wire().udp_packets + self.wire().other_packets
        counted = self.messages(node)
        return counted.ring if self.way.value in counted.paths else 0


def _bound_there(columns: Sequence[str], address: IPv4Address, port: int, kind: str) -> bool:
    """Whether a line of /proc/net/udp or tcp is a socket that answers there."""
    bound, _, number = columns[1].partition(":")
    own = IPv4Address(int(bound, 16).to_bytes(4, "little"))
    listens = kind == "udp" or columns[3] == _LISTENS
    return listens and int(number, 16) == port and own in (address, IPv4Address(0))


def _read_mapping(path: Path | None) -> dict[str, Any]:
    """As it is written; it has been read once already, and is right."""
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8-sig")
    document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    assert isinstance(document, dict)
    return document


def _hosts(loaded: Loaded, mapped: bool) -> dict[str, str]:
    """The laboratory's host of each node: one for each place of the mapping.

    A node outside has a place of its own, and so has each where there is no mapping.
    """
    places = {
        node.name: (mapped and not isinstance(node.domain, External), str(node.domain), node.name)
        for node in loaded.mapping.nodes
    }
    shared = {name: place[:2] if place[0] else place for name, place in places.items()}
    numbers = {place: str(n) for n, place in enumerate(dict.fromkeys(shared.values()))}
    return {name: numbers[place] for name, place in shared.items()}


def _interface(node: Node) -> IPv4Interface:
    return IPv4Interface(f"{node.address}/{node.netmask}")


def _add_address(host: Host, node: Node) -> None:
    if node.address != host.address.ip:
        host.run("ip", "address", "add", str(_interface(node)), "dev", "eth0")
