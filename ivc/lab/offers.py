# SPDX-License-Identifier: Apache-2.0
"""Who offers what, as an ECU outside hears it: service discovery's messages to a group.

The listener is a socket in the namespace of a host that is no node's, without the wrapper.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass

from ivc import someip
from ivc.lab.hosts import Host
from ivc.netns import inside
from ivc.network import Endpoint
from ivc.someip.header import SD_METHOD, SD_SERVICE

_DATAGRAM_MOST = 65535


@dataclass(frozen=True, slots=True)
class Offer:
    """What was offered; `endpoints` as "udp 10.77.0.2:30509". `withdrawn`: it was a stop offer."""

    service: int
    instance: int
    major: int
    minor: int
    source: str
    endpoints: tuple[str, ...]
    ttl: int

    @property
    def withdrawn(self) -> bool:
        """Whether it says that there is an end to it."""
        return self.ttl == someip.STOP

    @property
    def key(self) -> tuple[int, int, str]:
        """Which service instance, by whom."""
        return self.service, self.instance, self.source


class Listener:
    """Hears one group from the moment of creation on; `heard` is all there was, in order."""

    def __init__(self, host: Host, group: Endpoint) -> None:
        self.heard: list[Offer] = []
        self._until: dict[tuple[int, int, str], tuple[float, Offer]] = {}
        with inside(host.netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((str(group.address), group.port))
        member = group.address.packed + host.address.ip.packed
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def listen(self) -> None:
        """Take what has come since the last time."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self._socket.recvfrom(_DATAGRAM_MOST)
                for offer in offers_in(data, str(sender[0])):
                    self.heard.append(offer)
                    self._until[offer.key] = (time.monotonic() + _seconds(offer), offer)

    def current(self) -> list[Offer]:
        """What is offered now: neither withdrawn nor too long ago."""
        self.listen()
        now = time.monotonic()
        return [offer for end, offer in self._until.values() if end > now]


def offers_in(data: bytes, source: str) -> list[Offer]:
    """The offers of a datagram; none if it is nothing of service discovery."""
    with contextlib.suppress(someip.CodecError):
        return [
            offer
            for message in someip.parse_datagram(data)
            if (message.header.service_id, message.header.method_id) == (SD_SERVICE, SD_METHOD)
            for offer in _offers(someip.SdMessage.parse(message.payload)[0], source)
        ]
    return []


def _offers(message: someip.SdMessage, source: str) -> list[Offer]:
    return [
        Offer(
            entry.service_id,
            entry.instance_id,
            entry.major_version,
            entry.minor_version,
            source,
            tuple(map(_endpoint, endpoints)),
            entry.ttl,
        )
        for entry in message.entries
        if isinstance(entry, someip.ServiceEntry) and entry.type == someip.EntryType.OFFER
        for endpoints in (_endpoints(message, entry),)
    ]


def _endpoints(message: someip.SdMessage, entry: someip.Entry) -> list[someip.EndpointOption]:
    options = message.options_of(entry)
    return [option for option in options if isinstance(option, someip.EndpointOption)]


def _endpoint(option: someip.EndpointOption) -> str:
    protocol = "tcp" if option.protocol == someip.Protocol.TCP else "udp"
    return f"{protocol} {option.address}:{option.port}"


def _seconds(offer: Offer) -> float:
    return float("inf") if offer.ttl == someip.FOREVER else float(offer.ttl)
