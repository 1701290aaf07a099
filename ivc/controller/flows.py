# SPDX-License-Identifier: Apache-2.0
"""Flows and how they are set up (core/protocol.h draws the sequence).

    ATTACHING  both ends got their own region and shall map it
    LINKING    both have, each got the other's region read-only; the receiver shall look at it
    ACTIVE     the receiver looks, the sender may use the ring
    CLOSING    the sender shall let go; the receiver still reads, so that nothing is lost
    CLOSED     nothing is left of it here

A relayed flow has two rings under one flow number, with the controller at the end of the first
and the start of the second; to both wrappers it looks like any other.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

from ivc.controller.data_communication import DataCommunicationController, Ends, Relay
from ivc.controller.errors import Violation
from ivc.controller.protocol import FLOW_RELAY, FLOW_STREAM, Address, Message, Role, Type
from ivc.controller.quota import Quotas, Refused, flow_bytes
from ivc.controller.registry import Process, Socket
from ivc.controller.rings import Ring, RingSpec, build_ring
from ivc.platform import NOTHING, Attachment, Platform, PlatformError
from ivc.reasons import Reason
from ivc.shm.errors import RingError
from ivc.shm.gauge import Gauge, Level

log = logging.getLogger(__name__)


LEAVING_MAX: Final = 4096
"""Ends a process was told to let go of that are remembered; beyond it the oldest is forgotten."""


class State(StrEnum):
    """How far a flow is."""

    ATTACHING = "attaching"
    LINKING = "linking"
    ACTIVE = "active"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """What a flow shall be. Two equal specs are the same flow; any difference needs a new one, but
    for who has `asked` for it: its sender, or those who make calls there, for its answers."""

    sender: Socket
    receiver: Socket
    source: Address
    destination: Address
    source_node: int
    destination_node: int
    order: int
    relay: bool
    stream: bool = False
    asked: bool = field(default=True, compare=False)

    @property
    def payer(self) -> int:
        """The node that pays."""
        return self.source_node if self.asked else self.destination_node

    def end(self, role: Role) -> Socket:
        """The socket at an end."""
        return self.sender if role is Role.SENDER else self.receiver


@dataclass(slots=True, eq=False)
class Flow:
    """One flow: a ring, or two with a relay between them.

    `order` is the rings' real one; the spec's may not have fitted. `gauge` is of a direct flow
    whose ring we may look at.
    """

    id: int
    spec: FlowSpec
    order: int
    rings: tuple[Ring, ...]
    relay: Relay | None
    state: State = State.ATTACHING
    mapped: set[Role] = field(default_factory=set)
    reason: Reason = Reason.NONE
    gauge: Gauge | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """How full its rings are, as far as that can be known: two of a relayed flow."""
        if self.relay is not None:
            return self.relay.levels
        return (self.gauge.level(),) if self.gauge is not None else ()

    @property
    def ended(self) -> bool:
        """Whether it serves nobody any more."""
        return self.state in (State.CLOSING, State.CLOSED)

    @property
    def bytes(self) -> int:
        """Bytes of shared memory."""
        return flow_bytes(self.spec, self.order)

    @property
    def hosts(self) -> tuple[int, int]:
        """Where it begins and ends."""
        return self.spec.sender.host, self.spec.receiver.host

    def is_end(self, process: Process, role: Role) -> bool:
        """Whether a process holds this end."""
        return self.spec.end(role).process is process


class FlowTable:
    """All flows. `changed` is called once after a flow became active, and once when it ended."""

    def __init__(
        self,
        platform: Platform,
        dcc: DataCommunicationController,
        changed: Callable[[Flow, Reason], None],
        quotas: Quotas,
    ) -> None:
        self._platform = platform
        self._dcc = dcc
        self._changed = changed
        self._quotas = quotas
        self._ids = itertools.count(1)
        self._last = 0
        self.flows: dict[int, Flow] = {}

    def open(self, spec: FlowSpec) -> Flow:
        """Build the rings of a flow and tell both ends. Raises `Refused`."""
        order = self._quotas.fit(spec)
        if order < spec.order:
            log.warning(
                "flow %s -> %s: its ring is made smaller: order %d, not %d",
                spec.source,
                spec.destination,
                order,
                spec.order,
            )
        try:
            flow = self._build(spec, order)
        except (PlatformError, OSError) as error:
            log.warning("flow %s -> %s: %s", spec.source, spec.destination, error)
            raise Refused(Reason.RESOURCES) from error
        self.flows[flow.id] = flow
        self._quotas.take(spec, order)
        self._attach(flow)
        return flow

    def mapped(self, process: Process, number: int, role: Role, attachment: Attachment) -> None:
        """An end has mapped its own region. Raises `Violation`, `PlatformError`."""
        flow = self._own(process, number, (role,))
        if flow is None or role in flow.mapped:
            return
        region = flow.rings[0].sender if role is Role.SENDER else flow.rings[-1].receiver
        region.mapped(attachment)
        flow.mapped.add(role)
        if len(flow.mapped) == len(Role):
            self._link(flow)

    def acknowledged(self, process: Process, number: int) -> None:
        """The receiver looks at the ring from now on. Raises `Violation`."""
        flow = self._own(process, number, (Role.RECEIVER,))
        if flow is None or flow.state is State.ACTIVE or flow.ended:
            return
        if flow.state is not State.LINKING:
            raise Violation(f"flow {number}: acknowledged before it had the ring")
        flow.state = State.ACTIVE
        _tell(flow, Role.SENDER, Type.ACTIVE)
        self._changed(flow, Reason.NONE)

    def dropped(
        self, process: Process, number: int, role: Role | None, reason: Reason
    ) -> Flow | None:
        """An end has let go of a flow by itself. The flow, if so. Raises `Violation`.

        `role` says which end where a process holds both.
        """
        for end in Role if role is None else (role,):
            process.leaving.pop((number, end), None)
        flow = self._own(process, number, tuple(Role) if role is None else (role,))
        if flow is None:
            return None
        asked = flow.state is State.CLOSING
        self._close(flow, reason, [end for end in Role if end is not role])
        return None if asked else flow

    def close(self, flow: Flow, reason: Reason) -> None:
        """End a flow and tell both ends. Idempotent.

        The sender is told first; what it has written by the time it lets go is still delivered.
        """
        if flow.state is not State.ACTIVE or reason is Reason.POISONED:
            self._close(flow, reason, list(Role))
            return
        flow.state, flow.reason = State.CLOSING, reason
        _tell_close(flow, Role.SENDER, reason)
        self._changed(flow, reason)

    def close_socket(self, socket: Socket) -> None:
        """A socket is gone: end its flows and tell the other ends."""
        for flow in [
            flow for flow in self.flows.values() if socket in (flow.spec.sender, flow.spec.receiver)
        ]:
            ends = [role for role in Role if flow.spec.end(role) is not socket]
            self._close(flow, Reason.PEER_GONE, ends)

    def close_relays(self) -> None:
        """Pass on what lies in relays and leave them, without telling anybody."""
        for flow in self.flows.values():
            if flow.relay is not None:
                self._dcc.close(flow.relay)
                flow.relay = None

    def _build(self, spec: FlowSpec, order: int) -> Flow:
        number = self._last = next(self._ids)
        rings: list[Ring] = []
        try:
            for hop in _ring_specs(number, spec, order):
                rings.append(build_ring(self._platform, hop))
            relay = self._dcc.open(number, _ends(spec), *rings) if spec.relay else None
        except BaseException:
            for ring in rings:
                ring.close()
            raise
        return Flow(number, spec, order, tuple(rings), relay)

    def _attach(self, flow: Flow) -> None:
        spec = flow.spec
        flags = (FLOW_RELAY if spec.relay else 0) | (FLOW_STREAM if spec.stream else 0)
        common = {"flow": flow.id, "arg": flow.order, "flags": flags}
        # The receiver first, here and when linked: it has one step more to take, and may sleep.
        spec.receiver.process.send(
            Message(
                Type.ATTACH_RX,
                spec.receiver.number,
                local=spec.destination,
                peer=spec.source,
                **common,
            ),
            flow.rings[-1].receiver.for_owner(),
        )
        spec.sender.process.send(
            Message(
                Type.ATTACH_TX,
                spec.sender.number,
                local=spec.source,
                peer=spec.destination,
                **common,
            ),
            flow.rings[0].sender.for_owner(),
        )

    def _link(self, flow: Flow) -> None:
        """Both ends have mapped their own: give each the other's."""
        try:
            if flow.relay is not None:
                self._dcc.link(flow.relay, lambda: self._poisoned(flow))
            _tell(flow, Role.RECEIVER, Type.PEER, attachment=flow.rings[-1].sender.for_peer())
            _tell(flow, Role.SENDER, Type.PEER, attachment=flow.rings[0].receiver.for_peer())
        except RingError as error:
            log.warning("flow %d: %s", flow.id, error)
            self.close(flow, Reason.POISONED)
            return
        except (PlatformError, OSError) as error:
            log.warning("flow %d: %s", flow.id, error)
            self.close(flow, Reason.RESOURCES)
            return
        flow.state = State.LINKING
        if flow.relay is None:
            flow.gauge = flow.rings[0].gauge()
            _release(flow)  # both have all they need from us

    def _poisoned(self, flow: Flow) -> None:
        log.warning("flow %d: an end broke the rules of the ring", flow.id)
        self.close(flow, Reason.POISONED)

    def _close(self, flow: Flow, reason: Reason, tell: list[Role]) -> None:
        if flow.id not in self.flows or self._lingers(flow, reason, tell):
            return
        del self.flows[flow.id]
        closing, flow.state = flow.state is State.CLOSING, State.CLOSED
        self._quotas.give_back(flow.spec, flow.order)
        if flow.relay is not None:
            self._dcc.close(flow.relay)
            flow.relay = None
        if flow.gauge is not None:
            flow.gauge.close()
            flow.gauge = None
        _release(flow)
        for role in tell:
            if not (closing and role is Role.SENDER):  # it has been told
                _tell_close(flow, role, flow.reason or reason)
        if not closing:
            self._changed(flow, reason)

    def _lingers(self, flow: Flow, reason: Reason, tell: list[Role]) -> bool:
        """What a stream's sender has left in its relay is delivered before the flow ends, unless it
        may be about to give it to the kernel itself."""
        alone = Role.SENDER not in tell and Role.RECEIVER in tell
        if flow.relay is None or not alone or flow.spec.sender.process.expelled:
            return False
        if not self._dcc.finish(flow.relay, lambda: self._close(flow, reason, tell)):
            return False
        if flow.state is not State.CLOSING:
            flow.state, flow.reason = State.CLOSING, reason
            self._changed(flow, reason)
        return True

    def _own(self, process: Process, number: int, roles: tuple[Role, ...]) -> Flow | None:
        """The flow a process names; None if it has just ended, which it cannot know yet."""
        flow = self.flows.get(number)
        if flow is None and 0 < number <= self._last:
            return None
        if flow is None or not any(flow.is_end(process, role) for role in roles):
            raise Violation(f"names flow {number}, which is not its own")
        return flow


def _ends(spec: FlowSpec) -> Ends:
    place = spec.receiver.place
    assert place is not None
    return Ends(spec.source, spec.destination, place.ip, spec.stream)


def _ring_specs(number: int, spec: FlowSpec, order: int) -> list[RingSpec]:
    """One hop, or two with the controller (host None) in the middle."""
    receiver = spec.receiver
    stops = [spec.sender.host, *([None] if spec.relay else []), receiver.host]
    return [
        RingSpec(
            number,
            order,
            spec.source_node,
            spec.destination_node,
            spec.source,
            spec.destination,
            *hop,
            receiver.doorbell,
        )
        for hop in pairwise(stops)
    ]


def _tell(
    flow: Flow,
    role: Role,
    kind: Type,
    reason: Reason = Reason.NONE,
    attachment: Attachment = NOTHING,
) -> None:
    flags = role if kind in (Type.CLOSE, Type.PEER) else 0
    message = Message(kind, flow=flow.id, flags=flags, reason=reason)
    flow.spec.end(role).process.send(message, attachment)


def _tell_close(flow: Flow, role: Role, reason: Reason) -> None:
    leaving = flow.spec.end(role).process.leaving
    if len(leaving) >= LEAVING_MAX:
        del leaving[next(iter(leaving))]
    leaving[flow.id, role] = flow.hosts
    _tell(flow, role, Type.CLOSE, reason)


def _release(flow: Flow) -> None:
    """Whoever mapped the regions keeps them."""
    for ring in flow.rings:
        ring.close()
    flow.rings = ()
