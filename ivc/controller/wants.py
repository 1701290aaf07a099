# SPDX-License-Identifier: Apache-2.0
"""What senders want, and making it so.

A WANT is remembered until its socket ends. `Wants.settle` compares what each touched want should
have with what it has, closes and opens flows accordingly, and sends ROUTE when the answer is
another than last time. Everything that happens (sockets, memberships, flows, a new plan) only
touches wants; nothing else decides.

Denied calls are answered on the flow that leads back. A service that never sends would have none:
then its socket wants it without having asked, the callers pay for it, and the calls' own flow waits
until it is there.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ivc.controller import receivers
from ivc.controller.data_communication import DataCommunicationController
from ivc.controller.flows import Flow, FlowSpec, FlowTable, State
from ivc.controller.protocol import ROUTE_COMPLETE, Address, Message, Type
from ivc.controller.quota import Quotas, Refused
from ivc.controller.registry import Process, Registry, Socket
from ivc.plan import Decision
from ivc.reasons import Reason

WANTS_MAX: Final = 4096
"""Destinations remembered per process; beyond it the oldest one without flows is forgotten. Those
nobody there has asked for may take half: it is others who decide how many they are."""

PASSING: Final = frozenset({Reason.QUOTA, Reason.RESOURCES})
"""Refusals that may be over without any message telling us."""

LASTING: Final = frozenset({Reason.POISONED})
"""Failures that would only repeat: no new flow before the receiver announces itself anew."""


@dataclass(slots=True, eq=False)
class Want:
    """One socket's wish to send to one destination.

    `barred` are receivers a flow to could not be made or kept, and why. `back` is the want whose
    flow leads back with answers to what is denied, and `serves` are those it is that for; if its
    socket has not `asked`, it is there for their sake alone. Who `waits` is looked at again when
    its way back is there, or cannot be had; the place in the quota and the order of the flow it
    waits for are `kept`.
    """

    socket: Socket
    source: Address
    destination: Address
    flows: dict[FlowSpec, Flow] = field(default_factory=dict)
    barred: dict[Socket, Reason] = field(default_factory=dict)
    announced: tuple[Reason, int] | None = None
    asked: bool = False
    waits: bool = False
    kept: tuple[FlowSpec, int] | None = None
    back: "Want | None" = None
    serves: dict["Want", None] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        """Whether anybody has asked for it, or gets answers by it."""
        return self.asked or bool(self.serves)

    @property
    def pending(self) -> bool:
        """Whether a flow of it is being set up."""
        return any(flow.state in _PENDING for flow in self.flows.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a want should have. `total`: no receiver besides these flows' can exist."""

    reason: Reason
    specs: tuple[FlowSpec, ...] = ()
    total: bool = False


class Wants:
    """All wants, and which of them have been touched."""

    def __init__(
        self, registry: Registry, dcc: DataCommunicationController, quotas: Quotas
    ) -> None:
        self._registry = registry
        self._dcc = dcc
        self._quotas = quotas
        self._wants: dict[Socket, dict[Address, Want]] = {}
        self._touched: dict[Want, None] = {}

    def __iter__(self) -> Iterator[Want]:
        for wants in self._wants.values():
            yield from wants.values()

    def of(self, socket: Socket) -> Iterable[Want]:
        """What one socket wants."""
        return self._wants.get(socket, {}).values()

    def add(self, socket: Socket, source: Address, destination: Address) -> None:
        """A sender asks (again): try everything anew, and answer in any case."""
        wants = self._wants.setdefault(socket, {})
        want = wants.get(destination)
        if want is None:
            self._make_room(socket)
            want = wants[destination] = Want(socket, source, destination)
        want.source, want.asked = source, True
        want.barred.clear()
        want.announced = None
        self._touched[want] = None

    def remove(self, socket: Socket) -> None:
        """A sending socket is gone; its flows must be closed already. Idempotent."""
        while wants := self._wants.get(socket):
            self._forget(next(iter(wants.values())))
        self._wants.pop(socket, None)

    def touch(self, concerned: Callable[[Want], bool]) -> None:
        """Look again at the wants `concerned` says yes to."""
        self._touched.update((want, None) for want in self if concerned(want))

    def socket_changed(self, socket: Socket, ports: Iterable[int]) -> None:
        """A socket was bound, rebound or unbound at these ports, or its options changed."""
        at = frozenset(ports)
        groups = frozenset(socket.groups)
        for want in self:
            if want.destination.port in at or want.socket is socket:
                want.barred.pop(socket, None)
                self._touched[want] = None
            elif want.destination.ip in groups:
                self._touched[want] = None

    def joined(self, socket: Socket, group: int) -> None:
        """A socket has joined a group (again): its flows may be made (again)."""
        for want in self:
            if want.destination.ip == group and want.barred.get(socket) not in LASTING:
                want.barred.pop(socket, None)

    def flow_changed(self, flow: Flow, reason: Reason) -> None:
        """A flow became active, or was closed for `reason`."""
        want = self._of(flow.spec)
        if want is None:
            return
        if flow.ended:
            del want.flows[flow.spec]
            want.announced = None  # the sender forgets its route with the flow
            if reason in LASTING or reason in PASSING:
                want.barred[flow.spec.receiver] = reason
        self._touched[want] = None

    def bar(self, flow: Flow, reason: Reason) -> None:
        """An end let go of a flow: do not offer it again before something changes there."""
        want = self._of(flow.spec)
        if want is not None:
            want.barred[flow.spec.receiver] = reason

    def retry(self) -> None:
        """Look again at what failed for want of quota or resources."""
        for want in self:
            passing = [socket for socket, reason in want.barred.items() if reason in PASSING]
            for socket in passing:
                del want.barred[socket]
                self._touched[want] = None

    def settle(self, table: FlowTable) -> None:
        """Give every touched want what it should have."""
        while self._touched:
            want = next(iter(self._touched))
            del self._touched[want]
            self._reconcile(want, table)

    def _reconcile(self, want: Want, table: FlowTable) -> None:
        verdict = self._judge(want) if want.needed else Verdict(Reason.REPLANNED)
        wanted = {spec: None for spec in verdict.specs if spec.receiver not in want.barred}
        # A completeness that no longer holds is taken back before anything else happens; without
        # flows there is none, and the ends of a new one are not to wait for what changes nothing.
        if want.flows:
            self._announce(want, verdict)
        for spec, flow in list(want.flows.items()):
            if spec not in wanted:
                table.close(flow, _why_closed(flow, verdict))
        want.waits = False
        if not verdict.specs:
            self._part(want)
        self._release(want)
        for spec in wanted:
            self._provide(want, spec, table)
        self._touched.pop(want, None)  # our own doing: nothing new in it
        self._announce(want, verdict)
        if not want.needed:
            self._forget(want)
        elif not want.pending:
            self._touched.update((other, None) for other in want.serves if other.waits)

    def _provide(self, want: Want, spec: FlowSpec, table: FlowTable) -> None:
        """Open a flow, if there is none; or keep its place while its way back is set up: other
        ways back, of the same node's calls, must not take it."""
        try:
            if spec not in want.flows:
                self._keep(want, spec)
            want.waits = self._awaits_way_back(want, spec, table)
            if not want.waits and spec not in want.flows:
                self._release(want)
                want.flows[spec] = table.open(spec)
        except Refused as refused:
            want.barred[spec.receiver] = refused.reason
            self._part(want)

    def _keep(self, want: Want, spec: FlowSpec) -> None:
        order = self._quotas.fit(spec)
        self._quotas.take(spec, order)
        want.kept = spec, order

    def _release(self, want: Want) -> None:
        if want.kept is not None:
            self._quotas.give_back(*want.kept)
            want.kept = None

    def _awaits_way_back(self, want: Want, spec: FlowSpec, table: FlowTable) -> bool:
        """Whether what is denied on a flow may have to be answered, and the way for that is still
        to come. Who is a way back does not wait: the other may be one for it. Who has not asked
        makes no calls."""
        unicast = want.asked and spec.relay and not spec.destination.is_multicast
        if not (unicast and self._dcc.answers(spec.source, spec.destination)):
            self._part(want)
            return False
        back = self._way_back(want, spec)
        if back is None or want.serves:
            return False
        if back in self._touched:
            del self._touched[back]
            self._reconcile(back, table)  # before the calls of others take the rest of the quota
        return back.pending

    def _way_back(self, want: Want, spec: FlowSpec) -> Want | None:
        """The want that leads back, made if need be; None: the process has too many already."""
        wants = self._wants.setdefault(spec.receiver, {})
        back = wants.get(spec.source)
        if back is None:
            if sum(map(len, self._all_of(spec.receiver.process))) >= WANTS_MAX // 2:
                return None
            back = wants[spec.source] = Want(spec.receiver, spec.destination, spec.source)
        if want.back is not back:
            self._part(want)
            want.back, back.serves[want] = back, None
            self._touched[back] = None
        return back

    def _part(self, want: Want) -> None:
        """A want has its way back no more, which goes too if nobody else is for it."""
        back, want.back = want.back, None
        if back is None:
            return
        del back.serves[want]
        if not back.needed and back.flows:
            self._touched[back] = None
        elif not back.needed:
            self._forget(back)

    def _forget(self, want: Want) -> None:
        del self._wants[want.socket][want.destination]
        self._touched.pop(want, None)
        self._release(want)
        for other in want.serves:
            other.back = None
        self._part(want)

    def _announce(self, want: Want, verdict: Verdict) -> None:
        route = _route(want, verdict)
        if route == want.announced:
            return
        want.announced = route
        reason, flags = route
        want.socket.process.send(
            Message(
                Type.ROUTE, want.socket.number, peer=want.destination, reason=reason, flags=flags
            )
        )

    def _judge(self, want: Want) -> Verdict:
        if want.socket.local.port == 0:
            return Verdict(Reason.NOT_BOUND)
        if want.socket.place is None:
            return Verdict(self._placeless(want.socket))
        if want.source.ip != want.socket.place.ip:
            return Verdict(Reason.NO_NODE)  # the plan has moved its address elsewhere
        if want.socket.place.quiesced or self._registry.hosts.is_quiesced(want.destination.ip):
            return Verdict(Reason.QUIESCED)
        decision = self._dcc.decide(want.source, want.destination)
        if not self._dcc.on_rings(decision):
            return Verdict(decision.reason)
        if want.destination.is_multicast:
            return self._multicast(want)
        return self._unicast(want, decision)

    def _placeless(self, socket: Socket) -> Reason:
        here = self._registry.hosts.on(socket.host)
        return Reason.WILDCARD if here and socket.local.ip == 0 else Reason.NO_NODE

    def _unicast(self, want: Want, decision: Decision) -> Verdict:
        found = receivers.unicast(self._registry, want.source, want.destination)
        if not found:
            return Verdict(Reason.NO_RECEIVER)
        if len(found) > 1:
            return Verdict(Reason.AMBIGUOUS)
        if found[0].place is None:
            return Verdict(Reason.WILDCARD)
        return Verdict(Reason.NONE, (self._spec(want, found[0], decision),), True)

    def _multicast(self, want: Want) -> Verdict:
        where = self._registry, want.socket, want.source, want.destination
        found = receivers.multicast(*where)
        if not found:
            return Verdict(Reason.NO_RECEIVER)
        decided = [(member, self._for_member(want, member)) for member in found]
        specs = tuple(
            self._spec(want, member, decision)
            for member, decision in decided
            if self._dcc.on_rings(decision)
        )
        if not specs:
            return Verdict(decided[0][1].reason)
        total = len(specs) == len(found) and receivers.reaches_all(*where)
        return Verdict(Reason.NONE, specs, total)

    def _for_member(self, want: Want, member: Socket) -> Decision:
        assert member.place is not None
        return self._dcc.decide(want.source, want.destination, member.place.ip)

    def _spec(self, want: Want, receiver: Socket, decision: Decision) -> FlowSpec:
        assert want.socket.place is not None and receiver.place is not None
        alone = self._registry.hosts.may_share(want.socket.host, receiver.host)
        return FlowSpec(
            want.socket,
            receiver,
            want.source,
            want.destination,
            want.socket.place.id,
            receiver.place.id,
            decision.order,
            self._dcc.is_relayed(decision) or not alone,
            asked=want.asked,
        )

    def _of(self, spec: FlowSpec) -> Want | None:
        return self._wants.get(spec.sender, {}).get(spec.destination)

    def _make_room(self, socket: Socket) -> None:
        """Forget the oldest want without flows if the process has too many."""
        mine = self._all_of(socket.process)
        if sum(map(len, mine)) < WANTS_MAX:
            return
        for wants in mine:
            for want in wants.values():
                if not want.flows and not want.serves:
                    self._forget(want)
                    return

    def _all_of(self, process: Process) -> list[dict[Address, Want]]:
        return [self._wants.get(each, {}) for each in process.sockets.values()]


_PENDING: Final = frozenset({State.ATTACHING, State.LINKING})


def _why_closed(flow: Flow, verdict: Verdict) -> Reason:
    if verdict.reason:
        return verdict.reason
    if any(spec.receiver is flow.spec.receiver for spec in verdict.specs):
        return Reason.REPLANNED
    return Reason.NO_RECEIVER


def _route(want: Want, verdict: Verdict) -> tuple[Reason, int]:
    """Reason and flags of the ROUTE that describes a want as it stands."""
    if not verdict.specs:
        return verdict.reason, 0
    flows = [want.flows.get(spec) for spec in verdict.specs]
    active = [flow for flow in flows if flow is not None and flow.state is State.ACTIVE]
    if len(active) == len(flows):
        return (Reason.NONE, ROUTE_COMPLETE) if verdict.total else (Reason.MULTICAST_PARTLY, 0)
    if active:
        return Reason.MULTICAST_PARTLY, 0
    refused = [want.barred[spec.receiver] for spec in verdict.specs if spec.receiver in want.barred]
    return (refused[0], 0) if len(refused) == len(flows) else (Reason.PENDING, 0)
