# SPDX-License-Identifier: Apache-2.0
"""The relay: what it decodes, counts, keeps as it is, and gives back."""

import os
import time
from pathlib import Path

import pytest
from controller_lab import REQUEST, Lab, Starter
from fakewrapper import FakeWrapper
from hypothesis import given
from hypothesis import strategies as st

from ivc.controller.data_communication import KINDS_MAX, DataCommunicationController
from ivc.controller.event_handler import EventHandler
from ivc.network import Path as FlowPath
from ivc.plan import Plan
from ivc.shm.layout import RecordFlag

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"


def relayed(lab: Lab) -> tuple[FakeWrapper, FakeWrapper]:
    server, client = lab.wrapper(2), lab.wrapper(1)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    return client, server


@pytest.fixture
def dcc() -> DataCommunicationController:
    """One without plan or doorbells: only its routing table is used."""
    plan = Plan.__new__(Plan)
    return DataCommunicationController(plan, EventHandler.__new__(EventHandler))


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


@given(payload=st.binary(max_size=40))
def test_any_payload_has_a_kind(payload: bytes) -> None:
    table = DataCommunicationController(Plan.__new__(Plan), EventHandler.__new__(EventHandler))
    kind = table.route(payload)
    assert table.route(payload) is kind
    if kind.header is not None:
        assert kind.header.service_id == int.from_bytes(payload[:2], "big")


def test_session_and_payload_do_not_make_a_new_kind(dcc: DataCommunicationController) -> None:
    other = REQUEST[:10] + b"\x77\x77" + REQUEST[12:16] + b"different"
    assert dcc.route(other) is dcc.route(REQUEST)


@pytest.mark.parametrize("offset", [0, 2, 8, 12, 14])
def test_service_method_client_version_and_type_do(
    dcc: DataCommunicationController, offset: int
) -> None:
    other = bytearray(REQUEST)
    other[offset] ^= 0x02
    assert dcc.route(bytes(other)) is not dcc.route(REQUEST)


def test_the_table_is_bounded(dcc: DataCommunicationController) -> None:
    for number in range(KINDS_MAX + 10):
        dcc.route(number.to_bytes(4, "big") + REQUEST[4:])
    assert len(dcc.kinds) == KINDS_MAX
