# SPDX-License-Identifier: Apache-2.0
"""A client on pysomeip (pure Python, asyncio). See `common` for the service."""

from __future__ import annotations

import asyncio
import time

from someip.config import Eventgroup, Service
from someip.header import L4Protocols, SOMEIPHeader, SOMEIPMessageType
from someip.sd import ClientServiceListener, SOMEIPDatagramProtocol

from ivc.lab.peers import common
from ivc.lab.peers.pysomeip_common import end_of_input, open_discovery


class Offers(ClientServiceListener):  # type: ignore[misc]  # pysomeip is untyped
    """Remembers where the service is."""

    def __init__(self) -> None:
        self.server: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    def service_offered(self, service: Service, source: tuple[str, int]) -> None:
        if not self.server.done():
            endpoint = service.options_1[0]
            self.server.set_result((str(endpoint.address), endpoint.port))

    def service_stopped(self, service: Service, source: tuple[str, int]) -> None:
        pass


class Calls(SOMEIPDatagramProtocol):  # type: ignore[misc]  # pysomeip is untyped
    """The client's one socket: calls, answers, and events."""

    def __init__(self, options: common.Options, report: common.Report) -> None:
        super().__init__()
        self.events = common.Tally()
        self.rtt: list[float] = []
        self._options = options
        self._report = report
        self._answers = common.Tally()
        self._number = -1
        self._answered = asyncio.Event()
        self._sent_at = 0.0

    def message_received(
        self, someip_message: SOMEIPHeader, addr: tuple[str, int], multicast: bool
    ) -> None:
        now = time.perf_counter()
        number = common.number_of(someip_message.payload)
        if someip_message.message_type == SOMEIPMessageType.NOTIFICATION:
            self.events.count(number)
            return
        self._answers.count(number)
        if number == self._number:
            self.rtt.append(now - self._sent_at)
            self._answered.set()

    async def run(self, server: tuple[str, int]) -> None:
        """Make all calls, one after the other; late answers count as lost."""
        for number in range(self._options.count):
            self._call(number, server)
            try:
                await asyncio.wait_for(self._answered.wait(), common.ANSWER_SECONDS)
            except TimeoutError:
                continue
        self._report.received = self._answers.received
        self._report.twice = self._answers.twice
        self._report.lost = self._report.sent - self._answers.received

    def _call(self, number: int, server: tuple[str, int]) -> None:
        request = SOMEIPHeader(
            service_id=common.SERVICE,
            method_id=common.METHOD,
            client_id=1,
            session_id=number % 0xFFFF + 1,
            interface_version=common.MAJOR,
            message_type=SOMEIPMessageType.REQUEST,
            payload=common.numbered(number, self._options.payload),
        ).build()
        self._number = number
        self._answered.clear()
        self._report.sent += 1
        self._report.bytes_sent += len(request)
        self._sent_at = time.perf_counter()
        self.send(request, server)


async def call(options: common.Options) -> None:
    report = common.Report(peer="pysomeip_client")
    discovery = await open_discovery(options.address)
    _, calls = await Calls.create_unicast_endpoint(
        options, report, local_addr=(options.address, common.CLIENT_PORT)
    )
    offers = Offers()
    group = Eventgroup(
        service_id=common.SERVICE,
        instance_id=common.INSTANCE,
        major_version=common.MAJOR,
        eventgroup_id=common.EVENTGROUP,
        sockname=calls.transport.get_extra_info("sockname"),
        protocol=L4Protocols.UDP,
    )
    discovery.discovery.watch_service(group.as_service(), offers)
    discovery.discovery.find_subscribe_eventgroup(group)
    discovery.start()
    server = await asyncio.wait_for(offers.server, common.DISCOVERY_SECONDS)
    await asyncio.wait_for(discovery.acknowledged.wait(), common.DISCOVERY_SECONDS)
    await calls.run(server)
    expected = -(-options.count // common.EVENT_EVERY)
    deadline = time.monotonic() + common.ANSWER_SECONDS
    while calls.events.received < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    report.events = calls.events.received
    report.events_lost = expected - calls.events.received
    report.twice += calls.events.twice
    report.out_of_order = calls.events.out_of_order
    report.rtt_us = common.percentiles(calls.rtt)
    report.reboots_detected = discovery.reboots
    report.print()
    await end_of_input()
    discovery.stop()
    await asyncio.sleep(0.05)  # lets the StopSubscribe out
    calls.transport.close()


if __name__ == "__main__":
    asyncio.run(call(common.options("pysomeip_client")))
