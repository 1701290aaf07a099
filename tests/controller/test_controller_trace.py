# SPDX-License-Identifier: Apache-2.0
"""Tracing as the controller orders it: who gets a ring, who its reader's end, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from controller_lab import REQUEST, Lab, Starter, running_lab, with_flow
from fakewrapper import FakeWrapper, address

from ivc.controller.errors import ControllerError, NoController
from ivc.controller.protocol import TRACE_ALL, Type
from ivc.controller.tracing import PACKET_MAX
from ivc.network import Path as FlowPath
from ivc.observe.trace_source import Ended, Gone, Ring, TraceSource, Warned
from ivc.platform.memfd import MemfdTrace
from ivc.shm.layout import PAGE, TraceEvent, trace_region_size
from ivc.shm.trace import Capture, Captured, Step, TraceWriter

ORDER, SNAP = 16, 1000
A, B = (0x0A000001, 30509), (0x0A000002, 30510)


@contextlib.contextmanager
def traced(lab: Lab, *, everything: bool = False) -> Iterator[TraceSource]:
    source = TraceSource(lab.run_dir, ORDER, SNAP, everything=everything)
    with contextlib.closing(source):
        yield source


def rings(source: TraceSource) -> dict[str, Ring]:
    found = [each for each in source.first if isinstance(each, Ring)]
    return {each.of.partition("[")[0]: each for each in found}


def close(source: TraceSource) -> None:
    for ring in source.first:
        assert isinstance(ring, Ring)
        ring.close()


def writer_of(wrapper: FakeWrapper) -> TraceWriter:
    """What a wrapper was given."""
    own, peer = wrapper.kept[Type.TRACE]
    memory = mmap.mmap(own, os.fstat(own).st_size)
    return TraceWriter(memory, mmap.mmap(peer, PAGE, prot=mmap.PROT_READ), SNAP)


def kept(lab: Lab, host: int) -> FakeWrapper:
    wrapper = lab.wrapper(host)
    wrapper.keep_fds = True
    return wrapper


def test_what_a_process_writes_the_tracer_reads(start: Starter) -> None:
    lab = start()
    wrapper = kept(lab, 1)
    with traced(lab) as source:
        message = wrapper.await_message(Type.TRACE)
        assert (message.arg, message.flags) == (SNAP, 0)
        writer = writer_of(wrapper)
        assert writer.put(b"hello", A, B, time=1)
        ring = next(ring for ring in source.first if isinstance(ring, Ring) and ring.of != "relay")
        capture = Capture(0)
        capture.add(ring.reader)
        assert capture.next(2) is Step.ASKS_FLOW
        assert (capture.at.data, capture.at.source) == (b"hello", A)
        close(source)


def test_a_process_that_comes_later_is_traced(start: Starter) -> None:
    lab = start()
    with traced(lab, everything=True) as source:
        wrapper = kept(lab, 1)
        assert wrapper.await_message(Type.TRACE).flags == TRACE_ALL
        lab.status()
        (ring,) = source.news()
        assert isinstance(ring, Ring)
        ring.close()
        close(source)


def test_a_process_that_goes_is_told_of(start: Starter) -> None:
    lab = start()
    wrapper = kept(lab, 1)
    with traced(lab) as source:
        wrapper.await_message(Type.TRACE)
        wrapper.close()
        lab.await_status(lambda status: not status["processes"])
        number = next(
            ring.number for ring in source.first if isinstance(ring, Ring) and ring.number
        )
        assert list(source.news()) == [Gone(number)]
        close(source)


def test_the_end_of_the_tracer_ends_it(start: Starter) -> None:
    lab = start()
    wrapper = kept(lab, 1)
    with traced(lab) as source:
        wrapper.await_message(Type.TRACE)
        close(source)
    assert wrapper.await_message(Type.TRACE).arg == 0
    with traced(lab) as source:  # and another may begin
        wrapper.await_message(Type.TRACE)
        close(source)


def test_one_traces_at_a_time(start: Starter) -> None:
    lab = start()
    with traced(lab) as source:
        with pytest.raises(ControllerError, match="somebody traces already"):
            TraceSource(lab.run_dir, ORDER, SNAP, everything=False)
        close(source)


@pytest.mark.parametrize(
    "order",
    [
        b"nonsense",
        b"{}",
        b'{"order": 99, "snap": 1, "all": false}',
        b'{"order": 1e999, "snap": 1, "all": false}',
        b"[" * PACKET_MAX,
        b"[]",
        b"3",
    ],
    ids=lambda order: order[:30].decode(),
)
def test_nonsense_is_answered_and_traces_nothing(start: Starter, order: bytes) -> None:
    lab = start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(5)
        sock.connect(str(lab.run_dir / "trace"))
        sock.send(order)
        assert "no order to trace" in json.loads(sock.recv(4096))["error"]
        assert sock.recv(4096) == b""
    with traced(lab) as source:
        close(source)


def test_who_asks_nothing_does_not_keep_others_away(start: Starter) -> None:
    lab = start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(lab.run_dir / "trace"))
        with traced(lab) as source:
            close(source)


def test_the_controllers_end_is_told_of(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        source = TraceSource(lab.run_dir, ORDER, SNAP, everything=False)
        close(source)
    assert list(source.news()) == [Ended()]
    source.close()


def test_where_no_controller_runs_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoController, match="no controller answers"):
        TraceSource(tmp_path, ORDER, SNAP, everything=False)


# ---- what the relay tells


MIRROR = """
[[rule]]
service = 0x1234
method = 0x0421
action = "mirror"
copy_to = "trace"
"""
SOURCE, DESTINATION = "10.0.0.1:40000", "10.0.0.2:30509"


def relayed(source: TraceSource) -> list[Captured]:
    """What it has told so far."""
    found: list[Captured] = []
    ring = next(ring for ring in source.first if isinstance(ring, Ring) and ring.of == "relay")
    with contextlib.closing(Capture(0)) as capture:
        capture.add(ring.reader)
        while (step := capture.next((1 << 64) - 1)) is not Step.EMPTY:
            if step is Step.ASKS_FLOW:
                capture.name_flow(0)
            else:
                found.append(capture.at)
                capture.done()
    return found


@pytest.mark.parametrize("before", [True, False], ids=["flow first", "trace first"])
def test_the_relay_tells_of_its_messages(start: Starter, before: bool) -> None:
    """Also one whose loop begins only when somebody traces already."""
    lab = start(FlowPath.RELAY)
    if before:
        client, server = with_flow(lab, SOURCE, DESTINATION)
    with traced(lab) as source:
        if not before:
            client, server = with_flow(lab, SOURCE, DESTINATION)
        client.send(DESTINATION, REQUEST)
        server.receive(1)
        (at,) = relayed(source)
        assert (at.event, at.data) == (TraceEvent.PASSED, REQUEST)
        assert (at.source, at.destination) == (address(SOURCE), address(DESTINATION))
        close(source)


def test_a_rule_mirrors_to_the_trace(start: Starter) -> None:
    lab = start(None, mapping=MIRROR)
    client, server = with_flow(lab, SOURCE, DESTINATION)
    with traced(lab) as source:
        client.send(DESTINATION, REQUEST)
        server.receive(1)
        assert [at.event for at in relayed(source)] == [TraceEvent.MIRRORED]
        close(source)
    copied = lab.status()["relay"]["copied"]
    assert [(each["messages"], each["sent"]) for each in copied] == [(1, True)]


def test_without_descriptors_for_the_reader_nothing_is_traced(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    lab = start()
    with monkeypatch.context() as patched:
        patched.setattr(MemfdTrace, "for_reader", refuse)
        with pytest.raises(ControllerError, match="too many open files"):
            TraceSource(lab.run_dir, ORDER, SNAP, everything=False)
    with traced(lab) as source:
        close(source)


def test_trace_rings_have_no_more_than_their_memory(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = start()
    wrappers = [kept(lab, host) for host in (1, 2)]
    lab.await_status(lambda status: len(status["processes"]) == len(wrappers))
    monkeypatch.setattr("ivc.controller.tracing.MEMORY_MOST", trace_region_size(ORDER))
    with traced(lab) as source:
        (warned,) = [each for each in source.first if isinstance(each, Warned)]
        assert "is not traced: trace rings may take" in warned.text
        assert len(source.first) == 3
        for each in source.first:
            if isinstance(each, Ring):
                each.close()


def test_a_tracer_that_is_behind_gets_no_more_rings(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = start()
    with traced(lab) as source:
        monkeypatch.setattr("ivc.controller.tracing._Tracer.wants_write", True)
        kept(lab, 1)
        lab.status()
        (warned,) = source.news()
        assert isinstance(warned, Warned)
        assert warned.text.endswith("is not traced: the tracer is behind")
        close(source)
