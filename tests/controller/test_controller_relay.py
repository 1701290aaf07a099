# SPDX-License-Identifier: Apache-2.0
"""The relay: what it decodes, counts, keeps as it is, and gives back."""

import os
import time
from pathlib import Path

import pytest
from controller_lab import REQUEST, Lab, Starter, with_flow
from fakewrapper import FakeWrapper

from ivc import someip
from ivc.controller.data_communication import DataCommunicationController
from ivc.network import Path as FlowPath
from ivc.shm.layout import RecordFlag
from ivc.shm.relay import KINDS_MAX, Action

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


def relayed(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    return with_flow(lab, CLIENT, SERVER)


def test_every_message_is_counted_by_service_and_method(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    for _ in range(3):
        client.send(SERVER, REQUEST)
        server.receive(1)
    (kind,) = lab.status()["relay"]["kinds"]
    assert (kind["service"], kind["method"], kind["client"], kind["type"]) == (0x1234, 0x421, 1, 0)
    assert (kind["messages"], kind["bytes"]) == (3, 3 * len(REQUEST))


def test_what_is_no_someip_is_counted_and_passed_on(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    client.send(SERVER, b"hello")
    assert server.receive(1)[1] == b"hello"
    (kind,) = lab.status()["relay"]["kinds"]
    assert (kind["service"], kind["messages"]) == (None, 1)


@pytest.mark.parametrize("size", [0, 1, 1400, 32 * 1024 - 32])
def test_every_size_a_ring_takes_passes(start: Starter, size: int) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    payload = os.urandom(size)
    client.send(SERVER, payload)
    assert server.receive(1)[1] == payload


def test_flags_and_kernel_count_pass_unchanged(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    flags = RecordFlag.TWIN | RecordFlag.FENCE | RecordFlag.SAME
    client.send(SERVER, REQUEST, flags)
    record, _ = server.receive(1)
    assert (record.flags, record.kseq) == (flags, 7)


def test_a_receiver_that_does_not_read_costs_the_newest(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    server.reads = False
    big = REQUEST[:4] + (8 + 20_000).to_bytes(4, "big") + REQUEST[8:16] + bytes(20_000)
    for number in range(6):
        client.send(SERVER, big + bytes([number]))
        lab.await_status(lambda s, n=number: s["flows"][0]["messages"] == n + 1)
    assert lab.status()["flows"][0]["dropped_full"] == 3
    assert [server.receive(1)[1][-1] for _ in range(3)] == [0, 1, 2]


def test_the_relay_sleeps_when_there_is_nothing_to_do(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    client.send(SERVER, REQUEST)
    server.receive(1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_everything_is_given_back(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    relayed_once = relayed(lab)
    for wrapper in relayed_once:
        wrapper.close()
    lab.await_status(lambda status: not status["processes"])
    before = resources()
    for _ in range(10):
        for wrapper in relayed(lab):
            wrapper.close()
        lab.await_status(lambda status: not status["processes"])
    assert resources() == before


def resources() -> tuple[int, int]:
    """Descriptors and shared mappings of this process: controller and wrappers together."""
    maps = Path("/proc/self/maps").read_text().count("/memfd:ivc-")
    return len(list(Path("/proc/self/fd").iterdir())), maps


def test_a_kind_is_asked_about_once_and_again_after_a_new_plan(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[someip.Header | None] = []

    def judge(_dcc: object, _way: object, header: someip.Header | None) -> tuple[Action, int]:
        asked.append(header)
        return Action.RELAY, 0

    monkeypatch.setattr(DataCommunicationController, "judge", judge)
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    for plan in range(2):
        for _ in range(3):
            client.send(SERVER, REQUEST)
            server.receive(1)
        assert asked == [someip.peek(REQUEST)] * (plan + 1)
        dcc(lab).replan(dcc(lab).plan)
    assert lab.status()["relay"]["kinds"][0]["messages"] == 6


def test_what_is_denied_is_counted_and_goes_nowhere(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(_dcc: object, _way: object, header: someip.Header | None) -> tuple[Action, int]:
        return Action.DENY if header and header.method_id == 0x666 else Action.RELAY, 0

    monkeypatch.setattr(DataCommunicationController, "judge", judge)
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    denied = REQUEST[:2] + b"\x06\x66" + REQUEST[4:]
    client.send(SERVER, denied)
    client.send(SERVER, denied + REQUEST + denied)
    client.send(SERVER, b"end")
    assert [server.receive(1)[1] for _ in range(2)] == [REQUEST, b"end"]
    counts = {kind["method"]: kind["messages"] for kind in lab.status()["relay"]["kinds"]}
    assert counts == {0x666: 3, 0x421: 1, None: 1}


def test_a_table_that_is_full_is_begun_anew_and_nothing_is_lost(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = relayed(lab)
    datagrams = KINDS_MAX // 5
    for number in range(datagrams):
        kinds = [(number * 10 + i).to_bytes(4, "big") + REQUEST[4:] for i in range(10)]
        client.send(SERVER, b"".join(kinds))
        assert server.receive(1)[1] == b"".join(kinds)
    relay = lab.status()["relay"]
    assert len(relay["kinds"]) < KINDS_MAX
    counted = sum(kind["messages"] for kind in relay["kinds"])
    assert counted + relay["forgotten"]["messages"] == datagrams * 10


def dcc(lab: Lab) -> DataCommunicationController:
    """The one of the running service."""
    return lab.service._dcc
