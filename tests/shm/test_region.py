# SPDX-License-Identifier: Apache-2.0
"""Regions as the controller lays them out are accepted as the flow they say, and no other."""

from dataclasses import replace
from typing import Any

import pytest
from ring_memory import FLOW, IDENT, poke, receiver_memory, sender_memory

from ivc.shm.errors import AttachError
from ivc.shm.layout import Ctrl, RegionState, Role
from ivc.shm.pyring import PyReceiver, PySender
from ivc.shm.region import receiver_page, sender_page
from ivc.shm.ring import Receiver, Sender

SENDERS = [Sender, PySender]
RECEIVERS = [Receiver, PyReceiver]


def test_pages_say_what_the_flow_says() -> None:
    flow = replace(FLOW, src_node=1, dst_node=2, src_ip=3, dst_ip=4, src_port=5, dst_port=6)
    for page, role in ((sender_page(flow), Role.SENDER), (receiver_page(flow), Role.RECEIVER)):
        line = Ctrl.parse(page)
        assert len(page) == 4096
        assert line.role == role
        for name in ("flow_id", "epoch", "order", "src_node", "dst_node", "src_ip", "dst_ip"):
            assert line[name] == getattr(flow, name)
        assert (line.src_port, line.dst_port, line.state) == (5, 6, RegionState.INIT)


def test_indices_count_from_where_they_are_told_to() -> None:
    for page in (sender_page(FLOW, 4096), receiver_page(FLOW, 4096)):
        line = Ctrl.parse(page)
        assert (line.index, line.wake_at, line.kernel) == (4096, 4096, 0)


@pytest.mark.parametrize("order", [12, 16, 20])
@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("receiver", RECEIVERS)
def test_both_ends_attach_and_see_each_other_open(order: int, sender: Any, receiver: Any) -> None:
    flow, ident = replace(FLOW, order=order), replace(IDENT, order=order)
    tx_memory, rx_memory = sender_memory(flow), receiver_memory(flow)
    tx = sender(tx_memory, rx_memory, ident)
    assert tx.peer_state == RegionState.INIT
    rx = receiver(rx_memory, tx_memory, replace(ident, epoch=0))
    assert tx.peer_state == rx.peer_state == RegionState.OPEN
    tx.set_state(RegionState.CLOSED)
    assert rx.peer_state == RegionState.CLOSED


@pytest.mark.parametrize(
    "wrong",
    [
        replace(IDENT, flow_id=8),
        replace(IDENT, epoch=1),
        replace(IDENT, order=13),
        replace(IDENT, order=11),
        replace(IDENT, order=27),
    ],
)
@pytest.mark.parametrize("kind", [0, 1])
def test_another_flow_is_refused(wrong: Any, kind: int) -> None:
    tx_memory, rx_memory = sender_memory(), receiver_memory()
    with pytest.raises(AttachError):
        SENDERS[kind](tx_memory, rx_memory, wrong)
    with pytest.raises(AttachError):
        RECEIVERS[kind](rx_memory, tx_memory, wrong)


@pytest.mark.parametrize("offset", [0, 8, 12, 13, 16, 20])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_static_line_with_one_wrong_byte_is_refused(offset: int, kind: int) -> None:
    for spoil_sender in (False, True):
        tx_memory, rx_memory = sender_memory(), receiver_memory()
        poke(tx_memory if spoil_sender else rx_memory, offset, b"\xee")
        with pytest.raises(AttachError):
            SENDERS[kind](tx_memory, rx_memory, IDENT)
        with pytest.raises(AttachError):
            RECEIVERS[kind](rx_memory, tx_memory, IDENT)


@pytest.mark.parametrize("kind", [0, 1])
def test_regions_in_the_wrong_roles_are_refused(kind: int) -> None:
    memory, other = sender_memory(), sender_memory()
    with pytest.raises(AttachError):
        SENDERS[kind](memory, other, IDENT)
    with pytest.raises(AttachError):
        RECEIVERS[kind](memory, other, IDENT)


def test_memory_can_be_closed_after_the_end_is() -> None:
    tx_memory, rx_memory = sender_memory(), receiver_memory()
    sender = Sender(tx_memory, rx_memory, IDENT)
    with pytest.raises(BufferError):
        tx_memory.close()
    sender.close()
    tx_memory.close()
    with pytest.raises(TypeError):
        sender.publish()
