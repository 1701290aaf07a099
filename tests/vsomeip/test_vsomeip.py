# SPDX-License-Identifier: Apache-2.0
"""vsomeip's own stock examples across two hosts: over the network, then on rings.

Needs an installed vsomeip 3 with its four example programs. They are looked for
below VSOMEIP_PREFIX (or where `pkg-config vsomeip3` says), in `bin` and
`examples`, or in VSOMEIP_EXAMPLES. The programs know nothing of IVC; all that is
checked is what they print themselves, what `ivc status` says while they live, and
what an independent counter saw on the bridge.

Why two applications on two hosts need what they get here: vsomeip waits for a
route to the multicast group before it offers anything (Lab sets one), its local
Unix sockets must not meet (`network` and VSOMEIP_BASE_PATH differ), and its
default nPDU times put 7 ms into every direction (set to 0).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ivc.lab.hosts import Host, Lab, Mode, available_mode, stop
from ivc.lab.wire import Counts, WireCounter

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(os.environ.get("IVC_LIBRARY", ROOT / "build" / "libivcsock.so"))
PROGRAMS = ("request-sample", "response-sample", "notify-sample", "subscribe-sample")

SERVICE_PORT = 30509
SERVICE = f"10.78.0.1:{SERVICE_PORT}"
GROUP = "224.225.226.233"
GROUP_PORT = 32344
SD_GROUP = "224.244.224.245"
SD_PORT = 30490

NPDU_TIMES = (
    "debounce-time-request",
    "debounce-time-response",
    "max-retention-time-request",
    "max-retention-time-response",
)

CYCLE_MS = 10
ENOUGH = 300
"""messages a run waits for; the service samples withdraw their offer after 10 s"""
PATIENCE = 9.0
SETTLED = 100
"""messages after which the flows are long there; a run on rings is watched from here on"""
STRAY = 0.05
"""Datagrams still on the bridge then, a message: vsomeip opens its SD socket anew every 2 s, and
until the new one has its flow, SD goes over the network too"""


@dataclass(frozen=True, slots=True)
class Vsomeip:
    """An installed vsomeip: where its libraries and its example programs are."""

    libraries: Path
    programs: Path


def find_vsomeip() -> Vsomeip | str:
    """The installed vsomeip, or the reason why there is none to test with."""
    prefix = os.environ.get("VSOMEIP_PREFIX") or _pkg_config_prefix()
    if not prefix:
        return "no vsomeip 3: VSOMEIP_PREFIX is not set and pkg-config knows no vsomeip3"
    if not any(Path(prefix, "lib").glob("libvsomeip3.so*")):
        return f"no vsomeip 3: {prefix}/lib has no libvsomeip3.so"
    chosen = os.environ.get("VSOMEIP_EXAMPLES")
    folders = [Path(chosen)] if chosen else [Path(prefix, "bin"), Path(prefix, "examples")]
    for folder in folders:
        if all((folder / name).is_file() for name in PROGRAMS):
            return Vsomeip(Path(prefix, "lib"), folder)
    looked = ", ".join(map(str, folders))
    return f"vsomeip 3 in {prefix} without its example programs (looked in {looked})"


def _pkg_config_prefix() -> str:
    if not shutil.which("pkg-config"):
        return ""
    command = ["pkg-config", "--variable=prefix", "vsomeip3"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


VSOMEIP = find_vsomeip()
pytestmark = [
    pytest.mark.skipif(isinstance(VSOMEIP, str), reason=str(VSOMEIP)),
    pytest.mark.skipif(
        available_mode() is not Mode.ROOT, reason="vsomeip needs two hosts: run as root on Linux"
    ),
    pytest.mark.timeout(90),
]


# ---- the two hosts and their configuration ---------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab({"va": "10.78.0.1/24", "vb": "10.78.0.2/24"}) as made:
        yield made


def configuration(host: Host, application: str, folder: Path, scenario: Scenario) -> dict[str, Any]:
    """A vsomeip configuration; `va` has the services, `vb` only asks for them."""
    config: dict[str, Any] = {
        "unicast": str(host.address.ip),
        "netmask": str(host.address.netmask),
        "network": f"ivctest-{host.name}",
        "logging": {
            "level": "info",
            "console": "false",
            "file": {"enable": "true", "path": str(folder / f"{host.name}-vsomeip.log")},
            "dlt": "false",
        },
        "applications": [{"name": application, "id": "0x1277" if host.name == "va" else "0x1343"}],
        "routing": application,
        "npdu-default-timings": dict.fromkeys(NPDU_TIMES, "0"),
        "service-discovery": {
            "enable": "true",
            "multicast": SD_GROUP,
            "port": str(SD_PORT),
            "protocol": "udp",
            "initial_delay_min": "10",
            "initial_delay_max": "50",
            "repetitions_base_delay": "100",
            "repetitions_max": "3",
            "ttl": "5",
            "cyclic_offer_delay": "1000",
        },
    }
    if host.name == "va":
        config["services"] = services(scenario)
    return config


def services(scenario: Scenario) -> list[dict[str, Any]]:
    """What the stock service programs offer (the ids are compiled into them)."""
    endpoint = "reliable" if scenario.reliable else "unreliable"
    group: dict[str, Any] = {"eventgroup": "0x4465", "events": ["0x8778"]}
    if scenario.multicast:
        group["multicast"] = {"address": GROUP, "port": str(GROUP_PORT)}
        group["threshold"] = "1"
    reliable = str(scenario.reliable).lower()
    sample = {
        "service": "0x1234",
        "instance": "0x5678",
        endpoint: str(SERVICE_PORT),
        "events": [{"event": "0x8778", "is_field": "true", "is_reliable": reliable}],
        "eventgroups": [group],
    }
    second = {"service": "0x1235", "instance": "0x5678", endpoint: str(SERVICE_PORT + 1)}
    return [sample, second]


# ---- running the samples ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """A stock service program on `va` and its client on `vb`, running."""

    service: subprocess.Popen[str]
    client: subprocess.Popen[str]
    folder: Path

    def said(self, name: str) -> str:
        """What the program on host `name` has printed so far."""
        return (self.folder / f"{name}.out").read_text()

    def log(self, name: str) -> str:
        """vsomeip's own log on host `name`."""
        return (self.folder / f"{name}-vsomeip.log").read_text()

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Wait until `done`; fails with both outputs when it takes longer than PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline or self.client.poll() or self.service.poll():
                tails = "\n".join(f"{name}: ...{self.said(name)[-1500:]}" for name in ("va", "vb"))
                pytest.fail(f"{what}: not within {PATIENCE} s\n{tails}")
            time.sleep(0.02)


@contextlib.contextmanager
def running(
    lab: Lab,
    folder: Path,
    scenario: Scenario,
    run_dir: Path | None = None,
) -> Iterator[Pair]:
    """The service and the client on their hosts; with the wrapper when `run_dir` is given."""
    with contextlib.ExitStack() as undo:
        started = []
        for name, argv in (("va", scenario.service), ("vb", scenario.client)):
            write_configuration(lab, folder, name, argv[0], scenario)
            out = undo.enter_context((folder / f"{name}.out").open("w"))
            env = environment(folder, name, argv[0], run_dir)
            process = lab[name].popen(
                [str(program(argv[0])), *argv[1:]], env=env, stdout=out, stderr=out
            )
            undo.callback(stop, process, 15.0)
            started.append(process)
        yield Pair(started[0], started[1], folder)


def write_configuration(
    lab: Lab, folder: Path, name: str, application: str, scenario: Scenario
) -> Path:
    path = folder / f"{name}.json"
    config = configuration(lab[name], application, folder, scenario)
    path.write_text(json.dumps(config, indent=2))
    return path


def environment(folder: Path, name: str, application: str, run_dir: Path | None) -> dict[str, str]:
    assert isinstance(VSOMEIP, Vsomeip)
    env = {
        "VSOMEIP_CONFIGURATION": str(folder / f"{name}.json"),
        "VSOMEIP_APPLICATION_NAME": application,
        "VSOMEIP_BASE_PATH": str(folder),
        "LD_LIBRARY_PATH": str(VSOMEIP.libraries),
    }
    if run_dir is not None:
        # the loader only warns of a missing library and goes on without
        assert LIBRARY.is_file(), f"{LIBRARY} is missing: python3 build.py builds it"
        env |= {"LD_PRELOAD": str(LIBRARY), "IVC_RUN_DIR": str(run_dir)}
    return env


def program(name: str) -> Path:
    assert isinstance(VSOMEIP, Vsomeip)
    return VSOMEIP.programs / name


@dataclass(frozen=True, slots=True)
class Scenario:
    """A stock service program with its client, and what their output must show."""

    service: tuple[str, ...]
    client: tuple[str, ...]
    received: Callable[[Pair], int]
    problems: Callable[[Pair], list[str]]
    payload_bytes: Callable[[Pair], int]
    multicast: bool = False
    reliable: bool = False

    def over_tcp(self) -> Scenario:
        """The same at reliable endpoints."""
        client = tuple("--tcp" if word == "--udp" else word for word in self.client)
        return dataclasses.replace(self, client=client, reliable=True)


# ---- request and response: the client sends the next request on each response ----------------

REQUEST_BYTES = 16 + 10
RESPONSE_BYTES = 16 + 120


def responses(pair: Pair) -> int:
    return pair.said("vb").count("Received a response")


def request_problems(pair: Pair) -> list[str]:
    """One response to every request, but for one that may be under way at the end."""
    sent, served = pair.said("vb").count("sent a request"), pair.said("va").count("Received a mess")
    found = []
    if not 0 <= sent - responses(pair) <= 1:
        found.append(f"{sent} requests, {responses(pair)} responses")
    if not 0 <= sent - served <= 1:
        found.append(f"{sent} requests, {served} served")
    return found


def request_bytes(pair: Pair) -> int:
    return responses(pair) * (REQUEST_BYTES + RESPONSE_BYTES)


# ---- notifications: events of 1, 2, ... 9, 1, 2, ... bytes, so lengths are sequence numbers --

_NOTIFICATION = re.compile(r"Event \[1234\.5678\.8778\] to Client/Session \[0000/\w+\] = \((\d+)\)")
SET_BYTES = 11
"""The client also sets the field now and then, to this many bytes, and is notified of that."""


def lengths(pair: Pair) -> list[int]:
    """Payload bytes of the notifications received, in order.

    Answers to the client's own get and set requests carry its client id, not 0000.
    """
    return [int(length) for length in _NOTIFICATION.findall(pair.said("vb"))]


def notifications(pair: Pair) -> int:
    return len(lengths(pair))


def notification_problems(pair: Pair) -> list[str]:
    """Each event follows its predecessor: none lost, none twice, none overtaken.

    The first is left out: it answers the subscription, with the value of that moment, and
    vsomeip itself at times repeats it, or misses one before it has joined the group.
    """
    events = [length for length in lengths(pair) if length != SET_BYTES][1:]
    return [
        f"event {at}: {later} after {earlier}"
        for at, (earlier, later) in enumerate(itertools.pairwise(events))
        if later != earlier % 9 + 1
    ]


def notification_bytes(pair: Pair) -> int:
    return sum(16 + length for length in lengths(pair))


EVENTS = Scenario(
    ("notify-sample", "--cycle", str(CYCLE_MS)),
    ("subscribe-sample", "--udp"),
    notifications,
    notification_problems,
    notification_bytes,
)
REQUESTS = Scenario(
    ("response-sample",),
    ("request-sample", "--udp", "--cycle", str(CYCLE_MS)),
    responses,
    request_problems,
    request_bytes,
)
SCENARIOS = {
    "requests": REQUESTS,
    "events": EVENTS,
    "multicast-events": dataclasses.replace(EVENTS, multicast=True),
}
RELIABLE = {"requests": REQUESTS.over_tcp(), "events": EVENTS.over_tcp()}


def each(scenarios: dict[str, Scenario]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", scenarios.values(), ids=scenarios.keys())


def problems(scenario: Scenario, pair: Pair) -> list[str]:
    """What is wrong by the applications' own account, and by vsomeip's log."""
    reboots = [
        f"{name}: {line}"
        for name in ("va", "vb")
        for line in pair.log(name).splitlines()
        if "Reboot detected" in line
    ]
    return scenario.problems(pair) + reboots


# ---- the controller --------------------------------------------------------------------------


@contextlib.contextmanager
def controller(lab: Lab, folder: Path, scenario: Scenario, path: str) -> Iterator[Path]:
    """A controller that has planned from the very files the applications read; its run dir."""
    files = [
        str(write_configuration(lab, folder, name, program[0], scenario))
        for name, program in (("va", scenario.service), ("vb", scenario.client))
    ]
    mapping = folder / "mapping.toml"
    hosts = (f'[nodes.{name}]\nhost = "netns:{lab[name].netns}"\n' for name in ("va", "vb"))
    mapping.write_text("version = 1\n" + "".join(hosts))
    run_dir = folder / "run"
    options = ["--mapping", str(mapping), "--run-dir", str(run_dir), "--path", path]
    command = [sys.executable, "-m", "ivc", "controller", *files, *options]
    with (folder / "controller.err").open("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, stderr=err, text=True)
        try:
            deadline = time.monotonic() + PATIENCE
            while "ready" not in (folder / "controller.err").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("controller: " + (folder / "controller.err").read_text())
                time.sleep(0.02)
            yield run_dir
        finally:
            stop(process)


def status(run_dir: Path) -> dict[str, Any]:
    """What `ivc status` says now."""
    command = [sys.executable, "-m", "ivc", "status", "--json", "--run-dir", str(run_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def wire(lab: Lab) -> WireCounter:
    """Counts what enters the bridge from either host."""
    assert lab.bridge is not None
    return WireCounter(lab.bridge, [str(host.port) for host in lab.hosts])


def paths(sockets: list[dict[str, Any]], scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """On which paths the sockets are that the service's messages use, by their role."""
    found = {
        "service": [s for s in sockets if s["local"] == SERVICE],
        "client": [s for s in sockets if s["peer"] == SERVICE],
    }
    if scenario.multicast:
        found["group"] = [s for s in sockets if s["local"] == f"0.0.0.0:{GROUP_PORT}"]
    return {role: tuple(s["path"] for s in those) for role, those in found.items()}


# ---- the tests -------------------------------------------------------------------------------


def over_the_network(lab: Lab, folder: Path, scenario: Scenario) -> tuple[Pair, Counts]:
    """The pair, ended well, and all that has crossed the bridge."""
    with wire(lab) as counter:
        with running(lab, folder, scenario) as pair:
            pair.wait(lambda: scenario.received(pair) >= ENOUGH, "messages")
        crossed = counter.read()
    assert problems(scenario, pair) == []
    return pair, crossed


def on_rings(
    lab: Lab, folder: Path, scenario: Scenario, path: str
) -> tuple[Counts, Counts, dict[str, tuple[str, ...]]]:
    """What had crossed the bridge once settled and at the end, and the paths at the end."""
    with (
        wire(lab) as counter,
        controller(lab, folder, scenario, path) as run_dir,
        running(lab, folder, scenario, run_dir) as pair,
    ):
        pair.wait(lambda: scenario.received(pair) >= SETTLED, "first messages")
        before = counter.read()
        pair.wait(lambda: scenario.received(pair) >= ENOUGH, "messages")
        after, sockets = counter.read(), status(run_dir)["sockets"]
    assert problems(scenario, pair) == []
    return before, after, paths(sockets, scenario)


@each(SCENARIOS)
def test_over_the_network(lab: Lab, tmp_path: Path, scenario: Scenario) -> None:
    pair, crossed = over_the_network(lab, tmp_path, scenario)
    assert crossed.drops == 0
    assert crossed.udp_bytes >= scenario.payload_bytes(pair)


@pytest.mark.parametrize("path", ["direct", "relay"])
@each(SCENARIOS)
def test_on_rings(lab: Lab, tmp_path: Path, scenario: Scenario, path: str) -> None:
    before, after, taken = on_rings(lab, tmp_path, scenario, path)
    assert set(taken.values()) == {(path,)}
    assert after.drops == 0
    assert after.udp_packets - before.udp_packets <= STRAY * (ENOUGH - SETTLED)


@each(RELIABLE)
def test_reliable_endpoints_over_the_network(lab: Lab, tmp_path: Path, scenario: Scenario) -> None:
    pair, crossed = over_the_network(lab, tmp_path, scenario)
    assert crossed.tcp_bytes >= scenario.payload_bytes(pair)


@each(RELIABLE)
def test_reliable_endpoints_on_rings(lab: Lab, tmp_path: Path, scenario: Scenario) -> None:
    before, after, taken = on_rings(lab, tmp_path, scenario, "direct")
    assert taken["client"] == ("direct",)
    assert (after.tcp_bytes - before.tcp_bytes, after.drops) == (0, 0)
