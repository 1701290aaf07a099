# SPDX-License-Identifier: Apache-2.0
"""Unicast flows between processes: set up, used, superseded, closed."""

from itertools import pairwise

import pytest
from controller_lab import REQUEST, Lab, Starter
from fakewrapper import FakeWrapper

from ivc.controller.protocol import NOWHERE, Message, Role, Type
from ivc.controller.quota import Quota
from ivc.network import Path as FlowPath
from ivc.reasons import Reason

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
BOTH_PATHS = pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])


def a_client(lab: Lab, number: int = 1, source: str = CLIENT) -> FakeWrapper:
    """A process of node a which wants to send to the service on node b."""
    client = lab.wrapper(1)
    client.bind(number, source)
    client.want(number, source, SERVER)
    return client


def a_server(lab: Lab, number: int = 1, local: str = SERVER) -> FakeWrapper:
    """A process of node b bound to the service's port."""
    server = lab.wrapper(2)
    server.bind(number, local)
    return server


@BOTH_PATHS
def test_a_datagram_travels_by_the_ring(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    record, payload = server.receive(1)
    assert payload == REQUEST
    assert (record.src_port, record.dst_port) == (40000, 30509)


@BOTH_PATHS
def test_datagrams_keep_their_order_through_a_small_ring(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    sent = [REQUEST + number.to_bytes(4, "big") for number in range(3000)]
    received = []
    for batch in range(0, len(sent), 100):
        for payload in sent[batch : batch + 100]:
            client.send(SERVER, payload)
        received += [server.receive(1)[1] for _ in range(100)]
    assert received == sent


@BOTH_PATHS
def test_route_tells_what_became_of_a_want(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    a_server(lab)
    client = a_client(lab)
    client.await_route(SERVER, Reason.PENDING)
    client.await_route(SERVER, Reason.NONE, complete=True)


def test_the_receiver_is_told_first(start: Starter) -> None:
    """It has one step more to take. Seen by a process that holds both ends, at two nodes."""
    lab = start()
    lab.platform.numbers["b"] = 1
    both = lab.wrapper(1)
    both.bind(1, CLIENT)
    both.bind(2, SERVER)
    both.want(1, CLIENT, SERVER)
    both.await_active(SERVER)
    attached = [mail.type for mail in both.mail if mail.type in (Type.ATTACH_TX, Type.ATTACH_RX)]
    linked = [mail.flags for mail in both.mail if mail.type is Type.PEER]
    assert attached == [Type.ATTACH_RX, Type.ATTACH_TX]
    assert linked == [Role.RECEIVER, Role.SENDER]


@BOTH_PATHS
def test_a_receiver_that_comes_later_is_served(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    client = a_client(lab)
    client.await_route(SERVER, Reason.NO_RECEIVER)
    server = a_server(lab)
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST


@BOTH_PATHS
def test_a_dead_receiver_closes_the_flow(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    server.close()
    closed = client.await_message(Type.CLOSE)
    assert closed.reason == Reason.PEER_GONE
    client.await_route(SERVER, Reason.NO_RECEIVER)


@BOTH_PATHS
def test_a_dead_sender_closes_the_flow(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    client.close()
    assert server.await_message(Type.CLOSE).reason == Reason.PEER_GONE
    assert lab.status()["flows"] == []


def test_what_a_dead_sender_left_in_the_relay_still_arrives(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    server.reads = False
    for number in range(100):
        client.send(SERVER, REQUEST + bytes([number]))
    client.close()
    assert [server.receive(1)[1][-1] for _ in range(100)] == list(range(100))


@BOTH_PATHS
def test_a_receiver_that_restarts_gets_a_new_flow(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    server.close()
    client.await_message(Type.CLOSE)
    again = a_server(lab)
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    assert again.receive(1)[1] == REQUEST


def test_unbound_closes_the_flows_of_that_socket_only(start: Starter) -> None:
    lab = start()
    server, client = a_server(lab), a_client(lab)
    client.bind(2, "10.0.0.1:40001")
    client.want(2, "10.0.0.1:40001", SERVER)
    client.await_active(SERVER, 2)
    client.unbind(2)
    server.await_message(Type.CLOSE)
    assert [flow["from"] for flow in lab.status()["flows"]] == [CLIENT]


def test_a_more_specific_receiver_supersedes(start: Starter) -> None:
    lab = start()
    wildcard, client = a_server(lab, local="0.0.0.0:30509"), a_client(lab)
    client.await_active(SERVER)
    exact = a_server(lab)
    wildcard.await_message(Type.CLOSE)
    client.await_message(Type.ACTIVE)
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    assert exact.receive(1)[1] == REQUEST


@BOTH_PATHS
def test_what_is_written_before_the_sender_knows_of_the_end_still_arrives(
    start: Starter, path: FlowPath
) -> None:
    lab = start(path)
    wildcard, client = a_server(lab, local="0.0.0.0:30509"), a_client(lab)
    client.await_active(SERVER)
    client.reads = False
    exact = lab.wrapper(2, polite=False)
    exact.bind(1, SERVER)
    exact.await_message(Type.ATTACH_RX)  # so the old flow is on its way out
    client.send(SERVER, REQUEST)
    client.reads = True
    client.until(lambda: not client.active(SERVER), "the end of the old flow")
    assert wildcard.receive(1)[1] == REQUEST
    wildcard.await_message(Type.CLOSE)


def test_two_equal_receivers_are_ambiguous_until_one_leaves(start: Starter) -> None:
    lab = start()
    server, client = a_server(lab), a_client(lab)
    client.await_active(SERVER)
    other = a_server(lab)
    client.await_route(SERVER, Reason.AMBIGUOUS)
    assert not client.active(SERVER)
    other.close()
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST


def test_a_socket_connected_to_somebody_else_does_not_receive(start: Starter) -> None:
    lab = start()
    server = lab.wrapper(2)
    server.bind(1, SERVER, peer="10.0.0.3:40000")
    client = a_client(lab)
    client.await_route(SERVER, Reason.NO_RECEIVER)
    server.bind(1, SERVER, peer=CLIENT)
    client.await_active(SERVER)


def test_a_wildcard_sender_sends_from_its_node(start: Starter) -> None:
    lab = start()
    a_server(lab)
    client = lab.wrapper(1)
    client.bind(1, "0.0.0.0:40000")
    client.want(1, "0.0.0.0:40000", SERVER)
    client.await_active(SERVER)
    assert lab.status()["flows"][0]["from"] == CLIENT


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("10.0.0.1:30490", Reason.SAME_NODE),
        ("10.0.0.2:4711", Reason.NOT_PLANNED),
        ("10.9.9.9:30509", Reason.EXTERNAL),
    ],
)
def test_what_is_not_for_rings_is_told_why(
    start: Starter, destination: str, reason: Reason
) -> None:
    client = start().wrapper(1)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, destination)
    client.await_route(destination, reason)


def test_path_network_means_no_rings(start: Starter) -> None:
    lab = start(FlowPath.NETWORK)
    a_server(lab)
    a_client(lab).await_route(SERVER, Reason.RULE)


def test_a_refused_flow_is_not_offered_again_until_the_receiver_changes(start: Starter) -> None:
    lab = start()
    server = lab.wrapper(2, polite=False)
    server.bind(1, SERVER)
    client = a_client(lab)
    offered = server.await_message(Type.ATTACH_RX)
    server.tell(Message(Type.DROPPED, flow=offered.flow, flags=2, reason=Reason.OPTION))
    client.await_route(SERVER, Reason.OPTION)
    assert lab.status()["flows"] == []
    server.bind(1, SERVER)
    assert server.await_message(Type.ATTACH_RX).flow > offered.flow


def test_the_node_that_asks_pays_and_gets_it_back(start: Starter) -> None:
    lab = start(quota=Quota(flows=1))
    a_server(lab)
    first = a_client(lab)
    first.await_active(SERVER)
    second = a_client(lab, source="10.0.0.1:40001")
    second.await_route(SERVER, Reason.QUOTA)
    first.close()
    second.await_active(SERVER)


def test_memory_counts_towards_the_quota(start: Starter) -> None:
    lab = start(quota=Quota(bytes=10_000))
    a_server(lab)
    a_client(lab).await_route(SERVER, Reason.QUOTA)


def test_the_control_page_counts_the_messages(start: Starter) -> None:
    lab = start()
    a_server(lab)
    client = a_client(lab)
    client.await_route(SERVER, Reason.NONE, complete=True)
    client.until(lambda: client.sent_word() == client.received, "the same count")


def test_flow_numbers_are_never_used_again(start: Starter) -> None:
    lab = start()
    client = a_client(lab)
    numbers = []
    for _ in range(3):
        server = a_server(lab)
        numbers.append(server.await_message(Type.ATTACH_RX).flow)
        server.close()
        client.await_route(SERVER, Reason.NO_RECEIVER)
    assert all(before < after for before, after in pairwise(numbers))


def test_welcome_names_the_only_node_of_a_host(start: Starter) -> None:
    lab = start()
    wrapper = lab.wrapper(2, hello=False)
    wrapper.tell(Message(Type.HELLO, arg=1))
    welcome = wrapper.await_message(Type.WELCOME)
    assert (welcome.node, welcome.local) == (2, NOWHERE)
