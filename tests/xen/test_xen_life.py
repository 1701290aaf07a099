# SPDX-License-Identifier: Apache-2.0
"""Deaths during traffic: the survivors see what a network would show them, and nothing stays."""

from __future__ import annotations

import pytest
from traffic import SECONDS, calling, controlled, given_back, serving, stop, wait_for_rings

from ivc.lab.control import SERVER_HOST
from ivc.lab.xen.counts import Counts, look, take
from ivc.lab.xen.lab import XenLab, wait_until

__all__ = ["controlled"]  # a fixture

CYCLES = 10


@pytest.fixture(scope="module")
def before(controlled: XenLab) -> Counts:
    """Xen's counts without any traffic."""
    return take(controlled)


def test_a_program_that_waits_takes_no_time_of_its_guest(controlled: XenLab) -> None:
    """Once it spun: the timer that bounds the wait for the controller's answer was never read."""
    guest = controlled.domU(SERVER_HOST)
    used = "sleep {}; cut -d' ' -f14,15 /proc/$(pgrep pingpong)/stat"
    with serving(controlled):
        before = guest.shell(used.format(4)).split()  # longer than that patience
        after = guest.shell(used.format(3)).split()
    ticks = sum(map(int, after)) - sum(map(int, before))  # of 10 ms
    assert ticks <= 5


def test_a_killed_server_is_missed_and_its_successor_is_used(
    controlled: XenLab, before: Counts
) -> None:
    with serving(controlled) as server, calling(controlled) as client:
        wait_for_rings(controlled, client)
        server.kill()  # SIGKILL
        with serving(controlled):
            wait_for_rings(controlled, client)
            seen = stop(controlled, client)
    assert seen["strange"] == 0 and 0 < seen["lost"] < 30
    given_back(controlled, before)


def test_programs_that_come_and_are_killed_leave_nothing(
    controlled: XenLab, before: Counts
) -> None:
    for _ in range(CYCLES):
        with serving(controlled), calling(controlled) as client:
            wait_for_rings(controlled, client)
    given_back(controlled, before)


def test_a_destroyed_guest_is_missed_and_its_next_life_is_used(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with serving(controlled), calling(controlled) as client:
        wait_for_rings(controlled, client)
        guest.destroy()
        wait_until(lambda: look(controlled).zombies == 0, "the dead guest stays", SECONDS)
        guest.create()
        with serving(controlled):
            wait_for_rings(controlled, client)
            seen = stop(controlled, client)
    assert seen["strange"] == 0 and seen["lost"] > 0
    given_back(controlled, before)
