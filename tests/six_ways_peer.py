# SPDX-License-Identifier: Apache-2.0
"""A node on pysomeip: offers a service by UDP and TCP, calls the others' and hears their events.

    six_ways_peer.py NAME ADDRESS SERVICE WANTED WANTED

Prints "ready" once it has found both and both have subscribed to it; then each line of input is an
order, "go" (call everybody at once, notify everybody) or "report" (when all events are there),
answered with a line of JSON. Payloads say who sent them, so that whoever looks at the wire knows
them again.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time
from socket import AF_INET
from typing import Any

from someip import config
from someip.header import EndpointOption, L4Protocols, SOMEIPHeader, SOMEIPMessageType
from someip.sd import ClientServiceListener, ServiceDiscoveryProtocol, Timings
from someip.service import SimpleEventgroup, SimpleService

GROUP, SD_PORT = "224.224.224.245", 30490
PORT_OF_FIRST, FIRST = 30501, 0x1001
METHOD, EVENTGROUP, EVENT = 1, 1, 0x8001
CALLS, EVENTS = 50, 50
EVENT_PERIOD_S = 0.02  # the first ones find no ring yet
PATIENCE_S = 30  # with an answer or the last event, on an emulated machine that others use too
TIMINGS = Timings(
    INITIAL_DELAY_MAX=0.1,
    CYCLIC_OFFER_DELAY=0.5,
    ANNOUNCE_TTL=60,  # on a busy machine nothing is to run out
    SUBSCRIBE_TTL=60,
    SUBSCRIBE_REFRESH_INTERVAL=1,
)


class Discovery(ServiceDiscoveryProtocol):  # type: ignore[misc]  # pysomeip is untyped
    """Looks whether the session ids of every sender come one by one, as they were sent."""

    def __init__(self, group: tuple[str, int]) -> None:
        super().__init__(group, timings=TIMINGS)
        self.reboots = 0
        self.jumps: list[tuple[str, bool, int, int]] = []
        self.heard: collections.Counter[str] = collections.Counter()
        self._last: dict[tuple[str, bool], int] = {}

    def reboot_detected(self, addr: tuple[str, int]) -> None:
        self.reboots += 1
        super().reboot_detected(addr)

    def message_received(
        self, someip_message: SOMEIPHeader, addr: tuple[str, int], multicast: bool
    ) -> None:
        key, session = (addr[0], multicast), someip_message.session_id
        last = self._last.get(key)
        if last is not None and session != last + 1:
            self.jumps.append((*key, last, session))
        self._last[key] = session
        self.heard[addr[0]] += multicast
        super().message_received(someip_message, addr, multicast)


class Subscribers(SimpleEventgroup):  # type: ignore[misc]  # pysomeip is untyped
    """Without a first event, which would come as often as one subscribes."""

    def subscribe(self, endpoint: EndpointOption) -> None:
        self.subscribed_endpoints.add(endpoint)


class Echo(SimpleService):  # type: ignore[misc]  # pysomeip is untyped
    """Answers with what it was asked, by UDP and TCP; takes the others' events too."""

    version_major, version_minor = 1, 0

    def __init__(self, instance_id: int) -> None:
        super().__init__(instance_id)
        self.group = Subscribers(self, EVENTGROUP)
        self.register_eventgroup(self.group)
        self.register_method(METHOD, lambda message, _: message.payload)
        self.events: dict[str, list[str]] = collections.defaultdict(list)

    def as_config(self) -> config.Service:
        endpoint = self._endpoint
        stream = type(endpoint)(endpoint.address, L4Protocols.TCP, endpoint.port)
        return config.Service(
            self.service_id, 1, 1, 0, options_1=(endpoint, stream), eventgroups=frozenset({1})
        )

    def message_received(
        self, someip_message: SOMEIPHeader, addr: tuple[str, int], multicast: bool
    ) -> None:
        if someip_message.message_type == SOMEIPMessageType.NOTIFICATION:
            self.events[addr[0]].append(someip_message.payload.decode())
        else:
            super().message_received(someip_message, addr, multicast)

    async def notify(self, name: str) -> None:
        for number in range(EVENTS):
            payload = f"{name}>event:{number}.".encode()
            event = message(self.service_id, EVENT, number + 1, payload, "NOTIFICATION").build()
            for endpoint in self.group.subscribed_endpoints:
                self.send(event, (str(endpoint.address), endpoint.port))
            await asyncio.sleep(EVENT_PERIOD_S)


class Offers(ClientServiceListener):  # type: ignore[misc]  # pysomeip is untyped
    """Where services are, and how often each was found or lost."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.lost: list[str] = []
        self.ends: dict[int, dict[str, tuple[str, int]]] = {}

    def service_offered(self, service: config.Service, source: tuple[str, int]) -> None:
        self.found.append(f"{service.service_id:04x}@{source[0]}")
        self.ends[service.service_id] = {
            option.l4proto.name: (str(option.address), option.port) for option in service.options_1
        }

    def service_stopped(self, service: config.Service, source: tuple[str, int]) -> None:
        self.lost.append(f"{service.service_id:04x}@{source[0]}")


def message(service: int, method: int, session: int, payload: bytes, kind: str) -> SOMEIPHeader:
    return SOMEIPHeader(
        service_id=service,
        method_id=method,
        client_id=1,
        session_id=session,
        interface_version=1,
        message_type=SOMEIPMessageType[kind],
        payload=payload,
    )


async def call_udp(address: str, service: int, end: tuple[str, int], mark: str) -> int:
    """Ask one by one; the number of right answers, which is less if one is missing or wrong."""
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
            answers.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Client, local_addr=(address, 0))
    for number in range(CALLS):
        payload = f"{mark}:udp:{number}.".encode()
        transport.sendto(message(service, METHOD, number + 1, payload, "REQUEST").build(), end)
        answer, _ = SOMEIPHeader.parse(await asyncio.wait_for(answers.get(), PATIENCE_S))
        if answer.payload != payload:
            return number
    await asyncio.sleep(0.2)  # an answer too many would be here
    transport.close()
    return CALLS + answers.qsize()


async def call_tcp(address: str, service: int, end: tuple[str, int], mark: str) -> int:
    """The same over a connection."""
    reader, writer = await asyncio.open_connection(*end, local_addr=(address, 0))
    for number in range(CALLS):
        payload = f"{mark}:tcp:{number}.".encode()
        writer.write(message(service, METHOD, number + 1, payload, "REQUEST").build())
        answer = await asyncio.wait_for(SOMEIPHeader.read(reader), PATIENCE_S)
        if answer is None or answer.payload != payload:
            return number
    writer.close()
    return CALLS


async def serve_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (asked := await SOMEIPHeader.read(reader)) is not None:
        answer = message(asked.service_id, METHOD, asked.session_id, asked.payload, "RESPONSE")
        writer.write(answer.build())
    writer.close()


async def main(name: str, address: str, own: int, wanted: list[int]) -> None:
    _, _, discovery = await Discovery.create_endpoints(AF_INET, address, GROUP, port=SD_PORT)
    assert isinstance(discovery, Discovery)
    Echo.service_id = own
    place = (address, PORT_OF_FIRST + own - FIRST)
    await asyncio.start_server(serve_tcp, *place)
    echo = await Echo.start_datagram_endpoint(1, discovery.announcer, local_addr=place)
    offers = Offers()
    for service in wanted:
        discovery.discovery.watch_service(config.Service(service, 1, 1, 0), offers)
        group = config.Eventgroup(service, 1, 1, EVENTGROUP, place, L4Protocols.UDP)
        discovery.discovery.find_subscribe_eventgroup(group)
    discovery.start()
    while len(offers.ends) < 2 or len(echo.group.subscribed_endpoints) < 2:
        await asyncio.sleep(0.02)
    print("ready", flush=True)

    async def go() -> dict[str, Any]:
        calls = {
            f"{service:04x} {kind}": call(address, service, ends[kind], f"{name}>{service:x}")
            for service, ends in sorted(offers.ends.items())
            for kind, call in (("UDP", call_udp), ("TCP", call_tcp))
        }
        right = await asyncio.gather(*calls.values())
        await echo.notify(name)
        return dict(zip(calls, right, strict=True))

    async def report() -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while sum(map(len, echo.events.values())) < 2 * EVENTS and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.2)  # one too many would be here; offers and subscriptions are renewed
        return {
            "found": sorted(offers.found),
            "lost": offers.lost,
            "subscribers": len(echo.group.subscribed_endpoints),
            "events": echo.events,
            "jumps": discovery.jumps,
            "reboots": discovery.reboots,
            "heard": discovery.heard,
        }

    orders: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: orders.put_nowait(os.read(0, 64).decode().strip()))
    while order := await orders.get():
        print(json.dumps(await (go() if order == "go" else report())), flush=True)


if __name__ == "__main__":
    numbers = [int(word, 16) for word in sys.argv[3:]]
    asyncio.run(main(sys.argv[1], sys.argv[2], numbers[0], numbers[1:]))
