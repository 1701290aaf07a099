# SPDX-License-Identifier: Apache-2.0
"""The Data Communication Controller: which path a flow takes, and what relays let through.

A relayed flow is two rings with the controller between them. Records are passed on as they are by
the C loop of core/relay.h, which goes by a table of kinds (way, service, method, client, type). The
first message of a kind comes here: its header is decoded with `construct`, the plan's rules say
what becomes of the kind, and the loop goes on by the table until there is a new plan.
"""

import itertools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final

from ivc import someip
from ivc.controller.discovery import Discovery
from ivc.controller.event_handler import EventHandler
from ivc.controller.faults import Fault, Faults
from ivc.controller.protocol import Address
from ivc.controller.rings import Ring
from ivc.network import Action as RuleAction
from ivc.network import Endpoint, Path, Protocol
from ivc.network.rules import TO_TRACE
from ivc.network.ways import Way, first_match
from ivc.plan import Decision, Plan
from ivc.shm.gauge import Level, level
from ivc.shm.layout import RECORD_ALIGN, RegionState
from ivc.shm.relay import Action, Call, Counts, Loop, Relayed, Result, copy_to
from ivc.shm.ring import Receiver, Sender
from ivc.shm.trace import TraceWriter

log = logging.getLogger(__name__)


DEEDS_MAX: Final = 1024
"""Deeds remembered of kinds that had to be forgotten; beyond it only the nodes are."""

DECISIONS_MAX: Final = 4096
"""Paths remembered, beyond which all are forgotten: a want is judged each time it is touched."""

HURRY_S: Final = 0.1
"""How long a flow that ends may take to deliver what faults hold back; the loop gives up sooner if
the receiver takes nothing."""


class Done(StrEnum):
    """What is told of messages rules have done it to; UNCOPIED: a copy could not be sent."""

    DENIED = "denied"
    AUDITED = "audited"
    COPIED = "copied"
    UNCOPIED = "uncopied"


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to which messages on which way.

    No ids: no SOME/IP message, or too many to remember.
    """

    done: Done
    source: str | None
    destination: str | None
    service: int | None
    method: int | None


@dataclass(frozen=True, slots=True)
class Kind:
    """What was decided on. `header` is that of the first message; None: no SOME/IP message.

    `way` is None for a flow whose nodes the plan does not have any more.
    """

    way: Way | None
    header: someip.Header | None
    counts: Counts

    @property
    def deeds(self) -> Counter[Deed]:
        """What was done to how many of its messages."""
        way, header = self.way, self.header
        name = (
            way.source if way is not None else None,
            way.destination if way is not None else None,
            header.service_id if header is not None else None,
            header.method_id if header is not None else None,
        )
        counts = {Deed(done, *name): getattr(self.counts, done.value) for done in Done}
        return +Counter(counts)


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a flow begins and ends; `member` is the receiving node's address. A `stream` is one way
    of a TCP connection.
    """

    source: Address
    destination: Address
    member: int
    stream: bool = False

    @property
    def protocol(self) -> Protocol:
        """What rules know it by."""
        return Protocol.TCP if self.stream else Protocol.UDP

    @property
    def back(self) -> tuple[Address, Address, bool]:
        """The key of those that lead the other way."""
        return self.destination, self.source, self.stream

    @property
    def key(self) -> tuple[Address, Address, bool]:
        """What those that lead the same way have in common."""
        return self.source, self.destination, self.stream


@dataclass(slots=True, eq=False)
class Relay:
    """The controller's part of one relayed flow: the rings of both hops.

    The ends of ours are there as soon as both hops are linked, and then the loop's. A stream that
    has `ended` passes nothing on any more; `at_end` is called then.
    """

    flow: int
    ends: Ends
    first: Ring
    second: Ring
    receiver: Receiver | None = None
    sender: Sender | None = None
    relayed: Relayed | None = None
    poisoned: Callable[[], None] = lambda: None
    ended: bool = False
    at_end: Callable[[], None] = lambda: None

    @property
    def levels(self) -> tuple[Level, ...]:
        """How full both rings are; none before they are linked."""
        if self.receiver is None or self.sender is None:
            return ()
        rx, tx = self.receiver.c, self.sender.c
        return (
            level(rx.peer.index, rx.own.index, self.first.ident.order),
            level(tx.own.index, tx.peer.index, self.second.ident.order),
        )


class DataCommunicationController:
    """Decides paths by the plan, and about every kind of message that is relayed."""

    def __init__(self, plan: Plan, events: EventHandler) -> None:
        self.plan = plan
        self.kinds: dict[tuple[int, int], Kind] = {}
        self.faults = Faults()
        self.discovery = Discovery()
        self.tap: Endpoint | None = None
        self._events = events
        self._numbers = itertools.count(1)
        self._ways: dict[Way | None, int] = {}
        self._deeds: Counter[Deed] = Counter()
        self._relays: dict[int, Relay] = {}
        self._decided: dict[tuple[Address, Address, int | None], Decision] = {}
        self._between: defaultdict[tuple[Address, Address, bool], list[Relay]] = defaultdict(list)
        self._dropped = 0
        self._trace: TraceWriter | None = None

    # ---- paths

    def decide(self, source: Address, destination: Address, member: int | None = None) -> Decision:
        """What the plan says about datagrams from `source` to `destination`.

        `member` is the address of a node that is in a group; without it, about the group.
        """
        key = source, destination, member
        if key not in self._decided:
            if len(self._decided) >= DECISIONS_MAX:
                self._decided.clear()
            node = IPv4Address(member) if member is not None else None
            self._decided[key] = self.plan.decide(_endpoint(source), _endpoint(destination), node)
        return self._decided[key]

    def decide_stream(self, one: Address, other: Address) -> Decision:
        """The same about a TCP connection between two ends; it holds for both ways."""
        return self.plan.decide(_endpoint(one, Protocol.TCP), _endpoint(other, Protocol.TCP))

    def answers(self, source: Address, destination: Address) -> bool:
        """Whether what is denied of these datagrams may have to be answered."""
        return self.plan.answers(_endpoint(source), _endpoint(destination))

    @staticmethod
    def on_rings(decision: Decision) -> bool:
        """Whether the decision is for rings at all."""
        return decision.order > 0

    @staticmethod
    def is_relayed(decision: Decision) -> bool:
        """Whether the payload shall come by here, be it to go on or to be dropped."""
        return decision.path in (Path.RELAY, Path.DENIED)

    def replan(self, plan: Plan) -> None:
        """From now on decide by `plan`, also about kinds decided on before."""
        self.plan = plan
        self._decided.clear()
        ways = {flow: self._way(relay.ends) for flow, relay in self._relays.items()}
        # A number is never used for another way: what was counted stays with it.
        self._ways = {way: self._ways[way] for way in ways.values() if way in self._ways}
        loop = self._events.loop
        if loop is not None:
            loop.ask_again()
            for flow, way in ways.items():
                relayed = self._relays[flow].relayed
                assert relayed is not None
                loop.reroute(relayed, self._number(way))
                if relayed.is_stream:
                    relayed.set_strict(plan.may_deny(way))

    # ---- life of a relay

    def open(self, flow: int, ends: Ends, first: Ring, second: Ring) -> Relay:
        """Take our regions of both hops: read from `first`, write to `second`.

        The rings are the relay's then. Raises `PlatformError` or `OSError`.
        """
        self._start()
        first.receiver.map()
        second.sender.map()
        first.receiver.bell()
        return Relay(flow, ends, first, second)

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
        way = self._way(relay.ends)
        ends = relay.receiver, relay.sender, heard, rung
        relay.relayed = Relayed(relay.flow, *ends, self._number(way), stream=relay.ends.stream)
        if relay.ends.stream:
            relay.relayed.set_strict(self.plan.may_deny(way))
        self._relays[relay.flow] = relay
        self._between[relay.ends.key].append(relay)
        self._start().add(relay.relayed)
        for other in self._opposite(relay):
            self._answer(other)
        self._answer(relay)

    def finish(self, relay: Relay, at_end: Callable[[], None]) -> bool:
        """A stream's sender is gone: what it has left is passed on as its receiver makes room, and
        `at_end` called then. False: there is nothing to wait for.
        """
        if relay.relayed is None or not relay.ends.stream or relay.ended:
            return False
        relay.at_end = at_end
        self._start().finish(relay.relayed)
        return True

    def close(self, relay: Relay) -> None:
        """Pass on what is still there, then let go of everything. Idempotent.

        What of a stream finds no room its sender gives to the kernel.
        """
        relayed, relay.relayed = relay.relayed, None
        if relayed is not None:
            del self._relays[relay.flow]
            self._leave(relay)
            loop = self._start()
            for other in self._opposite(relay):  # none answers on it any more
                self._answer(other)
            _await_held(loop, relayed)
            loop.remove(relayed)
            self._drain(loop, relayed, 1 << relay.first.ident.order)
            if relay.ends.stream:
                loop.end(relayed)
            self._dropped += relayed.full
        for end in (relay.receiver, relay.sender):
            if end is not None:
                if relayed is None or not relay.ends.stream:  # whose end the loop has told
                    end.set_state(RegionState.CLOSED)
                end.close()
        relay.receiver = relay.sender = None
        relay.first.close()
        relay.second.close()

    def stop(self) -> None:
        """End the loop; all relays are closed. Idempotent."""
        self._events.close()

    # ---- kinds

    def judge(self, way: Way | None, header: someip.Header | None) -> tuple[Action, int]:
        """What becomes of messages of a kind on relayed flows; None: of what is no message.

        Here nothing has another way any more: what is not denied is passed on. With it the return
        code that denied requests are answered with, where copies of mirrored messages go, or 0.
        Magic cookies are no service's: streams need them, whatever rules say.
        """
        tcp = way is not None and way.protocol is Protocol.TCP
        if tcp and header is not None and someip.is_cookie(header):
            return Action.RELAY, 0
        action, detail = self.plan.judge(way, header)
        if isinstance(detail, Endpoint):
            return Action.MIRROR, copy_to(int(detail.address), detail.port)
        if detail == TO_TRACE:
            return Action.MIRROR, 0
        return _ACTIONS.get(action, Action.RELAY), int(detail or 0)

    # ---- tracing

    def trace(self, writer: TraceWriter | None) -> None:
        """What becomes of relayed messages goes to this trace ring from now on, or to none."""
        self._trace = writer
        if self._events.loop is not None:
            self._events.loop.trace(writer)

    # ---- faults; `replan` makes them act, or no longer

    def add_fault(self, fault: Fault) -> None:
        """Have one more. Raises `OSError`, and there is none then."""
        self._start().set_fault(fault.place, fault.armed)
        self.faults.add(fault)

    def remove_fault(self, fault: Fault) -> None:
        """Have it no more."""
        del self.faults.all[fault.ident]
        self._start().clear_fault(fault.place)

    def fault_counts(self, fault: Fault) -> tuple[int, int]:
        """Messages it was asked about, and those it has done something to."""
        return self._start().fault_counts(fault.place)

    def _faults_of(self, way: Way | None, header: someip.Header | None) -> int:
        """A bit for the place of each that acts on messages of a kind."""
        return sum(
            1 << fault.place
            for fault in self.faults.all.values()
            if way is not None and first_match([fault.rule], way, header) is not None
        )

    @property
    def deeds(self) -> Counter[Deed]:
        """What rules have done to how many messages, ever."""
        counted = Counter(self._deeds)
        for kind in self.kinds.values():
            counted.update(kind.deeds)
        return counted

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
        begun, loop = self._events.loop is not None, self._events.start(self._called)
        if not begun and self._trace is not None:
            loop.trace(self._trace)
        return loop

    def _called(self, call: Call) -> None:
        if call.why is Result.POISONED:
            self._relays[call.flow].poisoned()
        elif call.why is Result.ENDED:
            relay = self._relays[call.flow]
            relay.ended = True
            relay.at_end()
        else:
            self._settle(self._start(), call)

    def _settle(self, loop: Loop, call: Call) -> None:
        """Decide on a new kind and tell the loop. A table that is full is begun anew."""
        header = someip.parse_header(call.header)[0] if call.key else None
        way = next((each for each, number in self._ways.items() if number == call.way), None)
        judged = self._watched(way, header) or self.judge(way, header)
        faults = self._faults_of(way, header)
        counts = loop.decide(call.way, call.key, *judged, faults)
        if counts is None:
            self._forget(loop)
            counts = loop.decide(call.way, call.key, *judged, faults)
            assert counts is not None
        self.kinds[call.way, call.key] = Kind(way, header, counts)

    def _watched(self, way: Way | None, header: someip.Header | None) -> tuple[Action, int] | None:
        """Service discovery that is only passed on is read by ourselves, too."""
        if self.tap is None or way is None or header is None or not header.is_sd:
            return None
        if way.protocol is not Protocol.UDP or self.judge(way, header)[0] is not Action.RELAY:
            return None
        return Action.WATCH, copy_to(int(self.tap.address), self.tap.port)

    def _forget(self, loop: Loop) -> None:
        """Begin the table anew, but for what was denied, audited and copied."""
        for kind in self.kinds.values():
            for deed, messages in kind.deeds.items():
                few = deed in self._deeds or len(self._deeds) < DEEDS_MAX
                name = deed if few else replace(deed, service=None, method=None)
                self._deeds[name] += messages
        loop.clear()
        self.kinds.clear()

    def _leave(self, relay: Relay) -> None:
        key = relay.ends.key
        self._between[key].remove(relay)
        if not self._between[key]:
            del self._between[key]

    def _opposite(self, relay: Relay) -> Sequence[Relay]:
        """Those that lead from where it ends to where it begins."""
        return self._between.get(relay.ends.back, ())

    def _answer(self, relay: Relay) -> None:
        """Have the loop answer what is denied on a relay, if there is one back."""
        assert relay.relayed is not None
        back = next(iter(self._opposite(relay)), None)
        self._start().answer_on(relay.relayed, back.relayed if back is not None else None)

    def _way(self, ends: Ends) -> Way | None:
        member = IPv4Address(ends.member)
        protocol = ends.protocol
        return self.plan.way(
            _endpoint(ends.source, protocol), _endpoint(ends.destination, protocol), member
        )

    def _number(self, way: Way | None) -> int:
        if way not in self._ways:
            self._ways[way] = next(self._numbers)
        return self._ways[way]

    def _drain(self, loop: Loop, relayed: Relayed, size: int) -> None:
        """Pass on what a ring of `size` bytes can hold, and no more of what is added meanwhile."""
        end = relayed.messages + size // RECORD_ALIGN
        while relayed.messages < end:
            result = loop.turn(relayed)
            if isinstance(result, Call):
                self._settle(loop, result)
            elif result is not Result.MORE:
                break


def _await_held(loop: Loop, relayed: Relayed) -> None:
    """Let go what faults hold back, while the receiver reads: its ring is smaller than that."""
    end = time.monotonic() + HURRY_S
    while loop.hurry(relayed) and time.monotonic() < end:
        time.sleep(0.0005)


_ACTIONS: Final = {RuleAction.DENY: Action.DENY, RuleAction.AUDIT: Action.AUDIT}


def _endpoint(address: Address, protocol: Protocol = Protocol.UDP) -> Endpoint:
    return Endpoint(IPv4Address(address.ip), address.port, protocol)
