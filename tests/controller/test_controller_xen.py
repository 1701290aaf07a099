# SPDX-License-Identifier: Apache-2.0
"""The controller in dom0 of a Xen in Python: the whole exchange of docs/xen.md."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from controller_lab import REQUEST
from fake_xen import FakeChannel, StoreClient
from fakewrapper import address
from xen_lab import XenLab, running_xen
from xenwrapper import XenWrapper

from ivc.controller.protocol import Message, Role, SocketFlag, Type
from ivc.network import Path as FlowPath
from ivc.platform.xen_link import IDLE_MOST
from ivc.reasons import Reason
from ivc.shm.layout import MatchEntry, MatchHeader
from ivc.shm.record import Record

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:30509"
BOTH_PATHS = pytest.mark.parametrize("path", [FlowPath.DIRECT, FlowPath.RELAY])

Starter = Callable[..., XenLab]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start guests and controller; arguments as of `running_xen`."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running_xen(tmp_path, *args, **options))


def pair(lab: XenLab, sender: int = 1, receiver: int = 2) -> tuple[XenWrapper, XenWrapper]:
    """A process in each guest, with an active flow from the first to the second."""
    client, server = lab.wrapper(sender), lab.wrapper(receiver)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    return client, server


def channels(lab: XenLab) -> list[FakeChannel]:
    """Those of the controller."""
    return [held for held in lab.devices.held if isinstance(held, FakeChannel)]


def works(client: XenWrapper, server: XenWrapper, payload: bytes = REQUEST) -> None:
    assert client.send(SERVER, payload) == 1
    assert server.receive(1)[1] == payload


@BOTH_PATHS
def test_a_datagram_travels_by_the_ring(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    client, server = pair(lab)
    for number in range(200):
        works(client, server, REQUEST + bytes([number]))
    assert lab.status()["sockets"][0]["path"] == path.value


def test_dom0_maps_nothing_of_a_direct_flow(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    control = [pages for pages in lab.devices.held if not getattr(pages, "own", True)]
    assert len([pages for pages in control if not pages.closed]) == 2 * 3
    works(client, server)
    assert [flow["rings"] for flow in lab.status()["flows"]] == [[]]


def test_a_relayed_flow_says_how_full_its_rings_are(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = pair(lab)
    works(client, server)
    (flow,) = lab.status()["flows"]
    assert len(flow["rings"]) == 2
    assert flow["rings"][0]["written"] == flow["rings"][1]["written"] > 0


def test_programs_of_one_guest_have_dom0_between_them(start: Starter) -> None:
    """A PVH guest that maps what it has granted itself loses these pages from its RAM."""
    lab = start()
    group = "224.224.224.245:30490"
    member, sender = lab.wrapper(1), lab.wrapper(1)
    member.bind(1, "0.0.0.0:30490", flags=SocketFlag.MC_ALL | SocketFlag.MC_LOOP)
    member.join(1, group.split(":")[0])
    sender.bind(1, "10.0.0.1:30490", flags=SocketFlag.MC_LOOP)
    sender.want(1, "10.0.0.1:30490", group)
    sender.await_active(group)
    assert sender.send(group, REQUEST) == 1
    assert member.receive(1)[1] == REQUEST
    assert [flow["path"] for flow in lab.status()["flows"]] == ["relay"]


def test_so_have_the_connections_of_one_guest(start: Starter) -> None:
    lab = start(mapping='[defaults]\npromote = "eager"', vm="a")
    client, server = lab.wrapper(1), lab.wrapper(1)
    for end, (local, peer) in ((client, (CLIENT, SERVER)), (server, (SERVER, CLIENT))):
        end.bind(1, local, peer, SocketFlag.STREAM)
    client.await_active(SERVER)
    server.await_active(CLIENT)
    assert [flow["path"] for flow in lab.status()["flows"]] == ["relay"] * 2


def test_a_guest_sees_who_it_is_and_where_the_nodes_are(start: Starter) -> None:
    lab = start()
    store = StoreClient(lab.xen, 1)
    version, domid, generation = map(int, (store.read("ivc/controller") or b"").split())
    assert (version, domid) == (1, 0) and generation < (1 << 64) // 10
    serial = int(store.read("ivc/match") or b"")
    table = store.read(f"ivc/match/{serial}/0") or b""
    header = MatchHeader.parse(table)
    entries = [MatchEntry.parse(table[64 + 24 * n :]) for n in range(header.entries)]
    assert [entry.netns for entry in entries] == [1, 2, 0]


def test_a_large_match_table_lies_in_parts(start: Starter) -> None:
    lab = start()
    assert lab.service is not None
    lab.service._platform.publish(bytes(5000), [1, 2])
    store = StoreClient(lab.xen, 2)
    serial = (store.read("ivc/match") or b"").decode()
    sizes = [len(store.read(f"ivc/match/{serial}/{n}") or b"") for n in range(4)]
    assert sizes == [2016, 2016, 968, 0]
    assert store.children("ivc/match") == [serial]


def test_no_guest_reads_what_is_for_another(start: Starter) -> None:
    lab = start()
    assert StoreClient(lab.xen, 1).read("/local/domain/2/ivc/controller") is None


def test_the_answer_is_gone_once_it_was_heard(start: Starter) -> None:
    lab = start()
    lab.wrapper(1)
    lab.wait(lambda: not any("answer/" in name for name in lab.nodes(1)), "the answer's removal")


def test_a_dead_process_is_noticed_and_its_peer_told(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    client.kill()
    assert server.await_message(Type.CLOSE).reason == Reason.PEER_GONE
    lab.await_status(lambda status: len(status["processes"]) == 1 and not status["flows"])
    assert lab.xen.mapped_by_others(1) == 0


@BOTH_PATHS
def test_a_dead_domain_is_let_go_of_by_everybody(start: Starter, path: FlowPath) -> None:
    lab = start(path)
    client, server = pair(lab)
    lab.wrappers.remove(client)
    lab.xen.destroy(1)
    assert server.await_message(Type.CLOSE).reason == Reason.PEER_GONE
    lab.await_status(lambda status: len(status["processes"]) == 1)
    assert lab.xen.mapped_by_others(1) == 0
    assert not lab.xen.store.below("/local/domain/1")
    assert next(node for node in lab.status()["nodes"] if node["name"] == "a")["host"] is None


def test_a_guest_that_comes_again_is_served_anew(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    lab.wrappers.remove(client)
    lab.xen.destroy(1)
    lab.xen.create(3, "a")
    lab.wait(lambda: "controller" in lab.nodes(3), "the new domain's nodes")
    again = lab.wrapper(3)
    again.bind(1, CLIENT)
    again.want(1, CLIENT, SERVER)
    again.await_active(SERVER)
    works(again, server)


def test_a_domain_that_is_not_mapped_is_left_alone(start: Starter) -> None:
    lab = start()
    lab.xen.create(9, "stranger")
    stranger = XenWrapper(lab.xen, 9)
    lab.wrappers.append(stranger)
    time.sleep(0.2)
    assert not lab.nodes(9)
    assert lab.status()["processes"] == []


def test_everything_is_given_back_when_the_controller_ends(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = pair(lab)
    lab.stop()
    assert lab.nodes(1) == lab.nodes(2) == {}
    assert lab.xen.given(0) == (0, 0)
    assert lab.xen.mapped_by_others(1) == lab.xen.mapped_by_others(2) == 0
    for wrapper in (client, server):
        with pytest.raises(ConnectionError):
            while True:
                wrapper.read()


def test_a_killed_controller_is_noticed_and_the_next_one_cleans(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    store = StoreClient(lab.xen, 0)
    store.write("/local/domain/1/ivc/match/1/0", b"left over", 1)
    lab.devices.die()  # as kill -9; what follows is the next controller
    lab.stop()
    for wrapper in (client, server):
        wrapper.close()
    store.write("/local/domain/2/ivc/match/2/0", b"left over", 2)
    lab.start()
    lab.wait(lambda: "controller" in lab.nodes(2), "the new controller")
    assert not any(value == b"left over" for value in {**lab.nodes(1), **lab.nodes(2)}.values())
    works(*pair(lab))


def test_an_announcement_of_a_dead_process_is_removed(start: Starter) -> None:
    lab = start()
    lab.stop()
    dead = XenWrapper(lab.xen, 1)
    dead.kill()
    lab.start()
    lab.wait(lambda: not lab.xen.store.below("/local/domain/1/data/ivc"), "its removal")
    works(*pair(lab))


@pytest.mark.parametrize(
    "text",
    ["", "2 1 2 3 4 5 6 x", "1 0 9 10 11 12 7 x", "1 70000000 1 2 3 4 5 x", "1 9 9 9 9 9 7 x"],
)
def test_a_bad_announcement_is_removed_and_harms_nobody(start: Starter, text: str) -> None:
    lab = start()
    client, server = pair(lab)
    lab.wrappers.append(XenWrapper(lab.xen, 1, spoil=lambda _: text))
    lab.wait(lambda: not lab.xen.store.below("/local/domain/1/data/ivc"), "its removal")
    works(client, server)


def test_a_flood_of_announcements_is_looked_at_little_by_little(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    store = StoreClient(lab.xen, 1)
    for number in range(1, 1000):
        store.write(f"data/ivc/{number:08x}", b"rubbish")
    works(client, server)
    assert len(lab.xen.store.below("/local/domain/1/data/ivc")) > 900


def test_one_guests_processes_leave_dom0_pages_for_others(start: Starter) -> None:
    lab = start(dom0_pages=32)  # a quarter of them is two processes'
    kept = [lab.wrapper(1), lab.wrapper(1)]
    one_more = XenWrapper(lab.xen, 1)
    lab.wait(lambda: one_more.store.read(f"data/ivc/{one_more.name}") is None, "its dismissal")
    assert one_more.store.read(f"ivc/answer/{one_more.name}") is None
    one_more.devices.die()
    lab.wrapper(2)
    kept[0].close()
    lab.wrapper(1)


def test_who_rings_on_and_on_without_a_word_is_heard_now_and_then(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    (ours,) = (each for each in channels(lab) if each.end.peer is client.channel.end)
    before, end = ours.looked, time.monotonic() + 0.5
    while time.monotonic() < end:
        client.channel.ring()
        time.sleep(0.0001)
    assert IDLE_MOST <= ours.looked - before <= 3 * IDLE_MOST  # there may be a tick or two
    works(client, server)
    client.bind(2, "10.0.0.1:40001")  # said while nobody listens
    client.want(2, "10.0.0.1:40001", SERVER)
    lab.await_status(lambda status: len(status["flows"]) == 2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda words: words[:-1],
        lambda words: (*words, 5),
        lambda words: (*words[:-1], 0),
        lambda words: (0, *words[1:]),
    ],
)
@pytest.mark.parametrize("role", Role)
def test_references_that_cannot_be_end_the_connection(
    start: Starter, role: Role, spoil: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> None:
    lab = start()
    client, server = pair(lab)
    hostile = lab.wrapper(1 if role is Role.SENDER else 2)
    hostile.spoil_words = spoil
    other = server if role is Role.SENDER else hostile
    sender = hostile if role is Role.SENDER else client
    if role is Role.RECEIVER:
        other.bind(2, "10.0.0.2:30510")
    sender.bind(2, "10.0.0.1:40002")
    sender.want(2, "10.0.0.1:40002", SERVER if role is Role.SENDER else "10.0.0.2:30490")
    if role is Role.RECEIVER:
        hostile.bind(3, "10.0.0.2:30490")
    with pytest.raises(ConnectionError):
        hostile.until(lambda: False, "the end")
    hostile.close()
    works(client, server)


def test_references_of_another_are_mapped_by_nobody(start: Starter) -> None:
    lab = start(FlowPath.RELAY)
    client, server = pair(lab)
    hostile = lab.wrapper(1)
    hostile.spoil_words = lambda words: tuple(range(100_000, 100_000 + len(words)))
    hostile.bind(2, "10.0.0.1:40002")
    hostile.want(2, "10.0.0.1:40002", SERVER)
    assert hostile.await_message(Type.CLOSE).reason == Reason.RESOURCES
    works(client, server)


def test_rubbish_in_a_control_ring_ends_that_connection_only(start: Starter) -> None:
    lab = start()
    client, server = pair(lab)
    hostile = lab.wrapper(1)
    hostile.up_own.buffer[64:72] = b"\xff" * 8
    hostile.channel.ring()
    lab.await_status(lambda status: len(status["processes"]) == 2)
    works(client, server)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 64 + 4 * 993])
def test_a_record_that_is_no_message_ends_the_connection(start: Starter, size: int) -> None:
    lab = start()
    hostile = lab.wrapper(1)
    hostile.tell_raw(bytes(size))
    lab.await_status(lambda status: not status["processes"])


def test_a_claim_of_another_domains_node_ends_the_connection(start: Starter) -> None:
    lab = start()
    hostile = lab.wrapper(1)
    hostile.bind(1, SERVER)
    lab.await_status(lambda status: not status["processes"])


def test_messages_that_do_not_fit_the_ring_arrive_later(start: Starter) -> None:
    lab = start()
    slow = lab.wrapper(1)
    slow.bind(1, CLIENT)
    slow.reads = False
    for number in range(300):
        while True:
            try:
                slow.want(1, CLIENT, f"10.1.{number >> 8}.{number & 255}:1")
                break
            except Exception:  # the ring is full for a moment
                time.sleep(0.005)
    slow.reads = True
    slow.until(lambda: sum(m.type is Type.ROUTE for m in slow.mail) == 300, "all answers")


def test_what_comes_while_the_bell_is_cleared_is_read_though_it_is_a_batch(start: Starter) -> None:
    """The sender does not ring then, and the controller stops in the middle to serve others."""
    lab = start()
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    (ours,) = (each for each in channels(lab) if each.end.peer is client.channel.end)
    consume, destinations = ours.consume, [f"10.1.0.{number}:1" for number in range(64)]
    rings: list[bool] = []

    def busy() -> bool:
        ours.consume = consume  # type: ignore[method-assign]
        cleared = consume()
        for each in destinations:
            wanted = Message(Type.WANT, 1, local=address(CLIENT), peer=address(each))
            client.up.write(Record(), wanted.pack())
        rings.append(client.up.publish())
        return cleared

    ours.consume = busy  # type: ignore[method-assign]
    client.want(1, CLIENT, "10.2.0.1:1")
    client.until(lambda: sum(m.type is Type.ROUTE for m in client.mail) == 65, "all answers")
    assert rings == [False]


def test_who_rang_too_often_is_heard_again_though_a_message_came_meanwhile(start: Starter) -> None:
    lab = start()
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    (ours,) = (each for each in channels(lab) if each.end.peer is client.channel.end)
    mute = ours.mute

    def write_and_mute() -> None:
        ours.mute = mute  # type: ignore[method-assign]
        mute()
        wanted = Message(Type.WANT, 1, local=address(CLIENT), peer=address("10.1.0.1:1"))
        client.up.write(Record(), wanted.pack())
        client.up.publish()

    ours.mute = write_and_mute  # type: ignore[method-assign]
    client.until(lambda: client.channel.ring() or ours.end.muted, "silence")
    client.until(lambda: any(m.type is Type.ROUTE for m in client.mail), "an answer")
    client.want(1, CLIENT, "10.2.0.1:1")
    client.until(lambda: sum(m.type is Type.ROUTE for m in client.mail) == 2, "both answers")


def test_a_ring_that_does_not_fit_is_made_smaller(start: Starter) -> None:
    lab = start(guests="pages = 16")
    client, server = pair(lab)
    (flow,) = lab.status()["flows"]
    assert flow["ring_bytes"] == 2 * 4096 + (1 << 14)
    works(client, server)


def test_what_does_not_fit_at_all_is_refused(start: Starter) -> None:
    lab = start(guests="pages = 10")
    client, server = lab.wrapper(1), lab.wrapper(2)
    server.bind(1, SERVER)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_route(SERVER, Reason.QUOTA)


def test_a_guest_keeps_half_for_what_it_asks_for_itself(start: Starter) -> None:
    answer = (
        '[[rule]]\nfrom = "a"\nmethod = 1\nprotocol = "udp"\naction = "deny"\nanswer = "E_NOT_OK"\n'
    )
    lab = start(mapping=answer, guests="pages = 40")  # 8 for the process
    pair(lab)
    rings = {flow["from"]: flow["ring_bytes"] for flow in lab.status()["flows"]}
    assert rings == {CLIENT: 2 * (2 * 4096 + (1 << 16)), SERVER: 2 * (2 * 4096 + (1 << 15))}


def test_ports_are_counted_too(start: Starter) -> None:
    lab = start(guests="ports = 4")
    client, server = pair(lab)  # 1 for the process, 2 for the socket, 1 for the flow
    client.bind(2, "10.0.0.1:40001")
    client.want(2, "10.0.0.1:40001", SERVER)
    client.await_route(SERVER, Reason.QUOTA)
    client.unbind_quietly(2)
    works(client, server)


def test_a_relay_takes_of_what_dom0_may_grant(start: Starter) -> None:
    lab = start(FlowPath.RELAY, dom0_pages=26)  # of which half is for control connections
    client, server = pair(lab)
    (flow,) = lab.status()["flows"]
    assert flow["ring_bytes"] == 2 * (2 * 4096 + (1 << 15))  # 1 + 1 + 8 pages of dom0's
    works(client, server)
    client.bind(2, "10.0.0.1:40001")
    client.want(2, "10.0.0.1:40001", SERVER)
    client.await_route(SERVER, Reason.QUOTA)


def test_a_direct_flow_takes_nothing_of_dom0s(start: Starter) -> None:
    lab = start(dom0_pages=16)
    client, server = pair(lab)
    works(client, server)


def test_statistics_of_a_guest_are_shown(start: Starter) -> None:
    lab = start()
    wrapper = lab.wrapper(1)
    wrapper.statistics_pages.buffer[32:40] = (1234).to_bytes(8, "little")
    assert lab.status()["processes"][0]["counters"]["spin_hits"] == 1234


def test_who_and_what_is_taken_from_xen_and_only_the_rest_is_claimed(start: Starter) -> None:
    lab = start()
    lab.wrapper(2)
    (process,) = lab.status()["processes"]
    assert (process["nodes"], process["pid"], process["command"]) == (["b"], 77, "an app")


def test_what_a_guest_lacks_is_logged_once(
    start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    lab = start()
    StoreClient(lab.xen, 1).write("data/ivc/error", b"no \x1bgntalloc")
    lab.wait(lambda: "no ?gntalloc" in caplog.text, "the line")
    time.sleep(1.2)
    assert caplog.text.count("gntalloc") == 1


def test_hello_needs_its_pages(start: Starter) -> None:
    lab = start()
    hostile = lab.wrapper(1)
    hostile.tell(Message(Type.HELLO, arg=1))
    lab.await_status(lambda status: not status["processes"])
