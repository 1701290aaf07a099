# SPDX-License-Identifier: Apache-2.0
"""The status document: every socket with its path and reason."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from controller_lab import REQUEST, Lab, Starter, with_flow
from fakewrapper import FakeWrapper

from ivc.cli import main
from ivc.controller.registry import PROCESSES_MAX
from ivc.controller.status_sockets import SOCKET_COUNTERS
from ivc.controller.statusview import fallbacks, render_status
from ivc.network import Path as FlowPath
from ivc.reasons import Reason
from ivc.shm.layout import StatsHeader, StatsSlot

WITH_EVENTS = """{"service": "0x1234", "instance": "1", "unreliable": "30509",
  "events": [{"event": "0x8001"}],
  "eventgroups": [{"eventgroup": "0x11", "events": ["0x8001"],
    "multicast": {"address": "224.0.0.7", "port": "30700"}}]
}"""
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


@pytest.mark.parametrize(
    ("reason", "code"),
    [(Reason.OPTION, 6), (Reason.FORKED, 6), (Reason.EXTERNAL, 0), (Reason.NO_TRAFFIC, 0)],
)
def test_strict_status_exits_6_for_who_fell_back_to_the_network(
    start: Starter, capsys: pytest.CaptureFixture[str], reason: Reason, code: int
) -> None:
    lab = start()
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    write_slot(client, socket=1, protocol=17, reason=reason)
    command = ["status", "--run-dir", str(lab.run_dir), "--json"]
    assert main([*command, "--strict"]) == code
    out, err = capsys.readouterr()
    assert (f"{CLIENT} goes by the network: {reason.name}" in err) is (code == 6)
    assert json.loads(out)["sockets"]
    assert main(command) == 0


def test_strict_status_names_a_destination_that_fell_back_while_another_is_on_a_ring(
    start: Starter, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    strict = ["status", "--run-dir", str(lab.run_dir), "--json", "--strict"]
    assert main(strict) == 0
    client.want(1, CLIENT, "224.224.224.245:30490")
    client.await_route("224.224.224.245:30490", Reason.NO_RECEIVER)
    assert main(strict) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{CLIENT} to 224.224.224.245:30490 goes by the network: NO_RECEIVER" in line


def test_strict_status_leaves_out_a_destination_that_is_meant_to_be_on_the_network(
    start: Starter,
) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    client.want(1, CLIENT, "10.0.0.3:4711")
    client.await_route("10.0.0.3:4711", Reason.NOT_PLANNED)
    assert fallbacks(lab.status()) == []


def test_strict_status_looks_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--strict", "--watch"])
    assert ended.value.code == 2
    assert "--watch: not allowed with argument --strict" in capsys.readouterr().err


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


def the_flow(lab: Lab) -> dict[str, Any]:
    """The only one."""
    (flow,) = lab.status()["flows"]
    return cast(dict[str, Any], flow)


def test_a_direct_flow_says_how_full_its_ring_is(start: Starter) -> None:
    lab = start()
    client, server = with_flow(lab, CLIENT, SERVER)
    client.send(SERVER, bytes(20))
    (ring,) = the_flow(lab)["rings"]
    assert (ring["written"], ring["waiting"]) == (64, 64)
    server.receive(1)
    assert not server.has(1)  # and it says so, before it sleeps
    (ring,) = the_flow(lab)["rings"]
    assert (ring["written"], ring["waiting"]) == (64, 0)


def test_a_relayed_flow_says_it_of_both_rings(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = with_flow(lab, CLIENT, SERVER)
    client.send(SERVER, REQUEST)
    lab.await_status(lambda status: status["flows"][0]["messages"] == 1)
    first, second = the_flow(lab)["rings"]
    assert (first["written"], first["waiting"]) == (64, 0)
    assert (second["written"], second["waiting"]) == (64, 64)
    assert server.receive(1)[1] == REQUEST


def test_looking_at_flows_that_have_ended_keeps_no_memory(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    assert mapped_rings() > 0
    client.unbind(1)
    lab.await_status(lambda status: not status["flows"])
    for wrapper in list(lab.wrappers):
        wrapper.close()
    assert mapped_rings() == 0


def mapped_rings() -> int:
    """Mappings of rings in this process, which is the controller's and the wrappers'."""
    return len(re.findall(r"/memfd:ivc-\d+-[rt]x ", Path("/proc/self/maps").read_text()))


def service(lab: Lab) -> dict[str, Any]:
    """The only one there is, of node b."""
    (only,) = lab.status()["services"]
    return cast(dict[str, Any], only)


def test_a_service_says_who_serves_it_and_who_uses_it(start: Starter) -> None:
    lab = start()
    assert (service(lab)["servers"], service(lab)["clients"]) == ([], [])
    with_flow(lab, CLIENT, SERVER)
    told = service(lab)
    assert (told["service"], told["node"], told["endpoints"][0]) == (0x1234, "b", f"{SERVER}/udp")
    assert [one["node"] for one in told["servers"]] == ["b"]
    assert [(one["node"], one["socket"]) for one in told["clients"]] == [("a", 1)]


def test_a_socket_of_another_host_at_the_same_port_serves_nothing(start: Starter) -> None:
    lab = start()
    lab.wrapper(3).bind(1, "0.0.0.0:30509")
    server = lab.wrapper(2)
    server.bind(1, "0.0.0.0:30509")
    lab.await_status(lambda status: len(status["sockets"]) == 2)
    assert [one["node"] for one in service(lab)["servers"]] == ["b"]


def test_an_eventgroup_says_who_has_joined_it(start: Starter) -> None:
    lab = start(service=WITH_EVENTS)
    for host, group in ((1, "224.0.0.7"), (3, "224.0.0.8")):
        member = lab.wrapper(host)
        member.bind(1, "0.0.0.0:30700")
        member.join(1, group)
    lab.await_status(lambda status: len(status["sockets"]) == 2)
    (group,) = service(lab)["eventgroups"]
    assert (group["eventgroup"], group["multicast"]) == (0x11, "224.0.0.7:30700/udp")
    assert [one["node"] for one in group["members"]] == ["a"]


def test_the_relay_tells_which_nodes_were_notified(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    server, client = with_flow_back(lab)
    event = bytes.fromhex("12348001 00000008 00000001 01010200")
    server.send(CLIENT, event)
    assert client.receive(1)[1] == event
    lab.await_status(lambda status: status["services"][0]["notified"] == ["a"])


def with_flow_back(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    """The server's flow to a client, and the client."""
    client, server = lab.wrapper(1), lab.wrapper(2)
    client.bind(1, CLIENT)
    server.bind(1, SERVER)
    server.want(1, SERVER, CLIENT)
    server.await_active(CLIENT)
    return server, client


def test_messages_to_sleepers_say_how_long_they_took(start: Starter) -> None:
    lab = start()
    client = lab.wrapper(1)
    assert client.statistics is not None
    page = StatsHeader.build({"latency": [0, 0, 0, 3, 1, *[0] * 11]})
    client.statistics[: len(page)] = page
    (process,) = lab.status()["processes"]
    assert process["latency"] == {"messages": 4, "p50_us": 8.2, "p99_us": 16.4, "max_us": 16.4}


def test_watching_prints_a_line_of_json_a_look_with_rates(start: Starter) -> None:
    lab = start()
    with_flow(lab, CLIENT, SERVER)
    command = [sys.executable, "-m", "ivc", "status", "--watch", "0.1", "--json"]
    with subprocess.Popen(
        [*command, "--run-dir", str(lab.run_dir)], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        first, second = (json.loads(program.stdout.readline()) for _ in range(2))
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)
    assert first["flows"][0]["rates"]["written"] is None
    assert second["flows"][0]["rates"]["written"] == 0.0
    assert program.returncode == 0


@pytest.mark.parametrize("every", ["0", "-1", "nan", "x"])
def test_how_often_to_look_is_a_number_of_seconds(
    every: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["status", f"--watch={every}"])
    assert "such as 2" in capsys.readouterr().err


def test_a_process_cannot_disturb_the_terminal(start: Starter) -> None:
    document = start().status()
    document["sockets"] = [
        {
            **dict.fromkeys(("pid", "node", "local", "peer", "path", "reason"), ""),
            "command": "\x1b[2J",
            "protocol": "udp",
            "counters": dict.fromkeys(SOCKET_COUNTERS, 0),
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
