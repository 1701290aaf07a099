# SPDX-License-Identifier: Apache-2.0
"""The controller's death during traffic, and its successor."""

from __future__ import annotations

from traffic import SECONDS, calling, given_back, serving, stop, wait_for_rings

from ivc.lab.xen.control import COMMAND_LINE, running_controller
from ivc.lab.xen.counts import take
from ivc.lab.xen.lab import XenLab


def test_without_its_controller_traffic_goes_on_and_the_next_one_takes_over(lab: XenLab) -> None:
    before = take(lab)
    with serving(lab), calling(lab) as client:
        with running_controller(lab) as first:
            wait_for_rings(lab, client)
            lab.dom0.run(["pkill", "-KILL", "-f", COMMAND_LINE])
            first.wait(SECONDS)
        with running_controller(lab):
            wait_for_rings(lab, client)
            seen = stop(lab, client)
    assert (seen["lost"], seen["strange"]) == (0, 0)
    given_back(lab, before)
