# SPDX-License-Identifier: Apache-2.0
"""One node may be spread over several documents (a folder): which definition counts."""

from collections.abc import Iterable, Sequence

from ivc.network import fields
from ivc.network.values import Report, Table, Value

Documents = Sequence[Table]


def words(text: str) -> frozenset[str]:
    """A set of keys."""
    return frozenset(text.split())


def first(documents: Documents, key: str, report: Report) -> Value | None:
    """The first definition of a setting; later ones are passed over by vsomeip, and noted."""
    found = first_of(documents, (key,), report)
    return found[1] if found is not None else None


def first_of(documents: Documents, keys: Iterable[str], report: Report) -> tuple[str, Value] | None:
    """The same for a setting that has several names, with the name found."""
    names = tuple(keys)
    found = [
        (key, value)
        for document in documents
        for key in names
        if (value := document.get(key)) is not None
    ]
    for key, later in found[1:]:
        _note_second(key, found[0][1], later, report)
    return found[0] if found else None


def merged(documents: Documents, key: str, report: Report) -> Table | None:
    """The members of a section of all documents, the first definition of each."""
    sections = [
        table
        for document in documents
        if (table := fields.optional(document, key, fields.table, report)) is not None
    ]
    items: dict[str, Value] = {}
    for section in sections:
        for name, value in section.items.items():
            if items.setdefault(name, value) is not value:
                _note_second(f"{key}.{name}", items[name], value, report)
    return Table(items, sections[0].place) if sections else None


def entries(documents: Documents, key: str, report: Report) -> tuple[Table, ...]:
    """The objects in the list `key` of all documents, the last of equal keys in each."""
    return tuple(
        table.last() for document in documents for table in fields.tables(document.get(key), report)
    )


def _note_second(key: str, kept: Value, later: Value, report: Report) -> None:
    report.warning(
        later.place,
        "second-definition",
        f'another "{key}"',
        f"one in the whole folder (the first is in {kept.place.file})",
        "remove one of the two; the first one counts",
    )
