# SPDX-License-Identifier: Apache-2.0
"""`ivc quiesce` and `ivc unquiesce`: what the controller does, and what it answers."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from controller_lab import Lab, Starter, with_flow

from ivc.cli import main
from ivc.controller.answers import QUESTION_MAX
from ivc.controller.client import quiesce, unquiesce
from ivc.controller.errors import OrderFailed
from ivc.controller.protocol import Type
from ivc.controller.run_dir import ORDERS
from ivc.controller.statusview import render_status
from ivc.network import Path as FlowPath
from ivc.reasons import Reason

CLIENT, SERVER, GROUP = "10.0.0.1:40000", "10.0.0.2:30509", "224.224.224.245"
BOTH_PATHS = pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])


class Job:
    """An order, while the wrappers read their mail."""

    def __init__(self, work: Callable[[], dict[str, Any]]) -> None:
        self.answer: dict[str, Any] | None = None
        self.error: OrderFailed | None = None
        self._work = work
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._work()
        except OrderFailed as error:
            self.error = error

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()


def quieten(lab: Lab, domain: str = "netns:b", timeout: float = 5.0) -> Job:
    """The order, carried out."""
    job = Job(lambda: quiesce(lab.run_dir, domain, timeout))
    if lab.wrappers:
        lab.wrappers[0].until(lambda: job.done, "an answer")
    job.thread.join()
    return job


@BOTH_PATHS
def test_its_flows_end_and_it_is_quiet(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    client, server = with_flow(lab, CLIENT, SERVER)
    job = quieten(lab)
    assert job.answer is not None and job.answer["stage"] == "quiet"
    assert lab.status()["flows"] == []
    assert not client.ends and not server.ends


@pytest.mark.parametrize("late", [0, 1])
def test_it_is_not_quiet_before_both_ends_have_let_go(start: Starter, late: int) -> None:
    """A peer that maps the domain's memory hinders a save no less than the domain itself."""
    lab = start()
    who = with_flow(lab, CLIENT, SERVER)[late]
    who.reads = False
    job = quieten(lab, timeout=0.2)
    assert job.error is not None and job.error.answer["stage"] == "demoting"
    assert len(job.error.answer["waiting_for"]) == 1 and "do not save it" in str(job.error)
    who.reads = True
    assert quieten(lab).answer is not None


def test_others_keep_their_flows(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    quieten(lab, "c")
    assert len(client.active(SERVER)) == 1


def test_served_again_it_has_flows_again(start: Starter) -> None:
    lab = start()
    client, _ = with_flow(lab, CLIENT, SERVER)
    quieten(lab)
    client.await_route(SERVER, Reason.QUIESCED)
    unquiesce(lab.run_dir, "netns:b")
    client.await_active(SERVER)
    assert lab.status()["quiesced"] == []


@pytest.mark.parametrize("domain", ["a", "b"])
def test_who_wants_to_send_from_or_to_it_is_told_why_not(start: Starter, domain: str) -> None:
    lab = start()
    quieten(lab, domain)
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_route(SERVER, Reason.QUIESCED)
    shown = {(one["path"], one["reason"]) for one in lab.status()["sockets"]}
    assert shown == {("network", "QUIESCED")}


def test_a_group_with_a_quiesced_member_needs_the_kernels_copy(start: Starter) -> None:
    lab = start(nodes={"a": "10.0.0.1", "b": "10.0.0.2"})
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, "0.0.0.0:30490")
    server.join(1, GROUP)
    client.bind(1, "10.0.0.1:30490")
    client.want(1, "10.0.0.1:30490", f"{GROUP}:30490")
    client.await_route(f"{GROUP}:30490", Reason.NONE, complete=True)
    quieten(lab)
    client.await_route(f"{GROUP}:30490", Reason.NO_RECEIVER)


def test_it_is_shown(start: Starter) -> None:
    lab = start()
    quieten(lab)
    (one,) = lab.status()["quiesced"]
    assert one == {"domain": "netns:b", "stage": "quiet", "commanded": True, "waiting_for": []}
    quiesced = [node["name"] for node in lab.status()["nodes"] if node["quiesced"]]
    assert quiesced == ["b"]
    assert "quiesced: netns:b, quiet\n" in render_status(lab.status())


def test_one_that_is_not_there_is_quiet_and_stays_so_when_it_comes(start: Starter) -> None:
    lab = start()
    del lab.platform.numbers["b"]
    quieten(lab)
    lab.platform.numbers["b"] = 2
    client, server = lab.wrapper(1), lab.wrapper(2)
    lab.await_status(lambda status: status["nodes"][1]["host"] == 2)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_route(SERVER, Reason.QUIESCED)


def test_a_process_that_dies_is_not_waited_for(start: Starter) -> None:
    lab = start()
    client, server = with_flow(lab, CLIENT, SERVER)
    server.reads = False
    job = Job(lambda: quiesce(lab.run_dir, "b", 5.0))
    client.await_message(Type.CLOSE)
    server.close()
    client.until(lambda: job.done, "an answer")
    assert job.answer is not None


def test_giving_up_ends_the_waiting(start: Starter) -> None:
    lab = start()
    client, server = with_flow(lab, CLIENT, SERVER)
    server.reads = False
    job = Job(lambda: quiesce(lab.run_dir, "b", 30.0))
    client.await_message(Type.CLOSE)
    unquiesce(lab.run_dir, "b")
    client.until(lambda: job.done, "an answer")
    assert "quiesced no more" in str(job.error)


def test_an_unknown_domain_is_told_what_there_is(start: Starter) -> None:
    lab = start()
    with pytest.raises(OrderFailed, match="no domain d; it has: netns:a, netns:b, netns:c"):
        quiesce(lab.run_dir, "d", 1.0)


@pytest.mark.parametrize(
    "rubbish",
    [b"\n", b"[]\n", b'{"order": "sing", "domain": "a"}\n', b'{"domain": 1}\n', b"\xff\n"],
)
def test_what_is_no_order_is_refused(start: Starter, rubbish: bytes) -> None:
    lab = start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(lab.run_dir / ORDERS))
        sock.sendall(rubbish)
        assert "error" in json.loads(sock.makefile().readline())


def test_whoever_talks_without_end_is_dropped(start: Starter) -> None:
    lab = start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(lab.run_dir / ORDERS))
        sock.sendall(b"x" * (QUESTION_MAX + 1))
        with suppress(ConnectionResetError):  # what it said was not read to the end
            assert sock.recv(1) == b""
    assert lab.status()["quiesced"] == []


def test_whoever_does_not_wait_for_the_answer_harms_nobody(start: Starter) -> None:
    lab = start()
    _, server = with_flow(lab, CLIENT, SERVER)
    server.reads = False
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(lab.run_dir / ORDERS))
        sock.sendall(b'{"order": "quiesce", "domain": "b", "timeout": 0.1}\n')
    server.reads = True
    assert quieten(lab).answer is not None


def test_the_commands(start: Starter, capsys: pytest.CaptureFixture[str]) -> None:
    lab = start()
    there = ["--run-dir", str(lab.run_dir)]
    assert main(["quiesce", "b", *there]) == 0
    assert capsys.readouterr().out == "netns:b: quiet\n"
    assert main(["unquiesce", "b", "--json", *there]) == 0
    assert json.loads(capsys.readouterr().out)["stage"] is None
    assert main(["quiesce", "x", *there]) == 1
    assert "no domain x" in capsys.readouterr().err


def test_without_a_controller_the_exit_code_says_so(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path_factory.mktemp("nowhere"))
    for command in ("quiesce", "unquiesce"):
        assert main([command, "b", "--run-dir", nowhere]) == 5
        assert "no controller answers" in capsys.readouterr().err
