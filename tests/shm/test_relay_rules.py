# SPDX-License-Identifier: Apache-2.0
"""The C loop does with each message what the plan's rules say of it, whatever was asked before."""

from contextlib import closing
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from relay_logger import Logger
from test_relay import Desk, Way, error, key_of, kinds_of, left_of, message

from ivc import someip
from ivc.network import Action, Endpoint, Mapping, Network, Path, Rule
from ivc.network.ways import Way as Planned
from ivc.plan import Plan, build_plan
from ivc.shm import relay
from ivc.shm.layout import RegionState
from ivc.shm.relay import Loop

BOTH = frozenset({(1, 1), (2, 1)})
WAYS = [Planned("a", "b", there=BOTH), Planned("c", "b", there=BOTH)]
BACK = [way.back for way in WAYS]

ids = st.integers(1, 2)
types = st.sampled_from([kind for kind in someip.MessageType if "ACK" not in kind.name])
headers = st.builds(
    someip.Header,
    ids,
    ids,
    ids,
    st.integers(0, 3),
    message_type=st.just(someip.MessageType.REQUEST)
    | types
    | types.map(lambda kind: kind | someip.TP_FLAG),
)
parts = headers.map(lambda header: header.build(4) + bytes(4)) | st.binary(max_size=3)
loggers = st.builds(Endpoint, st.just(IPv4Address("127.0.0.1")), st.integers(0, 1))
"""By their number: which port each has is not known yet."""
datagrams = st.lists(parts, min_size=1, max_size=4).map(b"".join)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rules = []
    for number in range(1, draw(st.integers(0, 4)) + 1):
        action = draw(st.sampled_from([Action.RELAY, Action.DENY, Action.AUDIT, Action.MIRROR]))
        answers = st.none() | st.just(someip.ReturnCode.E_NOT_READY)
        rules.append(
            Rule(
                number,
                action,
                source=draw(st.none() | st.sampled_from("abc")),
                service=draw(st.none() | ids),
                method=draw(st.none() | ids),
                client=draw(st.none() | ids),
                type=draw(st.none() | types),
                answer=draw(answers) if action is Action.DENY else None,
                copy_to=draw(loggers) if action is Action.MIRROR else None,
            )
        )
    default = draw(st.sampled_from([Path.RELAY, Path.DENIED]))
    return build_plan(Network((), ()), Mapping((), default, rules=tuple(rules)))


def decision(
    plan: Plan, way: Planned, key: int
) -> tuple[Action, someip.ReturnCode | Endpoint | None]:
    """Python's word on a kind, as it is read from its key."""
    kind = someip.Header(key >> 48, key >> 32 & 0xFFFF, key >> 16 & 0xFFFF, message_type=key & 0xFF)
    return plan.judge(way, kind if key else None)


class Judge(Desk):
    """Decides by the header that comes with a call, as the controller does."""

    plan: Plan
    ways: list[Planned]
    loggers: list[Logger]

    def answer(self, call: relay.Call) -> None:
        header = someip.parse_header(call.header)[0] if call.key else None
        assert header is None or key_of(header) == call.key
        action, detail = self.plan.judge(self.ways[call.way - 1], header)
        done = relay.Action[action.name]
        if isinstance(detail, Endpoint):
            detail = self.loggers[detail.port].detail
        assert self.loop.decide(call.way, call.key, done, detail or 0) is not None


@settings(max_examples=settings.default.max_examples // 4)  # plans are slow to draw
@given(plans(), st.lists(st.tuples(st.integers(0, 1), datagrams), max_size=6))
def test_messages_of_every_way_go_where_rules_say(
    plan: Plan, sent: list[tuple[int, bytes]]
) -> None:
    with closing(Loop()) as loop, Logger() as one, Logger() as other:
        judge = Judge(loop)
        judge.plan, judge.ways, judge.loggers = plan, [*WAYS, *BACK], [one, other]
        copies: list[tuple[int, bytes]] = []
        for index, way in enumerate(WAYS):
            there, back = Way(way=index + 1), Way(way=index + 3)
            loop.answer_on(there.relayed, back.relayed)
            payloads = [payload for each, payload in sent if each == index]
            there.send(*payloads)
            judge.pass_all(there)

            def is_denied(key: int, way: Planned = way) -> bool:
                return decision(plan, way, key)[0] is Action.DENY

            assert there.received() == [
                left
                for number, payload in enumerate(payloads)
                for left in left_of(number, payload, is_denied)
            ]
            assert back.received() == [
                error(data, code)
                for payload in payloads
                for key, data in kinds_of(payload)
                if key and key & 0xFF == 0 and is_denied(key)
                if (code := decision(plan, way, key)[1])
            ]
            assert there.relayed.unanswered == 0
            copies += [
                (to.port, data)
                for payload in payloads
                for key, data in kinds_of(payload)
                if isinstance(to := decision(plan, way, key)[1], Endpoint)
            ]
        for number, logger in enumerate(judge.loggers):
            assert logger.received() == [data for to, data in copies if to == number]


def test_an_answer_where_nobody_reads_any_more_is_none() -> None:
    with closing(Loop()) as loop:
        there, back = Way(way=1), Way(way=2)
        loop.answer_on(there.relayed, back.relayed)
        desk = Desk(loop, lambda way, key: relay.Action.DENY, code=5)
        there.send(message(1))
        desk.pass_all(there)
        back.rx.set_state(RegionState.CLOSED)
        there.send(message(1))
        desk.pass_all(there)
        assert (there.relayed.answered, there.relayed.unanswered) == (1, 1)
