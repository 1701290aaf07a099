# SPDX-License-Identifier: Apache-2.0
"""A peer that breaks the rules of streams harms its own connection at most."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote import Remote, until
from stream_lab import StreamNet, Way
from wrapper_lab import ROOT

PROGRAM = Path(__file__).with_name("hostile_stream.py")
TESTS = PROGRAM.parent.parent
MODULES = {"PYTHONPATH": f"{ROOT}:{TESTS / 'controller'}:{TESTS / 'shm'}"}
RUBBISH = 200 if os.environ.get("IVC_FULL") else 12


@pytest.fixture
def victims(stream_nets: dict[Way, StreamNet]) -> Iterator[StreamNet]:
    net = stream_nets[Way.EAGER]
    yield net
    net.reset()


class Attack:
    """The program, told what to do; and the victim's end of its connection."""

    def __init__(self, net: StreamNet, what: str) -> None:
        listener, address = net.listen()
        own, host = net.lab["left"].address.ip, net.lab["left"]
        command = [sys.executable, str(PROGRAM), str(net.run_dir), str(own), address[0]]
        command += [str(address[1]), what]
        self.program = host.popen(
            command, env=MODULES, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.victim, _ = listener.accept()
        listener.close()
        # Flows are made once the victim has said something and listens.
        self.victim.send(b"hello")
        sets = self.victim.agent.module("select")
        listens = sets.start.select([self.victim], [], [], 8)
        assert self.said() == "on rings\n"
        listens.join()
        assert self.victim.recv(1) == b"!"
        listens = sets.start.select([self.victim], [], [], 0.1)
        self.attack()
        listens.join()

    def said(self) -> str:
        assert self.program.stdout is not None
        return self.program.stdout.readline()

    def attack(self) -> None:
        self.go_on()
        assert self.said() == "done\n"

    def go_on(self) -> None:
        assert self.program.stdin is not None
        self.program.stdin.write("\n")
        self.program.stdin.flush()

    def close(self) -> None:
        self.program.kill()
        self.program.communicate()


@contextlib.contextmanager
def attack(net: StreamNet, what: str) -> Iterator[Attack]:
    one = Attack(net, what)
    try:
        yield one
    finally:
        one.close()


def still_works(net: StreamNet) -> None:
    """The victim's process serves an honest connection by rings."""
    ends = net.connect()
    ends.client.send(b"honest")
    assert ends.server.recv(10) == b"honest"


@pytest.mark.parametrize(
    "what",
    [
        "no bytes",
        "a datagram",
        "length of the ring",
        "length past the tail",
        "length past all",
        "another source",
        "another sequence",
        "another epoch",
        "tail too far",
        "tail back",
        "tail between",
    ],
)
def test_a_record_that_cannot_be_ends_the_connection(victims: StreamNet, what: str) -> None:
    with attack(victims, what) as one:
        with pytest.raises(ConnectionResetError):
            one.victim.recv(100)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            one.victim.send(b"any more")
        still_works(victims)


def test_bytes_the_kernel_never_got_are_not_passed_over(victims: StreamNet) -> None:
    with attack(victims, "kpos far ahead") as one:
        with pytest.raises(BlockingIOError):
            one.victim.recv(100, socket.MSG_DONTWAIT)
        one.go_on()
        until(lambda: ended(one.victim))
        still_works(victims)


def ended(sock: Remote) -> bool:
    try:
        return bool(sock.recv(100, socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False


def test_bytes_the_kernel_has_come_first(victims: StreamNet) -> None:
    with attack(victims, "kpos ahead") as one:
        assert one.victim.recv(10, socket.MSG_WAITALL) == b"kernelring"


def test_a_record_of_long_ago_ends_the_rings(victims: StreamNet) -> None:
    with attack(victims, "kpos behind") as one:
        assert one.victim.recv(100) == b"ring"
        assert victims.described(one.victim)["reason"] == "FOREIGN_IO"
        still_works(victims)


@pytest.mark.parametrize("what", ["head too far", "head back", "head between"])
def test_room_that_cannot_be_sends_by_the_network(victims: StreamNet, what: str) -> None:
    with attack(victims, what) as one:
        for _ in range(400):  # more than a ring full
            assert one.victim.send(b"x" * 1000) == 1000
        assert victims.described(one.victim)["counters"]["tx_net_bytes"] > 0
        still_works(victims)


@pytest.mark.parametrize("what", ["wake word", "state"])
def test_other_words_mean_nothing(victims: StreamNet, what: str) -> None:
    with attack(victims, what) as one:
        with pytest.raises(BlockingIOError):
            one.victim.recv(100, socket.MSG_DONTWAIT)
        assert one.victim.send(b"x" * 1000) == 1000
        still_works(victims)


@pytest.mark.parametrize("seed", range(RUBBISH))
def test_rubbish_harms_nobody_else(victims: StreamNet, seed: int) -> None:
    with attack(victims, str(seed)) as one:
        with contextlib.suppress(OSError):
            for _ in range(100):
                one.victim.recv(10_000, socket.MSG_DONTWAIT)
                one.victim.send(b"x" * 1000, socket.MSG_DONTWAIT)
        one.victim.close()
        still_works(victims)
