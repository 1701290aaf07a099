# SPDX-License-Identifier: Apache-2.0
"""TCP connections through the relay: how they come to be, and what becomes of what it holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from controller_lab import REQUEST, Lab, running_lab
from fakewrapper import End, FakeWrapper

from ivc import someip
from ivc.controller.client import reload
from ivc.controller.protocol import (
    FLOW_RELAY,
    FLOW_STREAM,
    Message,
    Role,
    SocketFlag,
    Type,
)
from ivc.network import Path as FlowPath
from ivc.reasons import Reason
from ivc.shm.layout import RecordKind, RegionState
from ivc.shm.library import lib
from ivc.shm.record import Record
from ivc.shm.ring import Receiver, Sender

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
BEGUN_HERE = 3 << 62


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A controller that relays TCP."""
    mapping = '[defaults]\npromote = "lazy"'
    with running_lab(tmp_path, FlowPath.RELAY, mapping=mapping) as one:
        yield one


class Pair:
    """Both ends of a connection, on rings."""

    def __init__(self, lab: Lab) -> None:
        self.client, self.server = lab.wrapper(1), lab.wrapper(2)
        self.client.bind(1, CLIENT, SERVER, SocketFlag.STREAM)
        self.server.bind(1, SERVER, CLIENT, SocketFlag.STREAM)
        self.client.await_active(SERVER)
        self.server.await_active(CLIENT)
        self.there, self.back = self.client.active(SERVER)[0], self.server.active(CLIENT)[0]
        self.arrival = self._begin(self.server)
        self._begin(self.client)

    @staticmethod
    def _begin(wrapper: FakeWrapper) -> Receiver:
        for end in wrapper.ends.values():
            if isinstance(end.ring, Sender):
                lib.ivc_tx_set_kernel(end.ring.c, BEGUN_HERE)
            elif isinstance(end.ring, Receiver):
                end.ring.c.kind = RecordKind.STREAM
                found = end.ring
        return found

    def send(self, data: bytes) -> Sender:
        """From client to server."""
        ring, bell, attach = self.there.ring, self.there.bell, self.there.attach
        assert isinstance(ring, Sender) and bell is not None
        local, peer = attach.local, attach.peer
        record = Record(local.ip, local.port, peer.ip, peer.port, kind=RecordKind.STREAM)
        ring.write(record, data)
        if ring.publish():
            bell.ring()
        return ring

    def received(self, size: int) -> bytes:
        """What the server gets by ring."""
        data = bytearray()

        def look() -> bool:
            while (taken := self.arrival.read()) is not None:
                data.extend(taken[1])
            self.arrival.publish()
            return len(data) >= size

        self.server.reads = False
        self.server.until(look, f"{size} bytes")
        return bytes(data)


def state(end: End) -> int:
    assert isinstance(end.ring, Sender)
    return end.ring.peer_state


def test_both_ways_go_by_the_relay(lab: Lab) -> None:
    pair = Pair(lab)
    flags = {one.attach.flags for one in (*pair.client.ends.values(), *pair.server.ends.values())}
    assert flags == {FLOW_STREAM | FLOW_RELAY}
    pair.send(REQUEST[:7])
    pair.send(REQUEST[7:])
    assert pair.received(len(REQUEST)) == REQUEST
    (kind,) = lab.status()["relay"]["kinds"]
    assert (kind["service"], kind["method"], kind["messages"]) == (0x1234, 0x421, 1)
    flow = next(one for one in lab.status()["flows"] if one["from"] == CLIENT)
    assert (flow["path"], flow["unframed"], flow["bytes"]) == ("relay", 0, len(REQUEST))


def test_magic_cookies_pass_even_where_everything_is_denied(tmp_path: Path) -> None:
    mapping = '[defaults]\npromote = "lazy"'
    with running_lab(tmp_path, FlowPath.DENIED, mapping=mapping) as lab:
        pair = Pair(lab)
        cookie = someip.CLIENT_COOKIE.build()
        pair.send(cookie + REQUEST + cookie)
        assert pair.received(32) == cookie * 2
        (denied,) = lab.status()["relay"]["denied"]
        assert (denied["service"], denied["messages"]) == (0x1234, 1)


def test_what_a_process_leaves_behind_is_delivered_before_the_flow_ends(lab: Lab) -> None:
    pair = Pair(lab)
    size = pair.there.attach.arg
    many = REQUEST * ((5 << size) // 4 // len(REQUEST))  # more than the second ring holds
    pair.server.reads = False
    for at in range(0, len(many), 20_000):
        ring = pair.send(many[at : at + 20_000])
        pair.client.until(lambda ring=ring: lib.ivc_tx_free(ring.c) > 40_000, "room")
    lab.wrappers.remove(pair.client)
    pair.client.sock.close()  # killed
    lab.await_status(lambda s: [one["state"] for one in s["flows"]] == ["closing"])
    assert pair.received(len(many)) == many
    lab.await_status(lambda s: s["flows"] == [])


def test_who_is_thrown_out_gets_back_what_was_not_passed_on(lab: Lab) -> None:
    """It lives on, and its connection by the kernel."""
    pair = Pair(lab)
    pair.client.tell(Message(Type.MAPPED, flow=99, flags=Role.SENDER))
    pair.client.await_hangup()
    assert state(pair.there) == RegionState.FROZEN


def test_who_lets_go_of_a_flow_ends_both(lab: Lab) -> None:
    pair = Pair(lab)
    ((number, role), end) = next(
        item for item in pair.server.ends.items() if item[0][1] is Role.RECEIVER
    )
    pair.server.ends.pop((number, role))
    end.close()
    pair.server.tell(Message(Type.DROPPED, flow=number, flags=role, reason=Reason.FOREIGN_IO))
    pair.client.await_route(SERVER, Reason.FOREIGN_IO)
    pair.client.until(lambda: not pair.client.ends, "the end of both flows")


def test_a_connection_whose_path_is_another_leaves_the_rings(lab: Lab, tmp_path: Path) -> None:
    """A relay would not know where its messages begin."""
    pair = Pair(lab)
    mapping = tmp_path / "mapping.toml"
    rule = '[[rule]]\nprotocol = "tcp"\naction = "direct"\n'
    mapping.write_text(mapping.read_text() + rule)
    reload(lab.run_dir)
    pair.client.await_route(SERVER, Reason.REPLANNED)
    pair.client.until(lambda: not pair.client.ends, "the end of both flows")


def test_datagrams_and_streams_of_one_port_have_relays_of_their_own(lab: Lab) -> None:
    """A denied call of the one is not answered on the other."""
    Pair(lab)
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST


def test_when_the_controller_stops_nothing_stays_with_it(tmp_path: Path) -> None:
    with running_lab(tmp_path, FlowPath.RELAY, mapping='[defaults]\npromote = "lazy"') as lab:
        pair = Pair(lab)
        lab.wrappers.clear()
        pair.send(REQUEST)
    assert state(pair.there) == RegionState.FROZEN
    assert pair.arrival.peer_state == RegionState.CLOSED
    assert pair.received(len(REQUEST)) == REQUEST
    pair.client.close()
    pair.server.close()
