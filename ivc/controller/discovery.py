# SPDX-License-Identifier: Apache-2.0
"""What service discovery says, as far as it comes by the relay: who offers, who asks for events.

The loop sends a copy of each such message that it passes on to a socket of ours. They are claims of
programs, and whoever may send to our loopback address can add to them: they are shown, never used.
"""

import math
import selectors
import socket
import time
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple

from ivc.network import Endpoint
from ivc.network import Protocol as Transport
from ivc.someip import CodecError, EndpointOption, EntryType, SdMessage
from ivc.someip.options import Protocol
from ivc.someip.schema import HEADER_SIZE
from ivc.someip.sd import FOREVER, STOP, Entry, EventgroupEntry, ServiceEntry

TOPICS_MAX: Final = 4096
"""Offers and eventgroups remembered; beyond it the oldest is forgotten."""

ENDS_MAX: Final = 64
"""Endpoints remembered of each."""

READ_MOST: Final = 100
"""Different messages read in a second: more than that is nobody's service discovery."""

MESSAGE_MOST: Final = 1500
"""Bytes of one that is read: what fits a packet of Ethernet."""

SPENT_MOST_S: Final = 0.05
"""Time given to them in a second: one made for it may take as long as a hundred others."""

RECENT: Final = 512
"""Messages known again: one to a group comes once for each member of it."""

SAME_S: Final = 0.5
"""How long they are: who restarts says the same as before, and means it."""

BATCH: Final = 64
"""Messages taken before others get their turn."""


class Topic(NamedTuple):
    """A service instance that is offered, or one of its eventgroups that is asked for."""

    service: int
    instance: int
    eventgroup: int | None = None


class Discovery:
    """Endpoints by what they offer or ask for, each until a time. Pure: told what time it is."""

    def __init__(self) -> None:
        self.heard = False
        self._until: dict[Topic, dict[str, float]] = {}

    def hear(self, message: bytes, now: float) -> None:
        """A SOME/IP message of service discovery. What is none changes nothing."""
        try:
            said, _ = SdMessage.parse(message[HEADER_SIZE:])
        except CodecError:
            return
        self.heard = True
        for entry in said.entries:
            ends = [
                _text(option)
                for option in said.options_of(entry)
                if isinstance(option, EndpointOption)
            ]
            self._hear_entry(entry, ends, now)

    def told(self, now: float) -> dict[Topic, list[str]]:
        """What still holds."""
        holding = {
            topic: [end for end, until in ends.items() if until > now]
            for topic, ends in self._until.items()
        }
        return {topic: ends for topic, ends in holding.items() if ends}

    def _hear_entry(self, entry: Entry, ends: list[str], now: float) -> None:
        match entry:
            case ServiceEntry(type=EntryType.OFFER):
                topic = Topic(entry.service_id, entry.instance_id)
            case EventgroupEntry(type=EntryType.SUBSCRIBE):
                topic = Topic(entry.service_id, entry.instance_id, entry.eventgroup_id)
            case _:
                return
        if entry.ttl == STOP:
            self._forget(topic, ends)
            return
        known = self._until.setdefault(topic, {})
        for end in ends:
            known.pop(end, None)
            known[end] = math.inf if entry.ttl == FOREVER else now + entry.ttl
        _trim(known, ENDS_MAX)
        _trim(self._until, TOPICS_MAX)

    def _forget(self, topic: Topic, ends: list[str]) -> None:
        """Who ends an offer need not say where it was."""
        known = self._until.get(topic, {})
        for end in ends or list(known):
            known.pop(end, None)
        if not known:
            self._until.pop(topic, None)


def _trim(known: dict[Any, Any], most: int) -> None:
    """The oldest go."""
    while len(known) > most:
        del known[next(iter(known))]


def _text(option: EndpointOption) -> str:
    known = option.protocol in set(Protocol)
    name = Protocol(option.protocol).name.lower() if known else str(option.protocol)
    return f"{option.address}:{option.port}/{name}"


class Tap:
    """The socket that copies come to."""

    def __init__(self, selector: selectors.BaseSelector, discovery: Discovery) -> None:
        """Raises `OSError`; nothing is left then."""
        self._selector = selector
        self._discovery = discovery
        self._second, self._read, self._spent = 0, 0, 0.0
        self._recent: dict[bytes, float] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", 0))
        except OSError:
            self._socket.close()
            raise
        selector.register(self._socket, selectors.EVENT_READ, self._take)

    @property
    def endpoint(self) -> Endpoint:
        """Where to."""
        address, port = self._socket.getsockname()
        return Endpoint(IPv4Address(address), port, Transport.UDP)

    def _take(self, _: int) -> None:
        now = time.monotonic()
        if int(now) != self._second:
            self._second, self._read, self._spent = int(now), 0, 0.0
        with suppress(OSError):
            for _turn in range(BATCH):
                self._look_at(self._socket.recv(MESSAGE_MOST + 1, socket.MSG_DONTWAIT), now)

    def _look_at(self, message: bytes, now: float) -> None:
        if len(message) > MESSAGE_MOST:
            return
        if self._read >= READ_MOST or self._spent >= SPENT_MOST_S:
            return
        if now - self._recent.get(message, -math.inf) < SAME_S:
            return
        self._recent.pop(message, None)  # the oldest stand first
        self._recent[message] = now
        _trim(self._recent, RECENT)
        self._read += 1
        began = time.monotonic()
        self._discovery.hear(message, now)
        self._spent += time.monotonic() - began

    def close(self) -> None:
        """Hear no more."""
        self._selector.unregister(self._socket)
        self._socket.close()
