# SPDX-License-Identifier: Apache-2.0
"""dom0 as Debian starts it: systemd, udev and xen.service instead of the laboratory's script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ivc.lab.xen.lab import XenLab


@pytest.fixture(scope="module")
def systemd_lab() -> Iterator[XenLab]:
    with XenLab(systemd=True) as booted:
        yield booted


def test_all_units_have_started(systemd_lab: XenLab) -> None:
    done = systemd_lab.dom0.run(["systemctl", "is-system-running", "--wait"], 120, check=False)
    failed = systemd_lab.dom0.shell("systemctl --failed --no-pager --no-legend")
    assert (done.stdout.strip(), failed) == ("running", "")


def test_debians_own_service_runs_xens_daemons(systemd_lab: XenLab) -> None:
    assert systemd_lab.dom0.shell("systemctl is-active xen.service") == "active"
    systemd_lab.dom0.run(["pgrep", "xenconsoled"])


def test_guests_run_and_their_consoles_are_kept(systemd_lab: XenLab) -> None:
    for name in ("hmi", "adas"):
        guest = systemd_lab.domU(name)
        guest.run(["true"])
        assert "Run /init as init process" in guest.console()
