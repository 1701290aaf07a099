# SPDX-License-Identifier: Apache-2.0
"""What is heard of service discovery, and for how long it holds."""

import errno
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
from controller_lab import Lab, Starter

from ivc.controller.discovery import (
    ENDS_MAX,
    MESSAGE_MOST,
    READ_MOST,
    SAME_S,
    SPENT_MOST_S,
    TOPICS_MAX,
    Discovery,
    Tap,
    Topic,
)
from ivc.network import Path as FlowPath
from ivc.someip import EndpointOption, EntryType, Header, Message, SdMessage
from ivc.someip.options import Protocol
from ivc.someip.sd import FOREVER, STOP, Entry, EventgroupEntry, Run, ServiceEntry

SERVICE, GROUP = Topic(0x1234, 1), Topic(0x1234, 1, 0x11)
SD_A, SD_B = "10.0.0.1:30490", "10.0.0.2:30490"


def option(number: int, port: int) -> EndpointOption:
    return EndpointOption(IPv4Address(f"10.0.0.{number}"), Protocol.UDP, port)


def offer(ttl: int = 3, service: int = 0x1234) -> ServiceEntry:
    return ServiceEntry(EntryType.OFFER, service, 1, 1, ttl, 0, Run(0, 1))


def subscribe(ttl: int = 3) -> EventgroupEntry:
    return EventgroupEntry(EntryType.SUBSCRIBE, 0x1234, 1, 1, ttl, 0x11, run_1=Run(0, 1))


def message(entry: Entry, *options: EndpointOption, session: int = 1) -> bytes:
    """One of service discovery."""
    header = Header(0xFFFF, 0x8100, 0, session, 1, 1, 2, 0)
    return Message(header, SdMessage((entry,), options).build()).build()


def heard(*messages: bytes) -> Discovery:
    """All of them at time 0."""
    discovery = Discovery()
    for one in messages:
        discovery.hear(one, 0.0)
    return discovery


def test_an_offer_and_a_subscription_hold_as_long_as_they_say() -> None:
    discovery = heard(message(offer(3), option(2, 30509)), message(subscribe(5), option(1, 40000)))
    offered, asked = {SERVICE: ["10.0.0.2:30509/udp"]}, {GROUP: ["10.0.0.1:40000/udp"]}
    assert discovery.told(2.9) == offered | asked
    assert discovery.told(3.0) == asked
    assert discovery.told(5.0) == {}


def test_what_is_for_ever_has_no_end() -> None:
    assert SERVICE in heard(message(offer(FOREVER), option(2, 30509))).told(1e12)


def test_a_subscription_that_is_ended_leaves_the_others() -> None:
    joined = [message(subscribe(), option(number, 40000)) for number in (1, 3)]
    left = message(subscribe(STOP), option(1, 40000))
    assert heard(*joined, left).told(0.0) == {GROUP: ["10.0.0.3:40000/udp"]}


def test_an_offer_that_is_ended_without_saying_where_is_ended() -> None:
    stop = ServiceEntry(EntryType.OFFER, 0x1234, 1, 1, STOP, 0)
    assert heard(message(offer(), option(2, 30509)), message(stop)).told(0.0) == {}


@pytest.mark.parametrize("kind", [EntryType.FIND, EntryType.SUBSCRIBE_ACK])
def test_who_searches_or_answers_offers_nothing(kind: EntryType) -> None:
    entry: Any = offer() if kind is EntryType.FIND else subscribe()
    data = bytearray(message(entry, option(2, 30509)))
    data[16 + 8] = kind
    discovery = heard(bytes(data))
    assert discovery.heard and discovery.told(0.0) == {}


@pytest.mark.parametrize("data", [b"", bytes(16), bytes(40), message(offer(), option(2, 1))[:-3]])
def test_what_is_no_service_discovery_changes_nothing(data: bytes) -> None:
    discovery = heard(data)
    assert discovery.told(0.0) == {}


def test_nobody_can_make_it_remember_without_end() -> None:
    many = [message(offer(service=number), option(2, 1)) for number in range(TOPICS_MAX + 5)]
    ports = [message(offer(), option(2, port)) for port in range(1, ENDS_MAX + 5)]
    told = heard(*many, *ports).told(0.0)
    assert len(told) == TOPICS_MAX
    assert len(told[SERVICE]) == ENDS_MAX


# ---- by the relay -----------------------------------------------------------------------------


def service(lab: Lab) -> dict[str, Any]:
    (only,) = lab.status()["services"]
    assert isinstance(only, dict)
    return only


RELAYED = '[[rule]]\nservice = 0xffff\naction = "relay"\n'


@pytest.mark.parametrize(
    ("path", "mapping"), [(FlowPath.RELAY, ""), (FlowPath.DIRECT, RELAYED)], ids=["path", "rule"]
)
def test_the_relay_tells_what_it_passes_on(start: Starter, path: FlowPath, mapping: str) -> None:
    lab = start(path, mapping=mapping)
    client, server = lab.wrapper(1), lab.wrapper(2)
    assert service(lab)["discovery"] is None
    for wrapper, own, other in ((client, SD_A, SD_B), (server, SD_B, SD_A)):
        wrapper.bind(1, own)
        wrapper.want(1, own, other)
    client.await_active(SD_B)
    server.await_active(SD_A)
    server.send(SD_A, message(offer(), option(2, 30509)))
    client.send(SD_B, message(subscribe(), option(1, 40000)))
    assert client.receive(1)[1] == message(offer(), option(2, 30509))
    subscriber = {"eventgroup": 0x11, "endpoint": "10.0.0.1:40000/udp", "node": "a"}
    told = {"offered_at": ["10.0.0.2:30509/udp"], "subscribers": [subscriber]}
    lab.await_status(lambda status: status["services"][0]["discovery"] == told)
    relay = lab.status()["relay"]
    assert relay["copied"] == []
    assert [(kind["messages"], kind["copied"]) for kind in relay["kinds"]] == [(1, 0), (1, 0)]


def test_a_controller_without_loopback_runs_all_the_same(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "no such address")

    monkeypatch.setattr("ivc.controller.service.Tap", refuse)
    assert service(start(FlowPath.RELAY))["discovery"] is None


class Counting(Discovery):
    """Counts what it is given to read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []

    def hear(self, message: bytes, now: float) -> None:
        self.read.append(message)


@contextmanager
def tapped(discovery: Discovery) -> Iterator[Callable[[bytes], None]]:
    """What sends a message to a tap, and has it taken."""
    with selectors.DefaultSelector() as selector, socket.socket(type=socket.SOCK_DGRAM) as sender:
        tap = Tap(selector, discovery)

        def send(message: bytes) -> None:
            sender.sendto(message, (str(tap.endpoint.address), tap.endpoint.port))
            while ready := selector.select(0):
                for key, mask in ready:
                    key.data(mask)

        yield send
        tap.close()


def read_of(*messages: bytes) -> list[bytes]:
    """What of these a tap has read."""
    discovery = Counting()
    with tapped(discovery) as send:
        for one in messages:
            send(one)
    return discovery.read


def test_the_same_message_to_several_members_is_read_once() -> None:
    assert read_of(b"one", b"one", b"two", b"one") == [b"one", b"two"]


def test_what_is_larger_than_a_packet_is_not_read() -> None:
    whole = bytes(MESSAGE_MOST)
    assert read_of(whole + b"x", whole) == [whole]


def test_a_flood_is_taken_but_not_read() -> None:
    many = [b"%d" % number for number in range(4 * READ_MOST)]
    assert len(read_of(*many[: 2 * READ_MOST])) >= READ_MOST
    assert len(read_of(*many)) <= 2 * READ_MOST  # a second may end meanwhile


def test_who_restarts_says_the_same_and_is_heard() -> None:
    discovery = Discovery()
    offered = message(offer(FOREVER), option(2, 30509), session=1)
    with tapped(discovery) as send:
        send(offered)
        send(message(offer(STOP), option(2, 30509), session=2))
        time.sleep(SAME_S)
        send(offered)
    assert SERVICE in discovery.told(time.monotonic())


class Slow(Counting):
    """Takes long for each."""

    def hear(self, message: bytes, now: float) -> None:
        super().hear(message, now)
        time.sleep(SPENT_MOST_S / 2)


def test_messages_that_take_long_do_not_take_all_the_time() -> None:
    discovery = Slow()
    with tapped(discovery) as send:
        for number in range(20):
            send(b"%d" % number)
    assert len(discovery.read) <= 4  # a second may end meanwhile
