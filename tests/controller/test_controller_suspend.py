# SPDX-License-Identifier: Apache-2.0
"""A guest is saved, restored, or goes on: what dom0 lets its kernel hear, and when."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_xen import StoreClient
from xen_lab import XenLab, running_xen
from xenwrapper import XenWrapper

from ivc.controller import quiesce as quiescence
from ivc.controller.client import quiesce, unquiesce
from ivc.network import Path as FlowPath

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
REQUEST = b"a request"

Starter = Callable[..., XenLab]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running_xen(tmp_path, *args, **options))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiescence, "ASLEEP_S", 0.5)


def pair(lab: XenLab, receiver: int = 2) -> tuple[XenWrapper, XenWrapper]:
    client, server = lab.wrapper(1), lab.wrapper(receiver)
    join(client, server)
    return client, server


def join(client: XenWrapper, server: XenWrapper) -> None:
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)


def heard(lab: XenLab, domid: int = 2) -> bytes:
    """What the guest's kernel reads of what it was asked for."""
    return StoreClient(lab.xen, domid).read("control/shutdown") or b""


def holds_nothing(lab: XenLab) -> bool:
    """Nobody maps a page of domain 2, and it has no port."""
    return lab.xen.mapped_by_others(2) == 0 and lab.xen.given(2)[1] == 0


def test_quiesced_it_holds_nothing_and_nothing_of_it_is_held(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    done: list[str] = []
    client.until(lambda: settle(lab, done), "quiet")
    assert server not in client.friends
    assert holds_nothing(lab) and not lab.nodes(2)


def settle(lab: XenLab, done: list[str]) -> bool:
    """Order it, once; True when it is quiet."""
    if not done:
        done.append("ordered")
        with pytest.raises(Exception, match="do not save it"):
            quiesce(lab.folder / "run", "b", 0.0)
    return [one["stage"] for one in lab.status()["quiesced"]] == ["quiet"]


def test_restored_it_is_served_when_the_command_says_so(start: Starter) -> None:
    lab = start()
    client, _ = pair(lab)
    done: list[str] = []
    client.until(lambda: settle(lab, done), "quiet")
    lab.xen.destroy(2)
    lab.xen.create(7, "b")
    lab.await_status(lambda status: status["nodes"][1]["host"] == 7)
    assert not lab.nodes(7)
    unquiesce(lab.folder / "run", "b")
    lab.wait(lambda: "controller" in lab.nodes(7), "the restored domain's nodes")
    server = lab.wrapper(7)
    server.bind(1, SERVER)
    client.await_active(SERVER)


def test_to_suspend_it_hears_only_when_it_holds_nothing(start: Starter) -> None:
    lab = start()
    client, _ = pair(lab)
    lab.wait(lambda: not heard(lab), "the first look")
    lab.xen.ask(2, "suspend")
    asleep: list[bool] = []

    def look() -> bool:
        if heard(lab) == b"suspend":
            asleep.append(holds_nothing(lab))
        return bool(asleep)

    client.until(look, "the request")
    assert asleep == [True]


@pytest.mark.parametrize("request_", ["poweroff", "reboot", "halt"])
def test_all_else_it_hears_at_once(start: Starter, request_: str) -> None:
    lab = start()
    pair(lab)
    lab.xen.ask(2, request_)
    lab.wait(lambda: heard(lab) == request_.encode(), "the request")
    assert lab.status()["quiesced"] == []


def test_a_request_it_has_taken_leaves_the_next_one_to_us(start: Starter) -> None:
    lab = start()
    client, _ = pair(lab)
    lab.xen.ask(2, "sysrq")
    lab.wait(lambda: heard(lab) == b"sysrq", "the request")
    lab.xen.ask(2, "")
    path = "/local/domain/2/control/shutdown"
    lab.wait(lambda: lab.xen.store.nodes[path][1] == 0, "the node being ours")
    lab.xen.ask(2, "suspend")
    client.until(lambda: heard(lab) == b"suspend", "the request")


def test_saved_and_restored_it_is_served_without_a_command(start: Starter) -> None:
    lab = start()
    client, _ = pair(lab)
    lab.xen.ask(2, "suspend")
    client.until(lambda: heard(lab) == b"suspend", "the request")
    lab.xen.destroy(2)
    lab.xen.create(7, "b")
    lab.wait(lambda: "controller" in lab.nodes(7), "the restored domain's nodes")
    server = lab.wrapper(7)
    server.bind(1, SERVER)
    client.await_active(SERVER)
    assert lab.status()["quiesced"] == []


def test_a_request_called_off_is_nothing_to_go_on_with(start: Starter) -> None:
    """Somebody does not let go in time: xl gives up, and the guest has heard nothing."""
    lab = start()
    client, server = pair(lab)
    server.reads = False
    lab.xen.ask(2, "suspend")
    lab.await_status(lambda status: len(status["quiesced"]) == 1)
    assert not heard(lab)
    lab.xen.ask(2, "")
    lab.await_status(lambda status: not status["quiesced"])
    server.reads = True
    client.await_active(SERVER)


def test_one_that_goes_on_is_served_again(start: Starter, impatient: None) -> None:
    """xl save --checkpoint, or a kernel that could not suspend: the same domain lives on."""
    lab = start()
    client, _ = pair(lab)
    lab.xen.ask(2, "suspend")
    client.until(lambda: heard(lab) == b"suspend", "the request")
    lab.xen.ask(2, "")
    lab.await_status(lambda status: not status["quiesced"])
    lab.wait(lambda: "controller" in lab.nodes(2), "its nodes")
    server = lab.wrapper(2)
    server.bind(1, SERVER)
    client.await_active(SERVER)


def test_what_a_command_has_quiesced_only_a_command_serves(start: Starter, impatient: None) -> None:
    lab = start()
    client, _ = pair(lab)
    done: list[str] = []
    client.until(lambda: settle(lab, done), "quiet")
    lab.xen.ask(2, "suspend")
    assert heard(lab) == b"suspend"
    with pytest.raises(AssertionError):
        client.until(lambda: not lab.status()["quiesced"], "what must not happen")


@pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])
def test_without_us_it_hears_everything(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    pair(lab)
    lab.stop()
    for domid in (1, 2):
        lab.xen.ask(domid, "suspend")
        assert heard(lab, domid) == b"suspend"


def test_a_guest_not_served_any_more_is_given_what_a_dead_controller_held(
    start: Starter, tmp_path: Path
) -> None:
    lab = start()
    lab.xen.create(9, "stranger")
    store = StoreClient(lab.xen, 0)
    store.give("/local/domain/9/control/shutdown", 0)
    lab.stop()
    lab.xen.ask(9, "poweroff")
    assert not heard(lab, 9)
    lab.start()
    lab.wait(lambda: heard(lab, 9) == b"poweroff", "the request")
