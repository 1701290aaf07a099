# SPDX-License-Identifier: Apache-2.0
"""TOML with lines: `tomllib` gives values only, so lines are looked up in the text."""

import re
import tomllib

from ivc.network.values import Array, Place, Report, Scalar, Table, Value, child_pointer

_HEADER = re.compile(r"^\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_MEMBER = re.compile(r"^\s*\[\[([^\[\]]+)\]\]\s*(?:#.*)?$")
_ENTRY = re.compile(r"^\s*([A-Za-z0-9_\-.\"' \t]+?)\s*=")
_SYNTAX_FIX = 'mend the line named; text goes in quotes, as in host = "netns:NAME"'
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse_toml(text: str, file: str, report: Report) -> Table | None:
    """Parse TOML 1.0 into a tree; returns None after noting a `syntax` finding.

    Lines are those of table headers and `key =` entries: right for how people write TOML, and
    the parent's line for anything fancier.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        _syntax(report, Place(file), "values nested very deeply", "nest less deeply")
        return None
    except ValueError as error:  # TOMLDecodeError, or a number too long for int()
        message = str(error)
        match = _POSITION.search(message)
        line, column = (int(match[1]), int(match[2])) if match and match[1] else (0, 0)
        found = _POSITION.sub("", message).encode("ascii", "backslashreplace").decode()
        _syntax(report, Place(file, "", line, column), found, _SYNTAX_FIX)
        return None
    value = _convert(data, Place(file, "", 1, 1), _lines(text))
    assert isinstance(value, Table)
    return value


def _syntax(report: Report, place: Place, found: str, fix: str) -> None:
    report.error(place, "syntax", found, "TOML 1.0", fix)


def _pointer(table: str, dotted: str, sizes: dict[str, int]) -> str:
    """Pointer of a key below `table`; a list of tables on the way means its last one so far."""
    pointer = table
    for key in dotted.split("."):
        if pointer in sizes:
            pointer = child_pointer(pointer, sizes[pointer] - 1)
        pointer = child_pointer(pointer, key.strip().strip("\"'"))
    return pointer


def _lines(text: str) -> dict[str, int]:
    """Pointer to the line where it is first written."""
    lines: dict[str, int] = {}
    sizes: dict[str, int] = {}  # of the lists written as [[name]]
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _pointer("", header[1], sizes)
            lines.setdefault(table, number)
        elif member := _MEMBER.match(line):
            array = _pointer("", member[1], sizes)
            lines.setdefault(array, number)
            sizes[array] = sizes.get(array, 0) + 1
            table = child_pointer(array, sizes[array] - 1)
            lines.setdefault(table, number)
        elif entry := _ENTRY.match(line):
            lines.setdefault(_pointer(table, entry[1], {}), number)
    return lines


def _convert(data: object, place: Place, lines: dict[str, int]) -> Value:
    def child(key: str | int) -> Place:
        pointer = child_pointer(place.pointer, key)
        line = lines.get(pointer, place.line)
        return Place(place.file, pointer, line, 1 if pointer in lines else place.column)

    if isinstance(data, dict):
        items = {str(key): _convert(item, child(str(key)), lines) for key, item in data.items()}
        return Table(items, place)
    if isinstance(data, list):
        return Array(
            tuple(_convert(item, child(index), lines) for index, item in enumerate(data)), place
        )
    return Scalar(_text(data), literal=not isinstance(data, str), place=place)


def _text(data: object) -> str:
    if isinstance(data, bool):
        return "true" if data else "false"
    try:
        return str(data)
    except ValueError:  # an integer with more digits than Python prints
        return "a very large number"
