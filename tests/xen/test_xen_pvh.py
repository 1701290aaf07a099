# SPDX-License-Identifier: Apache-2.0
"""The scenario once more between PVH guests: for function, since emulation there is twofold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ivc.lab.xen.lab import GUESTS, XenLab
from ivc.lab.xen.results import as_table
from ivc.lab.xen.scenario import Settings, show
from ivc.lab.xen.ways import Way

WAYS = (Way.VIF, Way.DIRECT, Way.RELAY)

pytestmark = pytest.mark.full  # a boot of its own


@pytest.fixture(scope="module")
def pvh_lab() -> Iterator[XenLab]:
    with XenLab(settings='type = "pvh"\n') as booted:
        yield booted


@pytest.mark.parametrize("name", GUESTS)
def test_the_guests_are_pvh(pvh_lab: XenLab, name: str) -> None:
    assert pvh_lab.domU(name).shell("cat /sys/hypervisor/guest_type") == "PVH"


def test_nothing_is_lost_and_memory_carries_it(pvh_lab: XenLab) -> None:
    runs = show(pvh_lab, Settings(WAYS, rounds=1, calls=500))
    print(as_table(runs))
    assert [run for run in runs if not run.good] == []
