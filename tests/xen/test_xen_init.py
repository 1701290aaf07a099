# SPDX-License-Identifier: Apache-2.0
"""The controller under dom0's plain init script; under systemd: test_xen_systemd."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from init_files import install
from traffic import calling, nothing_lost, serving, wait_for_rings

from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.machine import Done

SCRIPT = "/etc/init.d/ivc-controller"
LOG = "/var/log/ivc-controller.log"
SECONDS = 120.0


@pytest.fixture(scope="module")
def installed(lab: XenLab) -> XenLab:
    install(lab, "sysv")
    return lab


@pytest.fixture(autouse=True)
def stopped(installed: XenLab) -> Iterator[None]:
    yield
    script(installed, "stop")


def script(lab: XenLab, verb: str) -> Done:
    return lab.dom0.run([SCRIPT, verb], SECONDS, check=False)


def pid(lab: XenLab) -> int:
    return int(lab.dom0.shell("cat /run/ivc-controller.pid"))


def answers(lab: XenLab) -> bool:
    done = lab.dom0.run(["/usr/bin/ivc", "status", "--json"], SECONDS, check=False)
    return done.status == 0 and "nodes" in json.loads(done.stdout)


def test_start_returns_when_the_controller_is_ready_and_stop_when_it_is_gone(
    installed: XenLab,
) -> None:
    assert script(installed, "start").status == 0
    assert answers(installed)
    assert script(installed, "status").status == 0
    controller = pid(installed)
    assert script(installed, "stop").status == 0
    assert installed.dom0.run(["test", "-d", f"/proc/{controller}"], check=False).status == 1
    assert script(installed, "status").status == 3


def test_a_second_start_leaves_the_first_alone(installed: XenLab) -> None:
    script(installed, "start")
    controller = pid(installed)
    assert script(installed, "start").status == 0
    assert pid(installed) == controller


def test_programs_talk_over_memory_and_go_on_when_it_is_killed_and_started_again(
    installed: XenLab,
) -> None:
    script(installed, "start")
    with serving(installed), calling(installed) as client:
        wait_for_rings(installed, client)
        installed.dom0.run(["kill", "-9", str(pid(installed))])
        assert script(installed, "status").status == 1
        assert script(installed, "start").status == 0
        wait_for_rings(installed, client)
        nothing_lost(installed, client)


def test_a_wrong_mapping_is_told_by_the_script_itself(installed: XenLab) -> None:
    installed.dom0.shell(
        "mv /etc/ivc/mapping.toml /etc/ivc/mapping.good; echo oops >/etc/ivc/mapping.toml"
    )
    try:
        done = script(installed, "start")
        assert done.status == 1 and "/etc/ivc/mapping.toml" in done.stderr
    finally:
        installed.dom0.shell("mv /etc/ivc/mapping.good /etc/ivc/mapping.toml")
