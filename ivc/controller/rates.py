# SPDX-License-Identifier: Apache-2.0
"""What has happened per second between two looks at a status: pure, of two documents.

A number that is smaller than before was begun anew, as was one that was not there: no rate then.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Numbers = dict[str, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What has rates: how it is told from others of its list, and what of it is counted."""

    key: Callable[[Document], Hashable]
    numbers: Callable[[Document], Numbers]


def with_rates(before: Document | None, after: Document) -> Document:
    """The later document, with `rates` at each socket, flow and kind, and `rated`: from how many
    seconds; 0: there is nothing to compare with."""
    if before is not None and before["controller"]["pid"] != after["controller"]["pid"]:
        before = None
    seconds = _clock(after) - _clock(before) if before is not None else 0.0

    def rated(kept: _Kept, listed: Callable[[Document], Sequence[Document]]) -> list[Document]:
        old = _numbers(kept, listed(before)) if before is not None and seconds > 0 else {}
        return [
            {**one, "rates": _per_second(old.get(ident), kept.numbers(one), seconds)}
            for ident, one in _identified(kept, listed(after))
        ]

    return {
        **after,
        "rated": seconds,
        "sockets": rated(_SOCKETS, lambda document: document["sockets"]),
        "flows": rated(_FLOWS, lambda document: document["flows"]),
        "relay": {
            **after["relay"],
            "kinds": rated(_KINDS, lambda document: document["relay"]["kinds"]),
        },
    }


def _clock(document: Document) -> float:
    return float(document["controller"]["clock"])


def _numbers(kept: _Kept, listed: Sequence[Document]) -> dict[Hashable, Numbers]:
    return {ident: kept.numbers(one) for ident, one in _identified(kept, listed)}


def _identified(kept: _Kept, listed: Sequence[Document]) -> Iterator[tuple[Hashable, Document]]:
    """Where several have the same key, the first is the first of before."""
    seen: Counter[Hashable] = Counter()
    for one in listed:
        key = kept.key(one)
        seen[key] += 1
        yield (key, seen[key]), one


def _per_second(before: Numbers | None, after: Numbers, seconds: float) -> dict[str, float | None]:
    def rate(name: str, number: int) -> float | None:
        old = before.get(name) if before is not None else None
        return None if old is None or number < old else (number - old) / seconds

    return {name: rate(name, number) for name, number in after.items()}


def _of_flow(flow: Document) -> Numbers:
    """Of a relayed flow also what the relay counts; of one nobody may look into, nothing."""
    written = {"written": flow["rings"][0]["written"]} if flow["rings"] else {}
    return written | {name: flow[name] for name in ("messages", "bytes") if name in flow}


_SOCKETS = _Kept(lambda one: (one["pid"], one["socket"]), lambda one: one["counters"])
_FLOWS = _Kept(lambda one: one["id"], _of_flow)
_KINDS = _Kept(
    lambda one: tuple(one[key] for key in ("from", "to", "service", "method", "client", "type")),
    lambda one: {name: one[name] for name in ("messages", "bytes")},
)
