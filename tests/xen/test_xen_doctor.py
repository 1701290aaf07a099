# SPDX-License-Identifier: Apache-2.0
"""`ivc doctor` on a real Xen: sound machines are found sound, and each planted fault is found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from ivc.lab.xen.control import FOLDER, MAPPING, running_controller, write_configuration
from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.machine import Machine
from ivc.lab.xen.ways import WRAPPER

SECONDS = 120.0
GUEST = "hmi"
DOCTOR = ["env", f"IVC_LIBRARY={WRAPPER}", "python3", "-m", "ivc", "doctor", "--json"]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
LIMIT = "/sys/module/xen_gntalloc/parameters/limit"

TRUE = {"npdu-defaults", "not-installed"}
"""What is so in the laboratory, and is told: of the files and of the library."""

Findings = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Fault:
    """What is done to a machine, how it is undone, and what is to be found where."""

    code: str
    where: str
    plant: str
    undo: str
    caller: Sequence[str] = ()


FAULTS = {
    "no gntalloc": Fault(
        "no-device",
        "/dev/xen/gntalloc",
        "mv /dev/xen/gntalloc /dev/xen/hidden",
        "mv /dev/xen/hidden /dev/xen/gntalloc",
    ),
    "no gntdev": Fault(
        "no-device",
        "/dev/xen/gntdev",
        "mv /dev/xen/gntdev /dev/xen/hidden",
        "mv /dev/xen/hidden /dev/xen/gntdev",
    ),
    "no evtchn": Fault(
        "no-device",
        "/dev/xen/evtchn",
        "mv /dev/xen/evtchn /dev/xen/hidden",
        "mv /dev/xen/hidden /dev/xen/evtchn",
    ),
    "no module": Fault(
        "no-device", "/dev/xen/gntalloc", "rmmod xen_gntalloc", "modprobe xen_gntalloc"
    ),
    "not permitted": Fault(
        "device-forbidden",
        "/dev/xen/gntdev",
        "chmod 666 /dev/xen/*; chmod 600 /dev/xen/gntdev",
        "chmod 600 /dev/xen/*",
        NOBODY,
    ),
    "few pages": Fault("few-grants", LIMIT, f"echo 100 >{LIMIT}", f"echo 1024 >{LIMIT}"),
}


@pytest.fixture(scope="module")
def served(lab: XenLab) -> Iterator[XenLab]:
    """With a controller, and the files of the nodes in dom0 and in the guest."""
    guest = lab.domU(GUEST)
    with running_controller(lab):
        for path in (*write_configuration(lab), MAPPING):
            guest.put(lab.dom0.get(path), path)
        yield lab


def examine(machine: Machine, caller: Sequence[str] = (), node: str | None = None) -> Findings:
    """Code, place and severity of all it finds."""
    files = [f"{FOLDER}/{name}.json" for name in GUESTS]
    command = [*caller, *DOCTOR, *files, "--mapping", MAPPING]
    done = machine.run([*command, *(["--node", node] if node else [])], SECONDS, check=False)
    assert done.status in (0, 1), done.stderr
    print(done.stdout)
    found = json.loads(done.stdout)["findings"]
    return [(each["code"], each["file"], each["severity"]) for each in found]


def errors(findings: Findings) -> list[tuple[str, str]]:
    return [(code, where) for code, where, severity in findings if severity == "error"]


@contextmanager
def planted(machine: Machine, fault: Fault) -> Iterator[None]:
    machine.shell(fault.plant)
    try:
        yield
    finally:
        machine.shell(fault.undo)


def test_nothing_is_wrong_with_a_sound_guest(served: XenLab) -> None:
    assert {code for code, _, _ in examine(served.domU(GUEST), node=GUEST)} == TRUE


def test_nothing_is_wrong_with_a_sound_dom0(served: XenLab) -> None:
    assert {code for code, _, _ in examine(served.dom0)} == TRUE


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_guest_is_found_and_nothing_else(served: XenLab, name: str) -> None:
    fault, guest = FAULTS[name], served.domU(GUEST)
    with planted(guest, fault):
        assert errors(examine(guest, fault.caller, GUEST)) == [(fault.code, fault.where)]


def test_a_device_missing_in_dom0_is_found(served: XenLab) -> None:
    with planted(served.dom0, FAULTS["no gntdev"]):
        assert errors(examine(served.dom0)) == [("no-device", "/dev/xen/gntdev")]


def test_a_guest_that_no_controller_serves_is_told(served: XenLab) -> None:
    guest = served.domU(GUEST)
    node = f"/local/domain/{guest.domid()}/ivc/controller"
    kept = served.dom0.shell(f"xenstore-read {node}")
    fault = Fault(
        "no-controller",
        "XenStore, ivc/controller of this domain",
        f"xenstore-rm {node}",
        f"xenstore-write {node} '{kept}' && xenstore-chmod {node} n0 r{guest.domid()}",
    )
    with planted(served.dom0, fault):
        assert errors(examine(guest, node=GUEST)) == [(fault.code, fault.where)]
    assert errors(examine(guest, node=GUEST)) == []
