# SPDX-License-Identifier: Apache-2.0
"""One laboratory for the folder: three hosts, and a controller of each path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_lab import StreamNet, Way
from wrapper_lab import (
    FIRST_PORT,
    GROUPS,
    MEMBERS,
    TAKEN_IN_TURN,
    Mode,
    Net,
    build_library,
    controller,
)

from ivc.lab.control import running_loopback
from ivc.lab.hosts import Lab


@pytest.fixture(scope="session")
def wrapper_hosts() -> Iterator[Lab]:
    build_library()
    with Lab(MEMBERS) as lab:
        for host in lab.hosts:
            # A kernel sends few ICMP errors a second, and every test waits for its own.
            host.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit")
        yield lab


@pytest.fixture(scope="session")
def run_dirs(wrapper_hosts: Lab) -> Iterator[dict[str, Path]]:
    """The run directories of two controllers, by path; natively nobody looks into them."""
    hosts = list(wrapper_hosts.hosts)
    with (
        controller(wrapper_hosts, "direct", hosts) as direct,
        controller(wrapper_hosts, "relay", hosts) as relay,
    ):
        yield {"direct": direct, "relay": relay}


@pytest.fixture(scope="session")
def nets(wrapper_hosts: Lab, run_dirs: dict[str, Path]) -> Iterator[dict[Mode, Net]]:
    ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + TAKEN_IN_TURN))
    groups = itertools.cycle(range(GROUPS))
    made = {mode: Net(mode, wrapper_hosts, run_dirs[mode.path], ports, groups) for mode in Mode}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(params=list(Mode), ids=lambda mode: str(mode.value))
def net(request: pytest.FixtureRequest, nets: dict[Mode, Net]) -> Iterator[Net]:
    """The laboratory in each mode; afterwards the proof that rings carried the traffic."""
    one = nets[request.param]
    yield one
    try:
        one.prove()
    finally:
        one.reset()


@pytest.fixture(params=[mode for mode in Mode if mode is not Mode.NATIVE], ids=str)
def wrapped_net(request: pytest.FixtureRequest, nets: dict[Mode, Net]) -> Iterator[Net]:
    """As `net`, for what there is nothing native to compare with."""
    one = nets[request.param]
    yield one
    try:
        one.prove()
    finally:
        one.reset()


@pytest.fixture
def relay_net(nets: dict[Mode, Net]) -> Iterator[Net]:
    """As `net`, only relayed."""
    one = nets[Mode.RELAY]
    yield one
    one.reset()


@pytest.fixture(scope="session")
def stream_nets(wrapper_hosts: Lab) -> Iterator[dict[Way, StreamNet]]:
    hosts = [wrapper_hosts["left"], wrapper_hosts["right"]]
    ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + TAKEN_IN_TURN))
    with (
        controller(wrapper_hosts, "direct", hosts, "eager") as eager,
        controller(wrapper_hosts, "direct", hosts, "lazy") as lazy,
        controller(wrapper_hosts, "relay", hosts, "lazy") as relay,
    ):
        folders = {Way.LAZY: lazy, Way.RELAY: relay}
        made = {way: StreamNet(way, wrapper_hosts, folders.get(way, eager), ports) for way in Way}
        yield made
        for one in made.values():
            one.close()


@pytest.fixture(params=list(Way), ids=str)
def stream_net(
    request: pytest.FixtureRequest, stream_nets: dict[Way, StreamNet]
) -> Iterator[StreamNet]:
    """TCP in each way of running: what holds natively must hold wrapped."""
    one = stream_nets[request.param]
    yield one
    one.reset()


@pytest.fixture(params=[way for way in Way if way is not Way.NATIVE], ids=str)
def wrapped_stream_net(
    request: pytest.FixtureRequest, stream_nets: dict[Way, StreamNet]
) -> Iterator[StreamNet]:
    """As `stream_net`, for what there is nothing native to compare with."""
    one = stream_nets[request.param]
    yield one
    one.reset()


@pytest.fixture(scope="session")
def loopback_nets(
    wrapper_hosts: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Way, StreamNet]]:
    """TCP and UDP within `left`, whose own 127.0.0.1 is the only node."""
    folder = tmp_path_factory.mktemp("loopback")
    with running_loopback(wrapper_hosts, "left", folder, "eager"):
        ways = (Way.NATIVE, Way.EAGER, Way.CHANNEL, Way.BLOCKING)
        made = {way: StreamNet(way, wrapper_hosts, folder, itertools.count()) for way in ways}
        yield made
        for one in made.values():
            one.close()
