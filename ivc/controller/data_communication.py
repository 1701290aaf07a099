# SPDX-License-Identifier: Apache-2.0
"""The Data Communication Controller: which path a flow takes, and what relays let through.

A relayed flow is two rings with the controller between them. Records are passed on as they are by
the C loop of core/relay.h, which goes by a table of kinds (service, method, client, type). The
first message of a kind comes here: its header is decoded with `construct`, it is decided what
becomes of the kind, and the loop goes on by the table until there is a new plan.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from ivc import someip
from ivc.controller.event_handler import EventHandler
from ivc.controller.protocol import Address
from ivc.controller.rings import Ring
from ivc.network import Endpoint, Path, Protocol
from ivc.plan import Decision, Plan
from ivc.shm.layout import RECORD_ALIGN, RegionState
from ivc.shm.relay import Action, Call, Counts, Loop, Relayed, Result
from ivc.shm.ring import Receiver, Sender

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """What was decided on. `header` is that of the first message; None: no SOME/IP message."""

    header: someip.Header | None
    counts: Counts


@dataclass(slots=True, eq=False)
class Relay:
    """The controller's part of one relayed flow: the rings of both hops.

    The ends of ours are there as soon as both hops are linked, and then the loop's.
    """

    flow: int
    first: Ring
    second: Ring
    receiver: Receiver | None = None
    sender: Sender | None = None
    relayed: Relayed | None = None
    poisoned: Callable[[], None] = lambda: None


class DataCommunicationController:
    """Decides paths by the plan, and about every kind of message that is relayed."""

    def __init__(self, plan: Plan, events: EventHandler) -> None:
        self.plan = plan
        self.kinds: dict[int, Kind] = {}
        self._events = events
        self._relays: dict[int, Relay] = {}
        self._dropped = 0

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

    def replan(self, plan: Plan) -> None:
        """From now on decide by `plan`, also about kinds decided on before."""
        self.plan = plan
        if self._events.loop is not None:
            self._events.loop.ask_again()

    # ---- life of a relay

    def open(self, flow: int, first: Ring, second: Ring) -> Relay:
        """Take our regions of both hops: read from `first`, write to `second`.

        The rings are the relay's then. Raises `PlatformError` or `OSError`.
        """
        self._start()
        first.receiver.map()
        second.sender.map()
        first.receiver.bell()
        return Relay(flow, first, second)

    def link(self, relay: Relay, poisoned: Callable[[], None]) -> None:
        """Both wrappers have mapped theirs: attach and let the loop have it.

        `poisoned` is called when an end breaks the rules. Raises `RingError`, `PlatformError`
        or `OSError`; `close` it then.
        """
        first, second = relay.first, relay.second
        heard, rung = first.receiver.bell(), second.receiver.bell()
        relay.receiver = Receiver(first.receiver.map(), first.sender.map(), first.ident)
        relay.sender = Sender(second.sender.map(), second.receiver.map(), second.ident)
        relay.poisoned = poisoned
        relay.relayed = Relayed(relay.flow, relay.receiver, relay.sender, heard, rung)
        self._relays[relay.flow] = relay
        self._start().add(relay.relayed)

    def close(self, relay: Relay) -> None:
        """Pass on what is still there, then let go of everything. Idempotent."""
        relayed, relay.relayed = relay.relayed, None
        if relayed is not None:
            del self._relays[relay.flow]
            loop = self._start()
            loop.remove(relayed)
            self._drain(loop, relayed, 1 << relay.first.ident.order)
            self._dropped += relayed.full
        for end in (relay.receiver, relay.sender):
            if end is not None:
                end.set_state(RegionState.CLOSED)
                end.close()
        relay.receiver = relay.sender = None
        relay.first.close()
        relay.second.close()

    def stop(self) -> None:
        """End the loop; all relays are closed. Idempotent."""
        self._events.close()

    # ---- kinds

    def judge(self, header: someip.Header | None) -> Action:
        """What becomes of messages of a kind on relayed flows; None: of what is no message."""
        return Action.RELAY

    @property
    def dropped(self) -> int:
        """Records no relay had room for, ever."""
        return self._dropped + sum(
            relay.relayed.full for relay in self._relays.values() if relay.relayed is not None
        )

    @property
    def forgotten(self) -> Counts | None:
        """What kinds had counted that are not in the table any more."""
        return self._events.loop.cleared if self._events.loop is not None else None

    def _start(self) -> Loop:
        return self._events.start(self._called)

    def _called(self, call: Call) -> None:
        if call.why is Result.POISONED:
            self._relays[call.flow].poisoned()
        else:
            self._settle(self._start(), call)

    def _settle(self, loop: Loop, call: Call) -> None:
        """Decide on a new kind and tell the loop. A table that is full is begun anew."""
        header = someip.parse_header(call.header)[0] if call.key else None
        action = self.judge(header)
        counts = loop.decide(call.key, action)
        if counts is None:
            loop.clear()
            self.kinds.clear()
            counts = loop.decide(call.key, action)
            assert counts is not None
        self.kinds[call.key] = Kind(header, counts)

    def _drain(self, loop: Loop, relayed: Relayed, size: int) -> None:
        """Pass on what a ring of `size` bytes can hold, and no more of what is added meanwhile."""
        end = relayed.messages + size // RECORD_ALIGN
        while relayed.messages < end:
            result = loop.turn(relayed)
            if isinstance(result, Call):
                self._settle(loop, result)
            elif result is not Result.MORE:
                break


def _endpoint(address: Address, protocol: Protocol = Protocol.UDP) -> Endpoint:
    return Endpoint(IPv4Address(address.ip), address.port, protocol)
