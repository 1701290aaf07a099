# SPDX-License-Identifier: Apache-2.0
"""The IVC Controller in dom0, started by hand from files as a user has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ivc.lab.control import JsonObject, mapping_file, vsomeip_file
from ivc.lab.hosts import LabError
from ivc.lab.xen import outside
from ivc.lab.xen.cache import say
from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.machine import Process

FOLDER = "/etc/ivc"
MAPPING = f"{FOLDER}/mapping.toml"
COMMAND_LINE = "python3 -m ivc controller"
"""How its process is found in dom0 (pkill -f)."""
_READY_SECONDS = 60.0
_STATUS_SECONDS = 60.0
# As `ivc status --json`, which imports all of ivc first: seconds inside an emulator.
_STATUS = """
import json
from pathlib import Path
from ivc.controller.client import read_status
print(json.dumps(read_status(Path("/run/ivc"))))
"""


@contextmanager
def running_controller(
    lab: XenLab, path: str = "direct", vms: Mapping[str, str] | None = None, promote: str = ""
) -> Iterator[Process]:
    """A controller with `--path path`; ready inside the `with` block. Raises LabError.

    The guests are nodes called like them, the node outside is external. `vms`: as what the
    mapping has each guest, by default its name; `promote`: when TCP goes over rings.
    """
    configurations = write_configuration(lab, vms, promote)
    with controller_of(lab, [*configurations, "--mapping", MAPPING, "--path", path]) as controller:
        yield controller


@contextmanager
def controller_of(lab: XenLab, arguments: Sequence[str]) -> Iterator[Process]:
    """A controller with these arguments, of files that are in dom0. Raises LabError."""
    with lab.dom0.popen([*COMMAND_LINE.split(), *arguments]) as controller:
        controller.wait_for("ivc controller: ready", _READY_SECONDS)
        try:
            yield controller
        except LabError:
            say(f"what the controller has said:\n{controller.stderr}")
            raise
        if controller.status is None:
            lab.dom0.run(["pkill", "-TERM", "-f", COMMAND_LINE])
            controller.wait(_READY_SECONDS)


def write_configuration(
    lab: XenLab, vms: Mapping[str, str] | None = None, promote: str = ""
) -> list[str]:
    """Put the nodes' files and the mapping into dom0's FOLDER; the nodes' paths."""
    paths = []
    for name, place in GUESTS.items():
        paths.append(f"{FOLDER}/{name}.json")
        lab.dom0.put(vsomeip_file(name, place.data).encode(), paths[-1])
    vms = vms or {name: f'"{name}"' for name in GUESTS}
    places = {name: [f"vm = {vms[name]}"] for name in GUESTS}
    places[outside.NAME] = ["external = true", f'address = "{outside.ADDRESS.ip}"']
    lab.dom0.put(mapping_file(places, promote).encode(), MAPPING)
    return paths


def read_status(lab: XenLab) -> JsonObject:
    """What `ivc status` says in dom0. Raises LabError."""
    done = lab.dom0.run(["python3", "-c", _STATUS], _STATUS_SECONDS)
    status = json.loads(done.stdout)
    assert isinstance(status, dict)
    return status
