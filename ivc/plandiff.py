# SPDX-License-Identifier: Apache-2.0
"""Two plans, and what one has that the other has not: by their documents (`Plan.to_json`)."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Document = Mapping[str, Any]

# What an entry of each list is known by; all else about it may change.
_LISTS: Final = {
    "nodes": ("name",),
    "services": ("service", "instance", "node"),
    "endpoints": ("endpoint", "node"),
    "groups": ("group",),
    "pairs": ("nodes",),
    "rules": ("rule",),
    "ways": ("from", "to", "protocol", "services"),
    "guests": ("domain",),
}


def difference(old: Document, new: Document) -> list[str]:
    """One line for each thing that has come (+), gone (-) or changed (~); none if nothing has."""
    lines = list(_changes("plan", "", _settings(old), _settings(new)))
    for name, key in _LISTS.items():
        lines += _entries(name.removesuffix("s"), _by(key, old[name]), _by(key, new[name]))
    return lines


def _settings(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _LISTS}


def _by(key: Iterable[str], entries: Iterable[Document]) -> dict[str, Document]:
    return {" ".join(_word(entry[name]) for name in key): entry for entry in entries}


def _entries(what: str, old: Mapping[str, Document], new: Mapping[str, Document]) -> Iterable[str]:
    yield from (f"- {what} {name}" for name in old if name not in new)
    for name, entry in new.items():
        if name not in old:
            yield f"+ {what} {name}"
        else:
            yield from _changes(what, name, old[name], entry)


def _changes(what: str, name: str, old: Document, new: Document) -> Iterable[str]:
    for member, value in new.items():
        before = old.get(member)
        if before != value:
            title = " ".join(filter(None, (what, name)))
            yield f"~ {title}: {member} {_word(before)} -> {_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value) or "none"
    return "none" if value is None else json.dumps(value)
