# SPDX-License-Identifier: Apache-2.0
"""What both pysomeip peers need: service discovery that counts reboots."""

from __future__ import annotations

import asyncio
import os
import sys
from socket import AF_INET

from someip.header import SOMEIPSDEntry, SOMEIPSDEntryType, SOMEIPSDHeader
from someip.sd import ServiceDiscoveryProtocol, Timings

from ivc.lab.peers import common


class Discovery(ServiceDiscoveryProtocol):  # type: ignore[misc]  # pysomeip is untyped
    """pysomeip's own service discovery; tells of reboots and acknowledgements."""

    def __init__(self, group: tuple[str, int]) -> None:
        super().__init__(group, timings=Timings(INITIAL_DELAY_MAX=0.05))
        self.reboots = 0
        self.acknowledged = asyncio.Event()

    def reboot_detected(self, addr: tuple[str, int]) -> None:
        self.reboots += 1
        super().reboot_detected(addr)

    def sd_message_received(
        self, sdhdr: SOMEIPSDHeader, addr: tuple[str, int], multicast: bool
    ) -> None:
        if any(_acknowledges(entry) for entry in sdhdr.entries):
            self.acknowledged.set()
        super().sd_message_received(sdhdr, addr, multicast)


def _acknowledges(entry: SOMEIPSDEntry) -> bool:
    return bool(entry.sd_type == SOMEIPSDEntryType.SubscribeAck and entry.ttl > 0)


async def open_discovery(address: str) -> Discovery:
    """Open the unicast and the multicast socket of service discovery."""
    _, _, discovery = await Discovery.create_endpoints(
        AF_INET, address, common.SD_GROUP, port=common.SD_PORT
    )
    assert isinstance(discovery, Discovery)
    return discovery


async def end_of_input() -> None:
    """Wait until standard input ends, in the program's own event loop."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()

    loop.add_reader(sys.stdin.fileno(), readable)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
