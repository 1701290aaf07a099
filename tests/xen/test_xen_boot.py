# SPDX-License-Identifier: Apache-2.0
"""What every other test on Xen stands on: it boots, and the guests have what they need."""

from __future__ import annotations

import json
import socket

import pytest

from ivc.lab.hosts import LabError
from ivc.lab.xen.lab import GUESTS, DomU, XenLab
from ivc.lab.xen.machine import Machine

BOOT_SECONDS = 120
DEVICES = ("evtchn", "gntalloc", "gntdev", "xenbus")
PINGPONG = "/opt/ivc/build/pingpong"


def other(lab: XenLab, guest: DomU) -> DomU:
    (name,) = GUESTS.keys() - {guest.name}
    return lab.domU(name)


def pings(here: Machine, address: str) -> bool:
    command = ["busybox", "ping", "-c", "1", "-W", "10", address]
    return here.run(command, timeout=60, check=False).status == 0


def vif_packets(lab: XenLab, guest: DomU) -> int:
    return int(lab.dom0.shell(f"cat /sys/class/net/{guest.vif()}/statistics/rx_packets"))


def ping_pong(client: DomU, server: DomU, size: int) -> dict[str, object]:
    """The client's report of 200 round trips."""
    there = [server.address, "30509"]
    with server.popen([PINGPONG, "server", *there]) as running:
        running.wait_for("ready", timeout=60)
        command = [PINGPONG, "client", client.address, "30600", *there]
        done = client.run([*command, "--count", "200", "--size", str(size)], timeout=300)
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_it_boots_from_the_cache_in_two_minutes(lab: XenLab) -> None:
    assert lab.boot_seconds < BOOT_SECONDS


def test_it_is_xen_and_the_guests_are_paravirtual(lab: XenLab, guest: DomU) -> None:
    assert "xen_version            : 4.17" in lab.dom0.shell("xl info")
    assert guest.shell("cat /sys/hypervisor/type /sys/hypervisor/guest_type") == "xen\nPV"


def test_guests_reach_each_other_over_the_bridge(lab: XenLab, guest: DomU) -> None:
    assert pings(guest, other(lab, guest).address)


def test_nothing_inside_reaches_the_outside(lab: XenLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:  # 10.0.2.2 to QEMU's guests
        there = ("10.0.2.2", outside.getsockname()[1])
        script = f"import socket; socket.create_connection({there}, timeout=5)"
        assert lab.dom0.run(["python3", "-c", script], check=False).status == 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_guest_has_the_device(guest: DomU, device: str) -> None:
    guest.run(["test", "-c", f"/dev/xen/{device}"])


def test_a_guest_reads_its_own_name_from_xenstore(guest: DomU) -> None:
    assert guest.shell("xenstore-read name") == guest.name


@pytest.mark.parametrize("module", ["ivc.cli", "ivc.shm.ring", "opensomeip", "someip", "psutil"])
def test_the_project_and_its_stacks_import_in_a_guest(lab: XenLab, module: str) -> None:
    lab.domU("hmi").run(["python3", "-c", f"import {module}"], timeout=60)


def test_the_binding_of_the_rings_loads_in_dom0(lab: XenLab) -> None:
    lab.dom0.run(["python3", "-c", "from ivc.shm.library import lib"], timeout=60)


def test_the_wrapper_loads_in_a_guest(guest: DomU) -> None:
    done = guest.run(["cat", "/proc/self/maps"], env={"LD_PRELOAD": "/opt/ivc/build/libivcsock.so"})
    assert "libivcsock.so" in done.stdout


@pytest.mark.parametrize("size", [64, 1024])
def test_a_ping_pong_between_guests_gives_figures(lab: XenLab, size: int) -> None:
    report = ping_pong(lab.domU("hmi"), lab.domU("adas"), size)
    print(json.dumps(report))
    assert (report["sent"], report["lost"], report["strange"]) == (200, 0, 0)


def test_a_ping_pong_shows_in_the_counters_of_the_bridge(lab: XenLab, guest: DomU) -> None:
    before = vif_packets(lab, guest)
    ping_pong(lab.domU("hmi"), lab.domU("adas"), 64)
    assert vif_packets(lab, guest) - before >= 200


def test_commands_do_not_show_in_the_counters_of_the_bridge(lab: XenLab, guest: DomU) -> None:
    before = vif_packets(lab, guest)
    guest.put(bytes(500_000), "/tmp/half-a-megabyte")
    assert vif_packets(lab, guest) - before < 50


# ---- life and death: each leaves a guest that runs ------------------------------------------


@pytest.mark.full
def test_a_paused_guest_stands_still_until_it_is_unpaused(guest: DomU) -> None:
    guest.pause()
    try:
        assert not guest.answers(timeout=3)
    finally:
        guest.unpause()
    guest.wait_until_up()


@pytest.mark.full
def test_a_destroyed_guest_is_gone_and_can_be_created_again(lab: XenLab, guest: DomU) -> None:
    before = guest.domid()
    guest.destroy()
    with pytest.raises(LabError):
        guest.domid()
    guest.create()
    assert guest.domid() > before
    assert pings(guest, other(lab, guest).address)


@pytest.mark.full
def test_a_rebooted_guest_comes_back_under_a_new_id(lab: XenLab) -> None:
    guest = lab.domU("adas")
    guest.run(["touch", "/tmp/before"])
    before = guest.domid()
    guest.reboot()
    assert guest.domid() > before
    assert guest.run(["test", "-e", "/tmp/before"], check=False).status == 1


@pytest.mark.full
def test_a_saved_guest_goes_on_when_it_is_restored(lab: XenLab) -> None:
    guest = lab.domU("hmi")
    guest.run(["touch", "/tmp/before"])
    before = guest.domid()
    guest.save()
    guest.restore()
    assert guest.domid() > before
    guest.run(["test", "-e", "/tmp/before"])
    assert pings(guest, other(lab, guest).address)


@pytest.mark.full
def test_a_pvh_guest_has_the_devices_too(lab: XenLab) -> None:
    guest = lab.domU("hmi")
    guest.destroy()
    guest.create('type = "pvh"\n')
    try:
        assert guest.shell("cat /sys/hypervisor/guest_type") == "PVH"
        assert set(DEVICES) <= set(guest.shell("ls /dev/xen").split())
        assert pings(guest, other(lab, guest).address)
    finally:
        guest.destroy()
        guest.create()


def test_a_console_tells_of_the_guests_start(guest: DomU) -> None:
    assert "Run /init as init process" in guest.console()
