# SPDX-License-Identifier: Apache-2.0
"""What traffic control does at interfaces beyond queueing: asked over netlink, told in words."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.tcmsg.common import tick_in_usec

from ivc.doctor.facts import Control

_ROOT: Final = 0xFFFFFFFF
_INGRESS: Final = 0xFFFF0000
_HOOKS: Final = {0xFFFFFFF2: "ingress", 0xFFFFFFF3: "egress"}  # of a qdisc clsact
_WHOLE: Final = 0xFFFFFFFF
"""Percentages are parts of this."""

_SHAPERS: Final = frozenset({"tbf", "htb", "hfsc", "cbq"})
_SWALLOWS: Final = frozenset({"blackhole", "plug"})

# <linux/netlink.h>, <linux/pkt_cls.h>, <linux/tc_act/tc_gact.h>, <linux/tc_act/tc_mirred.h>
_TYPE: Final = 0x3FFF
_ACTIONS_AT: Final = {
    "bpf": 1,
    "matchall": 2,
    "flower": 3,
    "basic": 3,
    "fw": 4,
    "u32": 7,
    "flow": 9,
}
_U32_SELECTOR, _U32_POLICE = 5, 6
_U32_KEYS, _U32_KEY = 16, 16  # where keys begin in a selector, and how long each is: mask first
_ACT_KIND, _ACT_OPTIONS, _ACT_PARAMETERS = 1, 2, 2
_GACT_ACTION, _MIRRED_ACTION = 8, 20
_SHOT: Final = 2
_REDIRECTS: Final = (1, 3)

_DROPS: Final = "drops"
_TAKES: Final = "sends elsewhere"
_POLICES: Final = "limits the rate of"
_JUDGES: Final = "judges by a program"


def gather_controls(netlink: IPRoute, names: Mapping[int, str]) -> tuple[Control, ...]:
    """All there is, by interface; `names` are those of interfaces by their numbers."""
    found: list[Control] = []
    for qdisc in netlink.get_qdiscs():
        index = qdisc["index"]
        if index in names:
            found += qdisc_controls(qdisc, names[index])
            for parent, words in _parents(qdisc):
                with suppress(NetlinkError):
                    filters = netlink.get_filters(index=index, parent=parent)
                    found += chain.from_iterable(
                        filter_controls(one, names[index], words) for one in filters
                    )
    # u32 lists the filters of both hooks at each.
    return tuple({(one.link, one.kind, one.does): one for one in reversed(found)}.values())


def _parents(qdisc: Any) -> Iterator[tuple[int, str]]:
    """Where filters of a queue hang, and how `tc` calls the place."""
    kind, handle = qdisc.get_attr("TCA_KIND"), qdisc["handle"]
    if kind == "clsact":
        yield from _HOOKS.items()
    elif handle:
        yield handle, "ingress" if handle == _INGRESS else f"parent {handle >> 16:x}:"


def qdisc_controls(qdisc: Any, name: str) -> Iterator[Control]:
    """What a queueing discipline does that is more than to queue."""
    kind, options = qdisc.get_attr("TCA_KIND"), qdisc.get_attr("TCA_OPTIONS")
    where = "root" if qdisc["parent"] == _ROOT else f"parent {_handle(qdisc['parent'])}"
    undo = f"tc qdisc del dev {name} {where}"
    if kind == "netem":
        yield Control(name, kind, _netem(options), options["loss"] == _WHOLE, undo)
    elif kind in _SWALLOWS:
        yield Control(name, kind, "lets nothing pass", True, undo)
    elif kind in _SHAPERS:
        yield Control(name, kind, _shapes(kind, options), False, undo)


def _netem(options: Any) -> str:
    """Loss, delay and the rest, as far as they are set."""
    told = [
        f"{word} {100 * options[key] / _WHOLE:.4g} %"
        for key, word in (("loss", "loses"), ("duplicate", "repeats"))
        if options[key]
    ]
    for attribute, key, word in (
        ("TCA_NETEM_CORRUPT", "prob_corrupt", "damages"),
        ("TCA_NETEM_REORDER", "prob_reorder", "reorders"),
    ):
        share = (options.get_attr(attribute) or {key: 0})[key]
        told += [f"{word} {100 * share / _WHOLE:.4g} %"] if share else []
    if options["delay"]:
        told.append(f"delays by {options['delay'] / tick_in_usec / 1000:.4g} ms")
    rate = (options.get_attr("TCA_NETEM_RATE") or {"rate": 0})["rate"]
    told += [_rate(rate)] if rate else []
    return ", ".join(told) or "holds packets up"


def _shapes(kind: str, options: Any) -> str:
    parameters = options.get_attr("TCA_TBF_PARMS") if kind == "tbf" else None
    return _rate(parameters["rate"]) if parameters else "limits rates"


def _rate(bytes_a_second: int) -> str:
    return f"limits to {bytes_a_second * 8 / 1e6:.4g} Mbit/s"


def filter_controls(one: Any, name: str, place: str) -> Iterator[Control]:
    """What a filter does with what it matches, if it is more than to choose a queue."""
    kind, options = one.get_attr("TCA_KIND"), _tree(_raw_options(one))
    deeds = list(dict.fromkeys(_deeds(kind, options)))
    if deeds:
        everything = _matches_all(kind, options)
        yield Control(
            name,
            kind,
            f"{' and '.join(deeds)} {'everything' if everything else 'what it matches'}",
            everything and not {_DROPS, _TAKES}.isdisjoint(deeds),
            f"tc filter del dev {name} {place} pref {one['info'] >> 16}",
        )


def _raw_options(one: Any) -> bytes:
    """As they came: pyroute2 does not know flower, and reads the keys of u32 from a wrong place."""
    for attribute in one["attrs"]:
        if attribute[0] == "TCA_OPTIONS":
            value = attribute[1]
            if isinstance(value, str):
                return bytes.fromhex(value.replace(":", ""))
            return bytes(value.data[value.offset + 4 : value.offset + value.length])
    return b""


def _deeds(kind: str, options: Mapping[int, bytes]) -> Iterator[str]:
    if kind == "bpf":
        yield _JUDGES
    if kind == "u32" and _U32_POLICE in options:
        yield _POLICES
    for action in _tree(options.get(_ACTIONS_AT.get(kind, 0), b"")).values():
        inside = _tree(action)
        parameters = _tree(inside.get(_ACT_OPTIONS, b"")).get(_ACT_PARAMETERS, b"")
        match inside.get(_ACT_KIND, b"").rstrip(b"\0"):
            case b"gact" if _word(parameters, _GACT_ACTION) == _SHOT:
                yield _DROPS
            case b"mirred" if _word(parameters, _MIRRED_ACTION) in _REDIRECTS:
                yield _TAKES
            case b"police":
                yield _POLICES


def _matches_all(kind: str, options: Mapping[int, bytes]) -> bool:
    if kind != "u32":
        return kind == "matchall"
    selector = options.get(_U32_SELECTOR, b"")
    return bool(selector) and not any(_masks(selector))


def _masks(selector: bytes) -> Iterator[bytes]:
    """What each key of u32 compares."""
    for at in range(_U32_KEYS, len(selector), _U32_KEY):
        yield selector[at : at + 4].strip(b"\0")


def _tree(data: bytes) -> dict[int, bytes]:
    """The attributes of one level, by type."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _TYPE] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _word(data: bytes, offset: int) -> int | None:
    """A 32-bit word, if there is one."""
    return struct.unpack_from("=i", data, offset)[0] if len(data) >= offset + 4 else None


def _handle(number: int) -> str:
    return f"{number >> 16:x}:{number & 0xFFFF:x}"
