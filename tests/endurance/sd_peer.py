# SPDX-License-Identifier: Apache-2.0
"""Service discovery in a hurry: pysomeip's own, offering and subscribing fifty times a second.

    sd_peer.py ADDRESS OWN_SERVICE WANTED_SERVICE

Offers go by multicast, subscriptions and acknowledgements by unicast. pysomeip itself judges
whether the peer has rebooted; beside it the session ids of every sender are watched, which must
come one by one. Prints "found" once it is subscribed, then one JSON line per line of input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from socket import AF_INET

from someip.config import Eventgroup
from someip.header import L4Protocols, SOMEIPHeader
from someip.sd import ServiceDiscoveryProtocol, Timings
from someip.service import SimpleEventgroup, SimpleService

GROUP, PORT = "224.224.224.245", 30490
EVERY_S = 0.02
TIMINGS = Timings(
    INITIAL_DELAY_MAX=0.05,
    REQUEST_RESPONSE_DELAY_MIN=0.0,
    REQUEST_RESPONSE_DELAY_MAX=0.001,
    CYCLIC_OFFER_DELAY=EVERY_S,
    SUBSCRIBE_REFRESH_INTERVAL=EVERY_S,
    SEND_COLLECTION_TIMEOUT=0.001,
)


class Discovery(ServiceDiscoveryProtocol):  # type: ignore[misc]  # pysomeip is untyped
    """Counts messages, reboots, and session ids that do not follow each other."""

    def __init__(self, group: tuple[str, int]) -> None:
        super().__init__(group, timings=TIMINGS)
        self.reboots = 0
        self.jumps: list[tuple[str, bool, int, int]] = []
        self.messages = {True: 0, False: 0}
        self._last: dict[tuple[str, bool], int] = {}

    def reboot_detected(self, addr: tuple[str, int]) -> None:
        self.reboots += 1
        super().reboot_detected(addr)

    def message_received(
        self, someip_message: SOMEIPHeader, addr: tuple[str, int], multicast: bool
    ) -> None:
        key, session = (addr[0], multicast), someip_message.session_id
        last = self._last.get(key)
        if last is not None and session != last % 0xFFFF + 1:
            self.jumps.append((*key, last, session))
        self._last[key] = session
        self.messages[multicast] += 1
        super().message_received(someip_message, addr, multicast)


class Offered(SimpleService):  # type: ignore[misc]  # pysomeip is untyped
    """A service with one eventgroup, and nothing behind it."""

    version_major, version_minor = 1, 0

    def __init__(self, instance_id: int) -> None:
        super().__init__(instance_id)
        self.register_eventgroup(SimpleEventgroup(self, 1))


async def main(address: str, own: int, wanted: int) -> None:
    _, _, discovery = await Discovery.create_endpoints(AF_INET, address, GROUP, port=PORT)
    assert isinstance(discovery, Discovery)
    Offered.service_id = own
    offered = await Offered.start_datagram_endpoint(
        1, discovery.announcer, local_addr=(address, own)
    )
    discovery.discovery.find_subscribe_eventgroup(
        Eventgroup(
            service_id=wanted,
            instance_id=1,
            major_version=1,
            eventgroup_id=1,
            sockname=offered.transport.get_extra_info("sockname"),
            protocol=L4Protocols.UDP,
        )
    )
    discovery.start()
    while not all(discovery.messages.values()):
        await asyncio.sleep(0.01)
    print("found", flush=True)
    ended = asyncio.Event()

    def order() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            ended.set()
            return
        record = {
            "reboots": discovery.reboots,
            "jumps": discovery.jumps,
            "multicast": discovery.messages[True],
            "unicast": discovery.messages[False],
        }
        print(json.dumps(record), flush=True)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), order)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
