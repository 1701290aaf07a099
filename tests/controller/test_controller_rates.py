# SPDX-License-Identifier: Apache-2.0
"""Rates between two looks at a status."""

from typing import Any

from ivc.controller.rates import with_rates

Document = dict[str, Any]
KIND = {"from": "a", "to": "b", "service": 1, "method": 2, "client": 3, "type": 0}


def look(
    clock: float, messages: int, *, pid: int = 1, socket: int = 1, written: int | None = 0
) -> Document:
    """A status with one socket, flow and kind that have counted so much."""
    rings = [] if written is None else [{"size": 4096, "written": written, "waiting": 0}]
    return {
        "controller": {"pid": pid, "clock": clock},
        "sockets": [{"pid": 9, "socket": socket, "counters": {"tx_ring_msgs": messages}}],
        "flows": [{"id": 1, "rings": rings}],
        "relay": {"kinds": [{**KIND, "messages": messages, "bytes": 10 * messages}]},
    }


def of_socket(before: Document | None, after: Document) -> float | None:
    rate: float | None = with_rates(before, after)["sockets"][0]["rates"]["tx_ring_msgs"]
    return rate


def test_a_rate_is_what_was_counted_by_the_time_between() -> None:
    assert of_socket(look(10.0, 100), look(12.5, 600)) == 200.0


def test_a_document_says_from_how_long_its_rates_are() -> None:
    assert with_rates(look(10.0, 0), look(12.5, 0))["rated"] == 2.5
    assert with_rates(None, look(10.0, 0))["rated"] == 0.0


def test_the_first_look_has_no_rates() -> None:
    assert of_socket(None, look(10.0, 100)) is None


def test_what_has_begun_anew_has_no_rate() -> None:
    assert of_socket(look(10.0, 100), look(11.0, 99)) is None


def test_what_was_not_there_has_no_rate() -> None:
    assert of_socket(look(10.0, 100, socket=2), look(11.0, 200)) is None


def test_another_controller_has_no_rates() -> None:
    assert of_socket(look(10.0, 100), look(11.0, 200, pid=2)) is None


def test_two_looks_at_the_same_time_have_no_rates() -> None:
    assert of_socket(look(10.0, 100), look(10.0, 200)) is None


def test_flows_have_rates_of_their_rings() -> None:
    document = with_rates(look(0.0, 0, written=64), look(2.0, 0, written=128))
    assert document["flows"][0]["rates"] == {"written": 32.0}


def test_a_flow_nobody_may_look_into_has_none() -> None:
    document = with_rates(look(0.0, 0, written=None), look(2.0, 0, written=None))
    assert document["flows"][0]["rates"] == {}


def test_kinds_with_the_same_names_are_told_apart() -> None:
    before, after = look(0.0, 10), look(1.0, 20)
    for document, more in ((before, 5), (after, 6)):
        document["relay"]["kinds"].append({**KIND, "messages": more, "bytes": 0})
    kinds = with_rates(before, after)["relay"]["kinds"]
    assert [kind["rates"]["messages"] for kind in kinds] == [10.0, 1.0]


def test_the_looks_themselves_are_left_alone() -> None:
    before, after = look(0.0, 0), look(1.0, 1)
    with_rates(before, after)
    assert (before, after) == (look(0.0, 0), look(1.0, 1))
