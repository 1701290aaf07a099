# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs in two domUs talk over memory the domUs grant each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ivc.lab.xen.control import running_controller
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.pingpong import ping_pong
from ivc.lab.xen.results import Run
from ivc.lab.xen.ways import Way

SIZE = 64
BLOCKING_AT_LEAST = 2.5


@pytest.fixture(scope="module")
def runs(lab: XenLab) -> Iterator[dict[Way, Run]]:
    """One ping-pong each way, on one boot."""
    with running_controller(lab):
        yield {way: ping_pong(lab, way, SIZE) for way in (Way.VIF, Way.DIRECT, Way.DIRECT_SPIN)}


@pytest.mark.parametrize("way", [Way.DIRECT, Way.DIRECT_SPIN])
def test_nothing_is_lost_or_spoiled(runs: dict[Way, Run], way: Way) -> None:
    assert (runs[way].lost, runs[way].spoiled) == (0, 0)


@pytest.mark.parametrize("way", [Way.DIRECT, Way.DIRECT_SPIN])
def test_next_to_nothing_crosses_the_vif(runs: dict[Way, Run], way: Way) -> None:
    assert runs[way].vif_fraction < 0.05
    assert runs[Way.VIF].vif_fraction > 0.99


@pytest.mark.parametrize("way", [Way.DIRECT, Way.DIRECT_SPIN])
def test_memory_is_faster_than_the_vif(runs: dict[Way, Run], way: Way) -> None:
    """Also where receivers sleep; how much faster, test_xen_scenario.py says."""
    assert runs[Way.VIF].p50 > BLOCKING_AT_LEAST * runs[way].p50, runs
