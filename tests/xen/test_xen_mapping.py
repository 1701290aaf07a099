# SPDX-License-Identifier: Apache-2.0
"""A mapping may name a domain by its name (as everywhere else here), its uuid or its id."""

from __future__ import annotations

from ivc.lab.xen.control import read_status, running_controller
from ivc.lab.xen.lab import XenLab


def test_domains_are_found_by_uuid_and_by_id(lab: XenLab) -> None:
    ids = {name: lab.domU(name).domid() for name in ("hmi", "adas")}
    uuid = lab.dom0.shell("xl vm-list | awk '$3 == \"hmi\" { print $1 }'")
    vms = {"hmi": f'{{ uuid = "{uuid}" }}', "adas": f"{{ id = {ids['adas']} }}"}
    with running_controller(lab, vms=vms):
        nodes = read_status(lab)["nodes"]
    assert {node["name"]: node["host"] for node in nodes if node["inside"]} == ids
