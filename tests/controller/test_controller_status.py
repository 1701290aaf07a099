# SPDX-License-Identifier: Apache-2.0
"""The status document: every socket with its path and reason."""

from controller_lab import Starter, with_flow
from fakewrapper import FakeWrapper

from ivc.controller.registry import PROCESSES_MAX
from ivc.controller.statusview import render_status
from ivc.network import Path as FlowPath
from ivc.reasons import Reason
from ivc.shm.layout import StatsHeader, StatsSlot

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


def write_slot(wrapper: FakeWrapper, **fields: int) -> None:
    """Fill the first slot of a statistics page, as the wrapper library does."""
    assert wrapper.statistics is not None
    start = StatsHeader.sizeof()
    wrapper.statistics[start : start + StatsSlot.sizeof()] = StatsSlot.build(fields)


def test_both_ends_of_an_active_flow_are_on_its_path(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    with_flow(lab, CLIENT, SERVER)
    shown = [(s["node"], s["local"], s["path"], s["reason"]) for s in lab.status()["sockets"]]
    assert shown == [("a", CLIENT, "relay", "NONE"), ("b", SERVER, "relay", "NONE")]


def test_counters_come_from_the_statistics_page(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    write_slot(client, socket=1, fd=7, protocol=17, tx_ring_msgs=12, tx_ring_bytes=345)
    (socket,) = [s for s in lab.status()["sockets"] if s["local"] == CLIENT]
    assert socket["fd"] == 7
    assert (socket["counters"]["tx_ring_msgs"], socket["counters"]["tx_ring_bytes"]) == (12, 345)


def test_a_socket_without_a_flow_says_why(start: Starter) -> None:
    lab = start()
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    write_slot(client, socket=1, protocol=17, reason=Reason.OPTION)
    (socket,) = lab.status()["sockets"]
    assert (socket["path"], socket["reason"]) == ("network", "OPTION")


def test_both_ends_of_a_refused_route_say_why(start: Starter) -> None:
    lab = start(FlowPath.NETWORK)
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_route(SERVER, Reason.RULE)
    shown = [(s["path"], s["reason"]) for s in lab.status()["sockets"]]
    assert shown == [("network", "RULE")] * 2


def test_a_socket_only_its_process_knows_is_shown_too(start: Starter) -> None:
    lab = start()
    client = lab.wrapper(1)
    write_slot(client, socket=9, protocol=6, reason=Reason.NOT_UDP, local_ip=0x0A000001)
    (socket,) = lab.status()["sockets"]
    assert (socket["protocol"], socket["reason"], socket["node"]) == ("tcp", "NOT_UDP", None)


def test_destinations_say_what_became_of_each_want(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    client.want(1, CLIENT, "10.0.0.3:4711")
    client.await_route("10.0.0.3:4711", Reason.NOT_PLANNED)
    (socket,) = [s for s in lab.status()["sockets"] if s["local"] == CLIENT]
    assert socket["destinations"] == [
        {"to": SERVER, "reason": "NONE", "complete": True},
        {"to": "10.0.0.3:4711", "reason": "NOT_PLANNED", "complete": False},
    ]


def test_nodes_say_where_they_are_and_what_they_use(start: Starter) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    node = lab.status()["nodes"][0]
    assert (node["name"], node["domain"], node["host"], node["flows"]) == ("a", "netns:a", 1, 1)


def test_the_table_shows_every_socket(start: Starter) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    text = render_status(lab.status())
    assert CLIENT in text and SERVER in text and "direct" in text


def test_a_process_cannot_disturb_the_terminal(start: Starter) -> None:
    document = start().status()
    document["sockets"] = [
        {
            **dict.fromkeys(("pid", "node", "local", "peer", "path", "reason"), ""),
            "command": "\x1b[2J",
            "counters": dict.fromkeys(
                ("tx_ring_msgs", "rx_ring_msgs", "tx_net_msgs", "rx_net_msgs"), 0
            ),
        }
    ]
    assert "\x1b" not in render_status(document)


def test_one_host_cannot_take_all_connections(start: Starter) -> None:
    lab = start()
    many = [lab.wrapper(1, hello=False) for _ in range(PROCESSES_MAX)]
    lab.wrapper(1, hello=False).await_hangup()
    lab.wrapper(2)
    for wrapper in many:
        wrapper.close()
