# SPDX-License-Identifier: Apache-2.0
"""A client on opensomeip (C++). See `common` for the service.

The SD client of 0.2.0 advertises its own SD endpoint for events, so this client
listens there too: SD's socket is bound to the wildcard address and keeps the
multicast; the one below is bound to the unicast address and gets the events and
the acknowledgement of the subscription.
"""

from __future__ import annotations

import threading
import time

import opensomeip._opensomeip as stack

from ivc.lab.peers import common


class Listener(stack.ITransportListener):  # type: ignore[misc]  # an untyped extension class
    """A listener that cares for messages only."""

    def on_message_rejected(self, info: stack.MessageRejectionInfo) -> None:
        pass

    def on_connection_lost(self, endpoint: stack.Endpoint) -> None:
        pass

    def on_connection_established(self, endpoint: stack.Endpoint) -> None:
        pass

    def on_error(self, error: stack.Result) -> None:
        pass


class Events(Listener):
    """Counts events; knows when the subscription has been acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = common.Tally()
        self.acknowledged = threading.Event()

    def on_message_received(self, message: stack.Message, sender: stack.Endpoint) -> None:
        payload = bytes(message.payload)
        if message.method_id == common.EVENT:
            self.tally.count(common.number_of(payload))
        elif message.service_id == stack.SOMEIP_SD_SERVICE_ID and acknowledges(payload):
            self.acknowledged.set()


def acknowledges(sd: bytes) -> bool:
    """Whether the first entry of an SD payload is a positive SubscribeEventgroupAck."""
    return sd[8] == 0x07 and sd[17:20] != b"\0\0\0"


class Calls(Listener):
    """Makes one call after the other; the next leaves when the answer is in."""

    def __init__(
        self, transport: stack.UdpTransport, report: common.Report, options: common.Options
    ) -> None:
        super().__init__()
        self.rtt: list[float] = []
        self.done = threading.Event()
        self._transport = transport
        self._report = report
        self._options = options
        self._lock = threading.Lock()
        self._server: stack.Endpoint | None = None
        self._number = 0
        self._answers = common.Tally()
        self._sent_at = 0.0

    def run(self, server: stack.Endpoint) -> None:
        """Make all calls; calls without an answer in time are given up."""
        self._server = server
        with self._lock:
            self._call()
        while not self.done.wait(common.ANSWER_SECONDS / 4):
            with self._lock:
                if time.perf_counter() - self._sent_at > common.ANSWER_SECONDS:
                    self._next()
        self._report.received = self._answers.received
        self._report.twice = self._answers.twice
        self._report.lost = self._report.sent - self._answers.received

    def on_message_received(self, message: stack.Message, sender: stack.Endpoint) -> None:
        now = time.perf_counter()
        number = common.number_of(bytes(message.payload))
        with self._lock:
            self._answers.count(number)
            if number == self._number and not self.done.is_set():
                self.rtt.append(now - self._sent_at)
                self._next()

    def _next(self) -> None:
        self._number += 1
        if self._number < self._options.count:
            self._call()
        else:
            self.done.set()

    def _call(self) -> None:
        request = stack.Message(
            stack.MessageId(common.SERVICE, common.METHOD),
            stack.RequestId(0x0001, self._number % 0xFFFF + 1),
        )
        payload = common.numbered(self._number, self._options.payload)
        request.payload = payload
        self._report.sent += 1
        self._report.bytes_sent += common.HEADER_BYTES + len(payload)
        self._sent_at = time.perf_counter()
        self._transport.send_message(request, self._server)


def discover(address: str) -> tuple[stack.sd.SdClient, stack.Endpoint]:
    """Find the service; returns the SD client and the server's endpoint."""
    config = stack.sd.SdConfig()
    config.unicast_address = address
    config.unicast_port = common.SD_PORT
    config.multicast_address = common.SD_GROUP
    config.multicast_port = common.SD_PORT
    discovery = stack.sd.SdClient(config)
    if not discovery.initialize():
        raise SystemExit("service discovery does not start")
    offers: list[stack.sd.ServiceInstance] = []
    found = threading.Event()

    def offered(instance: stack.sd.ServiceInstance) -> None:
        offers.append(instance)
        found.set()

    discovery.subscribe_service(common.SERVICE, offered, lambda instance: None)
    if not found.wait(common.DISCOVERY_SECONDS):
        raise SystemExit("the service is not found")
    return discovery, stack.Endpoint(offers[0].ip_address, offers[0].port)


def subscribe(discovery: stack.sd.SdClient, events: Events) -> None:
    """Subscribe to the eventgroup and wait for the acknowledgement."""
    group = (common.SERVICE, common.INSTANCE, common.EVENTGROUP)
    discovery.subscribe_eventgroup(*group)
    deadline = time.monotonic() + common.DISCOVERY_SECONDS
    while not events.acknowledged.wait(0.01):
        # On loopback the acknowledgement comes to 127.0.0.1, SD's own socket.
        state = discovery.get_eventgroup_subscription_state(*group)
        if state == stack.sd.SubscriptionState.SUBSCRIBED:
            return
        if time.monotonic() > deadline:
            raise SystemExit("the subscription is not acknowledged")


def start(address: str, port: int, listener: Listener) -> stack.UdpTransport:
    """A transport on one port that feeds a listener."""
    config = stack.UdpTransportConfig()
    config.reuse_port = port == common.SD_PORT
    config.receive_buffer_size = 1 << 20
    transport = stack.UdpTransport(stack.Endpoint(address, port), config)
    transport.set_listener(listener)
    if transport.start() != stack.Result.SUCCESS:
        raise SystemExit("the transport does not start")
    return transport


def main() -> None:
    options = common.options("opensomeip_client")
    report = common.Report(peer="opensomeip_client")
    events = Events()
    event_transport = start(options.address, common.SD_PORT, events)
    discovery, server = discover(options.address)
    subscribe(discovery, events)
    call_transport = stack.UdpTransport(stack.Endpoint(options.address, common.CLIENT_PORT))
    calls = Calls(call_transport, report, options)
    call_transport.set_listener(calls)
    call_transport.start()
    calls.run(server)
    expected = -(-options.count // common.EVENT_EVERY)
    deadline = time.monotonic() + common.ANSWER_SECONDS
    while events.tally.received < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    report.events = events.tally.received
    report.events_lost = expected - events.tally.received
    report.twice += events.tally.twice
    report.out_of_order = events.tally.out_of_order
    report.rtt_us = common.percentiles(calls.rtt)
    report.print()
    common.wait_for_end()
    call_transport.stop()
    discovery.shutdown()
    event_transport.stop()


if __name__ == "__main__":
    main()
