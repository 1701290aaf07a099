# SPDX-License-Identifier: Apache-2.0
"""TCP connections: which two sockets are the ends of one, and the two flows between them.

Both ends have seen the connection established before they are here, and look again in answer to
the offer (core/protocol.h). Flows are opened and closed in pairs: with one of them alone an end
would have no doorbell of the other to ring.
"""

from dataclasses import dataclass

from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.flows import Flow, FlowSpec, FlowTable, State
from ivc.controller.protocol import ROUTE_COMPLETE, Message, Type
from ivc.controller.quota import Refused
from ivc.controller.registry import Registry, Socket
from ivc.plan import Decision
from ivc.reasons import Reason


@dataclass(slots=True, eq=False)
class Pair:
    """Two ends and what lies between them. `reason` says why there is nothing."""

    ends: tuple[Socket, Socket]
    flows: list[Flow]
    reason: Reason = Reason.PENDING

    @property
    def active(self) -> bool:
        """Whether both ways are on rings."""
        return len(self.flows) == 2 and all(flow.state is State.ACTIVE for flow in self.flows)


class Streams:
    """Every end of a TCP connection that has been announced."""

    def __init__(self, registry: Registry, dcc: DataCommunicationController) -> None:
        self._registry = registry
        self._dcc = dcc
        self._touched: dict[Socket, None] = {}
        self._pairs: dict[Socket, Pair] = {}
        self._told: dict[Socket, Reason] = {}

    def reason(self, socket: Socket) -> Reason | None:
        """What the socket was last told; None if nothing yet."""
        return self._told.get(socket)

    def bound(self, socket: Socket) -> None:
        """An end was announced."""
        self._told.pop(socket, None)
        self._touched[socket] = None

    def unbound(self, socket: Socket) -> None:
        """An end is gone, its flows too."""
        self._touched.pop(socket, None)
        self._told.pop(socket, None)
        pair = self._pairs.pop(socket, None)
        if pair is not None:
            other = pair.ends[1] if pair.ends[0] is socket else pair.ends[0]
            self._pairs.pop(other, None)
            self._touched[other] = None

    def touch_all(self) -> None:
        """The plan or the hosts have changed."""
        for socket in self._registry.sockets():
            if socket.is_stream:
                self._touched[socket] = None

    def flow_changed(self, flow: Flow, reason: Reason) -> None:
        """A flow became active, or ended for `reason`."""
        pair = self._pairs.get(flow.spec.sender)
        if pair is None or flow not in pair.flows:
            return
        if flow.ended:
            pair.flows.remove(flow)
            pair.reason = reason
        for end in pair.ends:
            self._touched[end] = None

    def settle(self, table: FlowTable) -> None:
        """Give every touched end what it should have."""
        while self._touched:
            socket = next(iter(self._touched))
            del self._touched[socket]
            self._tell(socket, self._reconcile(socket, table))

    def _reconcile(self, socket: Socket, table: FlowTable) -> Reason:
        pair = self._pairs.get(socket)
        decision = self._dcc.decide_stream(socket.local, socket.peer)
        wrong = self._wrong(socket, decision)
        if pair is None:
            return wrong or self._join(socket, decision, table)
        relayed = self._is_relayed(socket, decision)
        moved = any(flow.spec.relay is not relayed for flow in pair.flows)
        if wrong or moved or len(pair.flows) == 1:
            # Where its messages begin a relay would not know: the network has it from now on.
            pair.reason = wrong or (Reason.REPLANNED if moved else pair.reason)
            for flow in list(pair.flows):
                table.close(flow, pair.reason)
        if wrong:  # it is for us to say when that is over; what an end has said is for good
            for end in pair.ends:
                del self._pairs[end]
                self._touched[end] = None
            return wrong
        return Reason.NONE if pair.active else Reason.PENDING if pair.flows else pair.reason

    def _wrong(self, socket: Socket, decision: Decision) -> Reason:
        if socket.place is None:
            return Reason.NO_NODE
        if socket.place.quiesced or self._registry.hosts.is_quiesced(socket.peer.ip):
            return Reason.QUIESCED
        return Reason.NONE if self._dcc.on_rings(decision) else decision.reason

    def _is_relayed(self, socket: Socket, decision: Decision) -> bool:
        """By what is decided, or as ends that may not share memory have dom0 between them."""
        peer = self._registry.hosts.at(socket.peer.ip)
        if peer is None or peer.host is None:
            return self._dcc.is_relayed(decision)
        shared = self._registry.hosts.may_share(socket.host, peer.host)
        return self._dcc.is_relayed(decision) or not shared

    def _join(self, socket: Socket, decision: Decision, table: FlowTable) -> Reason:
        place = self._registry.hosts.at(socket.peer.ip)
        found = [
            other
            for other in self._registry.across(socket)
            if other is not socket  # a connection to itself has one end only
            and other not in self._pairs
            and place is not None
            and other.place == place
        ]
        if len(found) != 1:
            return Reason.AMBIGUOUS if found else Reason.NO_RECEIVER
        pair = Pair((socket, found[0]), [])
        self._pairs[socket] = self._pairs[found[0]] = pair
        relayed = self._is_relayed(socket, decision)
        try:
            for sender, receiver in ((socket, found[0]), (found[0], socket)):
                pair.flows.append(table.open(_spec(sender, receiver, decision.order, relayed)))
        except Refused as refused:
            pair.reason = refused.reason
            for flow in list(pair.flows):
                table.close(flow, refused.reason)
            return refused.reason
        self._touched[found[0]] = None
        return Reason.PENDING

    def _tell(self, socket: Socket, reason: Reason) -> None:
        if self._told.get(socket) is reason:
            return
        self._told[socket] = reason
        flags = 0 if reason else ROUTE_COMPLETE
        route = Message(Type.ROUTE, socket.number, peer=socket.peer, reason=reason, flags=flags)
        socket.process.send(route)


def _spec(sender: Socket, receiver: Socket, order: int, relay: bool) -> FlowSpec:
    assert sender.place is not None and receiver.place is not None
    return FlowSpec(
        sender,
        receiver,
        sender.local,
        receiver.local,
        sender.place.id,
        receiver.place.id,
        order,
        relay=relay,
        stream=True,
    )
