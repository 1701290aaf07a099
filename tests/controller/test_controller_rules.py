# SPDX-License-Identifier: Apache-2.0
"""Rules in a running controller: what passes, what is denied and counted, what a reload does."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from controller_lab import REQUEST, Lab, running_lab
from fakewrapper import PATIENCE_S, FakeWrapper

from ivc import someip
from ivc.controller import data_communication, wants
from ivc.controller.client import reload
from ivc.controller.flows import Flow, FlowSpec
from ivc.controller.protocol import Message, Role, Type
from ivc.controller.quota import Quota, Refused
from ivc.controller.statusview import render_status
from ivc.network import Path as FlowPath
from ivc.reasons import Reason
from ivc.shm.layout import RecordFlag
from ivc.shm.relay import KINDS_MAX

CLIENT, SERVER, OTHER = "10.0.0.1:40000", "10.0.0.2:30509", "10.0.0.3:40000"
DENY_METHOD = (
    '[[rule]]\nfrom = "a"\nservice = 0x1234\nmethod = 0x0666\nprotocol = "udp"\naction = "deny"\n'
)
BAD = REQUEST[:2] + b"\x06\x66" + REQUEST[4:]


class Field:
    """A controller on the files of a folder, whose rules may change."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def start(self, rules: str, path: FlowPath | None = None, quota: Quota | None = None) -> Lab:
        running = running_lab(self._folder, path, quota, mapping=rules)
        self.lab = self._stack.enter_context(running)
        return self.lab

    def reload(self, rules: str) -> None:
        mapping = self._folder / "mapping.toml"
        hosts = mapping.read_text().partition("[nodes.")[1:]
        mapping.write_text(f"version = 1\n{rules}\n{''.join(hosts)}")
        reload(self.lab.run_dir)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with ExitStack() as stack:
        yield Field(tmp_path, stack)


def call(lab: Lab, host: int = 1, source: str = CLIENT) -> FakeWrapper:
    client = lab.wrapper(host)
    client.bind(1, source)
    client.want(1, source, SERVER)
    client.await_active(SERVER)
    return client


def serve(lab: Lab) -> FakeWrapper:
    server = lab.wrapper(2)
    server.bind(1, SERVER)
    return server


def test_denied_messages_are_counted_by_nodes_service_and_method(field: Field) -> None:
    lab = field.start(DENY_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)
    client.send(SERVER, BAD + REQUEST + BAD)
    assert server.receive(1)[1] == REQUEST
    status = lab.status()
    (denied,) = status["relay"]["denied"]
    ids = {"service": 0x1234, "method": 0x666}
    assert denied == {"from": "a", "to": "b", **ids, "messages": 3, "passed": False}
    assert [flow["path"] for flow in status["flows"]] == ["relay"]


def test_the_same_message_from_another_node_passes(field: Field) -> None:
    lab = field.start(f'{DENY_METHOD}[[rule]]\nservice = 0x1234\naction = "relay"\n')
    server = serve(lab)
    clients = [call(lab), call(lab, 3, OTHER)]
    for client in clients:
        client.send(SERVER, BAD)
        client.send(SERVER, REQUEST)
    got = sorted(server.receive(1)[1] for _ in range(3))
    assert got == sorted([BAD, REQUEST, REQUEST])
    kinds = lab.status()["relay"]["kinds"]
    counts = {(k["from"], k["method"]): (k["messages"], k["denied"]) for k in kinds}
    assert counts == {
        ("a", 0x666): (1, 1),
        ("a", 0x421): (1, 0),
        ("c", 0x666): (1, 0),
        ("c", 0x421): (1, 0),
    }


def test_a_node_no_rule_is_about_does_not_go_through_the_controller(field: Field) -> None:
    lab = field.start(DENY_METHOD)
    serve(lab)
    call(lab, 3, OTHER)
    assert [flow["path"] for flow in lab.status()["flows"]] == ["direct"]


@pytest.mark.parametrize(
    "rules",
    [
        '[[rule]]\nfrom = "a"\nto = "b"\nprotocol = "udp"\naction = "deny"\n',
        '[defaults]\npath = "denied"\n',
        '[[rule]]\nservice = 0x1234\nprotocol = "udp"\naction = "deny"\n',
    ],
    ids=["nodes", "default", "service"],
)
def test_a_flow_that_is_denied_delivers_nothing_and_counts(field: Field, rules: str) -> None:
    lab = field.start(rules)
    server = serve(lab)
    client = call(lab)
    for _ in range(3):
        client.send(SERVER, REQUEST)
    lab.await_status(lambda s: [d["messages"] for d in s["relay"]["denied"]] == [3])
    assert not server.has(1)


def test_network_by_rule_is_told_as_a_rule(field: Field) -> None:
    lab = field.start('[[rule]]\nfrom = "a"\naction = "network"\n')
    serve(lab)
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_route(SERVER, Reason.RULE)


@pytest.mark.parametrize("flags", [RecordFlag.TWIN, RecordFlag.FENCE])
def test_what_the_kernel_has_too_is_not_split(field: Field, flags: RecordFlag) -> None:
    lab = field.start(DENY_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, REQUEST + BAD, flags)
    client.send(SERVER, REQUEST, flags)
    assert server.receive(1)[1] == REQUEST
    assert lab.status()["relay"]["denied"][0]["messages"] == 1
    assert not server.has(1)


ANSWER_METHOD = DENY_METHOD + 'answer = "E_NOT_REACHABLE"\n'
ANSWER = replace(someip.peek(BAD), message_type=0x81, return_code=0x05)


def test_the_first_denied_request_is_answered_in_the_name_of_the_service(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)  # the service has never sent anything
    record, answer = client.receive(1)
    assert someip.peek(answer) == ANSWER
    assert (record.src_ip, record.src_port) == (0x0A000002, 30509)
    assert (record.dst_ip, record.dst_port) == (0x0A000001, 40000)
    flows = {flow["from"]: flow for flow in lab.status()["flows"]}
    there, back = flows[CLIENT], flows[SERVER]
    assert (there["answered"], there["unanswered"], back["path"]) == (1, 0, "relay")
    server.close()
    lab.await_status(lambda s: not s["flows"])


def test_a_service_that_sends_later_goes_on_by_the_flow_its_answers_took(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)
    assert someip.peek(client.receive(1)[1]) == ANSWER
    server.want(1, SERVER, CLIENT)
    server.await_route(CLIENT, Reason.NONE, complete=True)
    assert server.send(CLIENT, REQUEST) == 1
    assert client.receive(1)[1] == REQUEST
    assert len(lab.status()["flows"]) == 2


def test_no_call_goes_by_ring_before_the_way_of_its_answer_is_there(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    serve(lab)
    client = lab.wrapper(1, polite=False)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    client.await_message(Type.ATTACH_RX)
    client.await_route(SERVER, Reason.PENDING)
    assert [flow["from"] for flow in lab.status()["flows"]] == [SERVER]


def test_calls_go_by_ring_all_the_same_if_no_way_back_can_be_made(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    server = serve(lab)
    client = lab.wrapper(1, polite=False)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    back = client.await_message(Type.ATTACH_RX)
    client.polite = True
    client.tell(Message(Type.DROPPED, flow=back.flow, flags=Role.RECEIVER, reason=Reason.RESOURCES))
    client.await_active(SERVER)
    client.send(SERVER, BAD)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST
    (there,) = lab.status()["flows"]
    assert (there["answered"], there["unanswered"]) == (0, 1)


def test_a_way_back_on_the_network_holds_no_call_up(field: Field) -> None:
    lab = field.start(f'{ANSWER_METHOD}[[rule]]\nfrom = "b"\naction = "network"\n')
    serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)
    lab.await_status(lambda s: [flow["unanswered"] for flow in s["flows"]] == [1])


def test_ways_that_are_each_others_wait_for_neither(field: Field) -> None:
    lab = field.start(ANSWER_METHOD.replace('from = "a"\n', ""))
    server = serve(lab)
    client = call(lab)
    server.want(1, SERVER, CLIENT)
    server.await_active(CLIENT)
    for sender, receiver, to in ((client, client, SERVER), (server, server, CLIENT)):
        sender.send(to, BAD)
        assert someip.peek(receiver.receive(1)[1]) == ANSWER


def destinations(lab: Lab, local: str) -> list[str]:
    (one,) = (one for one in lab.status()["sockets"] if one["local"] == local)
    return [each["to"] for each in one["destinations"]]


def test_a_way_back_nobody_asked_for_goes_with_whom_it_was_for(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    server = serve(lab)
    clients = [call(lab, source=f"10.0.0.1:{port}") for port in (40000, 40001)]
    server.want(1, SERVER, "10.0.0.1:40001")
    server.await_message(Type.ROUTE, lambda message: message.peer.port == 40001)
    assert destinations(lab, SERVER) == ["10.0.0.1:40000", "10.0.0.1:40001"]
    for client in clients:
        client.close()
    lab.await_status(lambda s: len(s["sockets"]) == 1)
    assert destinations(lab, SERVER) == ["10.0.0.1:40001"]
    server.close()
    lab.await_status(lambda s: not s["sockets"])


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_ways_back_to_another_socket_at_the_address_go_too(field: Field, both: bool) -> None:
    lab = field.start(ANSWER_METHOD.replace('from = "a"\n', "") if both else ANSWER_METHOD)
    serve(lab)
    client = lab.wrapper(1)
    client.bind(1, "0.0.0.0:40000")
    client.bind(2, CLIENT)  # this one gets what comes to the address
    client.want(1, CLIENT, SERVER)
    client.await_active(SERVER)
    client.unbind(1)
    client.until(lambda: destinations(lab, SERVER) == [], "nothing left of the way back")
    client.unbind(2)
    lab.await_status(lambda s: len(s["sockets"]) == 1 and not s["flows"])


def test_a_way_back_goes_when_rules_ask_for_no_answers_any_more(field: Field) -> None:
    lab = field.start(ANSWER_METHOD)
    serve(lab)
    client = call(lab)
    field.reload(DENY_METHOD)
    client.until(
        lambda: [flow["from"] for flow in lab.status()["flows"]] == [CLIENT], "one flow left"
    )
    assert destinations(lab, SERVER) == []


def test_others_cannot_make_a_process_forget_what_it_wants(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wants, "WANTS_MAX", 4)
    lab = field.start(ANSWER_METHOD)
    server = serve(lab)
    own = [f"10.0.0.3:{port}" for port in (1, 2)]
    for to in own:
        server.want(1, SERVER, to)
    for port in range(40000, 40004):
        call(lab, source=f"10.0.0.1:{port}")
    assert destinations(lab, SERVER) == own


def callers(lab: Lab) -> list[FakeWrapper]:
    """Of eight on one node those whose calls go by ring."""
    found = []
    for port in range(40000, 40008):
        client = lab.wrapper(1)
        source = f"10.0.0.1:{port}"
        client.bind(1, source)
        client.want(1, source, SERVER)
        route = client.await_message(Type.ROUTE, lambda m: m.reason in (Reason.NONE, Reason.QUOTA))
        if route.reason == Reason.NONE:
            client.await_active(SERVER)
            found.append(client)
    return found


def test_callers_take_nothing_of_what_a_service_may_have(field: Field) -> None:
    lab = field.start(ANSWER_METHOD, quota=Quota(flows=4))
    server = serve(lab)
    assert callers(lab)
    other = lab.wrapper(3)
    for port in range(40000, 40004):
        other.bind(port, f"10.0.0.3:{port}")
        server.want(1, SERVER, f"10.0.0.3:{port}")
        server.await_active(f"10.0.0.3:{port}")


def test_whose_calls_go_by_ring_is_answered_however_small_the_quota(field: Field) -> None:
    lab = field.start(ANSWER_METHOD, quota=Quota(flows=4))
    serve(lab)
    found = callers(lab)
    assert len(found) == 2
    for client in found:
        client.send(SERVER, BAD)
        assert someip.peek(client.receive(1)[1]) == ANSWER
    nodes = {node["name"]: node["flows"] for node in lab.status()["nodes"]}
    assert (nodes["a"], nodes["b"]) == (4, 0)


def test_ways_back_do_not_take_the_places_of_the_calls_they_are_for(field: Field) -> None:
    """All of them at once, as after a reload."""
    lab = field.start(DENY_METHOD, quota=Quota(flows=4))
    serve(lab)
    clients = [call(lab, source=f"10.0.0.1:{port}") for port in range(40000, 40004)]
    field.reload('[[rule]]\nfrom = "a"\nprotocol = "udp"\naction = "network"\n')
    clients[0].until(lambda: not lab.status()["flows"], "no flow")
    field.reload(ANSWER_METHOD)
    clients[0].until(
        lambda: [flow["state"] for flow in lab.status()["flows"]] == ["active"] * 4, "two pairs"
    )
    flows = lab.status()["flows"]
    calls = {flow["from"] for flow in flows if flow["to"] == SERVER}
    assert len(calls) == 2 and {flow["to"] for flow in flows} == {*calls, SERVER}


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_calls_wait_for_no_way_back_there_is_no_memory_for(
    field: Field, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    lab = field.start(ANSWER_METHOD.replace('from = "a"\n', "") if both else ANSWER_METHOD)
    server = serve(lab)
    table = lab.service._dispatcher.flows
    opened = table.open

    def refuse(spec: FlowSpec) -> Flow:
        if both or spec.sender.local.port == 30509:
            raise Refused(Reason.QUOTA)
        return opened(spec)

    monkeypatch.setattr(table, "open", refuse)
    client = lab.wrapper(1)
    client.bind(1, CLIENT)
    client.want(1, CLIENT, SERVER)
    server.want(1, SERVER, CLIENT)
    if both:
        client.await_route(SERVER, Reason.QUOTA)
    else:
        client.await_active(SERVER)


def test_a_reload_that_brings_answers_brings_their_way(field: Field) -> None:
    lab = field.start(DENY_METHOD)
    serve(lab)
    client = call(lab)
    field.reload(ANSWER_METHOD)
    client.until(
        lambda: [flow["state"] for flow in lab.status()["flows"]] == ["active"] * 2, "a way back"
    )
    client.send(SERVER, BAD)
    assert someip.peek(client.receive(1)[1]) == ANSWER


def test_a_reload_applies_other_rules_to_flows_that_stay(field: Field) -> None:
    relay = '[[rule]]\nservice = 0x1234\naction = "relay"\n'
    lab = field.start(DENY_METHOD + relay)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST
    (before,) = lab.status()["flows"]
    field.reload(relay)
    client.send(SERVER, BAD)
    assert server.receive(1)[1] == BAD
    field.reload(DENY_METHOD + relay)
    client.send(SERVER, BAD)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST
    status = lab.status()
    assert status["flows"][0]["id"] == before["id"]
    assert status["relay"]["denied"][0]["messages"] == 2


def test_what_was_denied_is_remembered_when_the_table_is_begun_anew(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_communication, "DEEDS_MAX", 1000)
    lab = field.start('[[rule]]\nservice = 0x1234\nprotocol = "udp"\naction = "deny"\n')
    serve(lab)
    client = call(lab)
    for method in range(KINDS_MAX + 10):
        client.send(SERVER, REQUEST[:2] + method.to_bytes(2, "big") + REQUEST[4:])
        if method % 100 == 0:
            lab.await_status(lambda s, n=method: s["flows"][0]["messages"] > n)
    lab.await_status(lambda s: s["flows"][0]["messages"] == KINDS_MAX + 10)
    denied = lab.status()["relay"]["denied"]
    assert sum(one["messages"] for one in denied) == KINDS_MAX + 10
    assert len(denied) < 1100
    assert [one["from"] for one in denied if one["method"] is None] == ["a"]


AUDIT_METHOD = DENY_METHOD.replace("deny", "audit")


def test_audited_messages_pass_and_are_counted(field: Field) -> None:
    lab = field.start(AUDIT_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD + REQUEST)
    assert server.receive(1)[1] == BAD + REQUEST
    (audited,) = lab.status()["relay"]["denied"]
    assert (audited["method"], audited["messages"], audited["passed"]) == (0x666, 1, True)


@pytest.fixture
def logger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(PATIENCE_S)
        yield one


def test_mirrored_messages_pass_and_are_copied_and_counted(
    field: Field, logger: socket.socket
) -> None:
    nodes = '[nodes.logger]\nexternal = true\naddress = "127.0.0.1"\n'
    to = f'action = "mirror"\ncopy_to = "127.0.0.1:{logger.getsockname()[1]}"\n'
    lab = field.start(nodes + "[[rule]]\nservice = 0x1234\nmethod = 0x0666\n" + to)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD + REQUEST + BAD)
    assert server.receive(1)[1] == BAD + REQUEST + BAD
    assert [logger.recv(65535) for _ in range(2)] == [BAD, BAD]
    status = lab.status()
    ids = {"from": "a", "to": "b", "service": 0x1234, "method": 0x666}
    assert status["relay"]["copied"] == [{**ids, "messages": 2, "sent": True}]
    assert status["relay"]["denied"] == []
    kinds = {kind["method"]: kind for kind in status["relay"]["kinds"]}
    assert [(kinds[m]["copied"], kinds[m]["uncopied"]) for m in (0x666, 0x421)] == [(2, 0), (0, 0)]
    lines = [line.split() for line in render_status(status).splitlines()]
    assert lines[-2][:2] == ["copied", "from"]
    assert lines[-1] == ["a", "b", "0x1234", "0x0666", "2"]


def test_what_was_audited_stays_so_when_it_is_denied(field: Field) -> None:
    lab = field.start(AUDIT_METHOD)
    server = serve(lab)
    client = call(lab)
    client.send(SERVER, BAD)
    assert server.receive(1)[1] == BAD
    field.reload(DENY_METHOD)
    client.send(SERVER, BAD)
    client.send(SERVER, REQUEST)
    assert server.receive(1)[1] == REQUEST
    counts = {one["passed"]: one["messages"] for one in lab.status()["relay"]["denied"]}
    assert counts == {True: 1, False: 1}
