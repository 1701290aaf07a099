# SPDX-License-Identifier: Apache-2.0
"""A server on pysomeip (pure Python, asyncio). See `common` for the service."""

from __future__ import annotations

import asyncio
import collections

from someip.header import EndpointOption, SOMEIPHeader, SOMEIPMessageType
from someip.service import SimpleEventgroup, SimpleService

from ivc.lab.peers import common
from ivc.lab.peers.pysomeip_common import end_of_input, open_discovery


class Subscribers(SimpleEventgroup):  # type: ignore[misc]  # pysomeip is untyped
    """The eventgroup. pysomeip's notify_once() reads the value only after a thread
    has resolved the address, so that of two quick events one is lost: events
    are sent at once here, to the endpoints pysomeip keeps."""

    def subscribe(self, endpoint: EndpointOption) -> None:
        self.subscribed_endpoints.add(endpoint)
        self.has_clients.set()


class Echo(SimpleService):  # type: ignore[misc]  # pysomeip is untyped
    """Returns payloads; sends an event with every EVENT_EVERYth call."""

    service_id = common.SERVICE
    version_major = common.MAJOR
    version_minor = 0

    def __init__(self, instance_id: int) -> None:
        super().__init__(instance_id)
        self.report = common.Report(peer="pysomeip_server")
        self.calls: dict[tuple[str, int], common.Tally] = collections.defaultdict(common.Tally)
        self.group = Subscribers(self, common.EVENTGROUP)
        self.register_eventgroup(self.group)
        self.register_method(common.METHOD, self._call)

    def send(self, buf: bytes, remote: tuple[str, int] | None = None) -> None:
        self.report.bytes_sent += len(buf)
        super().send(buf, remote)

    def _call(self, message: SOMEIPHeader, caller: tuple[str, int]) -> bytes:
        payload = bytes(message.payload)
        number = common.number_of(payload)
        self.calls[caller].count(number)
        self.report.sent += 1
        if number % common.EVENT_EVERY == 0:
            self._notify(number // common.EVENT_EVERY, len(payload), caller[0])
        return payload

    def _notify(self, number: int, size: int, host: str) -> None:
        for endpoint in self.group.subscribed_endpoints:
            remote = (str(endpoint.address), endpoint.port)
            if remote[0] != host:
                continue
            _, session = self.session_storage.assign_outgoing(remote)
            event = SOMEIPHeader(
                service_id=common.SERVICE,
                method_id=common.EVENT,
                client_id=0,
                session_id=session,
                interface_version=common.MAJOR,
                message_type=SOMEIPMessageType.NOTIFICATION,
                payload=common.numbered(number, size),
            )
            self.send(event.build(), remote)
            self.report.events += 1


async def serve(options: common.Options) -> None:
    discovery = await open_discovery(options.address)
    echo = await Echo.start_datagram_endpoint(
        common.INSTANCE, discovery.announcer, local_addr=(options.address, common.SERVER_PORT)
    )
    discovery.start()
    await end_of_input()
    report = echo.report
    report.count_up(echo.calls.values())
    report.reboots_detected = discovery.reboots
    report.print()
    discovery.stop()
    echo.stop()
    await asyncio.sleep(0.05)  # lets the StopOffer out


if __name__ == "__main__":
    asyncio.run(serve(common.options("pysomeip_server")))
