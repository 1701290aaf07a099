# SPDX-License-Identifier: Apache-2.0
"""A profile for Wireshark of a plan: which ports speak SOME/IP, and names of what is offered.

Configurations have no names of services and methods; these are made of node and ids.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ivc.errors import IvcError
from ivc.network.files import display

Plan = Mapping[str, Any]

_SD: Final = ("ffff", "8100")
_PREFERENCES: Final = """\
# Made by ivc trace --wireshark-profile
gui.column.format: "No.", "%m", "Time", "%t", "Interface", "%Cus:frame.interface_name:0:R", \
"Protocol", "%p", "Info", "%i", "IVC", "%Cus:frame.comment:0:R"
"""


def write_profile(folder: Path, plan: Plan) -> None:
    """Write it into a folder, which is made if need be. Raises `IvcError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in profile(plan).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise IvcError(
            f"cannot write {display(folder)}: {error.strerror}; name another folder, such as "
            "~/.config/wireshark/profiles/ivc"
        ) from error


def profile(plan: Plan) -> dict[str, str]:
    """Its files by name; `plan` is a plan's document."""
    return {
        "preferences": _PREFERENCES,
        "decode_as_entries": "".join(
            f"decode_as_entry: {protocol}.port,{port},(none),SOME/IP\n"
            for protocol, port in sorted(_ports(plan))
        ),
        "SOMEIP_service_identifiers": _table(_services(plan)),
        "SOMEIP_method_event_identifiers": _table(_methods(plan)),
        "SOMEIP_eventgroup_identifiers": _table(_eventgroups(plan)),
    }


def _ports(plan: Plan) -> set[tuple[str, int]]:
    ends = [end for service in plan["services"] for end in service["endpoints"]]
    ends += [group["group"] for group in plan["groups"]]
    found = set()
    for end in ends:
        address, _, protocol = str(end).partition("/")
        found.add((protocol or "udp", int(address.rpartition(":")[2])))
    return found


def _services(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield _SD[0], "Service Discovery"
    offered: dict[str, list[str]] = {}
    for service in plan["services"]:
        names = offered.setdefault(_hex(service["service"]), [])
        if service["node"] and service["node"] not in names:
            names.append(service["node"])
    for number, nodes in offered.items():
        yield number, f"{'+'.join(nodes) or 'external'}.{number}"


def _methods(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield *_SD, "SD"
    for service in plan["services"]:
        for event in service["events"]:
            kind = "field" if event["field"] else "event"
            number = _hex(event["event"])
            yield _hex(service["service"]), number, f"{kind}.{number}"


def _eventgroups(plan: Plan) -> Iterator[tuple[str, ...]]:
    for service in plan["services"]:
        for group in service["eventgroups"]:
            number = _hex(group["eventgroup"])
            events = "+".join(_hex(event) for event in group["events"])
            yield _hex(service["service"]), number, f"group.{number} of {events or 'nothing'}"


def _hex(number: str) -> str:
    return number.removeprefix("0x")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """As Wireshark keeps user tables; each key once."""
    unique = {row[:-1]: row for row in rows}
    return "".join(",".join(f'"{_quoted(each)}"' for each in row) + "\n" for row in unique.values())


def _quoted(text: str) -> str:
    r"""Wireshark reads \xNN."""
    return "".join(
        each if each.isascii() and each.isprintable() and each not in '"\\' else _escaped(each)
        for each in text
    )


def _escaped(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())
