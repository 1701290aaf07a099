# SPDX-License-Identifier: Apache-2.0
"""The scenario once more between PVH guests: for function, since emulation there is twofold."""

from __future__ import annotations

import pytest

from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.results import as_table
from ivc.lab.xen.scenario import Settings, show
from ivc.lab.xen.ways import Way

pytestmark = pytest.mark.full  # a boot of its own

SETTINGS = Settings((Way.DIRECT, Way.RELAY), rounds=1, calls=200)


@pytest.mark.parametrize("name", GUESTS)
def test_the_guests_are_pvh(other_lab: XenLab, name: str) -> None:
    assert other_lab.domU(name).shell("cat /sys/hypervisor/guest_type") == "PVH"


def test_nothing_is_lost_and_memory_carries_it(other_lab: XenLab) -> None:
    runs = show(other_lab, SETTINGS)
    print(as_table(runs))
    assert [run for run in runs if not run.good] == []
