# SPDX-License-Identifier: Apache-2.0
"""JSON with positions: the standard parser forgets where a value stood."""

import json
import re
from bisect import bisect_right

from ivc.network.values import Array, Place, Report, Scalar, Table, Value, child_pointer, quote

# Deep enough for any configuration, far from Python's own recursion limit.
_DEEPEST = 64

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_LITERAL = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class _SyntaxError(Exception):
    """Not JSON from `offset` on."""

    def __init__(self, offset: int, expected: str, fix: str) -> None:
        super().__init__(expected)
        self.offset = offset
        self.expected = expected
        self.fix = fix


def parse_json(text: str, file: str, report: Report) -> Value | None:
    """Parse JSON (RFC 8259) into a tree with positions.

    Returns None after noting a `syntax` finding. A repeated key is a warning, as JSON leaves open
    what it means.
    """
    parser = _Parser(text, file, report)
    try:
        return parser.document()
    except _SyntaxError as error:
        found = quote(text[error.offset]) if error.offset < len(text) else "the end of the file"
        report.error(parser.place(error.offset, ""), "syntax", found, error.expected, error.fix)
        return None


class _Parser:
    def __init__(self, text: str, file: str, report: Report) -> None:
        self._text = text
        self._file = file
        self._report = report
        self._offset = 0
        self._lines = [0] + [match.end() for match in re.finditer("\n", text)]

    def place(self, offset: int, pointer: str) -> Place:
        line = bisect_right(self._lines, offset)
        return Place(self._file, pointer, line, offset - self._lines[line - 1] + 1)

    def document(self) -> Value:
        value = self._value("", 0)
        if self._peek():
            raise _SyntaxError(self._offset, "nothing more", "remove what follows the value")
        return value

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        match = _SPACE.match(self._text, self._offset)
        assert match is not None
        self._offset = match.end()
        return self._text[self._offset : self._offset + 1]

    def _value(self, pointer: str, depth: int) -> Value:
        if depth > _DEEPEST:
            raise _SyntaxError(self._offset, f"at most {_DEEPEST} levels", "nest less deeply")
        start = self._peek()
        if start == "{":
            return self._table(pointer, depth)
        if start == "[":
            return self._array(pointer, depth)
        place = self.place(self._offset, pointer)
        if start == '"':
            return Scalar(self._string(), literal=False, place=place)
        match = _LITERAL.match(self._text, self._offset)
        if match is None:
            raise _SyntaxError(
                self._offset, "a value", "JSON has no comments, trailing commas or bare words"
            )
        self._offset = match.end()
        return Scalar(match.group(), literal=True, place=place)

    def _string(self) -> str:
        match = _STRING.match(self._text, self._offset)
        if match is None:
            raise _SyntaxError(
                self._offset, "a string closed on its line", "close the quotes, escape \\ as \\\\"
            )
        self._offset = match.end()
        found = match.group()
        return str(json.loads(found)) if "\\" in found else found[1:-1]

    def _table(self, pointer: str, depth: int) -> Table:
        place = self.place(self._offset, pointer)
        items: dict[str, Value] = {}
        repeated: dict[str, Value] = {}
        self._offset += 1
        if self._peek() == "}":
            self._offset += 1
            return Table(items, place)
        while True:
            if self._peek() != '"':
                raise _SyntaxError(
                    self._offset, "a key in double quotes", "remove a trailing comma, or quote it"
                )
            at = self._offset
            key = self._string()
            if self._peek() != ":":
                raise _SyntaxError(self._offset, 'a ":"', "put a colon between key and value")
            self._offset += 1
            value = self._value(child_pointer(pointer, key), depth + 1)
            if items.setdefault(key, value) is not value:
                self._note_repeated(at, child_pointer(pointer, key), key)
                repeated[key] = value
            if self._end_of_items("}"):
                return Table(items, place, repeated)

    def _note_repeated(self, offset: int, pointer: str, key: str) -> None:
        self._report.warning(
            self.place(offset, pointer),
            "repeated-key",
            f"{quote(key)} a second time",
            "each key once",
            "remove one of the two; which of them vsomeip takes depends on the place",
        )

    def _array(self, pointer: str, depth: int) -> Array:
        place = self.place(self._offset, pointer)
        items: list[Value] = []
        self._offset += 1
        if self._peek() == "]":
            self._offset += 1
            return Array((), place)
        while True:
            items.append(self._value(child_pointer(pointer, len(items)), depth + 1))
            if self._end_of_items("]"):
                return Array(tuple(items), place)

    def _end_of_items(self, close: str) -> bool:
        mark = self._peek()
        if mark not in {",", close}:
            raise _SyntaxError(self._offset, f'"," or "{close}"', "separate with a comma, or close")
        self._offset += 1
        return mark == close
