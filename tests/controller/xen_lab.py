# SPDX-License-Identifier: Apache-2.0
"""A controller in a thread of the test, in dom0 of a Xen that is fake_xen."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller_lab import CONFIG, SERVICE, serve
from fake_xen import FakeDevices, Hypervisor, StoreClient
from fakewrapper import PATIENCE_S
from xenwrapper import XenWrapper

from ivc.controller.client import read_status
from ivc.controller.quota import Quota
from ivc.controller.service import Service, Settings
from ivc.network import Path as FlowPath
from ivc.platform.xen import XenPlatform

NODES = {"a": "10.0.0.1", "b": "10.0.0.2"}


@dataclass
class XenLab:
    """Guests `a` and `b` are domains 1 and 2 from the start."""

    folder: Path
    xen: Hypervisor
    path: FlowPath = FlowPath.DIRECT
    mapping: str = ""
    dom0_pages: int = 1024
    wrappers: list[XenWrapper] = field(default_factory=list)
    service: Service | None = None

    def start(self) -> None:
        """Start a controller."""
        self.devices = FakeDevices(self.xen, 0)
        self.devices.pages = self.dom0_pages
        platform = XenPlatform(StoreClient(self.xen, 0), self.devices)
        files = [self.folder / f"{name}.json" for name in NODES]
        settings = Settings(
            files, self.folder / "mapping.toml", self.folder / "run", self.path, Quota()
        )
        self.service = Service(settings, platform)
        self.thread = threading.Thread(target=serve, args=(self.service,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """As SIGTERM ends it."""
        service, self.service = self.service, None
        if service is not None:
            service.stop()
            self.thread.join(10)
            assert not self.thread.is_alive()
            service.close()

    def wrapper(self, domid: int) -> XenWrapper:
        """A process in a guest, welcomed."""
        made = XenWrapper(self.xen, domid)
        self.wrappers.append(made)
        made.friends = self.wrappers
        made.connect()
        return made

    def nodes(self, domid: int) -> dict[str, bytes]:
        """What dom0 has written for a guest."""
        return self.xen.store.below(f"/local/domain/{domid}/ivc")

    def status(self) -> dict[str, Any]:
        return read_status(self.folder / "run")

    def await_status(self, matching: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not matching(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.01)

    def wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.01)


def write_files(folder: Path, mapping: str = "", guests: str = "", vm: str = "") -> None:
    """Configuration of both nodes, each in the guest of its name, or both in `vm`."""
    for name, address in NODES.items():
        services = SERVICE if name == "b" else ""
        (folder / f"{name}.json").write_text(CONFIG.format(address=address, services=services))
    nodes = "".join(f'[nodes.{name}]\nvm = "{vm or name}"\n{guests}\n' for name in NODES)
    (folder / "mapping.toml").write_text(f"version = 1\n{mapping}\n{nodes}")


@contextmanager
def running_xen(
    folder: Path,
    path: FlowPath = FlowPath.DIRECT,
    mapping: str = "",
    guests: str = "",
    dom0_pages: int = 1024,
    vm: str = "",
) -> Iterator[XenLab]:
    """Two guests and a controller; `guests` are more lines of every node's mapping,
    `dom0_pages` is what the controller's own domain may grant, `vm` has both nodes.
    """
    write_files(folder, mapping, guests, vm)
    xen = Hypervisor()
    for domid, name in enumerate(NODES, start=1):
        xen.create(domid, name)
    lab = XenLab(folder, xen, path, dom0_pages=dom0_pages)
    lab.start()
    try:
        yield lab
    finally:
        lab.stop()
        for wrapper in list(lab.wrappers):
            wrapper.close()
