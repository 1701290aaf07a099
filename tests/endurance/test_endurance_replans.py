# SPDX-License-Identifier: Apache-2.0
"""Random re-plans during numbered traffic: who is not meant does not notice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from endurance_field import ADDRESSES, SEED, Field, FieldMaker, Traffic, assert_whole, size

from ivc.controller.client import reload
from ivc.controller.errors import OrderFailed

RATE = 2000
REST_S = 0.3
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
    """Two nodes with two conversations, and a third node that talks to one of them."""

    still: tuple[Traffic, Traffic]
    meant: tuple[Traffic, Traffic]
    outside: tuple[Traffic, Traffic]

    def pairs(self) -> Sequence[tuple[Traffic, Traffic]]:
        return self.still, self.meant, self.outside

    def rest(self) -> None:
        for pair in self.pairs():
            for each in pair:
                each.order("pause")
        time.sleep(REST_S)

    def assert_whole(self) -> None:
        for one, other in self.pairs():
            assert_whole(one, other)
            assert_whole(other, one)


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
        yield Town(still, meant, outside)


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


def still_flows(field: Field, town: Town) -> set[tuple[int, str, str]]:
    """Number, path and state of the flows nothing is to happen to."""
    pids = {each.pid for each in town.still}
    return {
        (flow["id"], flow["path"], flow["state"])
        for flow in field.flows()
        if flow["sender"]["pid"] in pids
    }


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
        assert len(before) == 2
        assert changes > size(20, 400)
