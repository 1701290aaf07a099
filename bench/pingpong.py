# SPDX-License-Identifier: Apache-2.0
"""One case, run once: two processes of build/pingpong or the two of build/bare_ring.

`ground()` is where: two hosts behind a bridge, and a controller for direct and one for relayed
flows. Each side stays on a processor of its own, if there are two.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cases import ASYNCIO, BUSY, STREAMS, Case, Mode, Pattern, Transport
from ivc.lab.control import (
    CLIENT_HOST,
    LOOPBACK,
    SERVER_HOST,
    JsonObject,
    running_controller,
    wrapper_environment,
    wrapper_library,
)
from ivc.lab.hosts import Host, Lab, LabError, stop
from ivc.lab.peers import common

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "pingpong"
BARE_RING = ROOT / "build" / "bare_ring"
RING_SIZE = "256KiB"
"""Of datagrams' rings: with 64 KiB, as they come, those of 32 KiB and more go by the kernel."""
_PATIENCE_SECONDS = 30.0
_PACE_US = 1000
_SPIN_US = {Mode.SPIN: "1000", Mode.BLOCK: "0"}
_BEGIN_SECONDS, _BEGIN_SECONDS_EACH = 0.5, 0.03
"""So long clients of one server may take to warm up before all begin at once."""
_WINDOW_SECONDS, _CALLS_MOST = 0.5, 1_000_000
"""So long they go on, and so many calls at most."""
_ON_RINGS = {Transport.IVC: "direct", Transport.RELAY: "relay"}
# Round trips before it counts; on rings the controller makes them meanwhile, for which it gets
# little time where both sides spin: 60 ms were seen. With a pause in each, those of sleepers took
# 70 us instead of 50 for long after, by ring more than by the kernel.
_WARM, _WARM_SPINNING = 300, 1500


@dataclass(frozen=True, slots=True)
class Run:
    """What the client tells; times in microseconds, None without round trips.

    `cpu_us_per_msg` is of both sides. `wire`: bytes the server's interface received for each
    that was sent to it, headers too; None if it has no part in it.
    """

    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    msgs_per_s: float
    cpu_us_per_msg: float
    sent: int
    lost: int
    strange: int
    wire: float | None


@contextlib.contextmanager
def ground(nodes: int = 2) -> Iterator[Lab]:
    """Where everything runs. Raises LabError when it cannot be made."""
    members = {CLIENT_HOST: "10.77.0.1/24", SERVER_HOST: "10.77.0.2/24"}
    members |= {f"n{number}": f"10.77.0.{number}/24" for number in range(3, nodes + 1)}
    with Lab(members) as lab, contextlib.ExitStack() as stack:
        for path in _ON_RINGS.values():
            folder = lab.directory / path
            folder.mkdir()
            controlled = running_controller(lab, path, folder, "eager", RING_SIZE, max(BUSY))
            stack.enter_context(controlled)
        yield lab


def run_once(lab: Lab, case: Case, count: int, numbered: bool = False) -> Run:
    """`count` round trips or messages. Raises LabError when a part does not run."""
    client_cpu, server_cpu = (cpu % (os.cpu_count() or 1) for cpu in (0, 1))
    sending = ["--cpu", str(client_cpu), "--count", str(count)]
    sending += ["--pause", str(_PACE_US)] if case.pattern is Pattern.PACED else []
    sending += ["--numbered"] if numbered else []
    if case.transport is Transport.RING:
        command = [str(BARE_RING), *_pattern(case), *sending, "--server-cpu", str(server_cpu)]
        return _run(case, _report(lab[SERVER_HOST], command, {}), None)
    client_host, here, there = _places(lab, case)
    env = _environment(lab, case)
    ways = _ways(case)
    with _serving(
        lab, [*_program(case), "server", *there, *ways, "--cpu", str(server_cpu)], env
    ) as pid:
        before = _received_bytes(pid)
        if case.nodes > 2:
            sending = ["--cpu", str(client_cpu), "--count", str(_CALLS_MOST)]
            return _run_many(lab, case, [*there, *ways, *sending], env, pid)
        command = [*_program(case), "client", *here, *there, *ways, *sending, "--peer", str(pid)]
        report = _report(client_host, command, env)
        return _run(case, report, _received_bytes(pid) - before)


def _run_many(
    lab: Lab, case: Case, arguments: Sequence[str], env: Mapping[str, str], server: int
) -> Run:
    """All but one call that one; they begin at the same time, warm, and end at the same time."""
    hosts = [host for host in lab.hosts if host.name != SERVER_HOST][: case.nodes - 1]
    patience = _BEGIN_SECONDS + _BEGIN_SECONDS_EACH * len(hosts)
    begin = time.clock_gettime(time.CLOCK_MONOTONIC) + patience
    with contextlib.ExitStack() as stack:
        clients = []
        for host in hosts:
            here = [str(host.address.ip), str(common.CLIENT_PORT)]
            command = [*_program(case), "client", *here, *arguments, "--begin-at", f"{begin:.6f}"]
            client = host.popen(command, env=env, stdout=subprocess.PIPE)
            stack.callback(stop, client)
            clients.append((client, command))
        time.sleep(max(0.0, begin - time.clock_gettime(time.CLOCK_MONOTONIC)))
        spent, before = cpu_seconds(server), _received_bytes(server)
        time.sleep(_WINDOW_SECONDS)
        for client, _ in clients:
            client.send_signal(signal.SIGINT)  # ends the calls, not the program
        reports = [_told(client, command) for client, command in clients]
        spent, received = cpu_seconds(server) - spent, _received_bytes(server) - before
    runs = [_run(case, report, None) for report in reports]
    messages = sum(2 * (run.sent - run.lost) for run in runs) or 1
    own = sum(run.cpu_us_per_msg * 2 * (run.sent - run.lost) for run in runs)
    return Run(
        p50_us=statistics.median(run.p50_us or 0.0 for run in runs),
        p90_us=max(run.p90_us or 0.0 for run in runs),
        p99_us=max(run.p99_us or 0.0 for run in runs),
        msgs_per_s=sum(run.msgs_per_s for run in runs),
        cpu_us_per_msg=(own + spent * 1e6) / messages,
        sent=sum(run.sent for run in runs),
        lost=sum(run.lost for run in runs),
        strange=sum(run.strange for run in runs),
        wire=received / (sum(run.sent for run in runs) * case.size),
    )


def cpu_seconds(pid: int) -> float:
    """All a process has had, to the nanosecond: ticks are too coarse for what is nearly idle."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a pid


def _program(case: Case) -> list[str]:
    if case.wait == ASYNCIO:
        return [sys.executable, "-m", "bench.asyncio_pingpong"]
    return [str(PROGRAM)]


def _ways(case: Case) -> list[str]:
    """What both sides are told."""
    ways = _pattern(case) + (["--tcp"] if case.protocol in STREAMS else [])
    spinning = case.transport in _ON_RINGS and case.mode is not Mode.BLOCK and case.nodes == 2
    ways += ["--warm", str(_WARM_SPINNING if spinning else _WARM)]
    if case.wait == ASYNCIO:
        return ways
    idle = ["--sockets", str(case.sockets - 1)] if case.sockets > 1 else []
    busy = ["--busy", str(case.busy)] if case.busy > 1 else []
    return [*ways, "--wait", case.wait, *idle, *busy]


def _pattern(case: Case) -> list[str]:
    kinds = {Pattern.ONE_WAY: ["--one-way"], Pattern.BATCHED: ["--batch"]}
    return ["--size", str(case.size), *kinds.get(case.pattern, [])]


def _places(lab: Lab, case: Case) -> tuple[Host, list[str], list[str]]:
    """The client's host; the client's address and port; the server's."""
    ports = str(common.CLIENT_PORT), str(common.SERVER_PORT)
    if case.transport is Transport.UNIX:
        addresses = [str(lab.directory)] * 2
    elif case.transport is Transport.LOOPBACK:
        addresses = [LOOPBACK] * 2
    else:
        addresses = [str(lab[name].address.ip) for name in (CLIENT_HOST, SERVER_HOST)]
    alone = case.transport in (Transport.UNIX, Transport.LOOPBACK)
    here, there = ([address, port] for address, port in zip(addresses, ports, strict=True))
    return lab[SERVER_HOST if alone else CLIENT_HOST], here, there


def _environment(lab: Lab, case: Case) -> Mapping[str, str]:
    path = _ON_RINGS.get(case.transport)
    if path is None:
        return {}
    spin = _SPIN_US.get(case.mode)
    wrapped = wrapper_environment(wrapper_library(ROOT), lab.directory / path)
    return wrapped if spin is None else wrapped | {"IVC_SPIN_US": spin}


@contextlib.contextmanager
def _serving(lab: Lab, command: Sequence[str], env: Mapping[str, str]) -> Iterator[int]:
    server = lab[SERVER_HOST].popen(command, env=env, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise LabError(f"the ping-pong server does not start (status {server.wait()})")
        yield server.pid
    finally:
        stop(server)


def _report(host: Host, command: Sequence[str], env: Mapping[str, str]) -> JsonObject:
    client = host.popen(command, env=env, stdout=subprocess.PIPE)
    try:
        return _told(client, command)
    finally:
        stop(client)


def _told(client: subprocess.Popen[str], command: Sequence[str]) -> JsonObject:
    """What a client has said at its end."""
    try:
        output, _ = client.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"does not end within {_PATIENCE_SECONDS:.0f} s: {command}") from None
    if client.returncode != 0:
        raise LabError(f"fails (status {client.returncode}): {command}")
    report = json.loads(output)
    assert isinstance(report, dict)
    return report


def _received_bytes(pid: int) -> int:
    """Of eth0 where process `pid` runs."""
    text = Path(f"/proc/{pid}/net/dev").read_text()
    line = re.search(r"^ *eth0:(.*)$", text, re.MULTILINE)
    return int(line[1].split()[0]) if line else 0


def _run(case: Case, report: JsonObject, received_bytes: int | None) -> Run:
    rtt = report["rtt_us"] if case.pattern in (Pattern.PING_PONG, Pattern.PACED) else {}
    wired = case.transport is Transport.VETH or case.transport in _ON_RINGS
    return Run(
        p50_us=rtt.get("p50"),
        p90_us=rtt.get("p90"),
        p99_us=rtt.get("p99"),
        msgs_per_s=report["msgs_per_s"],
        cpu_us_per_msg=report["cpu_us_per_msg"],
        sent=report["sent"],
        lost=report["lost"],
        strange=report["strange"],
        wire=received_bytes / (report["sent"] * case.size)
        if wired and received_bytes is not None
        else None,
    )
