# SPDX-License-Identifier: Apache-2.0
"""What a plan takes of a guest's kernel."""

from ivc.network.limits import LIMITS, Share
from ivc.plan_guests import PlannedGuest, Rings, plan_guest


def guest(has: Share, sd: int = 2, events: int = 3) -> PlannedGuest:
    """A guest with one node of four sockets."""
    return plan_guest(
        "vm:a", {"a": 4}, has, {"sd": Rings(14, sd, sd), "event": Rings(16, events, events)}
    )


def test_the_need_is_every_region_and_every_event_channel() -> None:
    process, sd, events = 8, 2 * (5 + 1), 3 * (17 + 1)
    assert guest(LIMITS).need == Share(process + sd + events, 1 + 2 * 4 + 2 * 2 + 3 * 2)


def test_what_fits_is_as_large_as_asked_for() -> None:
    planned = guest(LIMITS)
    assert planned.orders == (("sd", 14), ("event", 16))
    assert planned.remarks == ()


def test_the_larger_class_is_made_smaller_and_the_remark_says_so_with_the_figure() -> None:
    planned = guest(Share(50, 1023))
    assert planned.orders == (("sd", 14), ("event", 15))
    assert planned.remarks == (
        "event rings are made smaller, 32768 bytes instead of 65536: 74 of 50 pages, 19 of 1023 "
        "ports",
    )


def test_what_does_not_fit_at_all_is_said_too() -> None:
    assert "do not all fit: 74 of 10 pages" in guest(Share(10, 1023)).remarks[-1]
    assert "do not all fit" in guest(Share(1024, 5)).remarks[-1]
