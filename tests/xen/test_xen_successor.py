# SPDX-License-Identifier: Apache-2.0
"""The controller's death during traffic, and its successor."""

from __future__ import annotations

import pytest
from traffic import SECONDS, calling, given_back, nothing_lost, serving, wait_for_rings

from ivc.lab.control import SERVER_HOST
from ivc.lab.xen.control import COMMAND_LINE, running_controller
from ivc.lab.xen.counts import look
from ivc.lab.xen.lab import XenLab

pytestmark = pytest.mark.full  # minutes of a guest's life


def test_without_its_controller_traffic_goes_on_and_the_next_one_takes_over(lab: XenLab) -> None:
    before = look(lab)
    with serving(lab), calling(lab) as client:
        with running_controller(lab) as first:
            wait_for_rings(lab, client)
            lab.dom0.run(["pkill", "-KILL", "-f", COMMAND_LINE])
            first.wait(SECONDS)
        with running_controller(lab):
            wait_for_rings(lab, client)
            nothing_lost(lab, client)
    given_back(lab, before)


def test_a_program_that_waits_without_its_controller_takes_little_of_its_guest(
    lab: XenLab,
) -> None:
    """It looks for the next one every two seconds, and sleeps in between."""
    guest = lab.domU(SERVER_HOST)
    used = "sleep {}; cut -d' ' -f14,15 /proc/$(pgrep pingpong)/stat"
    with serving(lab):
        with running_controller(lab) as controller:
            lab.dom0.run(["pkill", "-KILL", "-f", COMMAND_LINE])
            controller.wait(SECONDS)
        before = guest.shell(used.format(3)).split()
        after = guest.shell(used.format(6)).split()
    ticks = sum(map(int, after)) - sum(map(int, before))  # of 10 ms
    assert ticks <= 100
