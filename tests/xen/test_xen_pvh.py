# SPDX-License-Identifier: Apache-2.0
"""The scenario once more with PVH guests: for function, since emulation there is twofold."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.hosts import LabError
from ivc.lab.peers import common
from ivc.lab.xen.control import running_controller
from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.results import Run, as_table
from ivc.lab.xen.scenario import Settings, show
from ivc.lab.xen.ways import Way

SETTINGS = Settings((Way.DIRECT, Way.RELAY), rounds=1, calls=150)
TRIES = 3
SECONDS = 120.0

# While a flow is set up calls go by the vif: some ten, of 150.
ON_VIF = 0.2


@pytest.fixture(
    scope="module",
    params=[
        # A paravirtual guest at the other end: every flow has a region of either.
        pytest.param((CLIENT_HOST,), id="one"),
        pytest.param(tuple(GUESTS), id="both", marks=pytest.mark.full),
    ],
)
def pvh(lab: XenLab, request: pytest.FixtureRequest) -> XenLab:
    """The laboratory with guests of the other type, which it keeps: see conftest.py."""
    live_anew(lab, request.param, 'type = "pvh"\n')
    for name in request.param:
        assert lab.domU(name).shell("cat /sys/hypervisor/guest_type") == "PVH"
    return lab


def live_anew(lab: XenLab, names: Sequence[str], settings: str) -> None:
    for name in names:
        lab.domU(name).destroy()
        lab.domU(name).start(settings)
    for name in names:
        lab.domU(name).wait_until_up()


def shown(lab: XenLab) -> list[Run]:
    """The scenario; again if a guest was reset meanwhile.

    PVH guests in an emulator are now and then (triple fault), some before any program has run.
    """
    for _ in range(TRIES - 1):
        before = [lab.domU(name).domid() for name in GUESTS]
        try:
            return show(lab, SETTINGS)
        except LabError:
            for name in GUESTS:
                lab.domU(name).wait_until_up()
            if [lab.domU(name).domid() for name in GUESTS] == before:
                raise
    return show(lab, SETTINGS)


def test_nothing_is_lost_and_memory_carries_it(pvh: XenLab) -> None:
    runs = shown(pvh)
    print(as_table(runs))
    assert [run for run in runs if run.lost or run.spoiled or run.outside_lost] == []
    assert [run for run in runs if run.vif_fraction > ON_VIF] == []


FORKS = """
import os, pathlib, socket, sys, time
def of_others():
    return "/dev/xen/gntdev" in pathlib.Path("/proc/self/maps").read_text()
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 0))
sock.setblocking(False)
while not of_others():
    sock.sendto(b"", (sys.argv[2], int(sys.argv[3])))
    time.sleep(0.05)
child = os.fork()
if child == 0:
    os._exit(of_others())
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_child_maps_nothing_of_others(pvh: XenLab) -> None:
    """It would keep dom0's pages mapped while its parent lets go of them."""
    guest = pvh.domU(CLIENT_HOST)
    there = [guest.address, pvh.domU(SERVER_HOST).address, str(common.SERVER_PORT)]
    with running_controller(pvh):
        program = ["python3", "-c", FORKS, *there]
        with guest.popen(program, env=Way.DIRECT.environment) as process:
            process.wait_for("child 0", SECONDS)
