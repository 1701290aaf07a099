# SPDX-License-Identifier: Apache-2.0
"""The test's side of programs on boost.asio: their UDP sockets look as if they were here."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from remote import Agent, Remote
from wrapper_lab import Address, Net

from ivc.lab.hosts import Host

CONNECTIONS = Path(__file__).with_name("asio_peer.cpp")
DATAGRAMS = Path(__file__).with_name("asio_datagrams.cpp")
WARM_UP = "warm-up "  # as Net.warm() calls what a test is not about
PATIENCE_S = 8.0


def compile_asio(source: Path, folder: Path, *options: str) -> str:
    """Compile a program on boost.asio; skips the test where that is not installed."""
    if not shutil.which("g++") or not Path("/usr/include/boost/asio.hpp").exists():
        pytest.skip("needs boost.asio: apt-get install g++ libboost-dev")
    program = folder / source.stem
    strict = ["-std=c++17", "-Wall", "-Wextra", "-pthread"]
    subprocess.run(["g++", *strict, *options, source, "-o", program], check=True)
    return str(program)


class Peer:
    """A process with sockets that do as told."""

    def __init__(self, field: Field, host: Host, program: str, env: Mapping[str, str]) -> None:
        self.field, self.host = field, host
        self.address = str(host.address.ip)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = host.popen([program], env=env, **pipes)
        self._replies: queue.Queue[str] = queue.Queue()
        self._events: dict[str, queue.Queue[str]] = {}
        self._warm_ups: dict[str, deque[bytes]] = {}
        self.log: dict[str, list[str]] = {}
        """what has happened to each socket, but for warming up"""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, what = line.rstrip("\n").partition(" ")
            if name in "=!":
                self._replies.put(line)
            elif what.startswith("got " + WARM_UP):
                self._warm_ups[name].append(what[4:].partition(" from ")[0].encode())
            else:
                self.log[name].append(self.field.labelled(what))
                self._events[name].put(self.log[name][-1])

    def do(self, *words: object) -> str:
        """Have a command executed. Raises OSError as it fails there."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        sign, _, result = self._replies.get(timeout=PATIENCE_S).rstrip("\n").partition(" ")
        if sign == "!":
            raise OSError(result)
        return result

    def event(self, name: str, patience: float) -> str:
        return self._events[name].get(timeout=patience)

    def warm_up(self, name: str) -> bytes | None:
        return self._warm_ups[name].popleft() if self._warm_ups[name] else None

    def socket(self, name: str, in_set: int = 0) -> AsioSocket:
        """A fresh socket; it is in one of the two sets at once."""
        return self.made(name, "open", name, in_set)

    def made(self, name: str, *words: object) -> AsioSocket:
        """The socket a command makes. What has happened to one of that name before is kept."""
        self.log.setdefault(name, [])
        self._events.setdefault(name, queue.Queue())
        self._warm_ups.setdefault(name, deque())
        self.do(*words)
        return AsioSocket(self, name)

    def end(self) -> int:
        """Let it end; its exit status. Afterwards its log is complete."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._reading.join()


class AsioSocket(Remote):
    """A socket of a peer. For `Net` it is one like any other."""

    agent: Agent  # of which `Net` wants to know the process alone

    def __init__(self, peer: Peer, name: str) -> None:
        super().__init__(peer, name)  # type: ignore[arg-type]
        self.peer, self.name = peer, name
        self._bound: Address | None = None

    def do(self, verb: str, *words: object) -> str:
        return self.peer.do(verb, self.name, *words)

    def options(self, *options: str) -> None:
        for option in options:
            self.do("option", option)

    def bind(self, address: Address, label: str = "") -> None:
        """Bind it. In events its address is called `label`."""
        self.do("bind", *address)
        host, _, port = self.do("name").partition(":")
        self._bound = (host, int(port))
        if label:
            self.peer.field.label(f"{host}:{port}", label)

    def join(self, group: Address) -> None:
        self.do("join", group[0], self.peer.address)

    def leave(self, group: Address) -> None:
        self.do("leave", group[0], self.peer.address)

    def copy(self, name: str, in_set: int) -> AsioSocket:
        return self.peer.made(name, "copy", self.name, name, in_set)

    def next(self, patience: float = PATIENCE_S) -> str:
        """The next thing that happens to it."""
        return self.peer.event(self.name, patience)

    def getsockname(self) -> Address:
        assert self._bound is not None
        return self._bound

    def send(self, data: bytes | str) -> None:
        self.do("send", data if isinstance(data, str) else data.decode())

    def sendto(self, data: bytes | str, to: Address) -> None:
        self.do("sendto", *to, data if isinstance(data, str) else data.decode())

    def recv(self, _size: int, _flags: int) -> bytes:
        """What came to warm it up. Raises BlockingIOError if nothing has."""
        data = self.peer.warm_up(self.name)
        if data is None:
            raise BlockingIOError
        return data


class Field:
    """Peers on the hosts of a laboratory, in its mode."""

    def __init__(self, net: Net, program: str, env: Mapping[str, str] | None = None) -> None:
        self.net = net
        self._program, self._env = program, net.env if env is None else env
        self._peers: dict[str, Peer] = {}
        self._labels: dict[str, str] = {}

    def __getitem__(self, host: str) -> Peer:
        if host not in self._peers:
            self._peers[host] = Peer(self, self.net.lab[host], self._program, self._env)
        return self._peers[host]

    def label(self, word: str, label: str) -> None:
        """A name for what nobody knows beforehand."""
        self._labels[word] = label

    def labelled(self, what: str) -> str:
        words = [self._labels.get(word, word) for word in what.split(" ")]
        return " ".join(words)

    def finish(self) -> dict[str, Any]:
        """End all. What has happened to every socket; every process must have ended well."""
        peers = self._peers.items()
        status = {host: peer.end() for host, peer in peers}
        assert set(status.values()) <= {0}, status
        return {f"{name} on {host}": log for host, peer in peers for name, log in peer.log.items()}
