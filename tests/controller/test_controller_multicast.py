# SPDX-License-Identifier: Apache-2.0
"""Multicast: who is a member, one flow for each, and when no kernel copy is needed."""

import pytest
from controller_lab import REQUEST, Lab, Starter
from fakewrapper import FakeWrapper

from ivc.controller.protocol import SocketFlag, Type
from ivc.network import Path as FlowPath
from ivc.reasons import Reason

GROUP = "224.224.224.245"
SD = f"{GROUP}:30490"
SENDER = "10.0.0.1:30490"
THREE = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
TWO = {"a": "10.0.0.1", "b": "10.0.0.2"}
BOTH_PATHS = pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])
MC_ALL = SocketFlag.MC_ALL
MC_LOOP = SocketFlag.MC_LOOP


def a_member(lab: Lab, host: int, flags: int = MC_ALL | MC_LOOP) -> FakeWrapper:
    """A process that joined the group on a host, with a socket on 0.0.0.0:30490."""
    member = lab.wrapper(host)
    member.bind(1, "0.0.0.0:30490", flags=flags)
    member.join(1, GROUP)
    return member


def a_sender(lab: Lab, flags: int = 0) -> FakeWrapper:
    """A process of node a that sends to the group and is no member."""
    sender = lab.wrapper(1)
    sender.bind(1, SENDER, flags=flags)
    sender.want(1, SENDER, SD)
    return sender


@BOTH_PATHS
def test_every_member_gets_its_own_copy(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    members = [a_member(lab, 2), a_member(lab, 3), a_member(lab, 3)]
    sender = a_sender(lab)
    sender.await_active(SD, 3)
    assert sender.send(SD, REQUEST) == 3
    assert [member.receive(1)[1] for member in members] == [REQUEST] * 3


@BOTH_PATHS
def test_complete_when_every_other_node_is_reached(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    a_member(lab, 2)
    sender = a_sender(lab)
    sender.await_route(SD, Reason.MULTICAST_PARTLY)
    a_member(lab, 3)
    sender.await_route(SD, Reason.NONE, complete=True)


@BOTH_PATHS
def test_complete_is_taken_back_before_a_new_member_is_attached(
    start: Starter, path: FlowPath
) -> None:
    lab = start(path, nodes=TWO)
    a_member(lab, 2)
    sender = a_sender(lab)
    sender.await_route(SD, Reason.NONE, complete=True)
    sender.polite = False
    a_member(lab, 2)
    before_attach = []
    sender.until(lambda: any(m.type is Type.ATTACH_TX for m in sender.mail), "an attach")
    for message in sender.mail:
        if message.type is Type.ATTACH_TX:
            break
        before_attach.append((message.type, message.reason, message.flags))
    assert before_attach == [(Type.ROUTE, Reason.MULTICAST_PARTLY, 0)]


def test_complete_again_after_the_new_member_is_attached(start: Starter) -> None:
    lab = start(nodes=TWO)
    a_member(lab, 2)
    sender = a_sender(lab)
    sender.await_route(SD, Reason.NONE, complete=True)
    a_member(lab, 2)
    sender.await_route(SD, Reason.MULTICAST_PARTLY)
    sender.await_route(SD, Reason.NONE, complete=True)


def test_complete_is_said_again_after_one_of_two_members_left(start: Starter) -> None:
    lab = start(nodes=TWO)
    leaver, _ = a_member(lab, 2), a_member(lab, 2)
    sender = a_sender(lab)
    sender.await_route(SD, Reason.NONE, complete=True)
    leaver.leave(1, GROUP)  # but IP_MULTICAST_ALL keeps it a member while the other is one
    leaver.bind(1, "0.0.0.0:30490", flags=MC_LOOP)
    sender.await_message(Type.CLOSE)
    sender.await_route(SD, Reason.NONE, complete=True)
    assert len(sender.active(SD)) == 1


def test_the_last_member_leaving_ends_the_route(start: Starter) -> None:
    lab = start(nodes=TWO)
    member, sender = a_member(lab, 2), a_sender(lab)
    sender.await_active(SD)
    member.leave(1, GROUP)
    sender.await_route(SD, Reason.NO_RECEIVER)
    assert not sender.active(SD)


def test_never_complete_with_a_node_outside(start: Starter) -> None:
    lab = start(nodes=TWO, mapping='[nodes.out]\nexternal = true\naddress = "10.0.0.9"')
    a_member(lab, 2)
    sender = a_sender(lab)
    sender.await_active(SD)
    sender.await_route(SD, Reason.MULTICAST_PARTLY)
    assert not [m for m in sender.mail if m.type is Type.ROUTE and m.flags]


def test_a_sender_with_loop_reaches_its_own_socket(start: Starter) -> None:
    lab = start(nodes=TWO)
    a_member(lab, 2)
    sender = a_member(lab, 1)
    sender.want(1, SENDER, SD)
    sender.await_active(SD, 2)
    sender.send(SD, REQUEST)
    assert sender.receive(1)[1] == REQUEST


def test_a_sender_without_loop_does_not_reach_its_own_host(start: Starter) -> None:
    lab = start(nodes=TWO)
    a_member(lab, 1)
    a_member(lab, 2)
    sender = a_sender(lab, flags=MC_ALL)
    sender.await_route(SD, Reason.NONE, complete=True)
    assert len(sender.active(SD)) == 1


def test_multicast_all_makes_a_member_of_who_did_not_join(start: Starter) -> None:
    lab = start(nodes=TWO)
    bystander = lab.wrapper(2)
    bystander.bind(1, "0.0.0.0:30490", flags=MC_ALL)
    sender = a_sender(lab)
    sender.await_route(SD, Reason.NO_RECEIVER)
    bystander.bind(2, "0.0.0.0:4711", flags=0)
    bystander.join(2, GROUP)
    sender.await_active(SD)
    sender.send(SD, REQUEST)
    assert bystander.receive(1)[1] == REQUEST


@pytest.mark.parametrize("local", ["10.0.0.2:30490", "0.0.0.0:30491"])
def test_another_address_or_port_is_no_member(start: Starter, local: str) -> None:
    lab = start(nodes=TWO)
    other = lab.wrapper(2)
    other.bind(1, local)
    other.join(1, GROUP)
    a_sender(lab).await_route(SD, Reason.NO_RECEIVER)


def test_a_socket_bound_to_the_group_is_a_member(start: Starter) -> None:
    lab = start(nodes=TWO)
    member = lab.wrapper(2)
    member.bind(1, SD)
    member.join(1, GROUP)
    sender = a_sender(lab)
    sender.await_active(SD)
    sender.send(SD, REQUEST)
    assert member.receive(1)[1] == REQUEST


def test_a_dead_member_only_closes_its_own_flow(start: Starter) -> None:
    lab = start()
    dying, living = a_member(lab, 2), a_member(lab, 3)
    sender = a_sender(lab)
    sender.await_active(SD, 2)
    dying.close()
    sender.await_route(SD, Reason.MULTICAST_PARTLY)
    sender.await_active(SD, 1)
    sender.send(SD, REQUEST)
    assert living.receive(1)[1] == REQUEST


def test_a_group_nobody_planned_stays_on_the_network(start: Starter) -> None:
    lab = start()
    sender = lab.wrapper(1)
    sender.bind(1, SENDER)
    sender.want(1, SENDER, "239.1.2.3:30490")
    sender.await_route("239.1.2.3:30490", Reason.NOT_PLANNED)


def test_a_wildcard_socket_on_a_host_with_several_nodes_stays_on_the_network(
    start: Starter,
) -> None:
    lab = start()
    lab.platform.numbers["c"] = lab.platform.numbers["b"]
    wildcard = lab.wrapper(2)  # whoever connects makes the controller look for hosts
    wildcard.bind(1, "0.0.0.0:30490")
    wildcard.join(1, GROUP)
    wildcard.want(1, "0.0.0.0:30490", SD)
    wildcard.await_route(SD, Reason.WILDCARD)
    a_sender(lab).await_route(SD, Reason.NO_RECEIVER)
