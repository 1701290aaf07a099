# SPDX-License-Identifier: Apache-2.0
"""The demo's verdict cannot be had for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ivc.lab.control import JsonObject
from ivc.lab.hosts import Mode
from ivc.lab.phase import Carrier, Outcome, Pair, Usage
from ivc.lab.report import as_json, as_table, is_good
from ivc.lab.wire import Counts

PAIR = Pair("opensomeip", "pysomeip")


def peer(**changes: Any) -> JsonObject:
    """A report of a peer that made 100 calls without a flaw."""
    flawless: JsonObject = {"sent": 100, "received": 100, "lost": 0, "twice": 0}
    flawless |= {"out_of_order": 0, "events": 10, "events_lost": 0, "bytes_sent": 5000}
    flawless |= {"rtt_us": {"p50": 5.0, "p99": 9.0}, "reboots_detected": 0}
    return flawless | changes


def socket(path: str) -> JsonObject:
    counters = {f"{way}_{kind}": 1 for way in ("tx", "rx") for kind in COUNTERS}
    return {"pid": 7, "local": "10.77.0.1:1", "path": path, "reason": "NONE", "counters": counters}


COUNTERS = ("ring_msgs", "ring_bytes", "net_msgs", "net_bytes")

FLAWLESS = Outcome(
    server=peer(),
    client=peer(),
    wire=Counts(udp_packets=2, udp_bytes=100),
    usage=(Usage("client", 7, 0.5, 30_000_000),),
    status={"sockets": [socket("direct")]},
)


def verdict(carrier: Carrier, outcome: Outcome) -> bool:
    return is_good({PAIR: {carrier: outcome}})


def test_a_flawless_run_is_good() -> None:
    assert verdict(Carrier.DIRECT, FLAWLESS)


@pytest.mark.parametrize(
    "flaw",
    [
        {"client": peer(lost=1)},
        {"client": peer(events_lost=1)},
        {"client": peer(twice=1)},
        {"server": peer(twice=1)},
        {"server": peer(out_of_order=1)},
        {"server": peer(reboots_detected=1)},
        {"wire": Counts(udp_bytes=100, drops=1)},
        {"wire": Counts(udp_bytes=200)},
        {"wire": None, "status": {"sockets": [socket("network")]}},
        {"wire": None, "status": None},
    ],
)
def test_every_flaw_spoils_the_verdict(flaw: dict[str, Any]) -> None:
    assert not verdict(Carrier.DIRECT, replace(FLAWLESS, **flaw))


def test_the_network_run_may_use_the_network() -> None:
    assert verdict(Carrier.NETWORK, replace(FLAWLESS, wire=Counts(udp_bytes=10_000)))


def test_the_fraction_is_bridge_bytes_over_bytes_sent() -> None:
    assert FLAWLESS.wire_fraction == 0.01


def test_the_json_names_what_the_issue_names() -> None:
    results = {PAIR: dict.fromkeys(Carrier, FLAWLESS)}
    pair = json.loads(json.dumps(as_json(Mode.ROOT, results)))["pairs"][0]
    assert (pair["server"], pair["client"]) == ("opensomeip", "pysomeip")
    for run in ("network", "ivc", "relay"):
        assert pair[run]["rtt_us"] == {"p50": 5.0, "p99": 9.0}
    assert pair["ivc"]["lost"] == 0
    assert pair["ivc"]["wire_fraction"] == 0.01
    assert (
        pair["ivc"]["sockets"][0] | {"path": "direct", "reason": "NONE", "role": "client"}
        == (pair["ivc"]["sockets"][0])
    )


def test_the_table_shows_every_run_and_every_socket() -> None:
    table = as_table({PAIR: dict.fromkeys(Carrier, FLAWLESS)})
    assert table.count("10.77.0.1:1") == 3
    assert "1.00% of the payload on the bridge" in table


def test_without_a_bridge_the_verdict_is_silent_about_it() -> None:
    bare = replace(FLAWLESS, wire=None)
    last = as_table({PAIR: dict.fromkeys(Carrier, bare)}).splitlines()[-1]
    assert last == "opensomeip server, pysomeip client: p50 5 -> 5 us, 0 lost"
