# SPDX-License-Identifier: Apache-2.0
"""dom0, two guests and an ECU outside, as network namespaces.

    hmi --- vif1.0 \\
                     xenbr0 (dom0) eth1 --- the wire --- eth0 tcu
    adas -- vif2.0 /

The guests' interfaces are put into the bridge as `xl` would. Whether the bridge is there before, or
made by `ivc ethernet apply`, is the test's choice; eth1 is left to IVC.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from six_ways import INSIDE, node_file

from ivc.cli import main

ADDRESSES = {"hmi": "10.77.0.1", "adas": "10.77.0.2", "tcu": "10.77.0.9"}
VIFS = {"hmi": "vif1.0", "adas": "vif2.0", "tcu": "eth1"}
ETHERNET = '[ethernet]\nbridge = "xenbr0"\ninterface = "eth1"\n'

_QUIET = "for i in all default; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done"
_LOOKS = (
    "ip -j -d link",
    "ip -j address",
    "ip -j route show table all",
    "nft -j list ruleset",
    "cd /proc/sys/net/ipv4/conf; grep . */forwarding",
)
_VOLATILE = ("timer", "state", "qdisc", "txqlen", "pending", "topology")

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    """os.setns() of later Pythons."""
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Ran(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Field:
    """The namespaces by host name, and a folder with configuration and mapping."""

    folder: Path
    tag: str = field(default_factory=lambda: f"ivce-{uuid.uuid4().hex[:8]}")
    ethernet: str = ETHERNET
    promote: str = "never"
    in_dom0: str = ""
    """the node that is in dom0 itself, if any"""
    addresses: dict[str, str] = field(default_factory=lambda: dict(ADDRESSES))

    def netns(self, host: str) -> str:
        return f"{self.tag}-{host}"

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """This thread is in a host's namespace for the time of a `with` block.

        Sockets stay where they were opened: one test can hold those of all hosts.
        """
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.netns(host)}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(home)
            os.close(there)
            os.close(home)

    def socket(self, host: str, kind: int = socket.SOCK_DGRAM, port: int = 0) -> socket.socket:
        """A socket bound to a host's address."""
        with self.inside(host):
            made = socket.socket(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self.addresses[host], port))
        made.settimeout(10)
        return made

    def talks(self, source: str, destination: str, patience: float = 10) -> bool:
        """Whether a datagram arrives."""
        with self.socket(source) as sender, self.socket(destination) as receiver:
            receiver.settimeout(patience)
            sender.sendto(b"hello", receiver.getsockname())
            try:
                return receiver.recvfrom(64) == (b"hello", sender.getsockname())
            except TimeoutError:
                return False

    # -- programs

    def command(self, host: str, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.netns(host)}", *argv]

    def run(self, host: str, *argv: str, text: str | None = None) -> str:
        done = subprocess.run(
            self.command(host, *argv),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def ip(self, host: str, words: str) -> None:
        self.run(host, "ip", *words.split())

    def nft(self, words: str) -> None:
        self.run("dom0", "nft", "-f", "-", text=words + "\n")

    def ivc(self, *words: str) -> Ran:
        """`ivc ethernet WORDS` in dom0; show and apply get the files."""
        files = self.write_files() if words[0] != "remove" else []
        out, err = io.StringIO(), io.StringIO()
        with self.inside("dom0"), redirect_stdout(out), redirect_stderr(err):
            code = main(["ethernet", *words, *files])
        return Ran(code, out.getvalue(), err.getvalue())

    def done(self, *words: str) -> list[dict[str, Any]]:
        """The changes of `ivc ethernet WORDS`, which must succeed."""
        ran = self.ivc(*words, "--json")
        assert ran.returncode == 0, ran.stderr
        changes: list[dict[str, Any]] = json.loads(ran.stdout)["changes"]
        return changes

    def write_files(self) -> list[str]:
        """The configuration, one service for each node inside; returns the arguments for it."""
        mapping, files = f'version = 1\n[defaults]\npromote = "{self.promote}"\n', []
        for name in INSIDE:
            path = self.folder / f"{name}.json"
            path.write_text(node_file(name, self.addresses[name]))
            files.append(str(path))
            host = "local" if name == self.in_dom0 else f"netns:{self.netns(name)}"
            mapping += f'[nodes.{name}]\nhost = "{host}"\n'
        mapping += f'[nodes.tcu]\nexternal = true\naddress = "{self.addresses["tcu"]}"\n'
        (self.folder / "mapping.toml").write_text(mapping + self.ethernet)
        return [*files, "--mapping", str(self.folder / "mapping.toml")]

    # -- building

    def make_bridge(self) -> None:
        """As dom0's own network settings would."""
        self.ip("dom0", "link add xenbr0 type bridge")
        self.ip("dom0", "link set xenbr0 up")

    def plug_guests(self) -> None:
        """As xl does when it starts them."""
        for host in ("hmi", "adas"):
            self.ip("dom0", f"link set {VIFS[host]} master xenbr0 up")

    # -- looking

    def snapshot(self) -> dict[str, Any]:
        """Everything of dom0's network that can differ, but for what moves by itself."""
        said = self.run("dom0", "sh", "-c", "; echo '#'; ".join(_LOOKS)).split("#\n")
        links, addresses, routes, ruleset = map(json.loads, said[:4])
        return {
            "links": _steady(links),
            "addresses": _steady(addresses),
            "routes": routes,
            "ruleset": ruleset,
            "forwarding": said[4],
        }


def _steady(links: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without timers and the state of the carrier, which come a moment later."""
    kept = []
    for link in links:
        flags = [f for f in link.get("flags", []) if f not in {"LOWER_UP", "NO-CARRIER", "M-DOWN"}]
        same = {k: v for k, v in link.items() if not any(word in k for word in _VOLATILE)}
        info = dict(link.get("linkinfo", {}))
        for part in ("info_data", "info_slave_data"):
            info[part] = {
                k: v
                for k, v in info.get(part, {}).items()
                if not any(word in k for word in _VOLATILE)
            }
        kept.append(same | {"flags": flags, "linkinfo": info})
    return kept


@contextmanager
def field_of_namespaces(folder: Path, **settings: Any) -> Iterator[Field]:
    """All namespaces for the time of a `with` block; nothing is in the bridge yet."""
    made = Field(folder, **settings)
    hosts = ("dom0", "hmi", "adas", "tcu")
    try:
        for host in hosts:
            subprocess.run(["ip", "netns", "add", made.netns(host)], check=True)
            made.run(host, "sh", "-c", f"{_QUIET}; ip link set lo up")
        for host, vif in VIFS.items():
            peer = f"peer name eth0 netns {made.netns(host)}"
            made.ip("dom0", f"link add {vif} type veth {peer}")
            lines = (
                f"address add {made.addresses[host]}/24 dev eth0",
                "link set eth0 up",
                "route add 224.0.0.0/4 dev eth0",
            )
            made.run(host, "ip", "-batch", "-", text="\n".join(lines))
        yield made
    finally:
        for host in hosts:
            command = ["ip", "netns", "delete", made.netns(host)]
            subprocess.run(command, check=False, capture_output=True)
