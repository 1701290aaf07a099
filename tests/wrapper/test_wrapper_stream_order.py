# SPDX-License-Identifier: Apache-2.0
"""TCP over rings: not a byte lost, repeated or out of place, whatever path each send takes."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from remote import Remote, until
from stream_lab import DONTROUTE, Ends, StreamNet, Way
from wrapper_lab import FIRST_PORT, PORTS, configure, start_controller

from ivc.lab.hosts import Lab, stop

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
    if stream_net.native:
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


def test_no_stream_crosses_into_the_next_one_of_the_same_addresses(stream_net: StreamNet) -> None:
    listener, address = stream_net.listen()
    routines = stream_net.right.module("routines")
    answering = routines.start.answer_connections(listener, RECONNECTS)
    client = stream_net.left
    connecting = client.module("routines").start.reconnect(
        client.address, 29999, address, RECONNECTS
    )
    until(lambda: not connecting.pending(1), 600)
    assert connecting.join() == RECONNECTS
    assert answering.join() == list(range(RECONNECTS))


# ---- the controller -------------------------------------------------------------------------


def test_a_transfer_outlives_its_controller(wrapper_hosts: Lab) -> None:
    hosts = [wrapper_hosts["left"], wrapper_hosts["right"]]
    folder, command = configure(wrapper_hosts, "direct", hosts, "eager", "mortal")
    process = start_controller(wrapper_hosts, folder, command)
    net = StreamNet(Way.EAGER, wrapper_hosts, folder, iter(range(FIRST_PORT, FIRST_PORT + PORTS)))
    total = 80 << 20
    try:
        ends = net.connect()
        out, into = (sock.agent.module("routines") for sock in (ends.client, ends.server))
        sending = out.start.stream_out(ends.client, total, 5, [0, 0, 0, DONTROUTE])
        receiving = into.start.stream_in(ends.server, total, 5, "recv")
        for _ in range(2):
            assert receiving.pending(0.2)
            process.kill()
            process.wait()
            assert receiving.pending(0.2)
            process = start_controller(wrapper_hosts, folder, command)
        until(lambda: not receiving.pending(5), 60)
        assert (sending.join(), receiving.join()) == (total, "")
        net.promote(ends)
    finally:
        net.close()
        stop(process)
