# SPDX-License-Identifier: Apache-2.0
"""A server on opensomeip (C++). See `common` for the service.

The native module is used: the Python layer of 0.2.0 swallows errors and loses
reply payloads. Its SD server acknowledges subscriptions by itself and tells
nobody the subscriber's endpoint, so events go to the endpoint that calls; the
clients call from the endpoint they subscribe with.
"""

from __future__ import annotations

import collections
import datetime
import time

import opensomeip._opensomeip as stack

from ivc.lab.peers import common

WITHDRAWAL_SECONDS = 0.1
"""How long clients may take to answer a withdrawn offer."""


class Server(stack.ITransportListener):  # type: ignore[misc]  # an untyped extension class
    """Answers calls and sends events, inside the stack's receiving thread."""

    def __init__(self, transport: stack.UdpTransport, report: common.Report) -> None:
        super().__init__()
        self._transport = transport
        self._report = report
        self._calls: dict[tuple[str, int], common.Tally] = collections.defaultdict(common.Tally)

    def on_message_received(self, message: stack.Message, sender: stack.Endpoint) -> None:
        payload = bytes(message.payload)
        number = common.number_of(payload)
        self._calls[sender.address, sender.port].count(number)
        answer = stack.Message(message.message_id, message.request_id, stack.MessageType.RESPONSE)
        self._send(answer, payload, sender)
        self._report.sent += 1
        if number % common.EVENT_EVERY == 0:
            self._notify(number // common.EVENT_EVERY, len(payload), sender)

    def on_message_rejected(self, info: stack.MessageRejectionInfo) -> None:
        self._report.lost += 1

    def on_connection_lost(self, endpoint: stack.Endpoint) -> None:
        pass

    def on_connection_established(self, endpoint: stack.Endpoint) -> None:
        pass

    def on_error(self, error: stack.Result) -> None:
        pass

    def finish(self) -> None:
        """Move the counts into the report."""
        self._report.count_up(self._calls.values())

    def _notify(self, number: int, size: int, subscriber: stack.Endpoint) -> None:
        event = stack.Message(
            stack.MessageId(common.SERVICE, common.EVENT),
            stack.RequestId(0, number % 0xFFFF + 1),
            stack.MessageType.NOTIFICATION,
        )
        self._send(event, common.numbered(number, size), subscriber)
        self._report.events += 1

    def _send(self, message: stack.Message, payload: bytes, to: stack.Endpoint) -> None:
        message.payload = payload
        if self._transport.send_message(message, to) == stack.Result.SUCCESS:
            self._report.bytes_sent += common.HEADER_BYTES + len(payload)


def offer(address: str) -> stack.sd.SdServer:
    """Offer the service by service discovery."""
    config = stack.sd.SdConfig()
    config.unicast_address = address
    config.unicast_port = common.SD_PORT
    config.multicast_address = common.SD_GROUP
    config.multicast_port = common.SD_PORT
    config.initial_delay = datetime.timedelta(milliseconds=10)
    config.repetition_base = datetime.timedelta(milliseconds=30)
    config.cyclic_offer = datetime.timedelta(seconds=1)
    discovery = stack.sd.SdServer(config)
    if not discovery.initialize():
        raise SystemExit("service discovery does not start")
    instance = stack.sd.ServiceInstance(common.SERVICE, common.INSTANCE, common.MAJOR, 0)
    instance.ip_address = address
    instance.port = common.SERVER_PORT
    instance.ttl_seconds = 3
    endpoint = f"{address}:{common.SERVER_PORT}"
    if not discovery.offer_service(instance, endpoint, "", [common.EVENTGROUP]):
        raise SystemExit("the service cannot be offered")
    return discovery


def withdraw(discovery: stack.sd.SdServer) -> None:
    """Take the offer back, then end service discovery.

    SdServer.shutdown() of 0.2.0 waits for its receiving thread with a lock held that this
    thread needs to acknowledge a StopSubscribe: a client that answers the StopOffer of a
    shutdown at once hangs the server for good. So the answers get their time before.
    """
    discovery.stop_offer_service(common.SERVICE, common.INSTANCE)
    time.sleep(WITHDRAWAL_SECONDS)
    discovery.shutdown()


def main() -> None:
    options = common.options("opensomeip_server")
    report = common.Report(peer="opensomeip_server")
    transport = stack.UdpTransport(stack.Endpoint(options.address, common.SERVER_PORT))
    server = Server(transport, report)
    transport.set_listener(server)
    if transport.start() != stack.Result.SUCCESS:
        raise SystemExit("the transport does not start")
    discovery = offer(options.address)
    common.wait_for_end()
    withdraw(discovery)
    transport.stop()
    server.finish()
    report.print()


if __name__ == "__main__":
    main()
