# SPDX-License-Identifier: Apache-2.0
"""A node outside the hypervisor's guests: a host on the Ethernet dom0's bridge leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ivc.lab.xen.lab import Place, XenLab
from ivc.lab.xen.machine import Process

NAME = "tcu"
ADDRESS = Place.number(3).data

_ADD = f"""set -e
modprobe veth
ip netns add {NAME}
ip link add {NAME} type veth peer name eth0 netns {NAME}
ip -n {NAME} link set lo up
ip -n {NAME} address add {ADDRESS} dev eth0
ip -n {NAME} link set eth0 up
ip -n {NAME} route add 224.0.0.0/4 dev eth0
"""
_PLUG_IN = f"ip link set {NAME} master br0 up\n"


class Outside:
    """The node. The network namespace it lives in is dom0's; nothing else of dom0 is."""

    def __init__(self, lab: XenLab) -> None:
        self._lab = lab

    def popen(self, argv: Sequence[str]) -> Process:
        """Start a program there, its input open until `Process.end_input`."""
        command = ["ip", "netns", "exec", NAME, *argv]
        return self._lab.dom0.popen(command, open_input=True)


@contextmanager
def outside(lab: XenLab, plugged_in: bool = True) -> Iterator[Outside]:
    """The node, for the time of the `with` block. Raises LabError.

    `plugged_in`: dom0's interface NAME, which leads to it, is a port of the bridge already.
    """
    lab.dom0.shell(_ADD + (_PLUG_IN if plugged_in else ""))
    try:
        yield Outside(lab)
    finally:
        lab.dom0.run(["ip", "netns", "delete", NAME])
