# SPDX-License-Identifier: Apache-2.0
"""The scenario once more between PVH guests: for function, since emulation there is twofold."""

from __future__ import annotations

import pytest

from ivc.lab.hosts import LabError
from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.results import Run, as_table
from ivc.lab.xen.scenario import Settings, show
from ivc.lab.xen.ways import Way

# A boot of its own takes minutes, and the emulator resets PVH guests now and then.
pytestmark = pytest.mark.full

SETTINGS = Settings((Way.DIRECT, Way.RELAY), rounds=1, calls=500)


@pytest.mark.parametrize("name", GUESTS)
def test_the_guests_are_pvh(other_lab: XenLab, name: str) -> None:
    assert other_lab.domU(name).shell("cat /sys/hypervisor/guest_type") == "PVH"


def shown(lab: XenLab) -> list[Run]:
    """The scenario; once more if a guest was reset meanwhile.

    PVH guests in an emulator are now and then (triple fault), some before any program has run.
    """
    before = [lab.domU(name).domid() for name in GUESTS]
    try:
        return show(lab, SETTINGS)
    except LabError:
        for name in GUESTS:
            lab.domU(name).wait_until_up()
        if [lab.domU(name).domid() for name in GUESTS] == before:
            raise
        return show(lab, SETTINGS)


def test_nothing_is_lost_and_memory_carries_it(other_lab: XenLab) -> None:
    runs = shown(other_lab)
    print(as_table(runs))
    assert [run for run in runs if not run.good] == []
