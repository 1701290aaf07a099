# SPDX-License-Identifier: Apache-2.0
"""TCP over rings: not a byte lost, repeated or out of place, whatever path each send takes."""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from remote import Job, Remote, until
from stream_lab import DONTROUTE, Ends, StreamNet, Way, mortal_net

from ivc.controller.client import read_status
from ivc.lab.hosts import Lab

LONG = 1 << 30 if os.environ.get("IVC_FULL") else 64 << 20
ROADS = ("rx_ring_bytes", "rx_net_bytes", "tx_ring_bytes", "tx_net_bytes")
LONG_S = 900 if os.environ.get("IVC_FULL") else 60
UNREAD = 50_000
"""What the other end has by ring when it becomes another program, in part read."""
KILLS = 10 if os.environ.get("IVC_FULL") else 2
MEGABYTES = 40 if os.environ.get("IVC_FULL") else 3


def transfer(ends: Ends, total: int, seed: int, how: str, flags: list[int]) -> None:
    """Both ways at once, two threads at each end."""
    jobs = []
    for number, (sender, receiver) in enumerate(
        ((ends.client, ends.server), (ends.server, ends.client))
    ):
        out, into = (sock.agent.module("routines") for sock in (sender, receiver))
        jobs.append((out.start.stream_out(sender, total, seed + number, flags), total))
        jobs.append((into.start.stream_in(receiver, total, seed + number, how), ""))
    for job, expected in jobs:
        assert job.join(7.5) == expected


@pytest.mark.parametrize("how", ["recv", "poll", "level", "edge"])
@pytest.mark.parametrize("seed", [1, 2])
def test_both_ways_with_every_send_by_any_path(stream_net: StreamNet, how: str, seed: int) -> None:
    ends = stream_net.connect()
    if how != "recv":
        ends.client.setblocking(False)
        ends.server.setblocking(False)
    before = stream_net.counters(ends.client) if not stream_net.native else {}
    transfer(ends, MEGABYTES << 20, seed, how, [0, 0, DONTROUTE])
    if stream_net.native or stream_net.way is Way.RELAY:  # which the kernel must not overtake
        return
    after = stream_net.counters(ends.client)
    moved = {name: after[name] - before[name] for name in ("tx_ring_bytes", "tx_net_bytes")}
    assert min(moved.values()) > (MEGABYTES << 20) // 20, moved


@pytest.mark.parametrize("how", ["recv", "edge"])
def test_both_ways_by_ring_alone(stream_net: StreamNet, how: str) -> None:
    ends = stream_net.connect()
    if how != "recv":
        ends.client.setblocking(False)
        ends.server.setblocking(False)
    transfer(ends, MEGABYTES << 20, 3, how, [0])


@pytest.mark.timeout(1500)
def test_a_long_transfer_while_paths_controllers_and_programs_change(wrapper_hosts: Lab) -> None:
    """Both ways at once. Each end changes its path a thousand times and more, the controller is
    killed and a new one started, and one end becomes another program, which goes on."""
    seed = random.randrange(1 << 31)
    print(f"seed {seed}")
    dice = random.Random(seed)
    first = [dice.randrange(LONG * 7 // 10, LONG * 8 // 10) for _ in range(2)]
    with mortal_net(wrapper_hosts, "changing") as (net, controller):
        ends = net.connect()
        left, right = routines(ends.client), routines(ends.server)
        before = [net.counters(sock) for sock in (ends.client, ends.server)]
        out = left.start.checksum_out(ends.client, first[0], seed, 0)
        back = right.start.checksum_out(ends.server, first[1], seed + 1, 0)
        there = right.start.checksum_in(ends.server, first[0], 0)
        here = left.start.checksum_in(ends.client, LONG, 0)
        for _ in range(KILLS):
            time.sleep(dice.random() * 0.2)
            assert out.pending(0) and back.pending(0)
            controller.kill()
            time.sleep(dice.random() * 0.2)
            controller.start()
            until(lambda: active_flows(net) == 2, 10)
        left.hurry()
        right.hurry()
        (digest, changes), (digest_back, changes_back) = finished(out), finished(back)
        assert finished(there) == digest
        assert min(changes, changes_back) > 1000
        expect_quarters(moved(net, ends.server, before[1]))

        digest, ringed = left.send_by_ring(ends.client, UNREAD, digest)
        assert ringed
        part = dice.randrange(UNREAD)
        digest_there = right.checksum_in(ends.server, part, finished(there))
        successor = succeed(ends.server)
        right.hurry()
        rest = LONG - first[0] - UNREAD
        out = left.start.checksum_out(ends.client, rest, seed + 2, digest)
        there = right.start.checksum_in(successor, UNREAD - part + rest, digest_there)
        back = right.start.checksum_out(successor, LONG - first[1], seed + 3, digest_back)
        assert finished(there) == finished(out)[0]
        assert finished(here) == finished(back)[0]
        expect_quarters(moved(net, ends.client, before[0]))


def routines(sock: Remote) -> Remote:
    return sock.agent.module("routines")


def finished(job: Job) -> Any:
    until(lambda: not job.pending(1), LONG_S)
    return job.join()


def active_flows(net: StreamNet) -> int:
    return [flow["state"] for flow in read_status(net.run_dir)["flows"]].count("active")


def moved(net: StreamNet, sock: Remote, before: dict[str, int]) -> dict[str, int]:
    """The bytes that went by each path, each way, as the wrapper has counted them."""
    now = net.counters(sock)
    return {road: now[road] - before[road] for road in ROADS}


def expect_quarters(bytes_by: dict[str, int]) -> None:
    print(bytes_by)
    assert min(bytes_by.values()) >= LONG // 4


def succeed(sock: Remote) -> Remote:
    """Its program becomes another one, which is given the connection."""
    number = sock.fileno()
    routines(sock).become_another_program(sock)
    made = sock.agent.call("socket", "socket", (socket.AF_INET, socket.SOCK_STREAM, 0, number))
    assert isinstance(made, Remote)
    return made


# ---- any sequence of calls, against a model -----------------------------------------------

SIZES = st.sampled_from([1, 3, 31, 32, 33, 1000, 16_352, 16_384, 40_000])
STEPS = st.one_of(
    st.tuples(st.just("send"), SIZES, st.sampled_from([0, DONTROUTE])),
    st.tuples(st.just("recv"), SIZES, st.sampled_from([0, socket.MSG_PEEK])),
    st.tuples(st.just("all"), SIZES, st.sampled_from([0, socket.MSG_PEEK])),
    st.tuples(st.just("poll"), st.just(0), st.just(0)),
)
MOST = 60_000  # never more under way: nothing blocks


@pytest.mark.parametrize("way", [Way.NATIVE, Way.EAGER])
def test_any_calls_do_what_the_model_says(stream_nets: dict[Way, StreamNet], way: Way) -> None:
    net = stream_nets[way]
    ends = net.connect()
    state = {"sent": 0, "got": 0}

    @settings(
        max_examples=40,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, min_size=1, max_size=25))
    def run(steps: list[tuple[str, int, int]]) -> None:
        for what, size, flags in steps:
            step(ends.client, ends.server, state, what, size, flags)

    run()
    net.reset()


def pattern(at: int, size: int) -> bytes:
    return bytes((at + i) * 7 % 251 for i in range(size))


def step(
    sender: Remote, receiver: Remote, state: dict[str, int], what: str, size: int, flags: int
) -> None:
    under_way = state["sent"] - state["got"]
    if what == "send":
        size = min(size, MOST - under_way)
        if size:
            assert sender.send(pattern(state["sent"], size), flags) == size
            state["sent"] += size
    elif what == "poll":
        expect_poll(receiver, under_way > 0)
    elif under_way == 0:
        with pytest.raises(BlockingIOError):
            receiver.recv(size, flags | socket.MSG_DONTWAIT)
    else:
        if what == "all":
            size = min(size, under_way)
            flags |= socket.MSG_WAITALL
        data = receiver.recv(size, flags)
        assert data == pattern(state["got"], len(data))
        assert 0 < len(data) <= size
        if what == "all":
            assert len(data) == size
        state["got"] += 0 if flags & socket.MSG_PEEK else len(data)


def expect_poll(receiver: Remote, readable: bool) -> None:
    sets = receiver.agent.module("select")
    if readable:
        until(lambda: sets.select([receiver], [], [], 1)[0] != [])
    else:
        assert sets.select([receiver], [], [], 0)[0] == []


# ---- the same addresses again ------------------------------------------------------------------

RECONNECTS = 2000 if os.environ.get("IVC_FULL") else 40
THIRD = 3400 if os.environ.get("IVC_FULL") else 60


@pytest.mark.timeout(1500)
def test_no_stream_crosses_into_the_next_one_of_the_same_addresses(stream_net: StreamNet) -> None:
    listener, address = stream_net.listen()
    routines = stream_net.right.module("routines")
    answering = routines.start.answer_connections(listener, RECONNECTS)
    client = stream_net.left
    connecting = client.module("routines").start.reconnect(
        client.address, 29999, address, RECONNECTS
    )
    until(lambda: not connecting.pending(1), 1200)
    assert connecting.join() == RECONNECTS
    assert answering.join() == list(range(RECONNECTS))


def size(pid: int) -> tuple[int, int]:
    """Descriptors a process has open, and its memory in KiB."""
    process = Path("/proc") / str(pid)
    pages = int((process / "statm").read_text().split()[1])
    return len(list((process / "fd").iterdir())), pages * 4


@pytest.mark.timeout(1500)
def test_many_connections_leave_nothing_behind(stream_nets: dict[Way, StreamNet]) -> None:
    """Ten thousand in the long run, each from the same port."""
    net = stream_nets[Way.EAGER]
    listener, address = net.listen()
    pids = [net.left.pid, net.right.pid, read_status(net.run_dir)["controller"]["pid"]]
    sizes = []
    for _ in range(3):
        answering = net.right.module("routines").start.answer_connections(listener, THIRD)
        client = net.left.module("routines").start
        connecting = client.reconnect(net.left.address, 29998, address, THIRD)
        until(lambda job=connecting: not job.pending(1), 1200)
        assert connecting.join() == THIRD
        assert answering.join() == list(range(THIRD))
        time.sleep(0.5)
        sizes.append([size(pid) for pid in pids])
    for (fds_before, before), (fds_after, after) in zip(sizes[1], sizes[2], strict=True):
        assert fds_after <= fds_before
        assert after - before < 1024
    net.reset()


# ---- the controller -------------------------------------------------------------------------


def test_a_transfer_outlives_its_controller(wrapper_hosts: Lab) -> None:
    total = 80 << 20
    with mortal_net(wrapper_hosts, "mortal") as (net, controller):
        ends = net.connect()
        sending = routines(ends.client).start.stream_out(
            ends.client, total, 5, [0, 0, 0, DONTROUTE]
        )
        receiving = routines(ends.server).start.stream_in(ends.server, total, 5, "recv")
        for _ in range(2):
            assert receiving.pending(0.2)
            controller.kill()
            assert receiving.pending(0.2)
            controller.start()
        until(lambda: not receiving.pending(5), 60)
        assert (sending.join(), receiving.join()) == (total, "")
        net.promote(ends)


def test_programs_that_never_wait_hear_of_a_new_controller(wrapper_hosts: Lab) -> None:
    with mortal_net(wrapper_hosts, "asked") as (net, controller):
        ends = net.connect()
        controller.kill()
        controller.start()

        def asked() -> bool:
            for sock in (ends.client, ends.server):
                with pytest.raises(BlockingIOError):
                    sock.recv(1, socket.MSG_DONTWAIT)
            return active_flows(net) == 2

        until(asked, 10)


def test_a_peek_goes_on_from_an_old_ring_to_a_new_one(wrapper_hosts: Lab) -> None:
    with mortal_net(wrapper_hosts, "peeked") as (net, controller):
        ends, others = net.connect(), net.connect()
        for sock in (others.client, others.server):
            sock.start.recv(1)  # asleep a program hears of controllers
        ends.client.send(b"by the old ring, ")
        controller.kill()
        controller.start()
        until(lambda: active_flows(net) == 4, 10)
        before = net.counters(ends.client)["tx_ring_bytes"]
        ends.client.send(b"by the new")
        assert net.counters(ends.client)["tx_ring_bytes"] == before + 10
        for flags in (socket.MSG_PEEK, 0):
            got = ends.server.recv(27, flags | socket.MSG_WAITALL)
            assert got == b"by the old ring, by the new"
