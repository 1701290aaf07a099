# SPDX-License-Identifier: Apache-2.0
"""Hosts, a controller that can be killed and told of new plans, and numbered traffic between them.

Two hosts are inside, `adas` and `hmi`; `ext` is outside and has no wrapper. All of it is real:
namespaces, processes, signals, the library as it is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivc.controller.client import read_status
from ivc.controller.errors import NoController
from ivc.lab.control import wrapper_environment, wrapper_library
from ivc.lab.hosts import Host, Lab, stop

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = wrapper_library(ROOT)
FULL = bool(os.environ.get("IVC_FULL"))
"""The sizes the issue names; otherwise a share of them that fits CI."""
SEED = int(os.environ.get("IVC_SEED", "20261123"))
PATIENCE_S = 15.0
SOME = 20
"""Datagrams that prove that a way works."""

ADDRESSES = {"hmi": "10.77.0.1", "adas": "10.77.0.2", "ext": "10.77.0.3"}
GROUP = "224.225.226.1:30600"
SERVICES = {"hmi": (30510, 30512), "adas": (30509, 30511)}
STREAM_PORT = 30510
"""Of the one service that has a TCP endpoint too."""


def size(ci: int, full: int) -> int:
    """How much of something: in CI, or when everything is asked for."""
    return full if FULL else ci


def wait_until(
    true: Callable[[], object], what: str | Callable[[], str], patience: float = PATIENCE_S
) -> None:
    """Look until it is so. `what` is asked, if it can be, when it is not."""
    deadline = time.monotonic() + patience
    while not true():
        late = time.monotonic() >= deadline
        assert not late, f"in {patience} s not: {what if isinstance(what, str) else what()}"
        time.sleep(0.002)


# ---- processes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds. `memory` is its own, in KiB; `regions` are mapped memfds of IVC,
    whose pages become resident as traffic passes and are not in `memory`."""

    descriptors: int
    regions: int
    memory: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Of a live process."""
        proc = Path(f"/proc/{pid}")
        status = (proc / "status").read_text()

        def number(key: str) -> int:
            found = re.search(rf"^{key}:\s+(\d+)", status, re.MULTILINE)
            assert found, key
            return int(found[1])

        return cls(
            len(list((proc / "fd").iterdir())),
            len(re.findall("/memfd:ivc-", (proc / "maps").read_text())),
            number("RssAnon"),
            number("Threads"),
        )


class Program:
    """A process that takes orders on its standard input and answers in JSON lines."""

    def __init__(self, process: subprocess.Popen[str], words: Path) -> None:
        self.process = process
        self._words = words

    @property
    def pid(self) -> int:
        return self.process.pid

    def order(self, text: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def has_line(self) -> bool:
        """Whether it has said something that nobody has read yet."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def line(self, patience: float = PATIENCE_S) -> str:
        """The next line of its standard output."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], patience)
        line = self.process.stdout.readline() if ready else ""
        assert line, f"{'output closed' if ready else f'no line in {patience} s'}, {self.why()}"
        return line

    def end(self) -> None:
        """Close its standard input, which ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        wait_until(lambda: not self.alive(), lambda: f"the end after its input, {self.why()}")
        assert self.process.returncode == 0, self.why()

    def why(self) -> str:
        """For whoever waits in vain: its status and last words. It does not live on."""
        status = self.process.poll()
        if status is None:
            self.process.send_signal(signal.SIGABRT)  # Python then says where its threads are
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        return f"{self.process.args}, {'running' if status is None else status}: {self.said()}"

    def ask(self, text: str) -> dict[str, Any]:
        """Tell it something and read the answer."""
        self.order(text)
        answer = json.loads(self.line())
        assert isinstance(answer, dict)
        return answer

    def said(self) -> str:
        """What it wrote to standard error."""
        return self._words.read_text(errors="replace")[-2000:]

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass(frozen=True, slots=True)
class Stream:
    """What one receiver got from one run of one sender by one of its destinations."""

    received: int
    twice: int
    disorder: int
    damaged: int
    first: int
    highest: int

    @property
    def missing(self) -> int:
        """Numbers that never came, between the first and the last that did."""
        return self.highest - self.first + 1 - self.received

    @property
    def spoiled(self) -> tuple[int, int, int]:
        """Twice, out of order, damaged: never right, whatever is killed."""
        return self.twice, self.disorder, self.damaged


class Traffic(Program):
    """A `traffic` process; see traffic.c."""

    def __init__(self, process: subprocess.Popen[str], words: Path, address: str) -> None:
        super().__init__(process, words)
        self.address = address

    def sent(self) -> list[int]:
        """Datagrams sent to each destination."""
        return list(self.ask("report")["sent"])

    def streams(self) -> dict[tuple[str, int, int], Stream]:
        """What came, by sender's address, run and destination."""
        report = self.ask("report")
        assert report["strange"] == 0, report
        keys = Stream.__slots__
        return {
            (one["from"], one["run"], one["dest"]): Stream(*(one[key] for key in keys))
            for one in report["streams"]
        }

    def received(self, key: tuple[str, int, int] | None = None) -> int:
        """Datagrams that came, of one stream or from anybody."""
        return sum(one.received for name, one in self.streams().items() if key in (None, name))

    def await_arrivals(self, what: str, sender: Traffic | None = None) -> None:
        """Wait until some more have come, from one sender or from anybody."""
        key = (sender.address, sender.ask("report")["run"], 0) if sender is not None else None
        before = self.received(key)
        wait_until(lambda: self.received(key) > before + SOME, what)


@dataclass(frozen=True, slots=True)
class Balance:
    """Sent by one process to one destination, and what a receiver made of it."""

    sent: int
    stream: Stream

    @property
    def lost(self) -> int:
        return self.sent - self.stream.received


def balance(sender: Traffic, receiver: Traffic, dest: int = 0) -> Balance:
    """Compare both ends; the traffic must have come to rest."""
    report = sender.ask("report")
    stream = receiver.streams()[sender.address, report["run"], dest]
    return Balance(report["sent"][dest], stream)


def assert_whole(sender: Traffic, receiver: Traffic, dest: int = 0) -> int:
    """None lost, none twice, none out of order, none damaged. Returns how many there were."""
    found = balance(sender, receiver, dest)
    assert (found.lost, found.stream.spoiled) == (0, (0, 0, 0)), (
        f"{sender.address} -> {receiver.address}: {found}; {receiver.said()}"
    )
    assert found.sent > 0
    return found.sent


# ---- the field ------------------------------------------------------------------------------


def _path(flows: Iterable[Mapping[str, Any]], sender: Program, to: str) -> str:
    """By which path a process sends to an address, going by what the controller says."""
    paths = {
        flow["path"]
        for flow in flows
        if (flow["sender"]["pid"], flow["to"], flow["state"]) == (sender.pid, to, "active")
    }
    return paths.pop() if len(paths) == 1 else "network"


@dataclass(slots=True)
class Field:
    """Hosts with a controller."""

    lab: Lab
    folder: Path
    environment: Mapping[str, str]
    program: Path
    external: bool
    ring: str
    controller: subprocess.Popen[str] | None = None
    _count: Counter[str] = field(default_factory=Counter)

    # ---- controller

    def start_controller(self) -> None:
        """Start it and wait until it is ready."""
        words = self._words("controller")
        names = ["hmi", "adas", "ext"] if self.external else ["hmi", "adas"]
        command = [sys.executable, "-m", "ivc", "controller"]
        command += [str(self.folder / f"{name}.json") for name in names]
        command += ["--mapping", str(self.folder / "mapping.toml"), "--run-dir", str(self.run_dir)]
        host = self.lab.bridge
        assert host is not None
        with words.open("w") as stderr:
            self.controller = host.popen(command, env=self.environment, stderr=stderr)
        wait_until(lambda: "ready" in words.read_text(), lambda: f"ready: {words.read_text()}")

    def kill_controller(self) -> None:
        """SIGKILL, and gone."""
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait()
        self.controller = None

    def replan(self, path: str) -> None:
        """Give the mapping another default path and tell the controller."""
        self.write_mapping(path)
        assert self.controller is not None
        self.controller.send_signal(signal.SIGHUP)

    def write_mapping(self, path: str, more: str = "", ext_inside: bool = False) -> None:
        """Write the mapping, whole or not at all; `more` comes last."""
        text = f'version = 1\n[defaults]\npath = "{path}"\n'
        text += f'[rings]\nsd = "64KiB"\nevent = "{self.ring}"\n'
        for host in self.lab.hosts:
            if host.name != "ext" or ext_inside:
                text += f'[nodes.{host.name}]\nhost = "netns:{host.netns}"\n'
            elif self.external:
                text += "[nodes.ext]\nexternal = true\n"
        text += more
        beside = self.folder / "mapping.new"
        beside.write_text(text)
        beside.replace(self.folder / "mapping.toml")

    def write_network(self) -> None:
        """One vsomeip file per node."""
        for name, address in ADDRESSES.items():
            services = [
                {
                    "service": f"0x{port:04x}",
                    "instance": "0x0001",
                    "unreliable": str(port),
                    **({"reliable": str(port)} if port == STREAM_PORT else {}),
                    "events": [{"event": "0x8001"}],
                    "eventgroups": [
                        {
                            "eventgroup": "0x0001",
                            "events": ["0x8001"],
                            "multicast": dict(
                                zip(("address", "port"), GROUP.split(":"), strict=True)
                            ),
                        }
                    ],
                }
                for port in SERVICES.get(name, ())
            ]
            (self.folder / f"{name}.json").write_text(
                json.dumps(
                    {
                        "unicast": address,
                        "netmask": "255.255.255.0",
                        "services": services,
                        "service-discovery": {
                            "enable": "true",
                            "multicast": "224.224.224.245",
                            "port": "30490",
                        },
                    }
                )
            )

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def status(self) -> dict[str, Any] | None:
        """What the controller says of itself; None if there is none."""
        with contextlib.suppress(NoController):
            return read_status(self.run_dir)
        return None

    def flows(self) -> list[dict[str, Any]]:
        """All flows the controller knows."""
        status = self.status()
        return status["flows"] if status is not None else []

    def path(self, sender: Program, to: str) -> str:
        """By which path a process sends to an address right now."""
        return _path(self.flows(), sender, to)

    def await_path(self, path: str, ways: Sequence[tuple[Program, str]]) -> None:
        """Wait until each of these ways (sender, destination) is on a path."""

        def all_are() -> bool:
            flows = self.flows()  # once for all of them: this is what takes the time
            return all(_path(flows, sender, to) == path for sender, to in ways)

        wait_until(
            all_are,
            lambda: f"{path} for {[to for _, to in ways]}: {self.flows()} of {self.says(ways)}",
        )

    def says(self, ways: Sequence[tuple[Program, str]]) -> list[str]:
        """What the senders are and say, for whoever waits in vain; see `Program.why`."""
        return [sender.why() for sender, _ in ways]

    def counters(self, program: Program) -> Counter[str]:
        """The wrapper's counters of a process, over its sockets."""
        status = self.status()
        total: Counter[str] = Counter()
        for sock in status["sockets"] if status is not None else ():
            if sock["pid"] == program.pid:
                total.update(sock["counters"])
        return total

    # ---- programs

    @contextlib.contextmanager
    def running(
        self, host: Host, command: Sequence[str], wrapped: bool
    ) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """A program on a host for the time of a `with` block."""
        words = self._words(host.name)
        with words.open("w") as stderr:
            process = host.popen(
                command,
                env=self.environment if wrapped else {},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            yield process, words
        finally:
            stop(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    @contextlib.contextmanager
    def traffic(
        self, host: str, port: int, *options: object, bind: str = "", wrapped: bool = True
    ) -> Iterator[Traffic]:
        """Numbered traffic from and to an address; see traffic.c for the options.

        `bind` is the address to bind to, the host's own unless given.
        """
        address = f"{ADDRESSES[host]}:{port}"
        there = f"{bind or ADDRESSES[host]}:{port}"
        command = [str(self.program), "--bind", there, *map(str, options)]
        with self.running(self.lab[host], command, wrapped) as (process, words):
            made = Traffic(process, words, address)
            assert made.line() == "ready\n"
            yield made

    @contextlib.contextmanager
    def python(self, host: str, *command: str) -> Iterator[Program]:
        """A Python program under the wrapper."""
        talking = [sys.executable, "-X", "faulthandler", *command]
        with self.running(self.lab[host], talking, True) as (process, words):
            yield Program(process, words)

    def pids(self) -> set[int]:
        """Every process that lives on any host of ours."""
        hosts = [*self.lab.hosts, *([self.lab.bridge] if self.lab.bridge else [])]
        found: set[int] = set()
        for host in hosts:
            listed = subprocess.run(
                ["ip", "netns", "pids", str(host.netns)],
                capture_output=True,
                text=True,
                check=True,
            )
            found |= {int(pid) for pid in listed.stdout.split()}
        return found

    def _words(self, name: str) -> Path:
        self._count[name] += 1
        return self.folder / f"{name}.{self._count[name]}.stderr"


@contextlib.contextmanager
def open_field(
    folder: Path,
    program: Path,
    *,
    path: str = "direct",
    bell: str = "",
    external: bool = False,
    ring: str = "1MiB",
) -> Iterator[Field]:
    """Hosts and a controller, for the time of a `with` block."""
    folder.mkdir(exist_ok=True)
    names = ["hmi", "adas", "ext"] if external else ["hmi", "adas"]
    with Lab({name: f"{ADDRESSES[name]}/24" for name in names}) as lab:
        environment = wrapper_environment(LIBRARY, folder / "run")
        if bell:
            environment["IVC_BELL"] = bell
        made = Field(lab, folder, environment, program, external, ring)
        made.write_network()
        made.write_mapping(path)
        made.start_controller()
        try:
            yield made
        finally:
            if made.controller is not None:
                stop(made.controller)


FieldMaker = Callable[..., contextlib.AbstractContextManager[Field]]
"""`open_field` with folder and program given."""
