# SPDX-License-Identifier: Apache-2.0
"""The Data Communication Controller: which path a flow takes, and the relay.

A relayed flow is two rings with the controller between them. The first message of a kind
(service, method, client, type) is decoded with `construct` and routed; the answer is kept in a
table, and the rest of that kind goes by the table. Records are passed on as they are: only what
belongs to a hop (sequence, epoch) is new.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from ivc import someip
from ivc.controller.event_handler import EventHandler
from ivc.controller.protocol import Address
from ivc.controller.rings import Ring
from ivc.network import Endpoint, Path, Protocol
from ivc.plan import Decision, Plan
from ivc.platform import Bell
from ivc.shm.errors import RingFull, RingPoisoned, TooLarge
from ivc.shm.layout import RegionState
from ivc.shm.ring import Receiver, Sender

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Records one relay passes on before others get their turn."""

KINDS_MAX: Final = 4096
"""Entries of the routing table; kinds beyond it are decoded every time, as strangers may be."""

_HEADER: Final = 16
_HEADER_OF_RECORD: Final = 32
"""Bytes of the smallest record (core/layout.h)."""


@dataclass(slots=True)
class Kind:
    """A routing table entry. `header` is None for what is no SOME/IP message."""

    header: someip.Header | None
    messages: int = 0
    bytes: int = 0


@dataclass(slots=True, eq=False)
class Relay:
    """The controller's part of one relayed flow: the rings of both hops.

    `bell` is what the sender rings, `target` what we ring; there is one as soon as both hops are
    linked.
    """

    flow: int
    first: Ring
    second: Ring
    bell: Bell
    target: Bell | None = None
    receiver: Receiver | None = None
    sender: Sender | None = None
    poisoned: Callable[[], None] = lambda: None
    messages: int = 0
    bytes: int = 0
    full: int = 0
    not_someip: int = 0


class DataCommunicationController:
    """Decides paths by the plan and runs every relay."""

    def __init__(self, plan: Plan, events: EventHandler) -> None:
        self.plan = plan
        self.kinds: dict[bytes, Kind] = {}
        self.totals: Counter[str] = Counter()
        self._events = events
        self._ready: dict[Relay, None] = {}

    # ---- paths

    def decide(self, source: Address, destination: Address) -> Decision:
        """What the plan says about datagrams from `source` to `destination`."""
        return self.plan.decide(_endpoint(source), _endpoint(destination))

    def decide_stream(self, one: Address, other: Address) -> Decision:
        """The same about a TCP connection between two ends; it holds for both ways."""
        return self.plan.decide(_endpoint(one, Protocol.TCP), _endpoint(other, Protocol.TCP))

    @staticmethod
    def on_rings(decision: Decision) -> bool:
        """Whether the decision is for rings at all."""
        return decision.path in (Path.DIRECT, Path.RELAY)

    @staticmethod
    def is_relayed(decision: Decision) -> bool:
        """Whether the payload shall come by here."""
        return decision.path is Path.RELAY

    # ---- life of a relay

    def open(self, flow: int, first: Ring, second: Ring) -> Relay:
        """Take our regions of both hops: read from `first`, write to `second`.

        The rings are the relay's then. Raises `PlatformError`.
        """
        first.receiver.map()
        second.sender.map()
        return Relay(flow, first, second, first.receiver.bell())

    def link(self, relay: Relay, poisoned: Callable[[], None]) -> None:
        """Both wrappers have mapped theirs: attach and begin to look.

        `poisoned` is called when an end breaks the rules. Raises `RingError`, `PlatformError`
        or `OSError`; `close` it then.
        """
        first, second = relay.first, relay.second
        relay.target = second.receiver.bell()
        relay.receiver = Receiver(first.receiver.map(), first.sender.map(), first.ident)
        relay.sender = Sender(second.sender.map(), second.receiver.map(), second.ident)
        relay.poisoned = poisoned
        self._events.watch(relay.bell, lambda: self._look(relay))
        self._look(relay)

    def close(self, relay: Relay) -> None:
        """Pass on what is still there, then let go of everything. Idempotent."""
        self._ready.pop(relay, None)
        if relay.receiver is not None and relay.sender is not None:
            with suppress(RingPoisoned):
                # What a ring can hold, and no more of what a sender adds meanwhile.
                self._forward(relay, (1 << relay.first.ident.order) // _HEADER_OF_RECORD)
        for end in (relay.receiver, relay.sender):
            if end is not None:
                end.set_state(RegionState.CLOSED)
                end.close()
        relay.receiver = relay.sender = relay.target = None
        self._events.forget(relay.bell)
        relay.first.close()
        relay.second.close()

    # ---- work

    @property
    def busy(self) -> bool:
        """Whether `run` has something to do right now."""
        return bool(self._ready)

    def run(self) -> None:
        """Give each relay that has something one turn of at most `BATCH` records."""
        for relay in list(self._ready):
            if relay.receiver is None:
                continue
            try:
                more = self._forward(relay, BATCH)
                if not more and relay.receiver.arm():
                    self._ready.pop(relay, None)
            except RingPoisoned:
                self._ready.pop(relay, None)
                relay.poisoned()

    def _look(self, relay: Relay) -> None:
        self._ready[relay] = None

    def _forward(self, relay: Relay, limit: int) -> bool:
        """Pass on up to `limit` records. True: there may be more. Raises `RingPoisoned`."""
        assert relay.receiver is not None and relay.sender is not None
        assert relay.target is not None
        passed = 0
        while passed < limit and (taken := relay.receiver.read()) is not None:
            record, payload = taken
            passed += 1
            self._account(relay, payload)
            try:
                relay.sender.write(record, payload)
            except (RingFull, TooLarge):
                relay.full += 1
                self.totals["full"] += 1
            if relay.sender.publish():
                relay.target.ring()
        if passed:
            # Last: what the sender sees as read has been passed on, also if we die in between.
            relay.receiver.publish()
        return passed == limit

    def _account(self, relay: Relay, payload: bytes) -> None:
        kind = self.route(payload)
        kind.messages += 1
        kind.bytes += len(payload)
        relay.messages += 1
        relay.bytes += len(payload)
        if kind.header is None:
            relay.not_someip += 1

    def route(self, payload: bytes) -> Kind:
        """The routing table's entry for a datagram; decoded if its kind is new.

        What is no SOME/IP message is counted as such and passed on with its flow. A datagram
        with several messages goes by its first one.
        """
        key = _key(payload)
        kind = self.kinds.get(key)
        if kind is None:
            kind = Kind(_decode(payload))
            if len(self.kinds) < KINDS_MAX:
                self.kinds[key] = kind
        return kind


def _key(payload: bytes) -> bytes:
    """Service, method, client, protocol version and type as they lie there; b"" if malformed."""
    if len(payload) < _HEADER:
        return b""
    length = int.from_bytes(payload[4:8], "big")
    if not 8 <= length <= len(payload) - 8:
        return b""
    return payload[0:4] + payload[8:10] + payload[12:13] + payload[14:15]


def _decode(payload: bytes) -> someip.Header | None:
    try:
        header = someip.peek(payload)
    except someip.ParseError:
        return None
    return header if header.protocol_version == 1 else None


def _endpoint(address: Address, protocol: Protocol = Protocol.UDP) -> Endpoint:
    return Endpoint(IPv4Address(address.ip), address.port, protocol)
