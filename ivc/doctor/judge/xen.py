# SPDX-License-Identifier: Apache-2.0
"""On Xen: is what it stands on there, and permitted?"""

from collections.abc import Iterator
from pathlib import PurePath

from ivc.doctor.case import Case
from ivc.doctor.facts import Device, Xen
from ivc.doctor.finding import error
from ivc.errors import Finding
from ivc.network.model import XenDomain

_PAGE = 4096


def judge_xen(case: Case) -> Iterator[Finding]:
    """Only where the plan has guests, or where we are one."""
    machine = case.facts.machine
    guests = any(isinstance(case.domain(node.name), XenDomain) for node in case.nodes)
    if machine.xen is Xen.NONE:
        if guests:
            yield error(
                "no-xen",
                "/sys/hypervisor/type",
                "no Xen below this machine, and guests in the mapping",
                "dom0, or a guest",
                "run it in dom0; on a Linux host write host = ... instead of vm = ...",
            )
        return
    if not guests and machine.xen is Xen.DOM0:
        return
    for device in machine.devices:
        if device.problem:
            yield _device(device)
    if machine.page != _PAGE:
        yield error(
            "page-size",
            "this kernel",
            f"pages of {machine.page} bytes",
            f"{_PAGE}: that is what Xen grants",
            "boot a kernel with pages of 4 KiB",
        )
    if machine.served is False:
        yield error(
            "no-controller",
            "XenStore, ivc/controller of this domain",
            "nothing: no controller serves it",
            "what a controller in dom0 writes there",
            "start one in dom0, with this domain in its mapping (vm = NAME, as xl list shows it); "
            "if it was quiesced: ivc unquiesce NAME",
        )
    yield from _grants(case)


def _device(device: Device) -> Finding:
    name = PurePath(device.path).name
    if device.there:
        return error(
            "device-forbidden",
            device.path,
            device.problem,
            "to be allowed to open it",
            "run it as root, or give the device to a group the user is in (chgrp ivc, chmod 660; "
            "udev/rules.d/70-ivc.rules does so)",
        )
    if name == "xenbus":
        remedy = "boot a kernel with CONFIG_XEN_XENBUS_FRONTEND; is /dev a devtmpfs?"
    else:
        remedy = f"modprobe xen-{name}; if there is no such module, the kernel was built without it"
    return error("no-device", device.path, device.problem, "the device", remedy)


def _grants(case: Case) -> Iterator[Finding]:
    """What the mapping says of this guest's kernel."""
    grants, plan = case.facts.machine.grants, case.plan
    node = next((n for n in plan.nodes if n.name == case.focus), None) if plan else None
    limits = node.limits if node is not None else None
    if case.facts.machine.xen is not Xen.GUEST or grants is None or limits is None:
        return
    if limits.pages > grants:
        yield error(
            "few-grants",
            "/sys/module/xen_gntalloc/parameters/limit",
            f"{grants} pages",
            f"{limits.pages}, as the mapping says of node {case.focus}",
            "write the number there, or the smaller one as pages in the mapping",
        )
