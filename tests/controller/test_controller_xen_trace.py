# SPDX-License-Identifier: Apache-2.0
"""Tracing of guests: who grants what, and what a hostile one can do with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fake_xen import FakePages
from xen_lab import XenLab, running_xen
from xenwrapper import XenWrapper

from ivc.controller.protocol import Message, Type
from ivc.network import Path as FlowPath
from ivc.network.limits import PROCESS
from ivc.observe.trace_source import News, Ring, TraceSource, Warned
from ivc.platform.xen_trace import ORDER_MOST
from ivc.reasons import Reason
from ivc.shm.layout import PAGE, trace_region_size
from ivc.shm.trace import Capture, Step, TraceWriter, real_ahead, trace_page

ORDER, SNAP = 16, 1000
CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
CLOCK_NS = 1_000_000_000
A, B = (0x0A000001, 30509), (0x0A000002, 30510)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[XenLab]:
    with running_xen(tmp_path) as made:
        yield made


@pytest.fixture
def wrapper(lab: XenLab) -> XenWrapper:
    return lab.wrapper(1)


@pytest.fixture
def source(lab: XenLab, wrapper: XenWrapper) -> Iterator[TraceSource]:
    with closing(trace(lab)) as made:
        yield made


def trace(lab: XenLab, order: int = ORDER) -> TraceSource:
    return TraceSource(lab.folder / "run", order, SNAP, everything=False)


def order_of(wrapper: XenWrapper) -> tuple[Message, tuple[int, ...]]:
    message = wrapper.await_message(Type.TRACE)
    return message, wrapper.words[Type.TRACE]


def granted(wrapper: XenWrapper, order: int = ORDER) -> FakePages:
    pages = wrapper.devices.share(0, trace_region_size(order) // PAGE)
    pages.buffer[:PAGE] = trace_page(order)
    return pages


def say(wrapper: XenWrapper, order: Message, refs: tuple[int, ...]) -> None:
    wrapper.tell(Message(Type.TRACED, flow=order.flow), refs)


def news(lab: XenLab, source: TraceSource) -> News:
    found: list[News] = []

    def come() -> bool:
        found.extend(source.news())
        return bool(found)

    lab.wait(come, "news")
    return found[0]


def test_what_a_guest_writes_into_pages_it_grants_the_tracer_reads(
    lab: XenLab, wrapper: XenWrapper, source: TraceSource
) -> None:
    message, (domid, ref, order, *_) = order_of(wrapper)
    assert (message.arg, domid, order) == (SNAP, 0, ORDER)
    pages, reader = granted(wrapper), wrapper.devices.map(0, [ref])
    say(wrapper, message, pages.refs)
    ring = news(lab, source)
    assert isinstance(ring, Ring)
    with closing(TraceWriter(pages.buffer, reader.buffer, SNAP)) as writer:
        assert writer.put(b"hello", A, B, time=1)
        capture = Capture(0)
        capture.add(ring.reader)
        assert capture.next(2) is Step.ASKS_FLOW
        assert capture.at.data == b"hello"
    capture.close()
    ring.close()


def test_a_guest_is_told_by_what_its_clock_differs(
    wrapper: XenWrapper, source: TraceSource
) -> None:
    _, (*_, low, high) = order_of(wrapper)
    assert abs((high << 32 | low) - real_ahead()) < CLOCK_NS


def test_a_ring_in_a_guest_is_no_larger_than_its_pages_allow(
    lab: XenLab, wrapper: XenWrapper
) -> None:
    with closing(trace(lab, 23)):
        _, (_, _, order, *_) = order_of(wrapper)
    assert order == ORDER_MOST


Refs = Callable[[FakePages], tuple[int, ...]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pages: (),
        lambda pages: pages.refs[1:],
        lambda pages: (*pages.refs[1:], 0),
        lambda pages: pages.refs[:1] * len(pages.refs),
        lambda pages: tuple(range(1, len(pages.refs) + 1)),
    ],
    ids=["none", "too few", "zero", "the same", "not granted"],
)
def test_what_is_no_memory_costs_the_trace_and_nothing_else(
    lab: XenLab, wrapper: XenWrapper, source: TraceSource, spoil: Refs
) -> None:
    message, _ = order_of(wrapper)
    say(wrapper, message, spoil(granted(wrapper)))
    assert isinstance(news(lab, source), Warned)
    assert wrapper.await_message(Type.TRACE).arg == 0
    assert lab.status()["processes"]


def test_memory_that_is_no_trace_ring_is_not_read(
    lab: XenLab, wrapper: XenWrapper, source: TraceSource
) -> None:
    message, _ = order_of(wrapper)
    pages = granted(wrapper)
    pages.buffer[:PAGE] = bytes(PAGE)
    say(wrapper, message, pages.refs)
    told = news(lab, source)
    assert isinstance(told, Warned) and "is not traced" in told.text


def test_rings_count_as_the_memory_they_take_not_as_what_was_asked_for(
    lab: XenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrappers = [lab.wrapper(1), lab.wrapper(2)]
    monkeypatch.setattr("ivc.controller.tracing.MEMORY_MOST", 2 * trace_region_size(ORDER_MOST))
    with closing(trace(lab, 23)):
        for wrapper in wrappers:
            assert wrapper.await_message(Type.TRACE).arg == SNAP


def test_who_could_not_be_traced_leaves_its_room_to_others(
    lab: XenLab, wrapper: XenWrapper, source: TraceSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivc.controller.tracing.MEMORY_MOST", trace_region_size(ORDER))
    message, _ = order_of(wrapper)
    say(wrapper, message, ())
    assert wrapper.await_message(Type.TRACE).arg == 0
    other = lab.wrapper(1)
    assert other.await_message(Type.TRACE).arg == SNAP


def test_a_guest_that_answers_while_the_tracer_is_behind_is_not_traced(
    lab: XenLab, wrapper: XenWrapper, source: TraceSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the tracer holds descriptors of guests' pages."""
    message, _ = order_of(wrapper)
    monkeypatch.setattr("ivc.controller.tracing._Tracer.wants_write", True)
    say(wrapper, message, granted(wrapper).refs)
    assert wrapper.await_message(Type.TRACE).arg == 0
    told = news(lab, source)
    assert isinstance(told, Warned) and told.text.endswith("the tracer is behind")


def test_an_answer_to_an_order_taken_back_is_ignored(lab: XenLab, wrapper: XenWrapper) -> None:
    with closing(trace(lab)):
        first, _ = order_of(wrapper)
    assert wrapper.await_message(Type.TRACE).arg == 0
    with closing(trace(lab)) as source:
        second, _ = order_of(wrapper)
        pages = granted(wrapper)
        say(wrapper, first, pages.refs)
        lab.status()
        time.sleep(0.05)
        assert list(source.news()) == []
        say(wrapper, second, pages.refs)
        ring = news(lab, source)
        assert isinstance(ring, Ring)
        ring.close()


def test_what_a_trace_takes_of_a_guests_pages_flows_do_not_get(tmp_path: Path) -> None:
    """As long as it lasts, and what does not fit meanwhile comes by the network."""
    trace_pages = trace_region_size(ORDER) // PAGE
    with running_xen(tmp_path, guests=f"pages = {PROCESS.pages + trace_pages + 2}") as lab:
        client, server = lab.wrapper(1), lab.wrapper(2)
        server.bind(1, SERVER)
        with closing(trace(lab)):
            client.await_message(Type.TRACE)
            client.bind(1, CLIENT)
            client.want(1, CLIENT, SERVER)
            client.await_route(SERVER, Reason.QUOTA)
        client.await_active(SERVER)


@pytest.mark.parametrize(("traced", "order"), [(False, 15), (True, 14)])
def test_what_a_trace_takes_of_dom0s_pages_relays_do_not_get(
    tmp_path: Path, traced: bool, order: int
) -> None:
    """Of 19 two control connections take 8, two traces 2; half is theirs in any case."""
    with running_xen(tmp_path, FlowPath.RELAY, dom0_pages=19) as lab, ExitStack() as stack:
        client, server = lab.wrapper(1), lab.wrapper(2)
        if traced:
            stack.enter_context(closing(trace(lab)))
            for wrapper in (client, server):
                wrapper.await_message(Type.TRACE)
        server.bind(1, SERVER)
        client.bind(1, CLIENT)
        client.want(1, CLIENT, SERVER)
        client.await_active(SERVER)
        (flow,) = lab.status()["flows"]
        assert flow["ring_bytes"] == 2 * (2 * PAGE + (1 << order))


def lent() -> int:
    """Descriptors of pages of the controller's that a tracer has not got, or has."""
    return sum(
        "granted" in str(path.readlink())
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink()
    )


@pytest.mark.parametrize("answered", [False, True])
def test_when_it_ends_the_controller_keeps_nothing(
    lab: XenLab, wrapper: XenWrapper, answered: bool
) -> None:
    pages = granted(wrapper)
    before = lent()
    with closing(trace(lab)) as source:
        message, (_, ref, *_) = order_of(wrapper)
        assert lent() > before
        if answered:
            say(wrapper, message, pages.refs)
            ring = news(lab, source)
            assert isinstance(ring, Ring)
            ring.close()
    assert wrapper.await_message(Type.TRACE).arg == 0
    del lab.xen.grants[0, ref]
    assert lent() == before
