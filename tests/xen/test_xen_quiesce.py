# SPDX-License-Identifier: Apache-2.0
"""A guest is saved and restored during traffic, with and without `ivc quiesce`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from traffic import SECONDS, calling, carried, controlled, report, serving, wait_for_rings

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.hosts import LabError
from ivc.lab.xen.control import read_status
from ivc.lab.xen.counts import Counts, differences, take
from ivc.lab.xen.lab import XenLab, wait_until
from ivc.lab.xen.machine import Process

__all__ = ["controlled"]  # a fixture

pytestmark = pytest.mark.full

PAUSE_MOST = 60
"""Messages a pause may cost: the client sends one a second while nobody answers."""


@pytest.fixture
def before(controlled: XenLab) -> Counts:
    """Xen's counts without any traffic."""
    return take(controlled)


@contextmanager
def traffic(lab: XenLab) -> Iterator[Process]:
    """The client, on rings."""
    with serving(lab), calling(lab) as client:
        wait_for_rings(lab)
        yield client


def ivc(lab: XenLab, *command: str) -> str:
    return lab.dom0.run(["python3", "-m", "ivc", *command], SECONDS).stdout


def mapped(lab: XenLab, name: str) -> int:
    """Pages that a guest maps of others, or others map of it, but for those of its disks."""
    guests = {CLIENT_HOST, SERVER_HOST}
    return sum(pages for (owner, by), pages in take(lab).grants.items() if {owner, by} == guests)


def well(lab: XenLab, name: str) -> None:
    """Its kernel has nothing to complain of."""
    console = lab.domU(name).console()
    assert "Oops" not in console and "BUG" not in console and "WARNING:" not in console


def test_nothing_is_lost_when_a_guest_is_quiesced_and_served_again(controlled: XenLab) -> None:
    with traffic(controlled) as client:
        for _ in range(3):
            ivc(controlled, "quiesce", SERVER_HOST)
            assert read_status(controlled)["flows"] == []
            assert mapped(controlled, SERVER_HOST) == 0
            ivc(controlled, "unquiesce", SERVER_HOST)
            wait_for_rings(controlled)
        seen = report(client)
    assert (seen["lost"], seen["strange"]) == (0, 0)


@pytest.mark.parametrize("name", [SERVER_HOST, CLIENT_HOST])
@pytest.mark.parametrize("commanded", [True, False], ids=["command", "watch"])
def test_a_guest_is_saved_and_restored_during_traffic(
    controlled: XenLab, before: Counts, name: str, commanded: bool
) -> None:
    guest = controlled.domU(name)
    old = guest.domid()
    with traffic(controlled) as client:
        if commanded:
            ivc(controlled, "quiesce", name)
        guest.save()
        assert take(controlled).zombies == 0
        guest.restore()
        if commanded:
            ivc(controlled, "unquiesce", name)
        wait_for_rings(controlled)
        seen = report(client)
    assert guest.domid() != old
    assert seen["lost"] < PAUSE_MOST
    for each in (SERVER_HOST, CLIENT_HOST):
        well(controlled, each)
    wait_until(
        lambda: not list(differences(before, take(controlled))), "not all is given back", SECONDS
    )


def test_a_guest_that_is_only_copied_goes_on_and_is_served_again(controlled: XenLab) -> None:
    """xl save --checkpoint: the same domain lives on."""
    guest = controlled.domU(SERVER_HOST)
    with traffic(controlled) as client:
        controlled.dom0.run(["xl", "save", "-c", guest.name, "/tmp/copy"], SECONDS)
        controlled.dom0.run(["rm", "/tmp/copy"])
        wait_for_rings(controlled)
        seen = report(client)
    assert seen["lost"] < PAUSE_MOST
    well(controlled, SERVER_HOST)


def test_a_guest_that_does_not_let_go_is_not_saved(controlled: XenLab) -> None:
    """A stopped program cannot unmap: xl gives up after a minute, and the guest goes on."""
    guest = controlled.domU(SERVER_HOST)
    with traffic(controlled) as client:
        guest.run(["pkill", "-STOP", "pingpong"])
        with pytest.raises(LabError, match=r"acknowledge|suspend"):
            guest.save()
        guest.run(["pkill", "-CONT", "pingpong"])
        wait_for_rings(controlled)
        report(client)
    well(controlled, SERVER_HOST)


def test_what_is_quiesced_is_shown(controlled: XenLab) -> None:
    answer = json.loads(ivc(controlled, "quiesce", SERVER_HOST, "--json"))
    assert answer["stage"] == "quiet"
    assert f"vm:{SERVER_HOST} (quiesced)" in ivc(controlled, "status")
    ivc(controlled, "unquiesce", SERVER_HOST)
    assert carried(controlled) == 0
