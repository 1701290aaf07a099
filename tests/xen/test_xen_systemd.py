# SPDX-License-Identifier: Apache-2.0
"""dom0 as Debian starts it: systemd, udev and xen.service instead of the laboratory's script.

The controller's unit is started here, and its device permissions are udev's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from init_files import install
from traffic import calling, nothing_lost, serving, wait_for_rings

from ivc.lab.xen.lab import XenLab

pytestmark = pytest.mark.full  # a boot of its own

UNIT = "ivc-controller.service"
SECONDS = 120.0


@pytest.fixture(scope="module")
def systemd_lab(other_lab: XenLab) -> Iterator[XenLab]:
    install(other_lab, "systemd")
    other_lab.dom0.shell("systemd-sysusers && systemctl daemon-reload && udevadm control --reload")
    other_lab.dom0.shell("udevadm trigger --action=add --settle --subsystem-match=misc", SECONDS)
    yield other_lab
    other_lab.dom0.run(["systemctl", "stop", UNIT], SECONDS)


def show(lab: XenLab, name: str) -> str:
    return lab.dom0.shell(f"systemctl show --value -p {name} {UNIT}")


def start(lab: XenLab) -> None:
    lab.dom0.run(["systemctl", "restart", UNIT], SECONDS)


def wait_started_again(lab: XenLab, before: str) -> None:
    deadline = time.monotonic() + SECONDS
    while show(lab, "ActiveState") != "active" or show(lab, "MainPID") == before:
        assert time.monotonic() < deadline, lab.dom0.shell(f"journalctl -u {UNIT}")
        time.sleep(5)  # each look costs dom0 what the controller needs


def test_all_units_have_started(systemd_lab: XenLab) -> None:
    done = systemd_lab.dom0.run(["systemctl", "is-system-running", "--wait"], SECONDS, check=False)
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


def test_systemd_finds_nothing_wrong_with_the_unit(systemd_lab: XenLab) -> None:
    done = systemd_lab.dom0.run(["systemd-analyze", "verify", UNIT], SECONDS)
    assert UNIT not in done.stderr


def test_start_returns_when_the_controller_is_ready(systemd_lab: XenLab) -> None:
    start(systemd_lab)
    assert show(systemd_lab, "ActiveState") == "active"
    systemd_lab.dom0.run(["/usr/bin/ivc", "status"], SECONDS)


def test_programs_talk_over_memory_and_go_on_when_it_is_killed(systemd_lab: XenLab) -> None:
    start(systemd_lab)
    with serving(systemd_lab), calling(systemd_lab) as client:
        wait_for_rings(systemd_lab, client)
        before = show(systemd_lab, "MainPID")
        systemd_lab.dom0.run(["kill", "-9", before])
        wait_started_again(systemd_lab, before)
        wait_for_rings(systemd_lab, client)
        nothing_lost(systemd_lab, client)


def test_a_wrong_mapping_is_not_tried_again_and_again(systemd_lab: XenLab) -> None:
    mapping = "/etc/ivc/mapping.toml"
    systemd_lab.dom0.shell(f"cp {mapping} /tmp/good && echo oops >{mapping}")
    try:
        assert systemd_lab.dom0.run(["systemctl", "restart", UNIT], SECONDS, check=False).status
        assert show(systemd_lab, "ActiveState") == "failed"
        assert show(systemd_lab, "NRestarts") == "0"
    finally:
        systemd_lab.dom0.shell(f"cp /tmp/good {mapping}; systemctl reset-failed {UNIT}")


def test_of_the_devices_it_may_open_only_what_it_works_with(systemd_lab: XenLab) -> None:
    allowed = show(systemd_lab, "DeviceAllow").splitlines()
    assert {line.split()[0] for line in allowed if "/dev/xen" in line} == {
        f"/dev/xen/{name}" for name in ("evtchn", "gntdev", "gntalloc", "xenbus")
    }


@pytest.mark.parametrize("name", ["evtchn", "gntdev", "gntalloc", "xenbus"])
def test_the_group_may_use_what_shares_memory(systemd_lab: XenLab, name: str) -> None:
    assert systemd_lab.dom0.shell(f"stat -c '%G %a' /dev/xen/{name}") == "ivc 660"


@pytest.mark.parametrize("name", ["privcmd", "hypercall"])
def test_what_rules_the_domain_stays_roots(systemd_lab: XenLab, name: str) -> None:
    assert systemd_lab.dom0.shell(f"stat -c '%U %G %a' /dev/xen/{name}") == "root root 600"


def test_the_modules_are_loaded_by_systemd(systemd_lab: XenLab) -> None:
    systemd_lab.dom0.run(["systemctl", "restart", "systemd-modules-load.service"], SECONDS)
    loaded = systemd_lab.dom0.shell("journalctl -b -u systemd-modules-load.service; lsmod")
    assert "xen_gntalloc" in loaded and "Failed to find module" not in loaded
