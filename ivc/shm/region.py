# SPDX-License-Identifier: Apache-2.0
"""Lay out the two regions of a new flow.

The controller writes what these functions return to the start of fresh, zeroed memory: of
``sender_region_size(order)`` bytes for the sender, ``RECEIVER_REGION_SIZE`` for the receiver.
"""

from dataclasses import dataclass

from ivc.shm.layout import PAGE, RING_ABI_MAJOR, RING_ABI_MINOR, RING_MAGIC, Ctrl, RegionState, Role
from ivc.shm.packing import packer

_CTRL = packer(Ctrl)


@dataclass(frozen=True, slots=True)
class Flow:
    """The static facts of a flow, repeated in both control pages (core/layout.h).

    ``order`` is log2 of the bytes of records, 12 to 26; ``epoch`` is random and not 0. Where an
    address or port is 0 a record may name any; elsewhere it may name no other.
    """

    flow_id: int
    epoch: int
    order: int
    src_node: int = 0
    dst_node: int = 0
    src_ip: int = 0
    dst_ip: int = 0
    src_port: int = 0
    dst_port: int = 0


def sender_page(flow: Flow, start: int = 0) -> bytes:
    """Return the sender's control page. Indices count from ``start``, a multiple of 32."""
    return _page(flow, Role.SENDER, start)


def receiver_page(flow: Flow, start: int = 0) -> bytes:
    """Return the receiver's control page, armed: the very first record rings the doorbell."""
    return _page(flow, Role.RECEIVER, start)


def _page(flow: Flow, role: Role, start: int) -> bytes:
    line = _CTRL.pack(
        RING_MAGIC,
        RING_ABI_MAJOR,
        RING_ABI_MINOR,
        role,
        flow.order,
        0,
        flow.flow_id,
        flow.epoch,
        flow.src_node,
        flow.dst_node,
        flow.src_ip,
        flow.dst_ip,
        flow.src_port,
        flow.dst_port,
        start,
        start,
        start,
        start,
        RegionState.INIT,
        0,
        0,
    )
    return line.ljust(PAGE, b"\0")
