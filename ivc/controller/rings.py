# SPDX-License-Identifier: Apache-2.0
"""Rings as the controller builds them: two regions laid out, before anybody uses them."""

import secrets
from dataclasses import dataclass

from ivc.controller.protocol import Address
from ivc.platform import Platform, Region
from ivc.shm import region as layout
from ivc.shm.layout import RECEIVER_REGION_SIZE, sender_region_size


@dataclass(frozen=True, slots=True)
class RingSpec:
    """What the static lines of a ring say. `order` is log2 of the bytes of records."""

    flow: int
    order: int
    source_node: int
    destination_node: int
    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class RingMemory:
    """The two regions of a ring; whoever gets `sender` writes records."""

    flow: int
    order: int
    epoch: int
    sender: Region
    receiver: Region

    def close(self) -> None:
        """Let go of both regions. Idempotent."""
        self.sender.close()
        self.receiver.close()


def ring_bytes(order: int) -> int:
    """Bytes of both regions of a ring."""
    return sender_region_size(order) + RECEIVER_REGION_SIZE


def build_ring(platform: Platform, spec: RingSpec) -> RingMemory:
    """Create and lay out both regions. Raises `PlatformError`; nothing is left then."""
    epoch = secrets.randbelow(0xFFFFFFFF) + 1
    static = layout.Flow(
        spec.flow,
        epoch,
        spec.order,
        spec.source_node,
        spec.destination_node,
        spec.source.ip,
        spec.destination.ip,
        spec.source.port,
        spec.destination.port,
    )
    name = f"ivc-{spec.flow}"
    sender = platform.create_region(
        f"{name}-tx", sender_region_size(spec.order), layout.sender_page(static)
    )
    try:
        receiver = platform.create_region(
            f"{name}-rx", RECEIVER_REGION_SIZE, layout.receiver_page(static)
        )
    except BaseException:
        sender.close()
        raise
    return RingMemory(spec.flow, spec.order, epoch, sender, receiver)
