# SPDX-License-Identifier: Apache-2.0
"""Deaths during traffic: the survivors see what a network would show them, and nothing stays."""

from __future__ import annotations

from traffic import (
    before,
    calling,
    controlled,
    die,
    given_back,
    on_rings,
    serving,
    stop,
    wait_for_rings,
)

from ivc.lab.control import SERVER_HOST
from ivc.lab.xen.counts import Counts
from ivc.lab.xen.lab import XenLab

__all__ = ["before", "controlled"]  # fixtures

CYCLES = 10


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
        with on_rings(controlled):
            pass
    given_back(controlled, before)


def test_a_destroyed_guest_is_missed_and_its_next_life_is_used(
    controlled: XenLab, before: Counts
) -> None:
    guest = controlled.domU(SERVER_HOST)
    with on_rings(controlled) as client:
        die(controlled, guest)
        guest.create()
        with serving(controlled):
            wait_for_rings(controlled, client)
            seen = stop(controlled, client)
    assert seen["strange"] == 0 and seen["lost"] > 0
    given_back(controlled, before)
