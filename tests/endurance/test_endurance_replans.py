# SPDX-License-Identifier: Apache-2.0
"""Random re-plans during numbered traffic: who is not meant does not notice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from endurance_field import (
    ADDRESSES,
    SEED,
    STREAM_PORT,
    Field,
    FieldMaker,
    Program,
    Traffic,
    assert_whole,
    size,
    wait_until,
)

from ivc.controller.client import reload
from ivc.controller.errors import OrderFailed

RATE = 2000
REST_S = 0.3
STREAM_PEER = str(Path(__file__).with_name("stream_peer.py"))
STREAM_RATE = 300
MEANT = (0x772F, 0x7730)
"""Services at ports 30511 and 30512; no rule is about the others."""
BAD = (
    '[[rule]]\nfrom = "nobody"\naction = "relay"\n',
    '[[rule]]\nservice = 0x772f\naction = "teleport"\n',
    "[[rule]]\n",
    "this is no TOML",
)


@dataclass(slots=True)
class Town:
    """Two nodes with two conversations and a connection, and a third node that talks to one."""

    still: tuple[Traffic, Traffic]
    meant: tuple[Traffic, Traffic]
    outside: tuple[Traffic, Traffic]
    stream: tuple[Program, Program]

    def pairs(self) -> Sequence[tuple[Traffic, Traffic]]:
        return self.still, self.meant, self.outside

    def rest(self) -> None:
        for pair in self.pairs():
            for each in pair:
                each.order("pause")
        for each in self.stream:
            each.order("pause")
        time.sleep(REST_S)

    def assert_whole(self) -> None:
        for one, other in self.pairs():
            assert_whole(one, other)
            assert_whole(other, one)
        one, other = (each.ask("report") for each in self.stream)
        for sender, receiver in ((one, other), (other, one)):
            assert 0 < sender["sent"] == receiver["received"] and receiver["wrong_at"] is None


def connection(field: Field, stack: ExitStack) -> tuple[Program, Program]:
    """Both ends of one, on which something goes both ways; on rings."""
    ends = []
    for host, how, word in (("hmi", "listen", "listening\n"), ("adas", "connect", "ready\n")):
        command = (STREAM_PEER, how, ADDRESSES["hmi"], str(STREAM_PORT), str(STREAM_RATE))
        ends.append(stack.enter_context(field.python(host, *command)))
        assert ends[-1].line() == word
    assert ends[0].line() == "ready\n"
    for each in ends:
        each.order("go")
    wait_until(lambda: len(flows_of(field, ends)) == 2, "the connection on rings")
    return ends[0], ends[1]


@contextmanager
def town(field: Field) -> Iterator[Town]:
    with ExitStack() as stack:

        def talk(
            one: tuple[str, int], other: tuple[str, int], rate: int = RATE
        ) -> tuple[Traffic, Traffic]:
            made = []
            for (host, port), (peer, to) in ((one, other), (other, one)):
                options = ("--rate", rate, "--to", f"{ADDRESSES[peer]}:{to}")
                made.append(
                    stack.enter_context(
                        field.traffic(host, port, *options, wrapped="ext" not in host)
                    )
                )
            return made[0], made[1]

        still = talk(("adas", 30509), ("hmi", 30510))
        meant = talk(("adas", 30511), ("hmi", 30512))
        outside = talk(("ext", 30700), ("hmi", 30513), RATE // 10)
        for pair in (still, meant, outside):
            for each in pair:
                each.order("go")
        yield Town(still, meant, outside, connection(field, stack))


def rules(choice: random.Random) -> str:
    """Some rules about the services that are meant, about all their messages and about some."""
    found = []
    for _ in range(choice.randrange(3)):
        keys = choice.choice([{}, {"from": "hmi"}, {"from": "adas", "to": "hmi"}])
        found.append("[[rule]]")
        found += [f'{key} = "{value}"' for key, value in keys.items()]
        found += [f"service = {choice.choice(MEANT)}"]
        found += [f'action = "{choice.choice(["direct", "relay"])}"']
    if choice.random() < 0.5:
        ids = f"service = {choice.choice(MEANT)}\nmethod = {choice.randrange(0x8000)}"
        action = choice.choice(["relay", "deny"])
        found += ["[[rule]]", ids, f'action = "{action}"']
    return "\n".join(found) + "\n"


def flows_of(field: Field, senders: Sequence[Program]) -> set[tuple[int, str, str]]:
    """Number, path and state of what they send on, as far as it is set up."""
    pids = {each.pid for each in senders}
    return {
        (flow["id"], flow["path"], flow["state"])
        for flow in field.flows()
        if flow["sender"]["pid"] in pids and flow["state"] not in ("attaching", "linking")
    }


def still_flows(field: Field, town: Town) -> set[tuple[int, str, str]]:
    """The flows nothing is to happen to."""
    return flows_of(field, (*town.still, *town.stream))


def test_re_plans_leave_alone_what_they_do_not_mean(field_maker: FieldMaker) -> None:
    """The others' flows are the same ones to the end, and nobody loses anything."""
    choice = random.Random(SEED)
    with field_maker(external=True) as field, town(field) as everybody:
        one, other = everybody.still
        field.await_path("direct", [(one, other.address), (other, one.address)])
        before, changes = still_flows(field, everybody), 0
        for _ in range(size(60, 1000)):
            field.write_mapping("direct", rules(choice), choice.random() < 0.3)
            changes += reload(field.run_dir)["changed"]
            if choice.random() < 0.1:
                field.write_mapping("direct", choice.choice(BAD))
                with pytest.raises(OrderFailed):
                    reload(field.run_dir)
            time.sleep(choice.random() * 0.05)
            assert still_flows(field, everybody) == before
        everybody.rest()
        everybody.assert_whole()
        assert len(before) == 4
        assert changes > size(20, 400)
