# SPDX-License-Identifier: Apache-2.0
"""IVC inside the laboratory: where the wrapper is, a controller, its status.

Two hosts are mapped: the server's offers the service of `peers.common`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from ivc.lab.hosts import Host, Lab, LabError, stop
from ivc.lab.peers import common

SERVER_HOST = "adas"
CLIENT_HOST = "hmi"
LOOPBACK = "127.0.0.1"

_READY_SECONDS = 10.0

JsonObject = dict[str, Any]


def wrapper_library(root: Path) -> Path:
    """Where the wrapper is: IVC_LIBRARY, else the build folder."""
    return Path(os.environ.get("IVC_LIBRARY", root / "build" / "libivcsock.so"))


def wrapper_environment(library: Path, run_dir: Path) -> dict[str, str]:
    """What puts a program under the wrapper."""
    return {"LD_PRELOAD": str(library), "IVC_RUN_DIR": str(run_dir)}


@contextlib.contextmanager
def running_controller(
    lab: Lab, path: str, folder: Path, promote: str = "", ring: str = "", services: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """A controller in dom0, from files as a user has them; ready inside the `with` block.

    `path` is what it does by default: direct, relay or network; `promote` says when TCP
    goes over rings; `ring` is the size of those for datagrams, as a mapping has it. Its run
    directory is `folder`. The server offers so many `services`, at ports in a row. Raises
    LabError if it does not get ready.
    """
    configurations, mapping = _write_configuration(lab, folder, promote, ring, services)
    with controller_of(
        lab, folder, [*configurations, "--mapping", mapping, "--path", path]
    ) as process:
        yield process


@contextlib.contextmanager
def running_loopback(
    lab: Lab, name: str, folder: Path, promote: str
) -> Iterator[subprocess.Popen[str]]:
    """The same of one node only: what programs of the host `name` send each other at 127.0.0.1."""
    described = folder / "self.json"
    described.write_text(json.dumps({"unicast": LOOPBACK}))
    mapping = folder / "mapping.toml"
    place = (_place(lab[name]), "loopback = true")
    mapping.write_text(mapping_file({"self": place}, promote))
    with controller_of(lab, folder, [str(described), "--mapping", str(mapping)]) as process:
        yield process


@contextlib.contextmanager
def controller_of(
    lab: Lab, folder: Path, arguments: Sequence[str]
) -> Iterator[subprocess.Popen[str]]:
    """A controller in dom0, ready inside the `with` block; `arguments` are its files and options.

    Its run directory is `folder`, and what it says is there in controller.stderr. Raises LabError.
    """
    words = folder / "controller.stderr"
    command = [sys.executable, "-m", "ivc", "controller", *arguments, "--run-dir", str(folder)]
    host = lab.bridge or lab.hosts[0]
    with words.open("w") as stderr:
        process = host.popen(command, stderr=stderr)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while "ready" not in words.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the controller does not get ready: {words.read_text().strip()}")
            time.sleep(0.02)
        yield process
    finally:
        stop(process)


def _write_configuration(
    lab: Lab, folder: Path, promote: str, ring: str, services: int
) -> tuple[list[str], str]:
    """One vsomeip file a node and a mapping of the nodes to the laboratory's hosts."""
    files = []
    places: dict[str, Sequence[str]] = {}
    for host in lab.hosts:
        file = folder / f"{host.name}.json"
        file.write_text(vsomeip_file(host.name, host.address, services))
        files.append(str(file))
        places[host.name] = (_place(host), *([f'ring = "{ring}"'] if ring else []))
    path = folder / "mapping.toml"
    path.write_text(mapping_file(places, promote))
    return files, str(path)


def _place(host: Host) -> str:
    return f'host = "netns:{host.netns}"' if host.netns else 'host = "local"'


def mapping_file(places: Mapping[str, Sequence[str]], promote: str = "") -> str:
    """A mapping; `places` has for each node the lines that say where it is."""
    lines = ["version = 1"]
    if promote:
        lines += ["[defaults]", f'promote = "{promote}"']
    for node, place in places.items():
        lines += ["", f"[nodes.{node}]", *place]
    return "\n".join(lines) + "\n"


def vsomeip_file(name: str, address: IPv4Interface, services: int = 1) -> str:
    """A node's configuration; SERVER_HOST's offers the service of `peers.common`, and those behind
    it, by numbers and by ports.
    """
    group = {"eventgroup": f"0x{common.EVENTGROUP:04x}", "events": [f"0x{common.EVENT:04x}"]}
    offered = [
        {
            "service": f"0x{common.SERVICE + number:04x}",
            "instance": f"0x{common.INSTANCE:04x}",
            "unreliable": str(common.SERVER_PORT + number),
            "reliable": str(common.SERVER_PORT + number),
            "events": [{"event": f"0x{common.EVENT:04x}", "is_field": "false"}],
            "eventgroups": [group],
        }
        for number in range(services)
    ]
    configuration = {
        "unicast": str(address.ip),
        "netmask": str(address.netmask),
        "services": offered if name == SERVER_HOST else [],
        "service-discovery": {
            "enable": "true",
            "multicast": common.SD_GROUP,
            "port": str(common.SD_PORT),
            "protocol": "udp",
        },
    }
    return json.dumps(configuration, indent=4)


def read_status(run_dir: Path) -> JsonObject:
    """What `ivc status` says of a run directory; raises LabError if it says nothing."""
    command = [sys.executable, "-m", "ivc", "status", "--json", "--run-dir", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    if done.returncode != 0:
        raise LabError(f"ivc status fails: {done.stderr.strip()}")
    status = json.loads(done.stdout)
    assert isinstance(status, dict)
    return status
