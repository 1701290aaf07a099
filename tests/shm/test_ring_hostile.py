# SPDX-License-Identifier: Apache-2.0
"""A peer that writes rubbish into its own region at any time gets data refused, nothing else.

Both implementations sit before the same rubbish and must judge it alike. (That neither reads
outside its memory is shown under ASan by tests/core/hostile_sender.c.)
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_memory import (
    FLOW,
    IDENT,
    MAX,
    SIZE,
    data_offset,
    payload,
    poke,
    poke_word,
    receiver_memory,
    record,
    sender_memory,
    sizes,
    starts,
    word,
)

from ivc.shm.errors import RingError, RingPoisoned
from ivc.shm.layout import RecordHeader, RegionState, fields
from ivc.shm.pyring import PyReceiver, PySender
from ivc.shm.record import Record
from ivc.shm.ring import Receiver, Sender

#: Indices that are nearly right are the better attack.
near = st.one_of(
    st.integers(-3, 140).map(lambda n: 32 * n),
    st.sampled_from([SIZE, SIZE + 32, -SIZE, 2 * SIZE, 1, 31, 8, 1 << 32, 1 << 63]),
    st.integers(0, (1 << 64) - 1),
)

header_pokes = st.sampled_from(list(fields(RecordHeader).values())).flatmap(
    lambda place: st.tuples(
        st.just(place[0]),
        st.one_of(st.binary(min_size=place[1], max_size=place[1]), st.just(bytes(place[1]))),
    )
)

sender_steps = st.one_of(
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("arm"), st.none()),
    st.tuples(st.just("tail"), near),
    st.tuples(st.just("header"), header_pokes),
    st.tuples(st.just("rubbish"), st.tuples(st.integers(0, 8191), st.binary(max_size=80))),
)

receiver_steps = st.one_of(
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("publish"), st.none()),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("head"), near),
    st.tuples(st.just("rubbish"), st.tuples(st.integers(0, 255), st.binary(max_size=80))),
)


def outcome(call: Any, *arguments: Any) -> Any:
    """What a call returned, or the error it raised."""
    try:
        return call(*arguments)
    except RingError as error:
        return type(error)


@given(st.lists(sender_steps, max_size=40), starts)
def test_a_hostile_sender(steps: list[tuple[str, Any]], start: int) -> None:
    tx_memory = sender_memory(FLOW, start)
    memories = [receiver_memory(FLOW, start) for _ in range(2)]
    sender = Sender(tx_memory, memories[0], IDENT)
    receivers = [
        Receiver(memories[0], tx_memory, IDENT),
        PyReceiver(memories[1], tx_memory, IDENT),
    ]
    head = start
    poisoned = False
    for number, (step, what) in enumerate(steps):
        if step == "write":
            outcome(sender.write, record(number), payload(number, what))
            sender.publish()
        elif step == "tail":
            poke_word(tx_memory, "index", head + what)
        elif step == "header":
            outcome(sender.write, record(number), payload(number, 100))
            sender.publish()
            poke(tx_memory, data_offset(head) + what[0], what[1])
        elif step == "rubbish":
            poke(tx_memory, *what)
        else:
            results = [outcome(getattr(rx, step)) for rx in receivers]
            assert results[0] == results[1]
            if isinstance(results[0], tuple):
                got, data = results[0]
                assert not poisoned
                assert len(data) == got.length <= MAX
                head += (32 + got.length + 31) // 32 * 32
            poisoned = poisoned or results[0] is RingPoisoned
            assert not poisoned or results[0] in (RingPoisoned, False)
    assert memories[0][:] == memories[1][:]


@given(st.lists(receiver_steps, max_size=40), starts)
def test_a_hostile_receiver(steps: list[tuple[str, Any]], start: int) -> None:
    rx_memory = receiver_memory(FLOW, start)
    memories = [sender_memory(FLOW, start) for _ in range(2)]
    senders = [Sender(memories[0], rx_memory, IDENT), PySender(memories[1], rx_memory, IDENT)]
    receiver = Receiver(rx_memory, memories[0], IDENT)
    poisoned = False
    for number, (step, what) in enumerate(steps):
        if step == "read":
            outcome(receiver.read)
            receiver.publish()
        elif step == "head":
            poke_word(rx_memory, "index", word(memories[0], "index") - what)
        elif step == "rubbish":
            poke(rx_memory, *what)
        else:
            arguments = (record(number), payload(number, what)) if step == "write" else ()
            results = [outcome(getattr(tx, step), *arguments) for tx in senders]
            assert results[0] == results[1]
            poisoned = poisoned or results[0] is RingPoisoned
            assert not poisoned or results[0] in (RingPoisoned, False)
    assert memories[0][:] == memories[1][:]


FIXED = replace(FLOW, src_ip=10, dst_ip=20, src_port=30, dst_port=40)
HONEST = Record(src_ip=10, dst_ip=20, src_port=30, dst_port=40)


@pytest.mark.parametrize("name", ["src_ip", "dst_ip", "src_port", "dst_port"])
@pytest.mark.parametrize("receiver", [Receiver, PyReceiver])
def test_a_record_may_name_no_other_address_than_the_flow(name: str, receiver: Any) -> None:
    tx_memory, rx_memory = sender_memory(FIXED), receiver_memory(FIXED)
    sender = Sender(tx_memory, rx_memory, IDENT)
    end = receiver(rx_memory, tx_memory, IDENT)
    sender.write(HONEST, b"mine")
    sender.write(replace(HONEST, **{name: 99}), b"forged")
    sender.publish()
    assert end.read()[1] == b"mine"
    with pytest.raises(RingPoisoned):
        end.read()
    with pytest.raises(RingPoisoned):
        end.read()
    assert sender.peer_state == RegionState.POISONED
