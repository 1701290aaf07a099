# SPDX-License-Identifier: Apache-2.0
"""A controller in a thread of the test, on hosts that need no privileges.

`NumberedHosts` says which host (a number in place of a namespace) each node is on, and where
whoever connects next comes from; memory, sockets, doorbells and rings are real. Tests of the
identity itself use real namespaces (test_controller_namespaces.py).
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fakewrapper import PATIENCE_S, FakeWrapper

from ivc.controller.client import read_status
from ivc.controller.quota import Quota
from ivc.controller.service import Service, Settings
from ivc.network import Domain, LocalHost
from ivc.network import Path as FlowPath
from ivc.platform import Identity
from ivc.platform.linux import LinuxPlatform

CONFIG = """{{
  "unicast": "{address}", "netmask": "255.255.255.0",
  "services": [{services}],
  "service-discovery": {{"enable": "true", "multicast": "224.224.224.245", "port": "30490"}}
}}"""
SERVICE = '{"service": "0x1234", "instance": "1", "unreliable": "30509", "reliable": "30509"}'


class NumberedHosts(LinuxPlatform):
    """The Linux platform, except that a test says who is where."""

    def __init__(self) -> None:
        self.numbers = {"a": 1, "b": 2, "c": 3}
        self.next_host = 1

    def identify(self, connection: socket.socket) -> Identity:
        return replace(super().identify(connection), host=self.next_host)

    def resolve(self, domain: Domain) -> int | None:
        return self.numbers.get(domain.netns or "") if isinstance(domain, LocalHost) else None


@dataclass
class Lab:
    """A running controller, and wrappers on hosts."""

    run_dir: Path
    platform: NumberedHosts
    service: Service
    thread: threading.Thread
    wrappers: list[FakeWrapper] = field(default_factory=list)

    def wrapper(self, host: int, *, polite: bool = True, hello: bool = True) -> FakeWrapper:
        """A process on a host."""
        self.platform.next_host = host
        wrapper = FakeWrapper(self.run_dir, polite=polite, hello=hello)
        self.status()  # by then it has been accepted
        self.wrappers.append(wrapper)
        wrapper.friends = self.wrappers
        return wrapper

    def status(self) -> dict[str, Any]:
        """What `ivc status --json` would print."""
        return read_status(self.run_dir)

    def await_status(self, matching: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the status is as it should be."""
        deadline = time.monotonic() + PATIENCE_S
        while not matching(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.01)

    def stop(self) -> None:
        for wrapper in list(self.wrappers):
            wrapper.close()
        self.service.stop()
        FakeWrapper(self.run_dir, hello=False).close()  # wakes it
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.service.close()


Starter = Callable[..., Lab]


def with_flow(lab: Lab, source: str, destination: str) -> tuple[FakeWrapper, FakeWrapper]:
    """A process on `a` with an active flow to one on `b`."""
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, destination)
    client.bind(1, source)
    client.want(1, source, destination)
    client.await_active(destination)
    return client, server


def write_network(
    folder: Path, nodes: dict[str, str], mapping: str = "", service: str = SERVICE
) -> list[Path]:
    """One file a node: `nodes` maps names to addresses; each runs on the host of its name. Node b
    offers `service`."""
    files = []
    for name, address in nodes.items():
        file = folder / f"{name}.json"
        services = service if name == "b" else ""
        file.write_text(CONFIG.format(address=address, services=services))
        files.append(file)
    hosts = "".join(f'[nodes.{name}]\nhost = "netns:{name}"\n' for name in nodes)
    (folder / "mapping.toml").write_text(f"version = 1\n{mapping}\n{hosts}")
    return files


@contextmanager
def running_lab(
    folder: Path,
    path: FlowPath | None = FlowPath.DIRECT,
    quota: Quota | None = None,
    nodes: dict[str, str] | None = None,
    mapping: str = "",
    service: str = SERVICE,
) -> Iterator[Lab]:
    """A controller with its files in `folder`; `path` and `quota` as on the command line."""
    known = nodes or {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
    files = write_network(folder, known, mapping, service)
    platform = NumberedHosts()
    settings = Settings(files, folder / "mapping.toml", folder / "run", path, quota or Quota())
    controller = Service(settings, platform)
    thread = threading.Thread(target=serve, args=(controller,), daemon=True)
    lab = Lab(folder / "run", platform, controller, thread)
    thread.start()
    try:
        yield lab
    finally:
        lab.stop()


def serve(service: Service) -> None:
    """The body of the controller's thread."""
    while not service.stopping:
        service.turn()


REQUEST = bytes.fromhex("12340421 0000000c 00010002 01010000 deadbeef")
"""A SOME/IP request: service 0x1234, method 0x0421, client 1, session 2, 4 bytes of payload."""
