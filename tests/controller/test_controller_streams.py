# SPDX-License-Identifier: Apache-2.0
"""TCP connections: who is paired with whom, and what ends a pair."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from controller_lab import Lab, running_lab
from fakewrapper import FakeWrapper

from ivc.controller.protocol import FLOW_STREAM, Message, SocketFlag, Type
from ivc.reasons import Reason

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A controller that promotes TCP at once."""
    with running_lab(tmp_path, mapping='[defaults]\npromote = "eager"') as one:
        yield one


def an_end(lab: Lab, host: int, local: str, peer: str, number: int = 1) -> FakeWrapper:
    """A process that has announced its end of a connection."""
    wrapper = lab.wrapper(host)
    wrapper.bind(number, local, peer, SocketFlag.STREAM)
    return wrapper


def a_pair(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    """Both ends, on rings both ways."""
    client, server = an_end(lab, 1, CLIENT, SERVER), an_end(lab, 2, SERVER, CLIENT)
    client.await_active(SERVER)
    server.await_active(CLIENT)
    return client, server


def test_two_ends_that_fit_crosswise_get_a_flow_each_way(lab: Lab) -> None:
    client, server = a_pair(lab)
    client.await_route(SERVER, Reason.NONE, complete=True)
    server.await_route(CLIENT, Reason.NONE, complete=True)
    for end in (client, server):
        assert [one.attach.flags for one in end.ends.values()] == [FLOW_STREAM, FLOW_STREAM]


@pytest.mark.parametrize(
    ("local", "peer"),
    [(SERVER, "10.0.0.1:40001"), ("10.0.0.2:30510", CLIENT), (SERVER, "10.0.0.3:40000")],
)
def test_ends_that_do_not_fit_stay_alone(lab: Lab, local: str, peer: str) -> None:
    client = an_end(lab, 1, CLIENT, SERVER)
    an_end(lab, 2, local, peer)
    client.await_route(SERVER, Reason.NO_RECEIVER)


def test_an_end_claimed_from_another_host_is_not_joined(lab: Lab) -> None:
    client = an_end(lab, 1, CLIENT, SERVER)
    liar = an_end(lab, 3, SERVER, CLIENT)
    liar.await_hangup()
    liar.close()
    client.await_route(SERVER, Reason.NO_RECEIVER)


def test_a_connection_nobody_planned_is_not_joined(lab: Lab) -> None:
    client = an_end(lab, 1, CLIENT, "10.0.0.2:40001")
    client.await_route("10.0.0.2:40001", Reason.NOT_PLANNED)


def test_when_one_end_goes_the_other_loses_both_flows(lab: Lab) -> None:
    client, server = a_pair(lab)
    client.unbind(1)
    server.until(lambda: not server.ends, "the end of both flows")
    server.await_route(CLIENT, Reason.NO_RECEIVER)
    assert lab.status()["flows"] == []


def test_when_a_process_dies_the_other_end_hears_of_it(lab: Lab) -> None:
    client, server = a_pair(lab)
    client.close()
    server.until(lambda: not server.ends, "the end of both flows")


def test_one_refusal_ends_both_flows(lab: Lab) -> None:
    client, server = a_pair(lab)
    flow = next(iter(server.ends))[0]
    role = next(iter(server.ends))[1]
    server.ends.pop((flow, role)).close()
    refusal = Message(Type.DROPPED, flow=flow, flags=role, reason=Reason.FOREIGN_IO)
    server.tell(refusal)
    client.await_route(SERVER, Reason.FOREIGN_IO)
    client.until(lambda: not client.ends, "the end of both flows")


def test_the_same_addresses_again_are_another_connection(lab: Lab) -> None:
    client, server = a_pair(lab)
    client.unbind(1)
    client.bind(2, CLIENT, SERVER, SocketFlag.STREAM)
    # The old end is still there: only its wrapper knows that it is dead, and refuses.
    server.until(lambda: any(end.attach.socket == 1 for end in server.ends.values()), "an offer")
    server.bind(2, SERVER, CLIENT, SocketFlag.STREAM)
    server.unbind(1)
    server.until(
        lambda: any(end.attach.socket == 2 for end in server.active(CLIENT)), "the new end"
    )


def test_datagrams_and_streams_of_one_port_do_not_meet(lab: Lab) -> None:
    a_pair(lab)
    datagrams = lab.wrapper(1)
    datagrams.bind(1, "10.0.0.1:41000")
    datagrams.want(1, "10.0.0.1:41000", SERVER)
    datagrams.await_route(SERVER, Reason.NO_RECEIVER)
