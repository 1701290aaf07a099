# SPDX-License-Identifier: Apache-2.0
"""Rings as the controller orders them: two regions, each with an owner and a peer."""

import secrets
from dataclasses import dataclass

from ivc.controller.protocol import Address
from ivc.platform import NOTHING, Attachment, Platform, Region, RegionSpec
from ivc.shm.gauge import Gauge
from ivc.shm.layout import RECEIVER_REGION_SIZE, Role, sender_region_size
from ivc.shm.record import Ident
from ivc.shm.region import Flow


@dataclass(frozen=True, slots=True)
class RingSpec:
    """What the static lines of a ring say, and which hosts its ends are on (None: here).

    `order` is log2 of the bytes of records; `bell` is what came with the receiving socket.
    """

    flow: int
    order: int
    source_node: int
    destination_node: int
    source: Address
    destination: Address
    sender: int | None
    receiver: int | None
    bell: Attachment = NOTHING


@dataclass(frozen=True, slots=True)
class Ring:
    """The two regions of a ring; whoever owns `sender` writes records."""

    ident: Ident
    sender: Region
    receiver: Region

    def gauge(self) -> Gauge | None:
        """What tells how full it is, and does not go with it; None where only its ends may look."""
        sender, receiver = self.sender.window(), self.receiver.window()
        if sender is not None and receiver is not None:
            return Gauge(sender, receiver, self.ident.order)
        for window in (sender, receiver):
            if window is not None:
                window.close()
        return None

    def close(self) -> None:
        """Let go of both regions. Idempotent."""
        self.sender.close()
        self.receiver.close()


def ring_bytes(order: int) -> int:
    """Bytes of both regions of a ring."""
    return sender_region_size(order) + RECEIVER_REGION_SIZE


def build_ring(platform: Platform, spec: RingSpec) -> Ring:
    """Create both regions. Raises `PlatformError`; nothing is left then."""
    flow = Flow(
        spec.flow,
        secrets.randbelow(0xFFFFFFFF) + 1,
        spec.order,
        spec.source_node,
        spec.destination_node,
        spec.source.ip,
        spec.destination.ip,
        spec.source.port,
        spec.destination.port,
    )
    sender = platform.create_region(RegionSpec(flow, Role.SENDER, spec.sender, spec.receiver))
    try:
        receiver = platform.create_region(
            RegionSpec(flow, Role.RECEIVER, spec.receiver, spec.sender, spec.bell)
        )
    except BaseException:
        sender.close()
        raise
    return Ring(Ident(flow.flow_id, flow.epoch, flow.order), sender, receiver)
