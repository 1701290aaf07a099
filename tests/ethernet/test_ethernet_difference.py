# SPDX-License-Identifier: Apache-2.0
"""The steps between two states: they lead there, and back; and touch nobody else's."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivc.ethernet.apply import carry_out
from ivc.ethernet.difference import Act, Change, Rules, State, Step, after, difference, kept
from ivc.ethernet.errors import EthernetError, NotPermitted
from ivc.ethernet.facts import Fact, Kind, mark_of, read_mark
from ivc.ethernet.wanted import NOTHING, Wanted

BRIDGES = ("xenbr0", "br1")
CARDS = ("eth1", "eth2", "vif1.0")
NETS = ("10.77.0.254/24", "10.78.0.9/32")
FEWER = settings(max_examples=settings.default.max_examples // 8)  # states are slow to draw
RULES = ('{"rule": 1}', '{"rule": 2}')


class Machine:
    """A kernel that does what `after` says, and can be told to refuse its n-th step."""

    def __init__(self, state: State, refused: int = -1) -> None:
        self.state = state
        self.refused = refused

    def take(self, step: Step) -> None:
        self.refused -= 1
        if self.refused == -1:
            raise EthernetError("refused")
        self.state = after(self.state, step)


def walked(state: State, want: Wanted) -> State:
    machine = Machine(state)
    carry_out(machine, difference(want, state))
    return machine.state


@st.composite
def wants(draw: st.DrawFn) -> Wanted:
    """What a mapping can ask for; now and then nothing."""
    if draw(st.integers(0, 4)) == 0:
        return NOTHING
    bridge, card = draw(st.sampled_from(BRIDGES)), draw(st.sampled_from(CARDS[:2]))
    more = [Fact(Kind.FORWARD, bridge)]
    more += [Fact(kind, bridge, net) for kind in (Kind.ADDRESS, Kind.ROUTE) for net in NETS]
    chosen = draw(st.sets(st.sampled_from(more)))
    basis = {
        Fact(Kind.BRIDGE, bridge),
        Fact(Kind.FLOOD, bridge),
        Fact(Kind.MEMBER, card, bridge),
        Fact(Kind.UP, bridge),
        Fact(Kind.UP, card),
    }
    return Wanted(bridge, card, tuple(sorted(basis | chosen)), draw(st.sampled_from((RULES,))))


@st.composite
def untouched(draw: st.DrawFn) -> State:
    """A machine before us: some bridges, some of everything on them, no marks, no table.

    The two cards of the mapping are in no bridge, for that is a problem, or in one wanted.
    """
    bridges = draw(st.sets(st.sampled_from(BRIDGES)))
    facts = {Fact(Kind.BRIDGE, bridge) for bridge in bridges}
    possible = [Fact(Kind.UP, card) for card in CARDS]
    for bridge in sorted(bridges):
        possible += [Fact(kind, bridge) for kind in (Kind.FLOOD, Kind.FORWARD, Kind.UP)]
        possible += [Fact(kind, bridge, n) for kind in (Kind.ADDRESS, Kind.ROUTE) for n in NETS]
        possible += [Fact(Kind.MEMBER, "vif1.0", bridge)] if bridge == min(bridges) else []
    if possible:
        facts |= draw(st.sets(st.sampled_from(possible)))
    return State(frozenset({*CARDS, *bridges}), frozenset(facts))


@FEWER
@given(state=untouched(), want=wants())
def test_steps_lead_to_what_is_wanted(state: State, want: Wanted) -> None:
    reached = walked(state, want)
    assert set(want.facts) <= reached.facts and reached.rules == want.rules
    assert difference(want, reached) == ()


@FEWER
@given(state=untouched(), want=wants())
def test_removing_leaves_what_was_there_before(state: State, want: Wanted) -> None:
    assert walked(walked(state, want), NOTHING) == state


@FEWER
@given(state=untouched(), first=wants(), second=wants())
def test_way_over_another_mapping_leaves_nothing_of_it(
    state: State, first: Wanted, second: Wanted
) -> None:
    assert walked(walked(state, first), second) == walked(state, second)


@FEWER
@given(state=untouched(), want=wants())
def test_facts_of_others_hold_all_the_time(state: State, want: Wanted) -> None:
    machine = Machine(state)
    for step in (*difference(want, state), *difference(NOTHING, walked(state, want))):
        machine.take(step)
        assert state.facts <= machine.state.facts and state.links <= machine.state.links


@FEWER
@given(state=untouched(), first=wants(), second=wants(), number=st.integers(0, 20))
def test_refused_step_leaves_everything_as_it_was(
    state: State, first: Wanted, second: Wanted, number: int
) -> None:
    before = walked(state, first)
    steps = difference(second, before)
    machine = Machine(before, refused=number)
    if number < len(steps):
        with pytest.raises(EthernetError, match="refused; nothing was changed"):
            carry_out(machine, steps)
        assert machine.state == before
    else:
        carry_out(machine, steps)


@FEWER
@given(state=untouched(), want=wants(), data=st.data())
def test_what_somebody_else_undid_is_made_again_or_forgotten(
    state: State, want: Wanted, data: st.DataObject
) -> None:
    reached = walked(state, want)
    gone = [fact for fact in sorted(reached.marks) if fact.kind is not Kind.BRIDGE]
    lost = data.draw(st.sets(st.sampled_from(gone))) if gone else set()
    spoilt = replace(reached, facts=reached.facts - lost)
    assert walked(spoilt, want) == reached
    assert walked(spoilt, NOTHING) == state


@FEWER
@given(state=untouched(), first=wants(), second=wants())
def test_frames_pass_only_under_the_rules_for_them(
    state: State, first: Wanted, second: Wanted
) -> None:
    """Ports leave before the old rules do, and join after the new ones are there."""
    steps = difference(second, walked(state, first))
    at = [n for n, step in enumerate(steps) if isinstance(step, Rules)]
    for n, step in enumerate(steps):
        if at and isinstance(step, Change) and step.fact.kind is Kind.MEMBER:
            assert (n > at[0]) == (step.act is Act.MAKE)


def test_bridge_of_ours_stays_while_guests_are_on_it() -> None:
    base = State(frozenset({"eth1", "vif1.0"}))
    want = Wanted(
        "xenbr0",
        "eth1",
        tuple(
            sorted(
                {
                    Fact(Kind.BRIDGE, "xenbr0"),
                    Fact(Kind.FLOOD, "xenbr0"),
                    Fact(Kind.UP, "xenbr0"),
                    Fact(Kind.MEMBER, "eth1", "xenbr0"),
                    Fact(Kind.UP, "eth1"),
                }
            )
        ),
        RULES,
    )
    made = walked(base, want)
    guest = Fact(Kind.MEMBER, "vif1.0", "xenbr0")
    used = replace(made, facts=made.facts | {guest})
    assert kept(NOTHING, used) == ("xenbr0",)
    left = walked(used, NOTHING)
    assert left.facts == {
        guest,
        Fact(Kind.BRIDGE, "xenbr0"),
        Fact(Kind.FLOOD, "xenbr0"),
        Fact(Kind.UP, "xenbr0"),
    }
    assert left.rules == ()
    assert walked(replace(left, facts=left.facts - {guest}), NOTHING) == base


def test_what_cannot_be_taken_back_is_told() -> None:
    class Stubborn(Machine):
        def take(self, step: Step) -> None:
            if isinstance(step, Change) and step.act is Act.UNDO:
                raise EthernetError("stuck")
            super().take(step)

    steps = [Change(Act.MAKE, Fact(Kind.UP, name)) for name in ("eth1", "eth2")]
    with pytest.raises(EthernetError, match=r"refused; not taken back \(stuck\)"):
        carry_out(Stubborn(State(), refused=1), steps)


def test_error_keeps_its_exit_code() -> None:
    class Forbidding(Machine):
        def take(self, step: Step) -> None:
            raise NotPermitted("not permitted")

    with pytest.raises(NotPermitted) as caught:
        carry_out(Forbidding(State()), [Change(Act.MAKE, Fact(Kind.UP, "eth1"))])
    assert caught.value.exit_code == 77


# ---- marks ------------------------------------------------------------------


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", fullmatch=True)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    kind, link = draw(st.sampled_from(Kind)), draw(NAMES)
    if kind is Kind.MEMBER:
        return Fact(kind, link, draw(NAMES))
    if kind in {Kind.ADDRESS, Kind.ROUTE}:
        return Fact(kind, link, f"{draw(st.ip_addresses(v=4))}/{draw(st.integers(0, 32))}")
    return Fact(kind, link)


@FEWER
@given(fact=facts())
def test_mark_says_its_fact(fact: Fact) -> None:
    assert read_mark(mark_of(fact), fact.link) == fact


@FEWER
@given(fact=facts(), other=facts())
def test_marks_differ(fact: Fact, other: Fact) -> None:
    assert (mark_of(fact) == mark_of(other)) == (fact == other)


@FEWER
@given(fact=facts())
def test_mark_can_be_a_name_of_an_interface(fact: Fact) -> None:
    mark = mark_of(fact)
    assert len(mark) < 128 and not set(mark) & set("/: \t\n%")


def test_interface_renamed_keeps_its_marks() -> None:
    assert read_mark(mark_of(Fact(Kind.UP, "eth1")), "lan0") == Fact(Kind.UP, "lan0")


@pytest.mark.parametrize("name", ["enp3s0", "ivc", "ivc,up", "ivc,nothing,,eth1", "x,up,,eth1"])
def test_names_of_others_are_no_marks(name: str) -> None:
    assert read_mark(name, "eth1") is None
