# SPDX-License-Identifier: Apache-2.0
"""Connections from guest to guest: calls by stacks of others, and by tcp_echo.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from traffic import wait_for_rings

from ivc.lab.control import CLIENT_HOST, SERVER_HOST
from ivc.lab.peers import common
from ivc.lab.xen.control import read_status
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.machine import Process
from ivc.lab.xen.ways import Way

_HERE = Path(__file__).parent
_STACKS = _HERE.parent / "wrapper" / "someip_streams.py"
_ECHO = _HERE / "tcp_echo.py"
_SECONDS = 120.0


@contextmanager
def calls_of(lab: XenLab, client: str, server: str, count: int) -> Iterator[str]:
    """Let a stack's client call another's server; what it says of it, while they are connected."""
    there = [lab.domU(SERVER_HOST).address, str(common.SERVER_PORT)]
    calling = [client, "client", lab.domU(CLIENT_HOST).address, *there, str(count)]
    with _both(lab, _STACKS, [server, "server", *there], calling) as (at_server, at_client):
        at_client.wait_for("\n", _SECONDS)
        yield at_client.stdout
        for process in (at_client, at_server):
            process.end_input()
            process.wait(_SECONDS)


@contextmanager
def calling(lab: XenLab, method: int = 1) -> Iterator[Process]:
    """A client that calls until its input ends, on rings."""
    there = [lab.domU(SERVER_HOST).address, str(common.SERVER_PORT)]
    with _both(lab, _ECHO, ["server", *there], ["client", *there, str(method)]) as (_, client):
        wait_for_rings(lab, client)
        yield client


def answers(client: Process) -> tuple[int, int]:
    """End its calls: how many the service has answered, and how many somebody else refused."""
    client.end_input()
    done = client.wait(_SECONDS)
    assert done.status == 0, done.stderr
    answered, refused = map(int, done.stdout.split())
    return answered, refused


def ringed(lab: XenLab) -> int:
    """Bytes received by ring on TCP sockets that are open now."""
    sockets = read_status(lab)["sockets"]
    tcp = [one["counters"] for one in sockets if one["protocol"] == "tcp"]
    return sum(counters["rx_ring_bytes"] for counters in tcp)


@contextmanager
def _both(
    lab: XenLab, program: Path, serve: list[str], call: list[str]
) -> Iterator[tuple[Process, Process]]:
    path = f"/tmp/{program.name}"
    env = Way.DIRECT.environment
    server, client = lab.domU(SERVER_HOST), lab.domU(CLIENT_HOST)
    for guest in (server, client):
        guest.put(program.read_bytes(), path)
    with server.popen(["python3", path, *serve], env=env, open_input=True) as serving:
        serving.wait_for("ready", _SECONDS)
        with client.popen(["python3", path, *call], env=env, open_input=True) as calls:
            yield serving, calls
