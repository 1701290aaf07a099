# SPDX-License-Identifier: Apache-2.0
"""A guest is saved and restored during traffic, with `ivc quiesce` and without."""

from __future__ import annotations

import json
import os

import pytest
from traffic import (
    SECONDS,
    before,
    controlled,
    given_back,
    is_well,
    nothing_lost,
    on_rings,
    stop,
    wait_for_rings,
)

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.hosts import LabError
from ivc.lab.xen.control import read_status
from ivc.lab.xen.counts import Counts, look
from ivc.lab.xen.lab import XenLab

__all__ = ["before", "controlled"]  # fixtures

TIMES = 2 if os.environ.get("IVC_FULL") else 1
PAUSE_MOST = 60
"""Messages a pause may cost: the client sends one a second while nobody answers.

A request the saved guest had received is answered when it goes on: late, which counts as strange.
"""


def ivc(lab: XenLab, *command: str) -> str:
    return lab.dom0.run(["python3", "-m", "ivc", *command], SECONDS).stdout


def mapped(lab: XenLab) -> int:
    """Pages the guests map of each other."""
    guests = {CLIENT_HOST, SERVER_HOST}
    return sum(pages for ends, pages in look(lab).grants.items() if set(ends) == guests)


def are_well(lab: XenLab) -> None:
    """No kernel has anything to complain of."""
    for name in (SERVER_HOST, CLIENT_HOST):
        is_well(lab.domU(name))


def test_nothing_is_lost_when_a_guest_is_quiesced_and_served_again(
    controlled: XenLab, before: Counts
) -> None:
    with on_rings(controlled) as client:
        assert mapped(controlled) > 0
        for _ in range(TIMES):
            assert json.loads(ivc(controlled, "quiesce", SERVER_HOST, "--json"))["stage"] == "quiet"
            assert f"vm:{SERVER_HOST} (quiesced)" in ivc(controlled, "status")
            assert read_status(controlled)["flows"] == []
            assert mapped(controlled) == 0
            ivc(controlled, "unquiesce", SERVER_HOST)
            wait_for_rings(controlled, client)
        assert read_status(controlled)["quiesced"] == []
        nothing_lost(controlled, client)
    given_back(controlled, before)


@pytest.mark.parametrize(
    ("name", "commanded"),
    [
        pytest.param(SERVER_HOST, True, id="server-command"),
        pytest.param(CLIENT_HOST, False, id="client-watch"),
        pytest.param(CLIENT_HOST, True, id="client-command", marks=pytest.mark.full),
        pytest.param(SERVER_HOST, False, id="server-watch", marks=pytest.mark.full),
    ],
)
def test_a_guest_is_saved_and_restored_during_traffic(
    controlled: XenLab, before: Counts, name: str, commanded: bool
) -> None:
    guest = controlled.domU(name)
    old = guest.domid()
    with on_rings(controlled) as client:
        if commanded:
            ivc(controlled, "quiesce", name)
        guest.save()
        assert look(controlled).zombies == 0
        guest.restore()
        if commanded:
            ivc(controlled, "unquiesce", name)
        wait_for_rings(controlled, client)
        seen = stop(controlled, client)
    assert guest.domid() != old
    assert seen["lost"] < PAUSE_MOST
    are_well(controlled)
    given_back(controlled, before)


@pytest.mark.full
def test_a_guest_that_is_only_copied_goes_on_and_is_served_again(controlled: XenLab) -> None:
    """xl save -c: the same domain lives on."""
    guest = controlled.domU(SERVER_HOST)
    with on_rings(controlled) as client:
        controlled.dom0.run(["xl", "save", "-c", guest.name, "/tmp/copy"], SECONDS)
        controlled.dom0.run(["rm", "/tmp/copy"])
        wait_for_rings(controlled, client)
        seen = stop(controlled, client)
    assert seen["lost"] < PAUSE_MOST
    are_well(controlled)


@pytest.mark.full
def test_a_guest_that_does_not_let_go_is_not_saved(controlled: XenLab) -> None:
    """A stopped program cannot unmap: xl gives up after a minute, and the guest goes on."""
    guest = controlled.domU(SERVER_HOST)
    with on_rings(controlled) as client:
        guest.run(["pkill", "-STOP", "-x", "pingpong"])
        with pytest.raises(LabError, match="save"):
            guest.save()
        guest.run(["pkill", "-CONT", "-x", "pingpong"])
        wait_for_rings(controlled, client)
        stop(controlled, client)
    are_well(controlled)
